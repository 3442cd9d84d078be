"""How the ends of a user's turns are found where nobody says otherwise."""

from __future__ import annotations

import logging
from functools import lru_cache

from antiphon.audio.endpoint import Endpointer
from antiphon.audio.smart_turn import SmartTurn, TurnDetector
from antiphon.audio.speech import SileroActivity, SpeechDetector
from antiphon.errors import AntiphonError
from antiphon.hub.fetch import fetch
from antiphon.hub.parts import SMART_TURN

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def turn_detector() -> TurnDetector | None:
    """The published network, fetched first if need be; None, with a warning, where it can't be had."""
    try:
        return SmartTurn(fetch(SMART_TURN))
    except (AntiphonError, OSError) as error:
        log.warning("turns end after silence alone, as the turn detector can't be had: %s", error)
        return None


def endpointer(sample_rate: int = 24000, eagerness: str = "auto") -> Endpointer:
    """Finds the ends of turns by how they sound; by silence where that can't be had.

    Args:
        sample_rate: Hz.
        eagerness: see `Endpointer`.
    """
    return Endpointer(turn_detector(), eagerness, SpeechDetector(SileroActivity(sample_rate)))
