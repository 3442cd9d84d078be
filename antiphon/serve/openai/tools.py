"""Functions as clients of Realtime sessions and chats give them, checked: `tools`, `tool_choice`, calls."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from antiphon.dialogue.tool_calls import Functions, as_arguments, unmarked
from antiphon.errors import AntiphonError, ToolCallError
from antiphon.serve.json_text import TEXT_LETTERS, read_json

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST = 128  # functions
LETTERS = 100_000  # of all of them, as JSON
CALL_TOKENS = 256  # of an answer that may call functions, where nobody says how long it may be
CHOICES = ("auto", "none", "required")
CANT = "This model can't call functions or other tools"


class ToolError(AntiphonError):
    """Tools that can't be had.

    Attributes:
        code, message, param: for programs, for people, and the field that it is about.
    """

    def __init__(self, code: str, message: str, param: str):
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def read_tools(
    tools: Sequence[Any] | None,
    choice: Any,
    parallel: bool | None,
    where: str,
    able: bool,
) -> Functions | None:
    """What may be called; None if nothing.

    Args:
        tools: {"type": "function", "name", ...} each, or {"type": "function", "function": {"name", ...}}.
        choice: "auto", "none", "required", or {"type": "function", "name"} likewise; None for "auto".
        parallel: several calls in one answer; None for yes.
        where: the object that they stand in, with a dot at its end, for errors.
        able: the model can call functions.

    Raises:
        ToolError: naming the field.
    """
    if not able:
        if tools:
            raise ToolError("tools_not_supported", f"{CANT}; leave 'tools' empty.", f"{where}tools")
        if isinstance(choice, dict) or choice == "required":
            raise ToolError("tools_not_supported", f"{CANT}.", f"{where}tool_choice")
        return None
    if len(tools or ()) > MOST:
        raise ToolError("invalid_value", f"At most {MOST} functions.", f"{where}tools")
    shown = tuple(_read_tool(tool, f"{where}tools[{at}]") for at, tool in enumerate(tools or ()))
    names = [one["function"]["name"] for one in shown]
    if len(set(names)) < len(names):
        raise ToolError("invalid_value", "Two functions have the same name.", f"{where}tools")
    if sum(len(json.dumps(one)) for one in shown) > LETTERS:
        raise ToolError("invalid_value", f"Functions have at most {LETTERS} letters in all.", f"{where}tools")
    only, choice = None, "auto" if choice is None else choice
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise _other(choice.get("type"), f"{where}tool_choice.type")
        only, choice = _function(choice).get("name"), "required"
        if only not in names:
            raise ToolError("invalid_value", "tool_choice names none of the tools.", f"{where}tool_choice")
    elif choice not in CHOICES:
        raise ToolError(
            "invalid_value", f"tool_choice is {', '.join(CHOICES)} or names a function.", f"{where}tool_choice"
        )
    if not shown and choice == "required":
        raise ToolError("invalid_value", "tool_choice is 'required', but there are no tools.", f"{where}tool_choice")
    return Functions(shown, choice, only, parallel is not False) if shown else None


def read_arguments(given: Any, name: Any, where: str) -> str:
    """The arguments of a call that a client gives, JSON of an object.

    Raises:
        ToolError: they or the name of the function are something else.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ToolError("invalid_value", f"'{where}name' is the name of a function.", f"{where}name")
    try:
        if isinstance(given, str) and len(given) <= TEXT_LETTERS:
            unmarked(read_json(given or "{}"))
            return as_arguments(given or "{}", name)
    except (ToolCallError, ValueError, RecursionError):
        pass
    said = f"'{where}arguments' is JSON of an object, of at most {TEXT_LETTERS} letters."
    raise ToolError("invalid_value", said, f"{where}arguments")


def _read_tool(tool: Any, where: str) -> dict[str, Any]:
    """A function as templates take it."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise _other(tool.get("type") if isinstance(tool, dict) else None, f"{where}.type")
    try:
        given = _function(unmarked(tool))
    except ToolCallError as error:
        raise ToolError("invalid_value", str(error), where) from None
    name, text, parameters = given.get("name"), given.get("description"), given.get("parameters")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ToolError("invalid_value", "A function's name has 1 to 64 letters, digits, '_' and '-'.", f"{where}.name")
    if text is not None and not isinstance(text, str):
        raise ToolError("invalid_value", "A function's description is text.", f"{where}.description")
    if parameters is not None and not isinstance(parameters, dict):
        raise ToolError("invalid_value", "A function's parameters are a JSON schema.", f"{where}.parameters")
    shown = {"name": name, "description": text or "", "parameters": parameters or {"type": "object", "properties": {}}}
    return {"type": "function", "function": shown}


def _function(given: dict[str, Any]) -> dict[str, Any]:
    """{"type", "function": {...}} of a chat, or flat, as in a Realtime session."""
    inner = given.get("function")
    return inner if isinstance(inner, dict) else given


def _other(kind: Any, where: str) -> ToolError:
    kind = kind[:50] if isinstance(kind, str) else kind
    return ToolError("tools_not_supported", f"Tools of type '{kind}' can't be used here; only functions.", where)
