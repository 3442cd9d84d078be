"""Where a recording can be cut so that no word is: at its quietest place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STEP = 0.02  # seconds from one place that is looked at to the next
BREATH = 0.3  # seconds around it that have to be quiet too: a stop consonant is silent for less


def quietest(samples: Tensor, sample_rate: int, first: float, last: float) -> int:
    """The sample at which a cut does least harm.

    Args:
        samples: float [N].
        sample_rate: Hz.
        first, last: seconds between which the cut may lie; more than the recording has counts as its end.

    Returns:
        A whole number of steps of 20 ms, in samples; of equally quiet places the last.
    """
    step = round(STEP * sample_rate)
    begin, end = int(first / STEP), min(int(last / STEP), len(samples) // step)
    if end <= begin:
        return end * step
    reach = round(BREATH / STEP / 2)
    left = max(0, begin - reach)
    frames = samples[left * step : (end + reach) * step]
    levels = torch.log10(F.pad(frames, (0, -len(frames) % step)).view(-1, step).square().mean(1) + 1e-10)
    # A place between two frames is as quiet as what surrounds it; the middle counts most.
    window = torch.hann_window(2 * reach + 2, periodic=False)[1:-1]
    padded = F.pad(levels[None, None], (reach, reach), mode="replicate")
    smooth = F.conv1d(padded, (window / window.sum())[None, None])[0, 0]
    places = smooth[begin - left : end - left + 1]
    return (begin + len(places) - 1 - int(places.flip(0).argmin())) * step
