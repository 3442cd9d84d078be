"""Ends of turns: short silence where it sounds finished, longer where it doesn't, or where its words don't."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antiphon.audio.endpoint import (
    CONFIRM_SECONDS,
    DOUBT_SECONDS,
    LEAD_SECONDS,
    PATIENCE_SECONDS,
    SILENCE_SECONDS,
    Endpointer,
)
from antiphon.audio.speech import LoudnessActivity, SpeechDetector

RATE = 24000


class Chances:
    """A turn detector that says what it is told to, and keeps what it was asked about."""

    def __init__(self, *left: float):
        self.left, self.asked = list(left), []

    def probability(self, samples: torch.Tensor) -> float:
        self.asked.append(samples)
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def ends(detector: Chances | None, **how) -> Endpointer:
    return Endpointer(detector, speech=SpeechDetector(LoudnessActivity(RATE)), **how)


def sound(seconds: float, level: float) -> np.ndarray:
    noise = torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return (level * noise).numpy()


def talk(*seconds: float) -> np.ndarray:
    """Speech, silence, speech, ..."""
    return np.concatenate([sound(length, 0.0005 if at % 2 else 0.1) for at, length in enumerate(seconds)])


def found(endpointer: Endpointer, samples: np.ndarray, piece: int = 1920) -> list[tuple[str, float]]:
    """Kinds and seconds of events, as sound comes in pieces."""
    pieces = [samples[at : at + piece] for at in range(0, len(samples), piece)]
    return [(event.kind, round(event.at / RATE, 2)) for one in pieces for event in endpointer.step(one)]


def test_what_sounds_finished_ends_after_a_short_silence() -> None:
    events = found(ends(Chances(1.0)), talk(1.0, 1.0))
    assert [kind for kind, _ in events] == ["start", "pause", "likely", "stop"]
    assert events[2][1] == pytest.approx(1.2, abs=0.03)
    assert events[3][1] == pytest.approx(1 + CONFIRM_SECONDS, abs=0.03)


def test_who_goes_on_is_waited_for_and_asked_about_again() -> None:
    events = found(ends(Chances(0.1, 1.0)), talk(1.0, 0.3, 1.0, 1.0))
    assert [kind for kind, _ in events] == ["start", "pause", "resume", "pause", "likely", "stop"]
    assert events[-1][1] == pytest.approx(2.3 + CONFIRM_SECONDS, abs=0.03)
    events = found(ends(Chances(1.0)), talk(1.0, 0.3, 1.0, 1.0))
    assert [kind for kind, _ in events[1:5]] == ["pause", "likely", "resume", "pause"]


@pytest.mark.parametrize("eagerness", ["low", "medium", "auto", "high"])
def test_what_never_sounds_finished_ends_when_patience_does(eagerness: str) -> None:
    patience = PATIENCE_SECONDS[eagerness]
    events = found(ends(Chances(0.1), eagerness=eagerness), talk(1.0, patience + 0.5))
    assert events[-1] == ("stop", pytest.approx(1 + patience, abs=0.03))
    assert sum(kind == "pause" for kind, _ in events) <= patience / 0.2


def test_the_detector_hears_the_turn_up_to_the_pause_and_no_more() -> None:
    detector = Chances(0.1)
    found(ends(detector), np.concatenate([sound(3.0, 0.0005), talk(1.0, 0.3, 1.0, 0.3)]), piece=10**9)
    first, second = (len(samples) / 16000 for samples in detector.asked)
    assert first == pytest.approx(LEAD_SECONDS + 1.2, abs=0.06)
    assert second == pytest.approx(LEAD_SECONDS + 2.5, abs=0.06)


def test_words_that_are_not_all_are_waited_for_longer() -> None:
    for chance, silence in ((0.1, DOUBT_SECONDS["auto"]), (0.99, CONFIRM_SECONDS)):
        endpointer = ends(Chances(1.0), worded=True)
        assert [kind for kind, _ in found(endpointer, talk(1.0, 0.24))][-1] == "likely"
        endpointer.judge_words(chance)
        (stop,) = found(endpointer, sound(2.0, 0.0005))
        assert stop == ("stop", pytest.approx(1 + silence, abs=0.05))


def test_where_there_is_nobody_to_ask_silence_ends_a_turn() -> None:
    assert found(ends(None), talk(1.0, 1.0))[-1] == ("stop", pytest.approx(1 + SILENCE_SECONDS, abs=0.03))


def test_any_split_gives_the_same_and_so_does_a_turn_after_another() -> None:
    whole = np.concatenate([talk(1.0, 0.3, 0.5, 1.0)] * 2)
    events = found(ends(Chances(0.1, 1.0, 0.1, 1.0)), whole)
    assert found(ends(Chances(0.1, 1.0, 0.1, 1.0)), whole, piece=777) == events
    assert [kind for kind, _ in events].count("stop") == 2
