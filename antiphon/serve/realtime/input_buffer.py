"""The listening half of a Realtime session: the input buffer, who speaks when, and what was heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from antiphon.audio.pcm import BYTES_A_SECOND, RATE, BadAudio, Decoder, from_base64, pcm16
from antiphon.audio.speech import SpeechDetector, SpeechEvent, activity
from antiphon.dialogue.half_duplex import Hearing, sounds_complete
from antiphon.serve.realtime.commands import Drop, Finish, Hear, Heard, Limits, Peek
from antiphon.serve.realtime.config import ProtocolError
from antiphon.serve.realtime.items import Conversation, Item, new_id

Event = dict[str, Any]
LEAST_MS = 100  # of sound that can be committed
PATIENCE = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}  # seconds before an unfinished turn ends all the same
PAUSE = {"low": 0.6, "medium": 0.36, "auto": 0.36, "high": 0.2}  # seconds before the words are looked at


class InputTurns:
    """See the module. The other half, `RealtimeSession`, has `config`, `active`, `respond`, `cancel`, `next_responses`.

    Args:
        limits: of what a client may send.
        now: monotonic seconds.
    """

    config: dict[str, Any]

    def __init__(self, limits: Limits, now: float):
        self.limits, self.now = limits, now
        self.conversation = Conversation(limits.items)
        self.spoke_until = now
        self.tapped = False
        self._out: list[Any] = []
        self._vad: SpeechDetector | None = None
        self._decoder = Decoder("audio/pcm")
        self._turn: Item | None = None  # being spoken
        self._turn_samples = 0
        self._clock = 0  # samples since the session began
        self._before = np.zeros(0, np.float32)  # the last of what was not part of a turn
        self._peeks = 0
        self._asked: float | None = None  # spoke_until that an idle prompt was given for
        self._due: set[str] = set()  # items to be answered as soon as they have been heard
        self._said = False  # something was said in those that have been heard meanwhile

    # Out

    def emit(self, event: Event) -> None:
        self._out.append({"event_id": new_id("event"), **event})

    def emit_all(self, events: list[Event]) -> None:
        for event in events:
            self.emit(event)

    def command(self, command: object) -> None:
        self._out.append(command)

    def take(self) -> list[Any]:
        """What came out since the last call: dicts for the client and commands, in order."""
        out, self._out = self._out, []
        return out

    # Sound

    def configure_turns(self, before: dict[str, Any] | None = None) -> None:
        """Follows the configuration; `before` is that of the input as it was."""
        now = self.config["audio"]["input"]
        if before is None or before["format"] != now["format"]:
            self._decoder = Decoder(now["format"]["type"])
        if before is not None and before["turn_detection"] == now["turn_detection"]:
            return
        how = now["turn_detection"]
        if how is None:
            self._vad = None
            return
        threshold = how.get("threshold", 0.5)
        if self._vad is None:
            finds = activity(self.limits.vad, RATE, threshold)
            self._vad = SpeechDetector(finds, speaking=self._turn is not None)  # gathered by hand, it goes on as a turn
            self._vad.position = self._clock
        self._vad.activity.threshold = threshold
        if how["type"] == "server_vad":
            self._vad.silence, self._vad.pause = how["silence_duration_ms"] / 1000, None
        else:
            self._vad.silence, self._vad.pause = PATIENCE[how["eagerness"]], PAUSE[how["eagerness"]]

    def audio_append(self, event: Event) -> None:
        try:
            data = from_base64(event.get("audio"))
        except BadAudio as error:
            raise ProtocolError("invalid_value", f"Invalid 'audio': {error}.", "audio") from None
        kind = self.config["audio"]["input"]["format"]["type"]
        self.bound(len(data) / BYTES_A_SECOND[kind])
        self.take_sound(self._decoder.step(data))

    def take_sound(self, samples: np.ndarray) -> None:
        """More of the sound from the client, float32 [N] at 24 kHz, within the bounds."""
        if self.tapped:
            self.command(Heard(samples))
        if self._vad is None:
            self._gather(samples)
            return
        begins = self._clock
        signs = self._vad.step(samples)
        self._clock += len(samples)
        heard, at = np.concatenate([self._before, samples]), begins - len(self._before)
        for sign in signs:
            if sign.kind == "start":
                padding = self.config["audio"]["input"]["turn_detection"].get("prefix_padding_ms", 300)
                start = max(at, sign.at - padding * RATE // 1000)
                self._speech_started(start)
                heard, at = heard[start - at :], start
            elif sign.kind == "pause" and self._turn is not None:
                heard, at = self._hear(heard, at, sign)
                self._peeks += 1
                self.command(Peek(self._turn.id, self._peeks))
            elif sign.kind == "stop" and self._turn is not None:
                heard, at = self._hear(heard, at, sign)
                self._speech_stopped()
        if self._turn is not None:
            self._gather(heard, clock=False)
            self._before = np.zeros(0, np.float32)
            if self._turn_samples > self.limits.turn_seconds * RATE:
                self._vad.stop()
                self._speech_stopped()
        else:
            self._before = heard[-RATE:]  # as much as a padding may want, and no more

    def audio_commit(self, event: Event) -> None:
        turn = self._turn
        if turn is None or self._turn_samples * 1000 < LEAST_MS * RATE:
            length = self._turn_samples / RATE * 1000
            raise ProtocolError(
                "input_audio_buffer_commit_empty",
                f"Error committing input audio buffer: buffer too small. Expected at least {LEAST_MS}ms of audio, "
                f"but buffer only has {length:.2f}ms of audio.",
            )
        if self._vad is not None:
            self._vad.stop()
        self._commit()

    def audio_clear(self, event: Event) -> None:
        if self._turn is not None:
            self.command(Drop(self._turn.id))
        self._turn, self._turn_samples, self._before = None, 0, np.zeros(0, np.float32)
        if self._vad is not None:
            self._vad.stop()
        self.emit({"type": "input_audio_buffer.cleared"})

    def decoded_whole(self, data: bytes) -> np.ndarray:
        """The samples of a whole sound in the session's input format.

        Raises:
            ProtocolError: it is too long.
        """
        kind = self.config["audio"]["input"]["format"]["type"]
        if len(data) > self.limits.turn_seconds * BYTES_A_SECOND[kind]:
            raise ProtocolError("audio_too_long", f"A turn has at most {self.limits.turn_seconds:.0f} seconds.", "item")
        return Decoder(kind).step(data)

    def hear_item(self, item: Item, samples: np.ndarray) -> None:
        """Has the sound of an item heard that a client gave as a whole."""
        item.hearing, item.audio_ms = True, len(samples) / RATE * 1000
        self.conversation.keep(item, pcm16(samples))
        self.command(Hear(item.id, samples))
        self.command(Finish(item.id))

    def show_item(self, item: Item, before: str | None) -> None:
        """Tells the client that an item is there."""
        self.emit({"type": "conversation.item.added", "previous_item_id": before, "item": item.wire()})
        self.emit({"type": "conversation.item.done", "previous_item_id": before, "item": item.wire()})

    def tick(self, now: float) -> None:
        """Time goes by: asks whether the user is still there, if that is wanted."""
        self.now = now
        how = self.config["audio"]["input"]["turn_detection"]
        wait = how.get("idle_timeout_ms") if how else None
        if not wait or self._turn is not None or self.active() is not None or self._asked == self.spoke_until:
            return
        if self.conversation.items and now - self.spoke_until >= wait / 1000:
            self._asked = self.spoke_until
            item, end = new_id("item"), self._clock * 1000 // RATE
            self.emit(
                {
                    "type": "input_audio_buffer.timeout_triggered",
                    "audio_start_ms": max(0, end - wait),
                    "audio_end_ms": end,
                    "item_id": item,
                }
            )
            self._turn, self._turn_samples = Item(item, "user", [{"type": "input_audio", "transcript": ""}]), 0
            self._commit(heard=False)
            self.respond()

    # What the ears find

    def heard(self, item_id: str, hearing: Hearing | None, failure: str | None, now: float) -> None:
        """An item's turn was heard; or couldn't be, with a message for the client."""
        self.now = now
        item = self.conversation.get(item_id)
        if item is None or not item.hearing:
            return
        item.hearing = False
        transcript = hearing.text if hearing is not None else ""
        for at, part in enumerate(item.content):
            if part["type"] == "input_audio" and part["transcript"] is None:
                part["transcript"] = transcript
                self._tell_transcript(item, at, transcript, failure)
                break
        if hearing is not None and transcript:
            typed = item.message
            item.message = hearing.message() if typed is None else replace(typed, text=f"{typed.text} {transcript}")
        self.next_responses()
        if item.id in self._due:
            self._due.discard(item.id)
            self._said = self._said or bool(transcript)
            if self._said and not self._due:
                self._said = False
                self.respond()

    def peeked(self, item_id: str, number: int, hearing: Hearing, now: float) -> None:
        """What was said before a pause: a turn that sounds complete is over."""
        self.now = now
        turn, vad = self._turn, self._vad
        if turn is None or turn.id != item_id or number != self._peeks or vad is None or not vad.quiet:
            return
        if sounds_complete(hearing.text):
            vad.stop()
            self._speech_stopped()

    def _tell_transcript(self, item: Item, at: int, transcript: str, failure: str | None) -> None:
        if self.config["audio"]["input"]["transcription"] is None:
            return
        where = {"item_id": item.id, "content_index": at}
        name = "conversation.item.input_audio_transcription"
        if failure is not None:
            error = {"type": "transcription_error", "code": "audio_unintelligible", "message": failure, "param": None}
            self.emit({"type": f"{name}.failed", **where, "error": error})
            return
        if transcript:
            self.emit({"type": f"{name}.delta", **where, "delta": transcript})
        usage = {"type": "duration", "seconds": round(item.audio_ms / 1000, 3)}
        self.emit({"type": f"{name}.completed", **where, "transcript": transcript, "usage": usage})

    # Turns

    def bound(self, seconds: float) -> None:
        """Raises ProtocolError if so much more can't be taken."""
        gathered = self._turn_samples / RATE if self._vad is None else 0.0
        if seconds + gathered > self.limits.turn_seconds:
            raise ProtocolError(
                "audio_too_long",
                f"The input buffer holds at most {self.limits.turn_seconds:.0f} seconds; commit or clear it.",
                "audio",
            )

    def _new_turn(self) -> Item:
        item = Item(new_id("item"), "user", [{"type": "input_audio", "transcript": None}])
        self._turn, self._turn_samples = item, 0
        return item

    def _gather(self, samples: np.ndarray, clock: bool = True) -> None:
        """More of the turn."""
        turn = self._turn or self._new_turn()
        self._turn_samples += len(samples)
        self._clock += len(samples) if clock else 0
        if len(samples):
            turn.audio += pcm16(samples)
            self.command(Hear(turn.id, samples))

    def _hear(self, heard: np.ndarray, at: int, sign: SpeechEvent) -> tuple[np.ndarray, int]:
        """The turn up to a sign; returns what lies behind it."""
        here = max(0, sign.at - at)
        self._gather(heard[:here], clock=False)
        return heard[here:], at + here

    def _speech_started(self, at: int) -> None:
        turn = self._new_turn()
        self.emit(
            {"type": "input_audio_buffer.speech_started", "audio_start_ms": at * 1000 // RATE, "item_id": turn.id}
        )
        active = self.active()
        if active is not None and self.config["audio"]["input"]["turn_detection"]["interrupt_response"]:
            self.cancel(active, "turn_detected")

    def _speech_stopped(self) -> None:
        assert self._turn is not None
        turn = self._turn
        self.emit(
            {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": (self._vad.position if self._vad else self._clock) * 1000 // RATE,
                "item_id": turn.id,
            }
        )
        self._commit()
        if self.config["audio"]["input"]["turn_detection"]["create_response"] and self.config["type"] == "realtime":
            self._due.add(turn.id)

    def _commit(self, heard: bool = True) -> None:
        """The turn becomes an item of the conversation."""
        turn, samples = self._turn, self._turn_samples
        assert turn is not None
        self._turn, self._turn_samples = None, 0
        turn.audio_ms = samples / RATE * 1000
        try:
            before = self.conversation.insert(turn)
        except ProtocolError:
            self.command(Drop(turn.id))
            raise
        self.conversation.keep(turn, b"")
        self.emit({"type": "input_audio_buffer.committed", "previous_item_id": before, "item_id": turn.id})
        turn.hearing = heard
        self.show_item(turn, before)
        if heard:
            self.command(Finish(turn.id))

    # The other half

    def active(self) -> Any:
        raise NotImplementedError

    def respond(self) -> None:
        raise NotImplementedError

    def cancel(self, response: Any, reason: str) -> None:
        raise NotImplementedError

    def next_responses(self) -> None:
        raise NotImplementedError
