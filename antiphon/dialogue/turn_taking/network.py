"""Turns as the network decides them (`antiphon.models.turns.network`), with a turn detector's and the words' judgement.

While the model speaks, the network alone says whether what is heard takes the floor. At the end of a turn three judge:
the network in every frame of silence, the turn detector 0.2 s into it and again later, the language model once the
words are known. Their log odds are added, those of the first two by weights that a logistic regression gave on 67
silences of made conversations that nothing was trained on; after a long silence any turn is over.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import soxr
import torch
from torch import Tensor

from antiphon.audio.smart_turn import SECONDS, TurnDetector
from antiphon.audio.speech import Activity
from antiphon.dialogue.turn_taking.decision import TurnDecision, Voice
from antiphon.models.turns.network import DECISIONS, SAMPLE_RATE, TurnNetwork

LISTEN, TAKE, YIELD, IGNORE, BACKCHANNEL = range(len(DECISIONS))
ASK_SECONDS = 0.2  # of silence after which the turn detector is asked, and again after as many more
LEAST_SECONDS = 0.2  # of silence before any turn is over
LIKELY_SECONDS = 0.06  # before one is likely over: an answer is begun while it is still being decided
LEAD_SECONDS = 0.5  # before the first word that the detector hears
FORGET_SECONDS = 0.4  # without a voice, in the model's turn, after which what was said is forgotten


@dataclass(frozen=True)
class Judgement:
    """How the judges' log odds are weighed, and what is asked for.

    Attributes:
        network, detector, words: weights; of one that says nothing, nothing is added.
        bias: added.
        waiting: added by and by until the patience is over: the longer nothing comes, the likelier that nothing will.
        likely: the chance from which an answer is begun.
        take: the chance from which the turn is over, by eagerness.
        patience: seconds of silence that end any turn, by eagerness.
        yields: chance of "yield" against "ignore" from which the model falls silent.
        signs: chance of "backchannel" from which it gives a sign of listening.
    """

    network: float = 0.8
    detector: float = 0.15
    words: float = 0.3
    bias: float = 0.5
    waiting: float = 4.0
    likely: float = 0.3
    take: tuple[tuple[str, float], ...] = (("low", 0.9), ("medium", 0.65), ("auto", 0.65), ("high", 0.5))
    patience: tuple[tuple[str, float], ...] = (("low", 8.0), ("medium", 4.0), ("auto", 4.0), ("high", 2.0))
    yields: float = 0.4
    signs: float = 0.5


class NetworkTurns:
    """See the module.

    Args:
        network: shared; it keeps nothing.
        sample_rate: of the user's sound, Hz.
        detector: is asked besides, if there is one.
        eagerness: how readily a turn is taken for finished: "low", "medium", "high" or "auto" (as medium).
        judgement: how the judges are weighed.
        activity: what counts as a voice; None for Silero's network.

    Attributes:
        patience: seconds of silence that end any turn.
    """

    def __init__(
        self,
        network: TurnNetwork,
        sample_rate: int = 24000,
        detector: TurnDetector | None = None,
        eagerness: str = "auto",
        judgement: Judgement = Judgement(),
        activity: Activity | None = None,
    ) -> None:
        self.network, self.sample_rate, self.detector = network, sample_rate, detector
        self.judgement, self.eagerness = judgement, eagerness
        self._take, self.patience = dict(judgement.take)[eagerness], dict(judgement.patience)[eagerness]
        self._state = network.init_state()
        self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="LQ")
        self._voice = Voice(sample_rate, activity)
        self._heard: deque[Tensor] = deque()  # of the turn, at 16 kHz
        self._chances = torch.zeros(len(DECISIONS))
        self._detected: float | None = None
        self._worded: float | None = None
        self._asked = 0.0  # seconds of silence at which the detector was asked last

    def step(self, user: Tensor, own: bool) -> TurnDecision:
        """See `TakesTurns`."""
        samples = torch.from_numpy(self._resampler.resample_chunk(user.numpy()))
        self._keep(samples)
        chances, _ = self.network.step(samples, own, self._state)
        if len(chances):
            self._chances = chances[-1]
        self._voice.step(user)
        return self._within() if own else self._between()

    def judge_sound(self, chance: float) -> None:
        """Takes what a turn detector says of the silence that is on, where the caller asks one (`recent`)."""
        self._detected = chance

    def judge_words(self, chance: float) -> None:
        """See `TakesTurns`."""
        self._worded = chance

    def over(self) -> None:
        """See `TakesTurns`."""
        self._voice.forget()
        self._resumed()

    def recent(self) -> Tensor:
        """What a turn detector is to hear of the turn so far: float32 [n] at 16 kHz, the last seconds of it."""
        return torch.cat(list(self._heard))

    @property
    def chance(self) -> float:
        """How likely the user's turn is over, by all who have said something of this silence."""
        how = self.judgement
        odds = how.bias + how.network * _log_odds(float(self._chances[TAKE]))
        odds += how.waiting * self._voice.quiet / self.patience
        for weight, chance in ((how.detector, self._detected), (how.words, self._worded)):
            odds += weight * _log_odds(chance) if chance is not None else 0.0
        return 1 / (1 + math.exp(-odds))

    def _within(self) -> TurnDecision:
        """In the model's turn."""
        voice = self._voice
        if voice.quiet >= FORGET_SECONDS:
            voice.forget()
        taken, passed = float(self._chances[YIELD]), float(self._chances[IGNORE])
        if voice.is_turn and taken > passed and taken >= self.judgement.yields:
            return TurnDecision("yield", voiced=voice.voiced)
        return TurnDecision("ignore" if passed > 0.5 else "listen", voiced=voice.voiced)

    def _between(self) -> TurnDecision:
        """While the model is silent."""
        voice = self._voice
        if voice.voiced or not voice.is_turn:
            self._resumed()
            heard = not voice.voiced and self._chances[IGNORE] > 0.5
            return TurnDecision("ignore" if heard else "listen", voiced=voice.voiced)
        if self.detector is not None and voice.quiet - self._asked >= ASK_SECONDS - 1e-6:
            self._asked = voice.quiet
            self._detected = self.detector.probability(self.recent())
        chance = self.chance
        if voice.quiet >= self.patience or (voice.quiet >= LEAST_SECONDS and chance >= self._take):
            self.over()
            return TurnDecision("take", likely=True)
        likely = voice.quiet >= LIKELY_SECONDS and chance >= self.judgement.likely
        return TurnDecision("backchannel" if self._chances[BACKCHANNEL] >= self.judgement.signs else "listen", likely)

    def _resumed(self) -> None:
        self._detected = self._worded = None
        self._asked = 0.0

    def _keep(self, samples: Tensor) -> None:
        self._heard.append(samples)
        least = LEAD_SECONDS if not self._voice.is_turn else SECONDS
        while self._heard and sum(map(len, self._heard)) - len(self._heard[0]) >= least * SAMPLE_RATE:
            self._heard.popleft()


def _log_odds(chance: float) -> float:
    chance = min(max(chance, 0.01), 0.99)
    return math.log(chance / (1 - chance))
