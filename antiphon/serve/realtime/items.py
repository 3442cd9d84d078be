"""The conversation of a Realtime session: its items, in order, as the protocol shows and as the model reads them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from antiphon.dialogue.backend import Hearing, StreamingReply
from antiphon.dialogue.half_duplex import Message
from antiphon.dialogue.tool_calls import Call, Result
from antiphon.serve.errors import RequestError, missing
from antiphon.serve.json_text import TEXT_LETTERS, read_base64
from antiphon.serve.openai.tools import no_tools, other_tool, read_arguments
from antiphon.serve.realtime.config import parse
from antiphon.serve.seen import check_count, check_sees, data_url, read_seen, size

Id = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(max_length=TEXT_LETTERS)]
SEEN = {"input_image": ("image", "image_url"), "input_video": ("video", "video_url")}
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
    def seen_bytes(self) -> int:
        """Of its pictures and videos."""
        return size(self.message.contents) if self.message is not None else 0

    @property
    def calls(self) -> tuple[Call, ...]:
        """Of functions, that it is."""
        return self.message.calls if self.message is not None else ()

    def wire(self, with_audio: bool = False) -> dict[str, Any]:
        """As the protocol shows it; with all that is heard and seen in it, or without."""
        about = {"id": self.id, "object": "realtime.item", "status": self.status}
        if self.message is not None and not self.content:
            for call in self.message.calls:
                shown = {"name": call.name, "call_id": call.id, "arguments": call.arguments}
                return about | {"type": "function_call", **shown}
            for result in self.message.results:
                return about | {"type": "function_call_output", "call_id": result.id, "output": result.text}
        content = [dict(part) for part in self.content]
        seen = iter(self.message.contents if self.message is not None else ())
        for part in content if with_audio else ():
            if part["type"] in ("input_audio", "output_audio") and self.audio:
                part["audio"] = base64.b64encode(bytes(self.audio)).decode()
            elif part["type"] in SEEN:
                kind, name = SEEN[part["type"]]
                part[name] = data_url(next(each for each in seen if each["type"] == kind))
        return about | {"type": "message", "role": self.role, "content": content}


TO_BE_HEARD: dict[str, Any] = {"type": "audio"}  # where the sound stands among contents
Turn = Message | StreamingReply


def messages(turns: Sequence[Turn]) -> list[Message]:
    """What the model is to read; asked when earlier answers are no longer being made. Calls have items of their own."""
    found = [turn if isinstance(turn, Message) else turn.message for turn in turns]
    return [replace(each, calls=()) if each.calls and each.text else each for each in found if each is not None]


class Conversation:
    """Items in order.

    Args:
        max_items: that it holds.
        max_audio_bytes: that it keeps, for clients that retrieve it; the oldest goes first.
        max_letters: of all its items.
        max_seen_bytes: of all their pictures and videos.
    """

    def __init__(
        self, max_items: int = 1000, max_audio_bytes: int = 6_000_000, max_letters: int = 1_000_000,
        max_seen_bytes: int = 32_000_000,
    ):  # fmt: skip
        self.items: list[Item] = []
        self.max_items, self.max_audio_bytes, self.max_letters = max_items, max_audio_bytes, max_letters
        self.max_seen_bytes = max_seen_bytes

    def get(self, item_id: object) -> Item | None:
        return next((item for item in self.items if item.id == item_id), None)

    def insert(self, item: Item, previous: str | None = None) -> str | None:
        """Puts an item behind `previous` (None: at the end; "root": at the beginning); returns the one before it.

        Raises:
            RequestError: the id is there already, `previous` isn't, or there are too many.
        """
        if self.get(item.id) is not None:
            raise RequestError("item_create_duplicate_item_id", f"Item with id '{item.id}' already exists.", "item.id")
        if len(self.items) >= self.max_items:
            raise RequestError("too_many_items", f"A conversation holds at most {self.max_items} items; delete some.")
        if item.letters and item.letters + sum(other.letters for other in self.items) > self.max_letters:
            said = f"A conversation holds at most {self.max_letters} letters; delete some of its items."
            raise RequestError("too_much_text", said, "item")
        if item.seen_bytes and item.seen_bytes + sum(other.seen_bytes for other in self.items) > self.max_seen_bytes:
            said = f"A conversation holds at most {self.max_seen_bytes} bytes of pictures; delete some of its items."
            raise RequestError("too_many_pictures", said, "item")
        if previous is None:
            at = len(self.items)
        elif previous == "root":
            at = 0
        else:
            before = self.get(previous)
            if before is None:
                raise RequestError(
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
            if total <= self.max_audio_bytes:
                return
            total -= len(other.audio)
            other.audio = bytearray()


def call_item(call: Call, item_id: str | None = None) -> Item:
    """A call of a function as an item."""
    return Item(item_id or new_id("item"), "assistant", [], message=Message("assistant", "", calls=(call,)))


class GivenPart(BaseModel):
    """A part of a message, as a client gives it."""

    type: str
    text: Text | None = None
    transcript: Text | None = None
    audio: Any = None
    image_url: Any = None
    video_url: Any = None
    detail: Annotated[str, Field(max_length=50)] | None = None


class GivenMessage(BaseModel):
    """A message, likewise."""

    type: Literal["message"]
    id: Id | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[GivenPart], Field(min_length=1, max_length=100)]


class GivenCall(BaseModel):
    """A call of a function, likewise."""

    id: Id | None = None
    call_id: Id | None = None
    name: Any = None
    arguments: Any = None


class GivenResult(BaseModel):
    """What came of a call, likewise."""

    id: Id | None = None
    call_id: Id
    output: Text


def parse_item(
    given: Any, param: str = "item", supports_tools: bool = False, sees: bool = False, seconds: float = 120.0
) -> tuple[Item, bytes]:
    """An item as a client gives it -> the item, and the bytes of the sound in it, not heard yet.

    Args:
        given: the item.
        param: where it stands.
        supports_tools: the model can call functions.
        sees: messages may have pictures and videos.
        seconds: that a video may last.

    Raises:
        RequestError: something else than a message that the model understands, a call or what came of one.
    """
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind.startswith(("function_call", "mcp")):
        if not supports_tools:
            raise no_tools(f"{param}.type")
        if kind == "function_call":
            call = parse(GivenCall, given, param)
            arguments = read_arguments(call.arguments, call.name, f"{param}.")
            return call_item(Call(call.name, arguments, call.call_id or new_id("call")), call.id), b""
        if kind == "function_call_output":
            result = parse(GivenResult, given, param)
            message = Message("function", "", results=(Result(result.output, result.call_id),))
            return Item(result.id or new_id("item"), "function", [], message=message), b""
        raise other_tool(kind, f"{param}.type")
    message = parse(GivenMessage, given, param)
    role = "system" if message.role == "developer" else message.role
    parts, texts, sound, contents = [], [], b"", []
    for at, part in enumerate(message.content):
        where = f"{param}.content[{at}]"
        if part.type in SEEN and role == "user":
            kind, name = SEEN[part.type]
            check_sees(sees, f"{where}.type")
            parts.append({"type": part.type, "detail": part.detail or "auto"})
            contents.append(read_seen(getattr(part, name), kind, f"{where}.{name}", seconds))
            check_count(sum(each["type"] in ("image", "video") for each in contents), where)
            continue
        shown, text, heard = _read_part(part, role, where)
        parts.append(shown)
        texts.append(text)
        if text:
            contents.append({"type": "text", "text": text})
        elif heard and not sound:
            contents.append(TO_BE_HEARD)
        sound += heard
    text = " ".join(filter(None, texts))
    if len(text) > TEXT_LETTERS:
        said = f"Invalid '{param}.content': a message has at most {TEXT_LETTERS} letters."
        raise RequestError("string_above_max_length", said, f"{param}.content")
    many = sees and (any(part["type"] in SEEN for part in parts) or (text and sound))
    read = Message(role, text, contents=tuple(contents) if many else ())
    return Item(message.id or new_id("item"), role, parts, message=read if text or many else None), sound


def with_heard(message: Message, hearing: Hearing) -> Message:
    """A message whose sound has been heard."""
    text = f"{message.text} {hearing.text}".strip()
    heard = [hearing.content()] if hearing.is_speech else []
    contents = [one for each in message.contents for one in (heard if each is TO_BE_HEARD else [each])]
    return replace(message, text=text, notes=hearing.notes, contents=tuple(contents))


def _read_part(part: GivenPart, role: str, param: str) -> tuple[dict[str, Any], str, bytes]:
    """(as the protocol shows it, its text, the bytes of its sound)."""
    kind = {"text": "output_text", "audio": "output_audio"}.get(part.type, part.type)
    kind = kind if role == "assistant" else part.type
    if kind not in ROLES[role]:
        hint = " (images are not seen)" if kind == "input_image" else ""
        said = f"Invalid value for '{param}.type': a {role} message takes {' or '.join(ROLES[role])}{hint}."
        raise RequestError("invalid_value", said, f"{param}.type")
    if kind == "output_audio":
        return {"type": kind, "transcript": part.transcript}, part.transcript or "", b""
    if kind == "input_audio":
        if part.audio is None:
            raise missing(f"{param}.audio")
        return {"type": kind, "transcript": None}, "", read_base64(part.audio, f"{param}.audio")
    if part.text is None:
        raise missing(f"{param}.text")
    return {"type": kind, "text": part.text}, part.text, b""
