"""Functions in a chat: what a request says of them, and calls as an answer shows them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Field

from antiphon.dialogue.half_duplex import Message
from antiphon.dialogue.tool_calls import Call, Functions, Result
from antiphon.serve.errors import ApiError
from antiphon.serve.openai.tools import CANT, ToolError, read_arguments, read_tools


class CalledFunction(BaseModel):
    """The function of a call, and JSON of its arguments."""

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    """A call of an earlier answer."""

    id: str = Field(max_length=128)
    type: str = Field("function", max_length=50)
    function: CalledFunction | None = None


def functions_of(
    tools: list[Any] | None, choice: Any, parallel: bool | None, old: list[Any] | None, able: bool
) -> Functions | None:
    """What may be called in an answer.

    Raises:
        ApiError: something else than functions, or functions of a model that can't call any.
    """
    try:
        if old and able:
            raise ToolError("tools_not_supported", "'functions' has become 'tools'; use that.", "functions")
        return read_tools(tools or old, choice, parallel, "", able)
    except ToolError as error:
        raise ApiError(400, error.code, error.message, error.param) from None


def read_calls(calls: Sequence[ToolCall], text: str, where: str, able: bool) -> Message:
    """An earlier answer with calls.

    Raises:
        ApiError: they can't be read.
    """
    if not able:
        raise ApiError(400, "tools_not_supported", f"{CANT}.", f"{where}.tool_calls")
    read = []
    for at, call in enumerate(calls):
        here = f"{where}.tool_calls[{at}]"
        if call.type != "function" or call.function is None:
            raise ApiError(400, "tools_not_supported", "Only calls of functions can be read.", f"{here}.type")
        try:
            arguments = read_arguments(call.function.arguments, call.function.name, f"{here}.function.")
        except ToolError as error:
            raise ApiError(400, error.code, error.message, error.param) from None
        read.append(Call(call.function.name, arguments, call.id))
    return Message("assistant", text, calls=tuple(read))


def read_result(text: str, call_id: str | None, past: Sequence[Any], where: str, able: bool) -> Message:
    """What came of a call.

    Raises:
        ApiError: it is of no call before it.
    """
    if not able:
        raise ApiError(400, "tools_not_supported", f"{CANT}.", f"{where}.role")
    known = {call.id for message in past if isinstance(message, Message) for call in message.calls}
    if call_id is None or call_id not in known:
        raise ApiError(400, "invalid_value", "No call before it has this id.", f"{where}.tool_call_id")
    return Message("function", "", results=(Result(text, call_id),))


def shown_call(call: Call) -> dict[str, Any]:
    """A call as an answer has it."""
    shown = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": shown}


def call_deltas(call: Call, index: int) -> Iterator[dict[str, Any]]:
    """A call as a stream has it: its name first, then its arguments."""
    whole = shown_call(call)
    arguments = whole["function"]["arguments"]
    yield {"tool_calls": [{"index": index} | whole | {"function": whole["function"] | {"arguments": ""}}]}
    yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
