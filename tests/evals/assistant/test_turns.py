"""Made turns: where they end is known, and their pauses are where it says."""

from __future__ import annotations

import torch

from antiphon.audio.io import Audio
from antiphon.audio.speech import LoudnessActivity, SpeechDetector
from antiphon.evals.assistant.material import Clip
from antiphon.evals.assistant.turns import RATE, by_loudness, ends_of, found_end, made_turns


def noise(seconds: float) -> Audio:
    samples = 0.3 * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return Audio(torch.cat([torch.zeros(RATE // 4), samples, torch.zeros(RATE)]), RATE)


def say(voice: str, text: str) -> Audio:
    return noise(0.8)


TURNS = made_turns([Clip(f"clip{n}", "a question", noise(2.0), "joe") for n in range(24)], say)


def test_turns_of_all_kinds_end_where_they_say() -> None:
    assert {turn.kind for turn in TURNS} == {"plain", "paused", "hesitating", "opened"}
    for turn in TURNS:
        loud = (turn.samples.abs() > 0.05).nonzero()[:, 0]
        assert abs(int(loud[-1]) / RATE - turn.end) < 0.02
        assert len(turn.pauses) == (turn.kind != "plain")
        for start, end in turn.pauses:
            assert turn.samples[int(start * RATE) + 10 : int(end * RATE) - 10].abs().max() < 0.01
            assert 0.29 < end - start < 1.61
    again = made_turns([Clip("clip3", "a question", noise(2.0), "joe")], say)[0]
    assert torch.equal(again.samples, TURNS[3].samples)


def test_silence_alone_cuts_off_whoever_pauses_for_longer() -> None:
    found = ends_of(TURNS, [found_end(turn, by_loudness()) for turn in TURNS])
    longer = [any(end - start > 0.75 for start, end in turn.pauses) for turn in TURNS]
    shorter = [all(end - start < 0.65 for start, end in turn.pauses) for turn in TURNS]
    cut = [end is not None and end < turn.end for turn, end in zip(TURNS, found.ends)]
    assert all(c for c, long in zip(cut, longer) if long) and not any(c for c, short in zip(cut, shorter) if short)
    assert abs(found.cut_off - sum(cut) / len(cut)) < 1e-9 and 0.65 < found.wait < 0.85
    never = ends_of(TURNS, [found_end(turn, SpeechDetector(LoudnessActivity(RATE), silence=60.0)) for turn in TURNS])
    assert never.cut_off == 0 and never.wait == float("inf")
