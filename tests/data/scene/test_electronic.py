"""Made instruments: as their seed says, and with the pitch that tells a bass from a hat."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.data.scene.electronic import MACHINES, bass, drum, electronic
from antiphon.data.scene.example import RATE


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_sound_follows_from_its_seed_and_is_labelled_while_it_lasts(name: str) -> None:
    for seed in range(12):
        one, again = (electronic(name, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one.samples, again.samples)
        assert np.isfinite(one.samples).all() and 0.1 < np.abs(one.samples).max() <= 1.0
        (span,) = [each for each in one.spans if each.group == "instrument"]
        assert span.label == name and 0.0 <= span.start < span.end <= one.seconds
        assert "instrument" in one.known and ("kind" in one.known) == (name != "synthesizer")


def test_a_bass_is_low_and_drums_die_away() -> None:
    for seed in range(12):
        wave = bass(np.random.default_rng(seed))
        spectrum = np.abs(np.fft.rfft(wave)) ** 2
        hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
        assert spectrum[hertz < 400].sum() > 0.3 * spectrum.sum()
        stroke = drum(np.random.default_rng(seed)) ** 2
        assert stroke[: len(stroke) // 2].sum() > 2 * stroke[len(stroke) // 2 :].sum()
