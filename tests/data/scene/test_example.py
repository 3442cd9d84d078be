"""Labels over time as numbers, and when something is heard: hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.data.scene.example import RATE, Span, activity, coverage, silences, targets, tempos
from antiphon.errors import DataError


def test_coverage_is_the_share_of_each_frame_and_overlaps_count_once() -> None:
    spans = [
        Span("kind", "speech", 0.04, 0.12),
        Span("kind", "speech", 0.10, 0.20),
        Span("kind", "music", 0.0, 9.0),
        Span("event", "dog", 0.0, 0.4),
    ]
    found = coverage(spans, "kind", ("speech", "music", "silence"), frames=3, step=0.08)
    assert np.allclose(found, [[0.5, 1.0, 0.0], [1.0, 1.0, 0.0], [0.5, 1.0, 0.0]], atol=1e-6)


def test_one_frame_as_long_as_the_example_says_what_is_true_of_the_whole() -> None:
    values, mask = targets([Span("manner", "loud", 0.2, 0.6)], {"manner"}, "manner", 1, 1.0, ("fast", "loud"))
    assert np.allclose(values, [[0.0, 0.4]]) and mask.all()


def test_what_is_not_known_is_masked_by_group_and_by_label() -> None:
    labels = ("fast", "loud")
    assert not targets([], set(), "manner", 2, 0.08, labels)[1].any()
    assert targets([], {"manner/loud"}, "manner", 2, 0.08, labels)[1].tolist() == [[False, True]] * 2


def test_an_exclusive_group_is_known_only_where_one_of_its_labels_is_true() -> None:
    _, mask = targets([Span("sex", "female", 0.08, 0.24)], {"sex"}, "sex", frames=4, step=0.08)
    assert mask.tolist() == [[False] * 2, [True] * 2, [True] * 2, [False] * 2]


def test_a_group_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="no group of labels 'mood'; there are kind"):
        targets([], (), "mood", 1, 1.0)


def test_tempo_is_a_number_over_its_time() -> None:
    assert tempos([Span("tempo", "96.5", 0.16, 0.32)], 5, 0.08).tolist() == [0.0, 0.0, 96.5, 96.5, 0.0]


def test_activity_finds_sounds_in_digital_silence_and_over_a_noise_floor() -> None:
    generator = np.random.default_rng(0)
    sound = np.zeros(4 * RATE, np.float32)
    for start, end in ((0.5, 1.0), (2.0, 3.0)):
        sound[int(start * RATE) : int(end * RATE)] = 0.1 * generator.standard_normal(int((end - start) * RATE))
    for floor in (0.0, 0.004):  # 28 dB under the sound, which is more than a quiet room's
        noisy = sound + floor * generator.standard_normal(len(sound)).astype(np.float32)
        found = activity(noisy)
        assert len(found) == 2
        assert np.allclose(found, [(0.5, 1.0), (2.0, 3.0)], atol=0.05)
    assert len(activity(sound, gap=1.5)) == 1
    assert activity(np.zeros(RATE, np.float32)) == [] and activity(np.zeros(0, np.float32)) == []


def test_a_sound_that_never_pauses_is_heard_throughout() -> None:
    rain = 0.05 * np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32)
    assert np.allclose(activity(rain), [(0.0, 2.0)])


def test_silences_are_what_the_kinds_leave() -> None:
    spans = [Span("kind", "speech", 1.0, 2.0), Span("kind", "music", 1.5, 2.6), Span("event", "dog", 0.0, 4.0)]
    found = [(span.start, span.end) for span in silences(spans, 4.0)]
    assert found == [(0.0, 1.0), (2.6, 4.0)]
    assert silences([Span("kind", "speech", 0.1, 0.95)], 1.0) == ()
