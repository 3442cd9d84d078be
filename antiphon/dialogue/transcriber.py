"""Writes down what the user says beside a model that needs no words for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.audio.endpoint import SILENCE_SECONDS
from antiphon.audio.speech import SileroActivity, SpeechDetector
from antiphon.dialogue.events import HeardEvent
from antiphon.dialogue.half_duplex import RecognizerListener

if TYPE_CHECKING:
    from antiphon.models.asr.heard import HearingOptions
    from antiphon.models.asr.recognizer import Recognizer

LEAD_FRAMES = 6  # up to and with the one in which a turn was found that the recognizer gets to hear


@dataclass
class Transcriber:
    """One user, live. `step` takes as long as the recognizer needs at the end of a turn.

    Attributes:
        recognizer: shared, it keeps no state.
        sample_rate: of the frames, Hz.
        detector: finds the user's turns; None for one at the frames' rate.
        lead: the newest frames while nobody speaks.
        start: seconds at which the turn under way began.
        turn: what is heard of it; None while nobody speaks.
        options: how it is heard; None for words alone, in whatever language.
    """

    recognizer: Recognizer
    sample_rate: int = 24000
    detector: SpeechDetector | None = None
    lead: deque[Tensor] = field(default_factory=lambda: deque(maxlen=LEAD_FRAMES))
    start: float = 0.0
    turn: RecognizerListener | None = None
    options: HearingOptions | None = None

    def __post_init__(self) -> None:
        self.detector = self.detector or SpeechDetector(SileroActivity(self.sample_rate), SILENCE_SECONDS)

    def step(self, frame: Tensor) -> HeardEvent | None:
        """Takes the next frame [samples]; gives what was said in the turn that it ends."""
        if self.turn is None:
            self.lead.append(frame)
        else:
            self.turn.step(frame)
        heard = None
        for event in self.detector.step(frame.numpy()):
            if event.kind == "start":
                self.start = event.at / self.sample_rate
                self.turn = RecognizerListener(self.recognizer, self.sample_rate, self.options)
                while self.lead:
                    self.turn.step(self.lead.popleft())
            elif event.kind == "stop":
                heard = self._end(event.quiet_from)
        return heard

    def finish(self) -> HeardEvent | None:
        """Nothing more comes: what was said last, if it was anything."""
        return self._end(self.detector.position - self.detector.quiet) if self.turn is not None else None

    def _end(self, at: int) -> HeardEvent | None:
        self.detector.stop()
        turn, self.turn = self.turn, None
        text = turn.finish().text
        return HeardEvent(text, self.start, at / self.sample_rate) if text else None
