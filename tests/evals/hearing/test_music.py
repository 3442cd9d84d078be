"""Tempi: within 4 %, up to octaves, and loops that go on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from antiphon.evals.hearing.music import best_guess, looped, share_near, told_tempo
from antiphon.evals.metrics.hearing import OCTAVES
from antiphon.models.scene.scene import Scene

from .conftest import tone


def test_near_and_up_to_octaves():
    assert share_near([100, 100, 100, 100], [103.9, 96.1, 104.1, 200]) == 0.5
    assert share_near([100, 100, 100, 100], [50, 300, 33.4, 150], OCTAVES) == 0.75


def test_chance_is_the_best_single_guess():
    assert best_guess([100, 101, 102, 200]) == 0.75 and best_guess([100, 101, 102, 200], OCTAVES) == 1.0


def test_the_likeliest_tempo_is_told():
    assert told_tempo(Scene(chances={"tempo": {"118.3": 0.4, "60.0": 0.2}})) == 118.3
    assert told_tempo(Scene()) == 0.0


def test_a_loop_goes_on_for_ten_seconds():
    sound = tone(440, 1.5, 0)
    recording = SimpleNamespace(load=lambda: sound, id="loop")
    labels, known = (("kind", "music"), ("tempo", "120")), frozenset({"kind", "tempo"})
    example = looped(SimpleNamespace(recording=recording, labels=labels, known=known, place="sonic-pi"))
    assert len(example.samples) == 160000 and example.seconds == 10.0
    np.testing.assert_array_equal(example.samples[:24000], example.samples[24000:48000])
    assert {span.end for span in example.spans} == {10.0}
    assert [(span.group, span.label) for span in example.spans] == [("kind", "music"), ("tempo", "120")]
