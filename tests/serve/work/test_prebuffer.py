"""How much sound is gathered: as much as the last answers should have, and no more."""

from __future__ import annotations

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent, TextEvent
from antiphon.serve.work.prebuffer import MOST_SECONDS, Prebuffer

FRAME = AudioEvent(Audio(torch.zeros(1920), 24000))


def given(prebuffer: Prebuffer, moments: list[float], conversations: int = 2) -> list[int]:
    """Frames that are given after each of an answer's, which are made at these moments."""
    gathering = prebuffer.begin(conversations)
    counts = [len(gathering.take(FRAME, at)) for at in moments]
    return [*counts, len(gathering.end())]


EVEN = [0.08 * at for at in range(10)]


def test_where_answers_come_evenly_nothing_is_gathered():
    prebuffer = Prebuffer()
    given(prebuffer, EVEN, 1)
    assert given(prebuffer, EVEN, 1) == [1] * 10 + [0]


def test_an_answer_gathers_what_the_last_ones_should_have():
    prebuffer = Prebuffer()
    halting = [0.0, 0.04, 0.64, 0.68, 0.72]  # at 0.64 the third should have played for 0.48 s
    given(prebuffer, halting)
    assert prebuffer.seconds(2) == pytest.approx(0.48)
    # With six frames in store the seventh opens, and none is late any more.
    counts = given(prebuffer, [0.01 * at for at in range(10)])
    assert counts[:5] == [0] * 5 and sum(counts) == 10 and counts[6:] == [1, 1, 1, 1, 0]
    for _ in range(6):
        given(prebuffer, EVEN)
    assert prebuffer.seconds(2) == pytest.approx(0.0)  # what was long ago is forgotten
    given(prebuffer, [0.0, 60.0])
    assert prebuffer.seconds(2) == MOST_SECONDS


def test_where_nothing_is_known_more_is_gathered_the_more_there_are():
    assert [Prebuffer().seconds(count) for count in (1, 2, 3)] == pytest.approx([0.3, 0.6, 0.9])


def test_text_goes_on_and_the_end_comes_behind_all_sound():
    gathering = Prebuffer().begin(3)
    assert gathering.take(TextEvent("Rome"), 0.0) == [TextEvent("Rome")]
    assert gathering.take(FRAME, 0.1) == []
    assert gathering.take(EndEvent("Rome"), 0.2) == [FRAME, EndEvent("Rome")]
    assert gathering.end() == []
