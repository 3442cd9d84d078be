"""How turns are taken in full duplex where nobody says otherwise: by the network that ships."""

from __future__ import annotations

from functools import lru_cache

from antiphon.dialogue.turn_ends import turn_detector
from antiphon.dialogue.turn_taking.network import NetworkTurns
from antiphon.hub.folders import folder
from antiphon.hub.parts import TURN_TAKING
from antiphon.models.turns.network import TurnNetwork


@lru_cache(maxsize=1)
def turn_network() -> TurnNetwork:
    """The network, one for the whole process, as it keeps nothing of anybody."""
    return TurnNetwork.from_pretrained(folder(TURN_TAKING))


def network_turns(eagerness: str = "auto", sample_rate: int = 24000) -> NetworkTurns:
    """Decides in one conversation; whoever has a turn detector asks it and tells `judge_sound`.

    Args:
        eagerness: see `NetworkTurns`.
        sample_rate: of the user's sound, Hz.
    """
    return NetworkTurns(turn_network(), sample_rate, eagerness=eagerness)


def turn_taking(sample_rate: int = 24000, eagerness: str = "auto") -> NetworkTurns:
    """Decides in one conversation, with the turn detector's help where that can be had.

    Args:
        sample_rate: of the user's sound, Hz.
        eagerness: see `NetworkTurns`.
    """
    return NetworkTurns(turn_network(), sample_rate, turn_detector(), eagerness)
