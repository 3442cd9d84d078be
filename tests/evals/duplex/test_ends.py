"""Ends of turns told from pauses: figures by hand."""

from __future__ import annotations

import pytest
import torch

from antiphon.evals.duplex.ends import Heard, _meeting, accuracy, area, by_silence_at, judged

RATE = 24000


def test_who_knows_all_has_no_cutoffs_and_who_knows_nothing_waits():
    heard = [Heard(torch.zeros(RATE), ((1.0, 1.8),), ((3.0, 7.0),)), Heard(torch.zeros(RATE), (), ((2.0, 6.0),))]

    def knows(one, silences):
        return [[(0.2, 1.0 if silence in one.ends else 0.0)] for silence in silences]

    cuts, wait = judged("one", heard, knows)
    assert (cuts.name, cuts.value, cuts.n) == ("one-cutoffs-300ms", 0.0, 1) and wait.value == pytest.approx(0.2)
    cuts, wait = judged("one", heard, lambda one, silences: [[(0.2, 0.5)] for _ in silences])
    assert cuts.value == 1.0 and wait.value == pytest.approx(0.8)  # the longest pause, as silence alone has it


def test_a_meeting_s_silences_are_pauses_where_the_same_goes_on():
    spoken = [(0.0, 1.0, "a"), (1.5, 2.0, "a"), (2.5, 4.0, "b"), (3.0, 3.5, "a"), (4.1, 5.0, "b"), (9.0, 10.0, "a")]
    heard = _meeting(torch.zeros(RATE), spoken)
    assert heard.pauses == ((1.0, 1.5),)
    assert heard.ends == ((2.0, 2.5),)  # 4.0 to 4.1 is too short, 5.0 to 9.0 too long


def test_accuracy_and_area_by_hand():
    assert accuracy([0.9, 0.4], [0.5, 0.1]) == 0.75 and area([0.9, 0.4], [0.5, 0.1]) == 0.75
    assert accuracy([], []) == 0.0 and accuracy([0.1], [0.9, 0.8]) == pytest.approx(2 / 3)
    assert by_silence_at([{"seconds": 0.5}, {"seconds": 1.0}], 0.5) == 0.5
