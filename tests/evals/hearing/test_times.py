"""Times of what is heard: seconds, stretches within 0.3 s, and a probe over time."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.data.scene.encoded import EncodedExample
from antiphon.data.scene.example import Example, Span
from antiphon.evals.hearing import times
from antiphon.evals.hearing.evaluation import Recorded
from antiphon.evals.hearing.times import KINDS, by_second, event_counts, f_measure
from antiphon.models.scene.scene import Scene, SoundEvent

from .conftest import tone


def test_a_kind_is_true_of_a_second_that_it_half_fills():
    seen = by_second([Span("kind", "speech", 0.4, 1.4), Span("kind", "silence", 1.4, 3.0)], 3.0)
    assert seen[:, KINDS.index("speech")].tolist() == [True, False, False]
    assert seen[:, KINDS.index("silence")].tolist() == [False, True, True]
    assert by_second([], 0.4).shape == (1, 4)


def events(*told: tuple[str, float, float]) -> Scene:
    return Scene(tuple(SoundEvent("event", label, 0.9, start, end) for label, start, end in told))


def test_events_are_right_within_three_tenths():
    # Barks that lie 0.2 s apart are one to a listener who parts none closer than 0.3 s.
    spans = [("dog", 1.0, 1.5), ("dog", 1.7, 2.0), ("rooster", 3.0, 4.0)]
    there = tuple(Span("event", *span) for span in spans)
    each = Recorded(None, EncodedExample("a", "test", there, frozenset({"event"}), 5.0))
    labels = ("dog", "rooster")
    assert event_counts(events(("dog", 1.2, 2.2), ("rooster", 3.0, 4.4)), each, labels) == (1, 2, 2)
    assert event_counts(events(("dog", 1.0, 2.0), ("dog", 1.1, 2.1)), each, labels) == (1, 2, 2)
    assert event_counts(events(("dog", 1.0, 2.0)), each, ("rooster",)) == (0, 0, 1)
    unknown = Recorded(None, EncodedExample("a", "test", there, frozenset({"event/rooster"}), 5.0))
    assert event_counts(events(("dog", 9.0, 9.5)), unknown, labels) == (0, 0, 1)  # nobody knows of dogs here
    assert f_measure(1, 2, 2) == 0.5 and f_measure(0, 0, 0) == 0.0


@pytest.fixture
def mixtures(evaluation, monkeypatch):
    """Low tones are dogs, one in each recording at its own time."""

    def one(number: int) -> Example:
        samples = np.zeros(3 * 16000, np.float32)
        start = 0.5 + 0.1 * (number % 10)
        samples[int(16000 * start) : int(16000 * (start + 1))] = tone(200, 1.0, number).samples.numpy()
        spans = [Span("event", "dog", start, start + 1), Span("kind", "sound", start, start + 1)]
        spans += [Span("kind", "silence", 0.0, start), Span("kind", "silence", start + 1, 3.0)]
        return Example(samples, tuple(spans), frozenset({"kind", "event"}))

    def made(maker, split, count):
        jobs = [(f"{split}-{n}", lambda n=n: one(n + 50 * (split == "test")), split) for n in range(count)]
        return evaluation.encoded(f"{maker}-{split}", jobs)

    monkeypatch.setattr(evaluation, "made", made)
    return evaluation


def test_the_probe_over_time_and_the_network_beside_it(mixtures):
    figures = {figure.name: figure for figure in times.kinds_and_events(mixtures, 6)}
    probe = figures["kind-accuracy-probe"]
    assert probe.value > 0.9 > probe.reference and probe.n == 18  # seconds
    assert figures["kind-accuracy"].reference == probe.value and figures["events-f1"].n == 6
    assert figures["events-f1"].reference == figures["events-f1-probe"].value > 0.5
    assert {f"kind-accuracy-{kind}" for kind in KINDS} <= set(figures)
    mixtures.listener = None
    assert all(figure.name.endswith("-probe") for figure in times.kinds_and_events(mixtures, 6))
