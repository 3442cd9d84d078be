"""One response of a Realtime session: the events of an answer, in the order and with the fields of the protocol."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from antiphon.audio.pcm import RATE, Encoder, pcm16
from antiphon.dialogue.backend import StreamingReply
from antiphon.dialogue.tool_calls import Call
from antiphon.serve.errors import RequestError
from antiphon.serve.realtime.items import Conversation, Item, call_item, new_id

FRAME_SECONDS = 0.08  # an audio token

Event = dict[str, Any]


@dataclass(eq=False)
class Response:
    """An answer on its way to the client. Every method returns the events to send.

    Attributes:
        conversation: where its item goes; None for one outside of it.
        conversation_id: of the protocol; None likewise.
        spoken: audio with its transcript, or text.
        format, voice: of the sound.
        max_tokens: a number or "inf".
        metadata: the client's, echoed.
        answer: where it is made.
        status: "in_progress" until it is over.
        item: of what it says, while it is being said.
        outputs: that item and those of the functions that it calls, in order.
        text, samples: of that item, that were sent.
        words_heard: letters of the text that were heard by the end of that sound, as far as the client was told.
    """

    conversation: Conversation | None
    conversation_id: str | None
    spoken: bool
    format: dict[str, Any]
    voice: str | None
    max_tokens: int | str
    metadata: dict[str, str] | None = None
    answer: StreamingReply | None = None
    id: str = field(default_factory=lambda: new_id("resp"))
    status: str = "in_progress"
    details: dict[str, Any] | None = None
    item: Item | None = None
    outputs: list[Item] = field(default_factory=list)
    text: str = ""
    samples: int = 0
    words_heard: int = 0
    _encoder: Encoder | None = None
    _calls: list[Call] = field(default_factory=list)  # that wait until all is said

    @property
    def seconds(self) -> float:
        """Of sound that was made."""
        return self.samples / RATE

    def wire(self) -> dict[str, Any]:
        """As the protocol shows it."""
        audio = {"output": {"format": self.format, "voice": self.voice}}
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self.status,
            "status_details": self.details,
            "output": [item.wire() for item in self.outputs],
            "conversation_id": self.conversation_id,
            "output_modalities": ["audio"] if self.spoken else ["text"],
            "max_output_tokens": self.max_tokens,
            "audio": audio if self.spoken else {},
            "usage": self.usage() if self.status != "in_progress" else None,
            "metadata": self.metadata,
        }

    def usage(self) -> dict[str, Any]:
        """Tokens in and out: of the language model, and a token for each 80 ms that were spoken."""
        used = self.answer.usage if self.answer is not None else None
        into, heard = (used.input, used.heard) if used else (0, 0)
        cached, heard_cached = (used.cached, used.heard_cached) if used else (0, 0)
        seen, seen_cached = (used.seen, used.seen_cached) if used else (0, 0)
        text, audio = (used.output if used else 0), round(self.seconds / FRAME_SECONDS)
        return {
            "total_tokens": into + text + audio,
            "input_tokens": into,
            "output_tokens": text + audio,
            "input_token_details": {
                "text_tokens": into - heard - seen,
                "audio_tokens": heard,
                "image_tokens": seen,
                "cached_tokens": cached,
                "cached_tokens_details": {
                    "text_tokens": cached - heard_cached - seen_cached,
                    "audio_tokens": heard_cached,
                    "image_tokens": seen_cached,
                },
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }

    def created(self) -> list[Event]:
        return [{"type": "response.created", "response": self.wire()}]

    def say(self, text: str) -> list[Event]:
        """More of the text."""
        events = self._begun()
        assert self.item is not None
        self.text += text
        part = self.item.content[0]
        part["transcript" if self.spoken else "text"] = self.text
        kind = "response.output_audio_transcript.delta" if self.spoken else "response.output_text.delta"
        return [*events, self._part(kind, delta=text)]

    def sound(self, samples: np.ndarray, last: bool = False) -> list[Event]:
        """More of the sound, float32 [N] at 24 kHz."""
        events = self._begun()
        assert self.item is not None
        if self._encoder is None:
            self._encoder = Encoder(self.format["type"])
        self.samples += len(samples)
        self.item.audio_ms = self.seconds * 1000
        if self.conversation is not None and len(samples):
            self.conversation.keep(self.item, pcm16(samples))
        data = self._encoder.step(samples, last)
        if data:
            events.append(self._part("response.output_audio.delta", delta=base64.b64encode(data).decode()))
        return events

    def words(self) -> list[Event]:
        """How far the text is heard by the end of the sound that was sent, if that is further than it was.

        An extension of the protocol; `letters` counts Unicode's code points.
        """
        if self.item is None or self.answer is None:
            return []
        letters = len(self.answer.until(self.seconds))
        if letters <= self.words_heard:
            return []
        self.words_heard = letters
        return [self._part("response.output_audio_words.delta", letters=letters, end_ms=round(self.seconds * 1000))]

    def call(self, call: Call) -> list[Event]:
        """A function is called; if something is being said, when that is complete.

        Raises:
            RequestError: the conversation is full.
        """
        call = replace(call, id=new_id("call"))
        if self.item is not None:
            self._calls.append(call)
            return []
        item = call_item(call)
        begun = {"name": call.name, "call_id": call.id, "arguments": ""}
        shown = item.wire() | begun | {"status": "in_progress"}
        events, done = [], []
        self.outputs.append(item)
        about = {"response_id": self.id, "output_index": len(self.outputs) - 1}
        events.append({"type": "response.output_item.added", **about, "item": shown})
        if self.conversation is not None:
            try:
                before = self.conversation.insert(item)
            except RequestError:
                self.outputs.remove(item)
                raise
            events.append({"type": "conversation.item.added", "previous_item_id": before, "item": shown})
            done.append({"type": "conversation.item.done", "previous_item_id": before, "item": item.wire()})
        done.append({"type": "response.output_item.done", **about, "item": item.wire()})
        about |= {"item_id": item.id, "call_id": call.id}
        name, given = "response.function_call_arguments", call.arguments
        events.append({"type": f"{name}.delta", **about, "delta": given})
        events.append({"type": f"{name}.done", **about, "name": call.name, "arguments": given})
        return [*events, *done]

    def close(self, status: str) -> list[Event]:
        """All is said: the item of it is complete, and the calls that waited come.

        Raises:
            RequestError: the conversation is full.
        """
        events = self._close_item(status)
        waiting, self._calls = self._calls, []
        for call in waiting:
            events += self.call(call)
        return events

    def finish(self, status: str, reason: str | None = None, error: dict[str, Any] | None = None) -> list[Event]:
        """It is over.

        Args:
            status: "completed", "cancelled", "incomplete" or "failed".
            reason: why, where the status asks for it.
            error: likewise; {"type", "code"}, and a message for people.
        """
        if self.status != "in_progress":
            return []
        events = self._close_item(status)
        self.status = status
        self.details = {"type": status}
        if reason is not None:
            self.details["reason"] = reason
        if error is not None:
            self.details["error"] = error
        return [*events, {"type": "response.done", "response": self.wire()}]

    def _close_item(self, status: str) -> list[Event]:
        if self.item is None:
            return []
        events: list[Event] = []
        if self._encoder is not None and status == "completed":
            events += self.sound(np.zeros(0, np.float32), last=True)
        self.item.status = "completed" if status == "completed" else "incomplete"
        if self.spoken:
            events.append(self._part("response.output_audio.done"))
            events.append(self._part("response.output_audio_transcript.done", transcript=self.text))
        else:
            events.append(self._part("response.output_text.done", text=self.text))
        events.append(self._part("response.content_part.done", part=self._shown()))
        if self.conversation is not None and self.item in self.conversation.items:
            before = self.conversation.before(self.item)
            events.append({"type": "conversation.item.done", "previous_item_id": before, "item": self.item.wire()})
        events.append(self._output("response.output_item.done"))
        self.item = None
        return events

    def _begun(self) -> list[Event]:
        """The item's and its part's beginning, before the first of its content."""
        if self.item is not None:
            return []
        empty = {"type": "output_audio", "transcript": ""} if self.spoken else {"type": "output_text", "text": ""}
        self.item = Item(new_id("item"), "assistant", [], "in_progress", answer=self.answer)
        self.outputs.append(self.item)
        events = [self._output("response.output_item.added")]
        if self.conversation is not None:
            before = self.conversation.insert(self.item)
            events.append({"type": "conversation.item.added", "previous_item_id": before, "item": self.item.wire()})
        self.item.content.append(empty)
        return [*events, self._part("response.content_part.added", part=self._shown())]

    def _shown(self) -> dict[str, Any]:
        if self.spoken:
            return {"type": "audio", "transcript": self.text}
        return {"type": "text", "text": self.text}

    def _output(self, kind: str) -> Event:
        assert self.item is not None
        at = self.outputs.index(self.item)
        return {"type": kind, "response_id": self.id, "output_index": at, "item": self.item.wire()}

    def _part(self, kind: str, **more: Any) -> Event:
        assert self.item is not None
        return {
            "type": kind,
            "response_id": self.id,
            "item_id": self.item.id,
            "output_index": self.outputs.index(self.item),
            "content_index": 0,
            **more,
        }
