"""The conversation of a Realtime session: its items, in order, as the protocol shows and as the model reads them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from antiphon.audio.pcm import BadAudio, from_base64
from antiphon.dialogue.half_duplex import Message, StreamingReply
from antiphon.dialogue.tool_calls import Call, Result
from antiphon.serve.json_text import TEXT_LETTERS
from antiphon.serve.openai.tools import CANT, ToolError, read_arguments
from antiphon.serve.realtime.config import ProtocolError

ROLES = {"user": ("input_text", "input_audio"), "assistant": ("output_text", "output_audio"), "system": ("input_text",)}


def new_id(prefix: str) -> str:
    """A name that no one can guess: "item" -> "item_5f0c..."."""
    return f"{prefix}_{secrets.token_hex(10)}"


@dataclass(eq=False)
class Item:
    """One message; or a call of a function, or what came of one, whose `message` has that and nothing else.

    Attributes:
        id, role: of the protocol; "function" for what came of a call.
        content: parts as the protocol shows them, without sound.
        status: "in_progress", "completed" or "incomplete".
        message: what the model reads of it, once that is known.
        answer: of the assistant's: where it is made, until `message` says otherwise.
        hearing: its sound is still being heard.
        audio: its sound, 16-bit at 24 kHz, as far as it is kept.
        audio_ms: how long that sound is.
    """

    id: str
    role: str
    content: list[dict[str, Any]]
    status: str = "completed"
    message: Message | None = None
    answer: StreamingReply | None = None
    hearing: bool = False
    audio: bytearray = field(default_factory=bytearray)
    audio_ms: float = 0.0

    @property
    def letters(self) -> int:
        """Of its text, calls and results."""
        if self.message is None:
            return 0
        inner = sum(len(call.arguments) for call in self.calls) + sum(len(one.text) for one in self.message.results)
        return len(self.message.text) + inner

    @property
    def calls(self) -> tuple[Call, ...]:
        """Of functions, that it is."""
        return self.message.calls if self.message is not None else ()

    def wire(self, with_audio: bool = False) -> dict[str, Any]:
        """As the protocol shows it."""
        about = {"id": self.id, "object": "realtime.item", "status": self.status}
        if self.message is not None and not self.content:
            for call in self.message.calls:
                shown = {"name": call.name, "call_id": call.id, "arguments": call.arguments}
                return about | {"type": "function_call", **shown}
            for result in self.message.results:
                return about | {"type": "function_call_output", "call_id": result.id, "output": result.text}
        content = [dict(part) for part in self.content]
        if with_audio and self.audio:
            for part in content:
                if part["type"] in ("input_audio", "output_audio"):
                    part["audio"] = base64.b64encode(bytes(self.audio)).decode()
        return about | {"type": "message", "role": self.role, "content": content}


Turn = Message | StreamingReply


def messages(turns: Sequence[Turn]) -> list[Message]:
    """What the model is to read; asked when earlier answers are no longer being made. Calls have items of their own."""
    found = [turn if isinstance(turn, Message) else turn.message for turn in turns]
    return [replace(each, calls=()) if each.calls and each.text else each for each in found if each is not None]


class Conversation:
    """Items in order.

    Args:
        most: items that it holds.
        keep_bytes: of sound that it keeps, for clients that retrieve it; the oldest goes first.
        letters: of all its items.
    """

    def __init__(self, most: int = 1000, keep_bytes: int = 6_000_000, letters: int = 1_000_000):
        self.items: list[Item] = []
        self.most, self.keep_bytes, self.letters = most, keep_bytes, letters

    def get(self, item_id: object) -> Item | None:
        return next((item for item in self.items if item.id == item_id), None)

    @property
    def last_id(self) -> str | None:
        return self.items[-1].id if self.items else None

    def insert(self, item: Item, previous: str | None = None) -> str | None:
        """Puts an item behind `previous` (None: at the end; "root": at the beginning); returns the one before it.

        Raises:
            ProtocolError: the id is there already, `previous` isn't, or there are too many.
        """
        if self.get(item.id) is not None:
            raise ProtocolError("item_create_duplicate_item_id", f"Item with id '{item.id}' already exists.", "item.id")
        if len(self.items) >= self.most:
            raise ProtocolError("too_many_items", f"A conversation holds at most {self.most} items; delete some.")
        if item.letters and item.letters + sum(other.letters for other in self.items) > self.letters:
            said = f"A conversation holds at most {self.letters} letters; delete some of its items."
            raise ProtocolError("too_much_text", said, "item")
        if previous is None:
            at = len(self.items)
        elif previous == "root":
            at = 0
        else:
            before = self.get(previous)
            if before is None:
                raise ProtocolError(
                    "item_create_invalid_previous_item_id",
                    f"The previous item '{previous[:128]}' doesn't exist.",
                    "previous_item_id",
                )
            at = self.items.index(before) + 1
        self.items.insert(at, item)
        return self.items[at - 1].id if at else None

    def before(self, item: Item) -> str | None:
        """The id of the item before this one."""
        at = self.items.index(item) if item in self.items else 0
        return self.items[at - 1].id if at else None

    def keep(self, item: Item, sound: bytes) -> None:
        """Keeps sound with an item, within the bounds."""
        item.audio += sound
        total = sum(len(other.audio) for other in self.items)
        for other in self.items:
            if total <= self.keep_bytes:
                return
            total -= len(other.audio)
            other.audio = bytearray()


def call_item(call: Call, item_id: str | None = None) -> Item:
    """A call of a function as an item."""
    return Item(item_id or new_id("item"), "assistant", [], message=Message("assistant", "", calls=(call,)))


def parse_item(given: Any, param: str = "item", able: bool = False) -> tuple[Item, bytes]:
    """An item as a client gives it -> the item, and the bytes of the sound in it, not heard yet.

    Args:
        given: the item.
        param: where it stands.
        able: the model can call functions.

    Raises:
        ProtocolError: something else than a message of text and sound, a call or what came of one.
    """
    if not isinstance(given, dict):
        raise ProtocolError("invalid_type", f"Invalid type for '{param}': expected an object.", param)
    kind = given.get("type")
    if isinstance(kind, str) and kind.startswith("mcp") and able:
        said = f"Items of type '{kind[:50]}' can't be used here; only functions."
        raise ProtocolError("tools_not_supported", said, f"{param}.type")
    if kind in ("function_call", "function_call_output") or (isinstance(kind, str) and kind.startswith("mcp")):
        if not able:
            raise ProtocolError("tools_not_supported", f"{CANT}.", f"{param}.type")
        return _parse_function(given, param), b""
    if kind != "message":
        raise ProtocolError("invalid_value", f"Invalid value for '{param}.type': expected 'message'.", f"{param}.type")
    role = "system" if given.get("role") == "developer" else given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ProtocolError(
            "invalid_value", f"Invalid value for '{param}.role': expected user, assistant or system.", f"{param}.role"
        )
    content = given.get("content")
    if not isinstance(content, list) or not content or len(content) > 100:
        raise ProtocolError(
            "missing_required_parameter", f"Missing '{param}.content': 1 to 100 parts.", f"{param}.content"
        )
    item_id = _parse_id(given, "id", param)
    parts, texts, sound = [], [], b""
    for at, part in enumerate(content):
        shown, text, heard = _parse_part(part, role, f"{param}.content[{at}]")
        parts.append(shown)
        texts.append(text)
        sound += heard
    text = " ".join(filter(None, texts))
    _check_text(text, f"{param}.content")
    item = Item(item_id or new_id("item"), role, parts, message=Message(role, text) if text else None)
    return item, sound


def _parse_id(given: dict[str, Any], name: str, param: str) -> str | None:
    found, where = given.get(name), f"{param}.{name}"
    if found is not None and not (isinstance(found, str) and 0 < len(found) <= 128):
        raise ProtocolError("invalid_value", f"Invalid value for '{where}': 1 to 128 letters.", where)
    return found


def _parse_function(given: dict[str, Any], param: str) -> Item:
    """A call, or what came of one."""
    item_id, call_id = _parse_id(given, "id", param), _parse_id(given, "call_id", param)
    if given["type"] == "function_call":
        try:
            arguments = read_arguments(given.get("arguments"), given.get("name"), f"{param}.")
        except ToolError as error:
            raise ProtocolError(error.code, error.message, error.param) from None
        return call_item(Call(given["name"], arguments, call_id or new_id("call")), item_id)
    if call_id is None:
        raise ProtocolError("missing_required_parameter", f"Missing '{param}.call_id'.", f"{param}.call_id")
    output = given.get("output")
    _check_text(output, f"{param}.output")
    message = Message("function", "", results=(Result(output, call_id),))
    return Item(item_id or new_id("item"), "function", [], message=message)


def _check_text(text: Any, where: str) -> None:
    """Raises ProtocolError unless this is a text, and not too long to be read."""
    if not isinstance(text, str):
        raise ProtocolError("invalid_type", f"Invalid type for '{where}': expected a string.", where)
    if len(text) > TEXT_LETTERS:
        said = f"Expected a string with maximum length {TEXT_LETTERS}, but got one with length {len(text)} instead"
        raise ProtocolError("string_above_max_length", f"Invalid '{where}': string too long. {said}.", where)


def _parse_part(part: Any, role: str, param: str) -> tuple[dict[str, Any], str, bytes]:
    kind = part.get("type") if isinstance(part, dict) else None
    kind = {"text": "output_text", "audio": "output_audio"}.get(kind, kind) if role == "assistant" else kind
    if kind not in ROLES[role]:
        hint = " (images are not seen)" if kind == "input_image" else ""
        raise ProtocolError(
            "invalid_value",
            f"Invalid value for '{param}.type': a {role} message takes {' or '.join(ROLES[role])}{hint}.",
            f"{param}.type",
        )
    field_name = "text" if kind.endswith("text") else "transcript"
    text = part.get(field_name)
    if text is not None:
        _check_text(text, f"{param}.{field_name}")
    if kind.endswith("text"):
        if text is None:
            raise ProtocolError("missing_required_parameter", f"Missing '{param}.text'.", f"{param}.text")
        return {"type": kind, "text": text}, text, b""
    if role == "assistant":
        return {"type": kind, "transcript": text}, text or "", b""
    if part.get("audio") is None:
        raise ProtocolError("missing_required_parameter", f"Missing '{param}.audio'.", f"{param}.audio")
    try:
        sound = from_base64(part["audio"])
    except BadAudio as error:
        raise ProtocolError("invalid_value", f"Invalid '{param}.audio': {error}.", f"{param}.audio") from None
    return {"type": kind, "transcript": None}, "", sound
