"""Functions as clients of Realtime sessions and chats give them, checked: `tools`, `tool_choice`, calls, results."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Field

from antiphon.dialogue.half_duplex import Message
from antiphon.dialogue.tool_calls import Call, Functions, Result, as_arguments, unmarked
from antiphon.errors import ToolCallError
from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import TEXT_LETTERS, read_json

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_FUNCTIONS = 128
MAX_LETTERS = 100_000  # of all functions, as JSON
CALL_TOKENS = 256  # of an answer that may call functions, where nobody says how long it may be
CHOICES = ("auto", "none", "required")


class CalledFunction(BaseModel):
    """The function of a call, and JSON of its arguments."""

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    """A call of an earlier answer of a chat."""

    id: str = Field(max_length=128)
    type: str = Field("function", max_length=50)
    function: CalledFunction | None = None


def no_tools(where: str, hint: str = "") -> RequestError:
    """The model can't call functions."""
    said = f"This model can't call functions or other tools{hint}."
    return RequestError("tools_not_supported", said, where)


def other_tool(kind: Any, where: str) -> RequestError:
    """Something else than a function."""
    kind = kind[:50] if isinstance(kind, str) else kind
    return RequestError("tools_not_supported", f"Tools of type '{kind}' can't be used here; only functions.", where)


def read_tools(
    tools: Sequence[Any] | None,
    choice: Any,
    parallel: bool | None,
    where: str,
    supports_tools: bool,
) -> Functions | None:
    """What may be called; None if nothing.

    Args:
        tools: {"type": "function", "name", ...} each, or {"type": "function", "function": {"name", ...}}.
        choice: "auto", "none", "required", or {"type": "function", "name"} likewise; None for "auto".
        parallel: several calls in one answer; None for yes.
        where: the object that they stand in, with a dot at its end, for errors.
        supports_tools: the model can call functions.

    Raises:
        RequestError: naming the field.
    """
    if not supports_tools:
        if tools:
            raise no_tools(f"{where}tools", "; leave 'tools' empty")
        if isinstance(choice, dict) or choice == "required":
            raise no_tools(f"{where}tool_choice")
        return None
    if len(tools or ()) > MAX_FUNCTIONS:
        raise RequestError("invalid_value", f"At most {MAX_FUNCTIONS} functions.", f"{where}tools")
    shown = tuple(_read_tool(tool, f"{where}tools[{at}]") for at, tool in enumerate(tools or ()))
    names = [one["function"]["name"] for one in shown]
    if len(set(names)) < len(names):
        raise RequestError("invalid_value", "Two functions have the same name.", f"{where}tools")
    if sum(len(json.dumps(one)) for one in shown) > MAX_LETTERS:
        raise RequestError("invalid_value", f"Functions have at most {MAX_LETTERS} letters in all.", f"{where}tools")
    only, choice, problem = None, "auto" if choice is None else choice, ""
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise other_tool(choice.get("type"), f"{where}tool_choice.type")
        only, choice = _function(choice).get("name"), "required"
        if only not in names:
            problem = "tool_choice names none of the tools."
    elif choice not in CHOICES:
        problem = f"tool_choice is {', '.join(CHOICES)} or names a function."
    if not shown and choice == "required" and not problem:
        problem = "tool_choice is 'required', but there are no tools."
    if problem:
        raise RequestError("invalid_value", problem, f"{where}tool_choice")
    strict = frozenset(name for name, tool in zip(names, tools or ()) if _function(tool).get("strict") is True)
    return Functions(shown, choice, only, parallel is not False, strict) if shown else None


def read_arguments(given: Any, name: Any, where: str) -> str:
    """The arguments of a call that a client gives, JSON of an object.

    Raises:
        RequestError: they or the name of the function are something else.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError("invalid_value", f"'{where}name' is the name of a function.", f"{where}name")
    try:
        if isinstance(given, str) and len(given) <= TEXT_LETTERS:
            unmarked(read_json(given or "{}"))
            return as_arguments(given or "{}", name)
    except (ToolCallError, RequestError, ValueError, RecursionError):
        pass
    said = f"'{where}arguments' is JSON of an object, of at most {TEXT_LETTERS} letters."
    raise RequestError("invalid_value", said, f"{where}arguments")


def read_calls(calls: Sequence[ToolCall], text: str, where: str) -> Message:
    """An earlier answer of a chat, with calls.

    Raises:
        RequestError: they can't be read.
    """
    read = []
    for at, call in enumerate(calls):
        here = f"{where}.tool_calls[{at}]"
        if call.type != "function" or call.function is None:
            raise other_tool(call.type, f"{here}.type")
        arguments = read_arguments(call.function.arguments, call.function.name, f"{here}.function.")
        read.append(Call(call.function.name, arguments, call.id))
    return Message("assistant", text, calls=tuple(read))


def read_result(text: str, call_id: str | None, past: Sequence[Any], where: str) -> Message:
    """What came of a call in a chat.

    Raises:
        RequestError: it is of no call before it.
    """
    known = {call.id for message in past if isinstance(message, Message) for call in message.calls}
    if call_id is None or call_id not in known:
        raise RequestError("invalid_value", "No call before it has this id.", f"{where}.tool_call_id")
    return Message("function", "", results=(Result(text, call_id),))


def shown_call(call: Call) -> dict[str, Any]:
    """A call as an answer of a chat has it."""
    shown = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": shown}


def call_deltas(call: Call, index: int) -> Iterator[dict[str, Any]]:
    """A call as a stream has it: its name first, then its arguments."""
    whole = shown_call(call)
    arguments = whole["function"]["arguments"]
    yield {"tool_calls": [{"index": index} | whole | {"function": whole["function"] | {"arguments": ""}}]}
    yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def _read_tool(tool: Any, where: str) -> dict[str, Any]:
    """A function as templates take it."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise other_tool(tool.get("type") if isinstance(tool, dict) else None, f"{where}.type")
    try:
        given = _function(unmarked(tool))
    except ToolCallError as error:
        raise RequestError("invalid_value", str(error), where) from None
    name, text, parameters = given.get("name"), given.get("description"), given.get("parameters")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        said = "A function's name has 1 to 64 letters, digits, '_' and '-'."
        raise RequestError("invalid_value", said, f"{where}.name")
    if text is not None and not isinstance(text, str):
        raise RequestError("invalid_value", "A function's description is text.", f"{where}.description")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError("invalid_value", "A function's parameters are a JSON schema.", f"{where}.parameters")
    shown = {"name": name, "description": text or "", "parameters": parameters or {"type": "object", "properties": {}}}
    return {"type": "function", "function": shown}


def _function(given: dict[str, Any]) -> dict[str, Any]:
    """{"type", "function": {...}} of a chat, or flat, as in a Realtime session."""
    inner = given.get("function")
    return inner if isinstance(inner, dict) else given
