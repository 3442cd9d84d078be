"""Where a user's turn ends: after a short silence if it sounds finished, else after a longer one.

    ends = Endpointer(SmartTurn(folder))
    for event in ends.step(samples): ...           # "start", "pause", "likely", "resume", "stop"

Silero's network finds the pauses, and at each of them a `TurnDetector` is asked how likely the turn is over. If it is
likely, that is told at once, so that an answer can be begun; the turn ends a moment later, unless the user goes on.
Whoever knows the words by then can say that they are no whole sentence: then a little more silence is waited for.
Where there is nobody to ask, a turn ends after a fixed silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.audio.smart_turn import SAMPLE_RATE, SECONDS, TurnDetector
from antiphon.audio.speech import SpeechDetector, SpeechEvent

PAUSE_SECONDS = 0.2  # of silence after which it is asked whether the turn is over, and again after as many more
CONFIRM_SECONDS = 0.36  # of silence that end a turn that sounds finished
LEAD_SECONDS = 0.5  # before the first word that the detector hears
COMPLETE = 0.8  # how likely the words have to be all
# By eagerness: how likely a turn has to be over; seconds of silence that end one that sounds so but whose words do not,
# and seconds that end any turn.
LIKELY = {"low": 0.9, "medium": 0.7, "auto": 0.7, "high": 0.5}
SILENCE_SECONDS = 0.7  # that end a turn where there is nobody to ask
DOUBT_SECONDS = {"low": 2.0, "medium": 1.3, "auto": 1.3, "high": 0.9}
PATIENCE_SECONDS = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}


class FindsEnds(Protocol):
    """Finds the ends of turns: an `Endpointer`, or by silence alone a `SpeechDetector`."""

    def step(self, samples: NDArray[np.float32]) -> list[SpeechEvent]: ...

    def ends(self, samples: NDArray[np.float32]) -> bool: ...

    def stop(self) -> None: ...


@dataclass
class Endpointer:
    """Feed it samples; it gives events in order.

    "start", then for each pause "pause", perhaps "likely" (the turn is likely over) and "resume" (the user goes on;
    what was begun on "likely" is void), and at last "stop".

    Attributes:
        detector: is asked at every pause, if there is one.
        eagerness: "low", "medium", "high" or "auto" (as medium): how readily a turn is taken for finished.
        judged: there is none, but the caller asks one of its own after each "pause", and tells `judge`.
        worded: the caller looks at the words, too, after each "likely", and tells `judge_words`.
        speech: finds the pauses.
        likely: the turn is likely over.
    """

    detector: TurnDetector | None = None
    eagerness: str = "auto"
    speech: SpeechDetector = field(default_factory=SpeechDetector)
    judged: bool = False
    worded: bool = False
    likely: bool = False
    _recent: deque[NDArray[np.float32]] = field(default_factory=deque)
    _kept: int = 0

    def __post_init__(self) -> None:
        self.speech.pause = PAUSE_SECONDS
        self._reset()

    def step(self, samples: NDArray[np.float32]) -> list[SpeechEvent]:
        """Takes samples, float32 [N] at the activity's rate."""
        return list(self.events(samples))

    def events(self, samples: NDArray[np.float32]) -> Iterator[SpeechEvent]:
        """The same as `step`, one by one; each comes before what follows it was taken."""
        hop = self.speech.activity.hop
        for at in range(0, len(samples), hop):  # so that the detector hears nothing of what follows its pause
            self._keep(samples[at : at + hop])
            for event in self.speech.step(samples[at : at + hop]):
                if event.kind == "pause" and self.likely:
                    continue
                if event.kind == "start":
                    self._trim(self.speech.position - event.at + round(LEAD_SECONDS * self.speech.activity.sample_rate))
                elif event.kind in ("resume", "stop"):
                    self._reset()
                yield event
                if event.kind == "pause" and self.detector is not None:
                    if self.judge(self.detector.probability(self.recent())):
                        yield SpeechEvent("likely", event.at, event.quiet_from)

    def ends(self, samples: NDArray[np.float32]) -> bool:
        """Takes samples; whether a turn ends with them."""
        return "stop" in [event.kind for event in self.step(samples)]

    def judge(self, chance: float) -> bool:
        """Takes what a detector says of the pause that is on; whether the turn is likely over."""
        self.likely = chance >= LIKELY[self.eagerness]
        over = DOUBT_SECONDS[self.eagerness] if self.worded else CONFIRM_SECONDS
        self.speech.silence = over if self.likely else PATIENCE_SECONDS[self.eagerness]
        return self.likely

    def judge_words(self, chance: float) -> None:
        """Takes how likely the turn is over by its words, where it is by its sound."""
        if self.likely and chance >= COMPLETE:
            self.speech.silence = CONFIRM_SECONDS

    def recent(self) -> Tensor:
        """What a detector is to hear of the turn so far: float32 [N] at 16 kHz, the last seconds of it."""
        rate = self.speech.activity.sample_rate
        samples = np.concatenate([*self._recent, np.zeros(0, np.float32)])[-SECONDS * rate :]
        return torch.from_numpy(samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE))

    def stop(self) -> None:
        """The turn was ended by other means."""
        self.speech.stop()
        self._reset()

    def _reset(self) -> None:
        self.likely = False
        asked = self.judged or self.detector is not None
        self.speech.silence = PATIENCE_SECONDS[self.eagerness] if asked else SILENCE_SECONDS

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._recent.append(samples)
        self._kept += len(samples)
        self._trim((SECONDS + 1) * self.speech.activity.sample_rate)

    def _trim(self, most: int) -> None:
        """Forgets all but about the last `most` samples."""
        while self._recent and self._kept - len(self._recent[0]) >= most:
            self._kept -= len(self._recent.popleft())
