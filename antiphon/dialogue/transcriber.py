"""Writes down what the user says beside a model that needs no words for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import soxr
import torch
from torch import Tensor

from antiphon.audio.speech import SileroActivity
from antiphon.dialogue.events import HeardEvent
from antiphon.dialogue.session import HEARING_RATE, Endpointer

if TYPE_CHECKING:
    from antiphon.models.asr.recognizer import Recognizer, RecognizerState

BEFORE = 4  # frames before a turn's first loud one that the ears get to hear


@dataclass
class FloorTracker:
    """When somebody speaks, by loudness.

    Attributes:
        threshold: decibels of full scale above which a frame is speech.
        silence: seconds without that end it; shorter ones are pauses between words.
        speaking: whether it is on.
        quiet_since: when the silence began that may end it; None while it is loud.
    """

    threshold: float = -42.0
    silence: float = 0.4
    speaking: bool = False
    quiet_since: float | None = None

    def step(self, frame: Tensor, start: float, seconds: float) -> tuple[bool, float] | None:
        """Takes the next frame [samples], which begins at `start`; gives (speaking, since when) if that changed."""
        loud = float(frame.square().mean()) > 10 ** (self.threshold / 10)
        if loud:
            self.quiet_since = None
            if not self.speaking:
                self.speaking = True
                return True, start
            return None
        if not self.speaking:
            return None
        self.quiet_since = start if self.quiet_since is None else self.quiet_since
        if start + seconds - self.quiet_since < self.silence - 1e-6:
            return None
        self.speaking, since = False, self.quiet_since
        return False, since


@dataclass
class Scribe:
    """One user, live. `step` takes as long as the ears need at the end of a turn.

    Attributes:
        ears: a recogniser; shared, it keeps no state.
        sample_rate: of the frames, Hz.
        endpointer: finds the end of a turn; None for one at the frames' rate.
        before: the newest frames while nobody speaks.
        start, time: seconds at which the turn began, and that have been heard.
        turn, resampler: what the ears made of the turn so far, and what brings frames to their rate; else None.
    """

    ears: Recognizer
    sample_rate: int = 24000
    endpointer: Endpointer | None = None
    before: deque[Tensor] = field(default_factory=lambda: deque(maxlen=BEFORE))
    start: float = 0.0
    time: float = 0.0
    turn: RecognizerState | None = None
    resampler: soxr.ResampleStream | None = None

    def __post_init__(self) -> None:
        self.endpointer = self.endpointer or Endpointer(activity=SileroActivity(self.sample_rate))

    def step(self, frame: Tensor) -> HeardEvent | None:
        """Takes the next frame [samples]; gives what was said in the turn that it ends."""
        seconds = len(frame) / self.sample_rate
        over = self.endpointer.step(frame)
        self.time += seconds
        if self.turn is None:
            self.before.append(frame)
            if self.endpointer.spoken > 0:
                self._begin(seconds)
        else:
            self._hear(frame)
        if over:
            return self._end()
        if self.turn is not None and self.endpointer.quiet >= self.endpointer.silence:
            self._drop()  # too short for speech
        return None

    def finish(self) -> HeardEvent | None:
        """Nothing more comes: what was said last, if it was anything."""
        return self._end() if self.turn is not None else None

    def _begin(self, seconds: float) -> None:
        self.turn = self.ears.init_state()
        self.resampler = soxr.ResampleStream(self.sample_rate, HEARING_RATE, 1, dtype="float32")
        self.start = self.time - seconds
        for frame in self.before:
            self._hear(frame)
        self.before.clear()

    def _hear(self, frame: Tensor, last: bool = False) -> None:
        samples = self.resampler.resample_chunk(frame.numpy(), last=last)
        self.ears.step(torch.from_numpy(samples), self.turn)

    def _end(self) -> HeardEvent | None:
        self._hear(torch.zeros(0), last=True)
        text, end = self.ears.finish(self.turn).text.strip(), self.time - self.endpointer.quiet
        self._drop()
        return HeardEvent(text, self.start, end) if text else None

    def _drop(self) -> None:
        self.turn, self.resampler = None, None
        self.endpointer.reset()
