"""Thresholds: those that tell the stretches of time that there are, and the examples that have a label."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from antiphon.data.scene.encoded import EncodedExample
from antiphon.data.scene.example import Span
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.train.scene.calibrate import Listened, calibrated, joined, matched

LABELS = {"event": ("dog", "rain"), "manner": ("loud", "soft")}


def network() -> SceneNetwork:
    sizes = dict(layers=2, features=4, bands=4, mixes=1, mixed=4, width=8, heads=1, inner=8, depth=1)
    return SceneNetwork(NetworkConfig(labels=LABELS, tempo=False, **sizes))


def example(number: int, spans: tuple[Span, ...], known: tuple[str, ...]) -> EncodedExample:
    return EncodedExample(f"{number}", "dev", spans, frozenset(known), 4.0, length=50)


def test_stretches_match_where_start_and_end_are_near() -> None:
    assert matched([(0.0, 1.0), (2.0, 3.0)], [(0.2, 1.2), (2.0, 3.5)]) == 1
    assert matched([(0.0, 1.0)], [(0.0, 1.0), (0.1, 1.1)]) == 1  # one that is told stands for one alone
    spans = [Span("event", "dog", 2.1, 3), Span("event", "dog", 0, 2), Span("event", "rain", 0, 9)]
    assert joined(spans, "event", "dog", 0.3) == [(0, 3)] and joined(spans, "event", "dog", 0.05) == [(0, 2), (2.1, 3)]


def test_thresholds_are_those_that_tell_best() -> None:
    heard = []
    for number in range(10):
        times = torch.full((50, 2), 0.2)  # as likely as this where there is none
        times[10:30, 0] = 0.45
        spans = (Span("event", "dog", 0.8, 2.4), Span("manner", "loud", 0.0, 4.0))[: 2 if number % 2 else 1]
        whole = torch.tensor([0.9 if number % 2 else 0.7, 0.2])
        known = ("event", "manner/loud")
        heard.append(Listened(example(number, spans, known), {"event": times}, {"manner": whole, "event": whole}))
    told = calibrated(network(), heard)
    assert 0.2 / told.release < told.times["event/dog"] <= 0.45
    assert told.times["event/rain"] == told.times["event/dog"]  # no example has it: its group's
    assert told.whole["manner/loud"] == pytest.approx(0.8, abs=0.1)
    assert set(told.times) == {"event/dog", "event/rain"} and set(told.whole) == {"manner/loud", "manner/soft"}


def test_kinds_are_told_by_the_moment_and_events_by_their_ends() -> None:
    sizes = dict(layers=2, features=4, bands=4, mixes=1, mixed=4, width=8, heads=1, inner=8, depth=1)
    network = SceneNetwork(NetworkConfig(labels={"kind": ("speech",), "event": ("dog",)}, tempo=False, **sizes))
    heard = []
    for number in range(24):
        # Speech is likely for longer than it lasts; a bark has a dip, in which it goes on.
        speech, dog = torch.full((50, 1), 0.1), torch.full((50, 1), 0.05)
        speech[10:30] = 0.6
        speech[30:50] = 0.3
        dog[10:20] = dog[25:35] = 0.8
        dog[20:25] = 0.3
        spans = (Span("kind", "speech", 0.8, 2.4), Span("event", "dog", 0.8, 2.8))
        heard.append(Listened(example(number, spans, ("kind", "event")), {"kind": speech, "event": dog}, {}))
        heard[-1].whole.update({"kind": torch.zeros(1), "event": torch.zeros(1)})
    told = calibrated(network, heard)
    assert 0.3 < told.times["kind/speech"] <= 0.6
    assert told.release * told.times["event/dog"] <= 0.3 or told.max_gap >= 0.4


def test_a_label_that_is_told_badly_is_hardly_told_and_single_sounds_dont_count() -> None:
    heard = []
    for number in range(60):
        times = torch.full((50, 2), 0.02)
        times[10:30, 0] = 0.8
        times[:, 1] = 0.3  # rain is as likely where it is, all the time, as where it isn't
        spans = [Span("event", "dog", 0.8, 2.4)]
        if number % 3 == 0:
            spans.append(Span("event", "rain", 0.0, 4.0))
        heard.append(Listened(example(number, tuple(spans), ("event",)), {"event": times}, {}))
    mixed = [replace(each, example=replace(each.example, source="a/1 + b/2")) for each in heard]
    single = torch.full((50, 2), 0.02)
    single[:, 1] = 0.3
    alone = example(99, (Span("event", "rain", 0.0, 4.0),), ("event",))
    rain = [Listened(replace(alone, source="b/3"), {"event": single}, {})] * 200
    told = calibrated(network(), [*mixed, *rain]).times
    assert told["event/rain"] > 0.3 and told["event/dog"] <= 0.8  # by its own F1 rain would be told of all
    assert calibrated(network(), rain).times["event/rain"] <= 0.3  # where nothing was put together, they count
