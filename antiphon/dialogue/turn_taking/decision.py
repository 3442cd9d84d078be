"""What is decided every 80 ms of a conversation in full duplex, and whoever decides it.

turns = turn_taking(24000)                             # or SilenceTurns(), SmartTurns()
decision = turns.step(frame, own=False)                # of what the microphone heard; own: the model speaks meanwhile
if decision.kind == "take": ...                        # of `antiphon.models.turns.network.DECISIONS`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from antiphon.audio.speech import Activity, SileroActivity

YIELD_SECONDS = 0.24  # of a voice, in the model's turn, that take it where nothing but voice is known
TURN_SECONDS = 0.16  # of a voice, without which there is no turn that could be over


@dataclass(frozen=True)
class TurnDecision:
    """What there is to do after a frame.

    Attributes:
        kind: "listen": go on as before; "take": the user's turn is over, answer; "yield": the user takes the floor,
            fall silent; "ignore": something is heard that takes no floor; "backchannel": give a sign of listening.
        likely: the user's turn is likely over, so that an answer can be begun.
        voiced: somebody's voice is heard.
    """

    kind: str = "listen"
    likely: bool = False
    voiced: bool = False


class TakesTurns(Protocol):
    """Decides in one conversation. It keeps what it has heard, so each conversation needs one of its own.

    Attributes:
        sample_rate: of the user's sound, Hz.
    """

    sample_rate: int

    def step(self, user: Tensor, own: bool) -> TurnDecision:
        """Takes a frame.

        Args:
            user: float32 [n] at `sample_rate`, 80 ms mostly: the microphone, without the model's own voice.
            own: whether the model's voice sounds meanwhile.
        """
        ...

    def judge_words(self, chance: float) -> None:
        """Takes how likely the words so far are all, while the turn is likely over."""
        ...

    def over(self) -> None:
        """The user's turn was ended or given up by other means; what is heard next is a new one."""
        ...


class Voice:
    """How long a voice has been heard, and for how long it has not: what every way to decide begins with.

    Args:
        sample_rate: Hz.
        activity: what counts as voice.

    Attributes:
        voiced: it is heard now.
        spoken: seconds of it since the turn began.
        quiet: seconds since it was heard last, in a turn.
    """

    def __init__(self, sample_rate: int, activity: Activity | None = None) -> None:
        self.activity = activity or SileroActivity(sample_rate)
        self.voiced, self.spoken, self.quiet = False, 0.0, 0.0

    def step(self, user: Tensor) -> None:
        """Takes a frame [n]."""
        hop = self.activity.hop / self.activity.sample_rate
        for voiced in self.activity.step(user.numpy()):
            self.voiced = voiced
            self.spoken += hop * voiced
            self.quiet = 0.0 if voiced else self.quiet + hop

    def forget(self) -> None:
        """Another turn begins."""
        self.spoken = self.quiet = 0.0

    @property
    def is_turn(self) -> bool:
        """Whether enough was said for a turn."""
        return self.spoken >= TURN_SECONDS - 1e-6
