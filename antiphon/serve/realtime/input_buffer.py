"""The input buffer of a Realtime session: sound as it comes, cut into turns.

for edge in buffer.add(samples):
    if isinstance(edge, SpeechStopped):
        item = buffer.take()                       # or `drop`; between two edges the buffer stands where they are
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from antiphon.audio.pcm import BYTES_A_SECOND, RATE, Decoder, pcm16
from antiphon.audio.speech import SpeechDetector, activity
from antiphon.dialogue.turn_taking.ends import TurnEnds
from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import read_base64
from antiphon.serve.realtime.commands import Drop, Hear, Judge, Limits, Outbox, Received, Resume
from antiphon.serve.realtime.items import Item, new_id

MIN_COMMIT_MS = 100  # of sound


@dataclass(frozen=True)
class SpeechStarted:
    """The user began to speak, so many milliseconds after the session's first sound."""

    turn: Item
    at_ms: int


@dataclass(frozen=True)
class SpeechPaused:
    """The user's turn is likely over; the pause has a number."""

    turn: Item
    number: int


@dataclass(frozen=True)
class SpeechStopped:
    """The user's turn is over, likewise: it must be taken out of the buffer, or dropped."""

    turn: Item
    at_ms: int


class InputBuffer:
    """See the module.

    Args:
        limits: of what a client may send.
        out: gets the commands.

    Attributes:
        turn: being spoken; None between turns.
        position: samples since the session began.
        own: the model's voice sounds at the client: with `semantic_vad`, not every voice begins a turn then.
    """

    def __init__(self, limits: Limits, out: Outbox):
        self.limits, self.out = limits, out
        self.turn: Item | None = None
        self.position = 0
        self.own = False
        self._kind = "audio/pcm"
        self._decoder = Decoder(self._kind)
        self._vad: SpeechDetector | None = None
        self._ends: TurnEnds | None = None  # of `semantic_vad`, around that
        self._padding = 0  # samples before speech that are part of its turn
        self._turn_samples = 0
        self._before = np.zeros(0, np.float32)  # the last of what was not part of a turn
        self._pauses = 0

    def configure(self, now: dict[str, Any], before: dict[str, Any] | None = None) -> None:
        """Follows `audio.input` of a session; `before` is how it was."""
        if before is None or before["format"] != now["format"]:
            self._kind = now["format"]["type"]
            self._decoder = Decoder(self._kind)
        if before is not None and before["turn_detection"] == now["turn_detection"]:
            return
        how = now["turn_detection"]
        self._ends = None
        if how is None:
            self._vad = None
            return
        threshold = how.get("threshold", 0.5)
        self._padding = how.get("prefix_padding_ms", 300) * RATE // 1000
        if self._vad is None:
            finds = activity(self.limits.vad, RATE, threshold)
            self._vad = SpeechDetector(finds, speaking=self.turn is not None)  # gathered by hand, it goes on as a turn
            self._vad.position = self.position
        self._vad.activity.threshold = threshold
        self._vad.silence, self._vad.pause = how.get("silence_duration_ms", 500) / 1000, None
        if how["type"] == "semantic_vad" and self.limits.turns is not None:
            self._ends = TurnEnds(self.limits.turns(how["eagerness"]), self._vad)

    @property
    def finds_turns(self) -> bool:
        """It is told by the sound when a turn ends, and not by the client."""
        return self._vad is not None

    def decode(self, given: object) -> np.ndarray:
        """Sound as a client sends it, base64 -> float32 [N] at 24 kHz.

        Raises:
            RequestError: it is none, or more than there is room for.
        """
        data = read_base64(given, "audio")
        self.require_room(len(data) / BYTES_A_SECOND[self._kind])
        return self._decoder.step(data)

    def decode_whole(self, data: bytes) -> np.ndarray:
        """The samples of a whole sound in the session's format.

        Raises:
            RequestError: it is too long.
        """
        if len(data) > self.limits.turn_seconds * BYTES_A_SECOND[self._kind]:
            raise RequestError("audio_too_long", f"A turn has at most {self.limits.turn_seconds:.0f} seconds.", "item")
        return Decoder(self._kind).step(data)

    def require_room(self, seconds: float) -> None:
        """Raises RequestError if so much more can't be taken."""
        gathered = self._turn_samples / RATE if self._vad is None else 0.0
        if seconds + gathered > self.limits.turn_seconds:
            said = f"The input buffer holds at most {self.limits.turn_seconds:.0f} seconds; commit or clear it."
            raise RequestError("audio_too_long", said, "audio")

    def add(self, samples: np.ndarray) -> Iterator[SpeechStarted | SpeechPaused | SpeechStopped]:
        """More of the sound, float32 [N] at 24 kHz, within the bounds; gives where turns begin and end in it."""
        self.out.command(Received(samples))
        if self._vad is None:
            self._gather(samples)
            self.position += len(samples)
            return
        heard, at = np.concatenate([self._before, samples]), self.position - len(self._before)
        if self._ends is not None:
            self._ends.own = self.own
        events = self._vad.step(samples) if self._ends is None else self._ends.events(samples)
        self.position += len(samples)
        for event in events:
            if event.kind == "start":
                cut = max(at, event.at - self._padding) - at
                yield SpeechStarted(self._begin(), (at + cut) * 1000 // RATE)
            elif self.turn is not None:
                cut = max(0, event.at - at)
                self._gather(heard[:cut])
                if event.kind == "stop":
                    yield SpeechStopped(self.turn, self._vad.position * 1000 // RATE)
                elif event.kind == "likely":
                    yield SpeechPaused(self.turn, self._pauses)
                elif event.kind == "resume":
                    self._pauses += 1
                    self.out.command(Resume(self.turn.id))
                elif self._ends is not None and self.limits.judges:
                    self.out.command(Judge(self.turn.id, self._pauses, self._ends.recent()))
            else:
                continue
            heard, at = heard[cut:], at + cut
        if self.turn is None:
            self._before = heard[-RATE:]  # as much as a padding may want, and no more
            return
        self._gather(heard)
        self._before = np.zeros(0, np.float32)
        if self._turn_samples > self.limits.turn_seconds * RATE:
            yield self._stop()

    def judged(self, item_id: str, number: int, chance: float) -> SpeechPaused | None:
        """How likely the turn was over at a pause by its sound."""
        if self._ends is None or self.turn is None or not self._pausing(item_id, number):
            return None
        return SpeechPaused(self.turn, number) if self._ends.judge(chance) else None

    def worded(self, item_id: str, number: int, chance: float) -> None:
        """How likely the turn was over at a pause by its words."""
        if self._ends is not None and self._pausing(item_id, number):
            self._ends.judge_words(chance)

    def commit(self) -> Item:
        """The turn, which the client ends.

        Raises:
            RequestError: there is less than can be committed.
        """
        if self.turn is None or self._turn_samples * 1000 < MIN_COMMIT_MS * RATE:
            length = self._turn_samples / RATE * 1000
            raise RequestError(
                "input_audio_buffer_commit_empty",
                f"Error committing input audio buffer: buffer too small. Expected at least {MIN_COMMIT_MS}ms of audio, "
                f"but buffer only has {length:.2f}ms of audio.",
            )
        self.end_speech()
        return self.take()

    def take(self) -> Item:
        """The turn, which is over."""
        turn = self.turn
        assert turn is not None
        turn.audio_ms = self._turn_samples / RATE * 1000
        self.turn, self._turn_samples = None, 0
        return turn

    def drop(self) -> None:
        """Forgets the turn, if there is one."""
        if self.turn is not None:
            self.out.command(Drop(self.turn.id))
        self.turn, self._turn_samples = None, 0

    def clear(self) -> None:
        """Forgets what came, and begins anew."""
        self.drop()
        self._before = np.zeros(0, np.float32)
        self.end_speech()

    def end_speech(self) -> None:
        """Whatever comes next is no part of what was said before."""
        if self._ends is not None:
            self._ends.stop()
        elif self._vad is not None:
            self._vad.stop()

    def _pausing(self, item_id: str, number: int) -> bool:
        """Whether the turn hasn't gone on since that pause."""
        return self.turn is not None and self.turn.id == item_id and number == self._pauses

    def _stop(self) -> SpeechStopped:
        """The turn is over, though the detector wouldn't say so yet."""
        assert self.turn is not None and self._vad is not None
        self.end_speech()
        return SpeechStopped(self.turn, self._vad.position * 1000 // RATE)

    def _begin(self) -> Item:
        self.turn, self._turn_samples = Item(new_id("item"), "user", [{"type": "input_audio", "transcript": None}]), 0
        return self.turn

    def _gather(self, samples: np.ndarray) -> None:
        """More of the turn."""
        turn = self.turn or self._begin()
        self._turn_samples += len(samples)
        if len(samples):
            turn.audio += pcm16(samples)
            self.out.command(Hear(turn.id, samples))
