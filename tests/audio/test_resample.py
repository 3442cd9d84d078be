"""Streams at another rate: what is below the lower rate's half stays, what is above goes, pieces are the whole."""

import numpy as np
import pytest
import torch

from antiphon.audio.resample import REACH, FrameResampler


def tone(hertz: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return torch.from_numpy(np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).float()[None]


@pytest.mark.parametrize(("source", "target"), [(24000, 16000), (16000, 24000), (48000, 16000), (2400, 16000)])
def test_a_tone_stays_what_it_is_and_comes_late(source: int, target: int) -> None:
    hertz = 0.3 * min(source, target)
    resampler = FrameResampler(source, target)
    made, _ = resampler(tone(hertz, source), resampler.init_state(1))
    assert made.shape == (1, round(0.5 * target))
    times = np.arange(made.shape[1]) / target - REACH / source
    wanted = torch.from_numpy(np.sin(2 * np.pi * hertz * times)).float()
    edge = round(2 * REACH * target / source)
    assert (made[0] - wanted)[edge:-edge].abs().max() < 2e-3


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    resampler = FrameResampler(24000, 16000)
    made, _ = resampler(tone(9000, 24000), resampler.init_state(1))
    assert made[0, 100:].abs().max() < 1e-3


def test_pieces_are_the_whole_and_rows_dont_meet() -> None:
    resampler = FrameResampler(24000, 16000)
    sound = torch.randn(2, 24000, generator=torch.Generator().manual_seed(0))
    whole, _ = resampler(sound, resampler.init_state(2))
    state, pieces = resampler.init_state(2), []
    for piece in sound.split([1920, 3, 21, 24000 - 1944], dim=1):
        made, state = resampler(piece, state)
        pieces.append(made)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    alone, _ = resampler(sound[1:], resampler.init_state(1))
    torch.testing.assert_close(alone, whole[1:])


def test_the_same_rate_is_left_alone() -> None:
    resampler = FrameResampler(16000, 16000)
    sound = torch.randn(1, 50)
    assert resampler(sound, resampler.init_state(1))[0] is sound
