"""Easy questions in both modes: the shares by hand, of a system whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import Word
from antiphon.errors import EvalError
from antiphon.evals.assistant.material import Clip
from antiphon.evals.duplex import answers
from antiphon.evals.duplex.evaluation import DuplexConfig
from antiphon.evals.metrics.answers import read_questions
from antiphon.evals.rows import spread

QUESTIONS = spread(read_questions(), 4)


class Model:
    """Right in half duplex on the first three questions; in full duplex it answers once it has heard a whole one, right
    on the first two."""

    backend = object()
    sample_rate, frame_samples = 24000, 1920

    def __init__(self) -> None:
        self.asked, self.live = 0, {}

    def hear(self, clip: Audio) -> int:
        return round(float(clip.samples[0]) * 10)

    def think(self, number: int) -> str:
        return QUESTIONS[number].accept[0] if number < 3 else "I don't know."

    def join(self, seed: int) -> int:
        self.asked += 1
        self.live[self.asked] = []
        return self.asked

    def step(self, frames: dict) -> dict:
        for handle, frame in frames.items():
            self.live[handle].append(frame)
        speaks = {handle: 8 < self._quiet(handle) <= 20 for handle in frames}
        return {handle: 0.3 * torch.ones(1920) * speaks[handle] for handle in frames}

    def _quiet(self, handle: int) -> int:
        loud = [number for number, frame in enumerate(self.live[handle]) if float(frame.abs().max()) > 0.01]
        return len(self.live[handle]) - loud[-1] if loud else 0

    def leave(self, handle: int) -> list[Word]:
        heard = torch.cat(self.live[handle])
        number = round(float(heard.max()) * 10)
        said = QUESTIONS[number].accept[0] if number < 2 else "What?"
        return [Word(word, 3.0, 3.1) for word in said.split()]


def test_shares_of_both_modes_and_their_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [
        Clip(str(n), row.question, Audio(torch.full((24000,), 0.1 * n if n else 0.04), 24000), "joe")
        for n, row in enumerate(QUESTIONS)
    ]
    monkeypatch.setattr(answers, "spoken", lambda texts, folder: clips)
    kept = {}
    evaluation = SimpleNamespace(
        model=Model(),
        config=DuplexConfig(batch=2),
        cached=lambda name: name,
        each=lambda title, items, work: [work(item) for item in items],
        save_items=lambda name, rows: kept.update({name: rows}),
    )
    full, ratio = answers.easy(evaluation, 4)
    assert (full.value, full.reference, full.n) == (0.5, 0.75, 4)
    assert ratio.value == pytest.approx(2 / 3)
    assert [row["right"] for row in kept["easy-duplex"]] == [True, True, False, False]


def test_a_question_comes_after_a_moment_of_silence() -> None:
    made = answers.scenario("easy-000", Clip("a", "What?", Audio(torch.ones(16000), 16000), "joe"))
    assert made.sample_rate == 24000 and not made.user[:11000].any() and made.events[0].end == pytest.approx(1.5)
    assert np.abs(made.user[14000:30000] - 1).max() < 0.05


def test_a_model_with_turns_of_its_own_is_not_asked() -> None:
    evaluation = SimpleNamespace(model=SimpleNamespace(), config=SimpleNamespace(model="mini-duplex"))
    with pytest.raises(EvalError, match="mini-duplex"):
        answers.easy(evaluation, 5)
