"""Turns by what there was before: by silence alone, or by a turn detector that is asked in each pause.

Both know of the user's sound in the model's turn only whether it is a voice. So they fall silent for everybody who says
anything for a quarter of a second.
"""

from __future__ import annotations

from torch import Tensor

from antiphon.audio.endpoint import Endpointer
from antiphon.audio.speech import SileroActivity, SpeechDetector
from antiphon.dialogue.turn_ends import turn_detector
from antiphon.dialogue.turn_taking.decision import YIELD_SECONDS, TurnDecision, Voice

FORGET_SECONDS = 0.4  # without a voice, in the model's turn, after which what was said is forgotten


class OwnTurn:
    """What the user does while the model speaks, by voice alone.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.voice = Voice(sample_rate)

    def step(self, user: Tensor) -> TurnDecision:
        """Takes a frame [n] in the model's turn."""
        self.voice.step(user)
        if self.voice.quiet >= FORGET_SECONDS:
            self.voice.forget()
        if self.voice.spoken >= YIELD_SECONDS:
            return TurnDecision("yield", voiced=self.voice.voiced)
        return TurnDecision("listen", voiced=self.voice.voiced)


class SilenceTurns:
    """A turn is over after so much silence.

    Args:
        sample_rate: Hz.
        silence: seconds.
    """

    def __init__(self, sample_rate: int = 24000, silence: float = 0.7) -> None:
        self.sample_rate = sample_rate
        self.ends = SpeechDetector(SileroActivity(sample_rate), silence=silence)
        self._own = OwnTurn(sample_rate)

    def step(self, user: Tensor, own: bool) -> TurnDecision:
        """See `TakesTurns`."""
        within = self._own.step(user)
        over = self.ends.ends(user.numpy())
        if own:
            return within
        return TurnDecision("take" if over else "listen", over, within.voiced)

    def judge_words(self, chance: float) -> None:
        """Words are nothing to it."""

    def over(self) -> None:
        """See `TakesTurns`."""
        self.ends.stop()
        self._own.voice.forget()


class SmartTurns:
    """A turn is over as an `Endpointer` finds it, by the sound of the turn and by its words.

    Args:
        sample_rate: Hz.
        eagerness: see `Endpointer`.
        ends: another one.
    """

    def __init__(self, sample_rate: int = 24000, eagerness: str = "auto", ends: Endpointer | None = None) -> None:
        self.sample_rate = sample_rate
        speech = SpeechDetector(SileroActivity(sample_rate))
        self.ends = ends or Endpointer(turn_detector(), eagerness, speech)
        self.ends.worded = True
        self._own = OwnTurn(sample_rate)

    def step(self, user: Tensor, own: bool) -> TurnDecision:
        """See `TakesTurns`."""
        within = self._own.step(user)
        over = self.ends.ends(user.numpy())
        if own:
            return within
        return TurnDecision("take" if over else "listen", over or self.ends.likely, within.voiced)

    def judge_words(self, chance: float) -> None:
        """See `TakesTurns`."""
        self.ends.judge_words(chance)

    def over(self) -> None:
        """See `TakesTurns`."""
        self.ends.stop()
        self._own.voice.forget()
