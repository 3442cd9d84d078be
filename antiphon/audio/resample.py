"""Another sample rate for streams that go frame by frame in batches, on the device that they are on.

    resampler = FrameResampler(24000, 16000)
    state = resampler.init_state(batch=2)
    out, state = resampler(samples, state)        # [2, 1920] -> [2, 1280]

A windowed sinc (Kaiser), so that every frame gives as many samples; they come 24 input samples late. Files and single
streams are resampled by soxr.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 24  # input samples on either side that an output sample is made from
BETA = 8.0  # of the Kaiser window: aliases lie some 80 dB below
PASSED = 0.92  # of the lower rate's half, up to which everything is kept


class FrameResampler:
    """See the module.

    Args:
        source, target: Hz.
    """

    def __init__(self, source: int, target: int) -> None:
        common = math.gcd(source, target)
        self.up, self.down = target // common, source // common
        cutoff = PASSED * min(1.0, target / source)
        taps = torch.arange(2 * REACH + self.down, dtype=torch.float64)
        phases = torch.arange(self.up, dtype=torch.float64)[:, None] * (self.down / self.up)
        away = REACH + phases - taps  # input samples from each tap to where the output sample lies
        window = torch.special.i0(BETA * (1 - (away / (REACH + 1)).square()).clamp_min(0).sqrt())
        kernel = cutoff * torch.sinc(cutoff * away) * window / torch.special.i0(torch.tensor(BETA))
        kernel = torch.where(away.abs() <= REACH + 1, kernel, 0.0)
        self.kernel = (kernel / kernel.sum(1, keepdim=True)).float()[:, None]  # [up, 1, taps]

    def init_state(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """The input samples before the first one: silence, [batch, n]."""
        return torch.zeros(batch, 2 * REACH, device=device)

    def __call__(self, samples: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A piece of each stream.

        Args:
            samples: [batch, n], n a multiple of source / gcd(source, target).
            state: of `init_state` or of the piece before; it isn't changed.

        Returns:
            [batch, n * target / source], the new state.
        """
        if self.up == self.down:
            return samples, state
        whole = torch.cat([state, samples], 1)
        out = F.conv1d(whole[:, None], self.kernel.to(whole.device), stride=self.down)
        return out.transpose(1, 2).flatten(1), whole[:, -2 * REACH :]
