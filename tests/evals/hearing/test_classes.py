"""Choices between labels: shares, probes that learn, confusions as pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from antiphon.errors import EvalError
from antiphon.evals.hearing import classes
from antiphon.evals.hearing.classes import accuracy, balanced, chance, choice, measured
from antiphon.models.scene.scene import Scene


def test_shares():
    truth, told = ["a", "a", "a", "b"], ["a", "a", "b", ""]
    assert accuracy(truth, told) == 0.5 and balanced(truth, told) == pytest.approx(1 / 3)
    assert chance(truth) == 0.75 and chance(truth, each_label_alike=True) == 0.5


def test_the_probe_learns_and_stands_beside_the_network(evaluation):
    figures = {figure.name: figure for figure in classes.emotion(evaluation, 100)}
    assert set(figures) == {"emotion-accuracy", "emotion-accuracy-probe"}
    probe = figures["emotion-accuracy-probe"]
    assert probe.value == 1.0 and probe.reference == 0.5 and probe.n == 6  # high and low tones are told apart
    assert figures["emotion-accuracy"].reference == probe.value and figures["emotion-accuracy"].bar == ">= 0.85"
    assert (evaluation.config.pictures / "emotion.png").stat().st_size > 1000
    rows = [json.loads(line) for line in (evaluation.config.keep / "emotion.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all(row["probe"] == row["right"] for row in rows)


def test_without_a_network_the_probe_is_measured_alone(evaluation):
    evaluation.listener = None
    assert [figure.name for figure in classes.sounds(evaluation, 100)] == ["sounds-accuracy-probe"]


def test_what_the_network_tells_is_counted(evaluation, monkeypatch):
    happy = Scene(chances={"feeling": {"happy": 0.9, "sad": 0.1}})
    monkeypatch.setattr(evaluation, "scenes", lambda title, recorded, listener: [happy] * len(recorded))
    assert classes.emotion(evaluation, 100)[0].value == 0.5


def test_four_feelings_of_another_corpus(evaluation, audio):
    evaluation.config = replace(evaluation.config, feelings=audio / "emodb")
    figures = classes.four_feelings(evaluation, 4)
    assert [figure.name for figure in figures] == ["four-feelings-accuracy", "four-feelings-accuracy-probe"]
    assert figures[0].n == 4  # of all speakers, whatever their split


def test_nothing_to_ask_is_an_error(evaluation):
    with pytest.raises(EvalError, match="no recordings for age"):
        measured(evaluation, choice("age", "age", ("child", "old")), [], evaluation.whole("emodb", "test"), None)
