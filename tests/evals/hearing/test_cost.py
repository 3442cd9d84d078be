"""What hearing more costs is measured with and without it in turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from antiphon.errors import EvalError
from antiphon.evals.assistant.material import Clip
from antiphon.evals.hearing import cost
from antiphon.evals.hearing.figures import GROUPS

from .conftest import tone


def test_it_is_turned_off_for_a_while():
    model = SimpleNamespace(backend=SimpleNamespace(scenes="hears"))
    with cost.words_alone(model):
        assert model.backend.scenes is None
    assert model.backend.scenes == "hears"
    with cost.words_alone(model, False):
        assert model.backend.scenes == "hears"


def test_what_it_adds_is_the_median_of_pairs(evaluation, monkeypatch):
    evaluation.model = SimpleNamespace(backend=SimpleNamespace(scenes="hears"))
    clips = [Clip("q", "What?", tone(300, 1, number), "joe") for number in range(3)]
    monkeypatch.setattr(type(evaluation), "questions", lambda self, n: clips[:n])
    monkeypatch.setattr(cost, "time_to_first_audio", lambda model, sound: 0.53 if model.backend.scenes else 0.5)
    (figure,) = cost.first_audio(evaluation, 3)
    assert (round(figure.value), figure.reference, figure.met) == (30, 500.0, True)


def test_typed_answers_stay(evaluation):
    model = SimpleNamespace(backend=SimpleNamespace(scenes="hears"))
    model.reply_text = lambda question: question if len(question) % 2 or model.backend.scenes else "else"
    evaluation.model = model
    (figure,) = cost.text(evaluation, 10)
    assert 0 < figure.value < 1 and figure.met is False


def test_a_model_that_hears_words_alone_has_nothing_to_compare(evaluation):
    evaluation.model = SimpleNamespace(backend=SimpleNamespace(scenes=None))
    with pytest.raises(EvalError, match="nothing but words"):
        cost.memory(evaluation, 1)


def test_every_figure_has_one_group():
    names = [name for group in GROUPS.values() for name in group.figures]
    assert len(names) == len(set(names)) > 60
