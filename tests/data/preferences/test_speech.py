"""Pauses by hand: silence where the text has none, and speech where it has one."""

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.preferences.speech import pause_error, quiet_runs

RATE = 8000
# half a second of speech, a marked pause of 0.4 s, half a second of speech, the end
PHONES = [("n", 0.1, 0.6), (",", 0.6, 1.0), ("O", 1.0, 1.5), ("", 1.5, 1.6)]


def said(*spans, seconds=1.6):
    """Noise in these spans, silence elsewhere."""
    samples = torch.zeros(round(seconds * RATE))
    for start, end in spans:
        at, to = round(start * RATE), round(end * RATE)
        samples[at:to] = 0.1 * torch.randn(to - at, generator=torch.Generator().manual_seed(0))
    return Audio(samples, RATE)


def test_quiet_runs_are_found_against_the_loud_parts():
    for gain in (1.0, 0.01):
        audio = said((0.1, 0.6), (1.0, 1.5))
        runs = quiet_runs(Audio(gain * audio.samples, RATE))
        assert runs == [pytest.approx(run, abs=0.021) for run in ((0.0, 0.1), (0.6, 1.0), (1.5, 1.6))]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        (((0.1, 0.6), (1.0, 1.5)), 0.0),  # as it should be
        (((0.1, 0.5), (1.05, 1.5)), 0.0),  # a little beside the mark
        (((0.1, 1.5),), 0.4 - 0.12),  # the pause was spoken through, less what it may lie beside
        (((0.1, 0.2), (0.5, 0.6), (1.0, 1.5)), 0.28),  # a silence in the first sound, up to the mark's surroundings
        ((), 0.5 - 0.12 + 0.5 - 0.12 - 0.12),  # nothing said at all
    ],
)
def test_pause_error_by_hand(spans, seconds):
    # the fourth: silent from 0.2 to 0.5 s, of which 0.48 to 0.5 lies beside the mark
    # the last: 0.1 to 1.5 s are silent, 0.48 to 1.12 s of it at the mark, and 1.38 s on at the silence of the end
    assert pause_error(said(*spans), PHONES) == pytest.approx(seconds / 1.4, abs=0.02)
