"""Made sounds: each is heard, and stays what it is named."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.data.scene.signals import SIGNALS, signal
from antiphon.models.scene.labels import GROUPS


def test_every_signal_is_an_event_of_ours() -> None:
    assert set(SIGNALS) <= set(GROUPS["event"].names)


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_is_drawn_by_its_seed_and_heard_where_it_says(name: str) -> None:
    lengths = set()
    for seed in range(6):
        made = signal(name, np.random.default_rng(seed))
        assert np.array_equal(made.samples, signal(name, np.random.default_rng(seed)).samples)
        assert np.isfinite(made.samples).all() and 0.1 < np.abs(made.samples).max() <= 1.0
        events = [span for span in made.spans if span.group == "event"]
        assert events and all(span.label == name and 0.0 <= span.start < span.end for span in events)
        lengths.add(len(made.samples))
    assert len(lengths) > 1
