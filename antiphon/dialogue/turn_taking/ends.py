"""Where the user's turns begin and end, for whoever hears in turns: a `NetworkTurns` as the events of an `Endpointer`.

    ends = TurnEnds(turn_taking(24000), SpeechDetector())
    for event in ends.events(samples): ...             # "start", "pause", "likely", "resume", "stop"

While the model speaks (`own`), a voice is a turn only if the network finds that it takes the floor: its "start" is told
then, and of a sign of listening, a cough or somebody far away nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.audio.endpoint import PAUSE_SECONDS
from antiphon.audio.speech import SpeechDetector, SpeechEvent
from antiphon.dialogue.turn_taking.network import NetworkTurns

PASSED_SECONDS = 0.8  # of quiet after which a voice that took no floor is forgotten


class TurnEnds:
    """See the module.

    Args:
        turns: decides.
        speech: finds the voice that turns are made of.

    Attributes:
        own: the model's voice sounds; may be set at any time.
        likely: the turn is likely over.
    """

    def __init__(self, turns: NetworkTurns, speech: SpeechDetector) -> None:
        self.turns, self.speech, self.own, self.likely = turns, speech, False, False
        speech.silence, speech.pause = math.inf, PAUSE_SECONDS  # how long a silence is to be, the network says
        self._told = speech.speaking
        self._start: SpeechEvent | None = None  # that isn't told yet

    def events(self, samples: NDArray[np.float32]) -> Iterator[SpeechEvent]:
        """Takes samples, float32 [N] at the rate of `turns`; each event comes before what follows it was taken."""
        size = self.turns.sample_rate * 2 // 25
        for at in range(0, len(samples), size):
            yield from self._step(samples[at : at + size])

    def judge(self, chance: float) -> bool:
        """Takes what a turn detector says of the pause that is on; whether the turn is likely over since then."""
        self.turns.judge_sound(chance)
        before, self.likely = self.likely, self.likely or self.turns.chance >= self.turns.judgement.likely
        return self.likely and not before

    def judge_words(self, chance: float) -> None:
        """Takes how likely the words so far are all."""
        self.turns.judge_words(chance)

    def recent(self) -> Tensor:
        """What a turn detector is to hear of the turn so far: float32 [N] at 16 kHz."""
        return self.turns.recent()

    def stop(self) -> None:
        """The turn was ended by other means."""
        self.speech.stop()
        self.turns.over()
        self._told, self.likely, self._start = False, False, None

    def _step(self, piece: NDArray[np.float32]) -> Iterator[SpeechEvent]:
        found = self.speech.step(piece)
        own = self.own and not self._told  # who has been given the floor keeps it
        decision = self.turns.step(torch.from_numpy(piece), own)
        for event in found:
            if event.kind == "start":
                self._start = event
            elif event.kind == "resume":
                self.likely = False
            if self._told and not self.likely:
                yield event
        quiet, position = self.speech.quiet, self.speech.position
        if self._start is not None and (decision.kind == "yield" or not own):
            self._told = True
            yield self._start
            self._start = None
        elif self._start is not None and quiet >= PASSED_SECONDS * self.speech.activity.sample_rate:
            self.stop()
        if not self._told:
            return
        # What was too short for the network to take it for a turn ends after the longest silence, too.
        if decision.kind == "take" or quiet >= self.turns.patience * self.speech.activity.sample_rate:
            self.stop()
            yield SpeechEvent("stop", position, position - quiet)
        elif decision.likely and not self.likely:
            self.likely = True
            yield SpeechEvent("likely", position, position - quiet)
