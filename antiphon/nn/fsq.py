"""Finite scalar quantization: each of a few dimensions is rounded to one of a few levels (Mentzer et al. 2023).

The codes are the points of a fixed grid: nothing to learn, nothing to collapse. It takes the place of
`antiphon.nn.quantize.Codebook`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """A grid of prod(levels) codes in len(levels) dimensions.

    Args:
        levels: of each dimension, at least 2; (8, 5, 5, 5) makes 1,000 codes, eight times 3 the 6,561 of CosyVoice 2
            (Du et al. 2024, section 2.1).

    Raises:
        ValueError: a dimension with fewer than 2 levels.
    """

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels are {tuple(levels)}: each dimension needs at least 2")
        self.dim, self.size = len(levels), math.prod(levels)
        counts = torch.tensor(levels)
        self.register_buffer("levels", counts, persistent=False)
        self.register_buffer("strides", torch.cat([counts.new_ones(1), counts[:-1]]).cumprod(0), persistent=False)

    def bound(self, x: Tensor) -> Tensor:
        """Squeezes [..., dim] into the range whose rounding gives each dimension its number of levels.

        An even number of levels lies half a step off zero (section 3 of the paper, and its appendix's code).
        """
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        return torch.tanh(x + torch.atanh(offset / half)) * half - offset

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, dim] -> (grid points in [-1, 1] [n, dim] with the gradient of `bound`, indices [n])."""
        bounded = self.bound(x.float())
        steps = bounded.detach().round()
        index = ((steps.long() + self.levels // 2) * self.strides).sum(-1)
        return (bounded + (steps - bounded).detach()) / (self.levels // 2), index

    def vectors(self, index: Tensor) -> Tensor:
        """Indices of any shape [...] -> their grid points [..., dim]."""
        steps = index[..., None] // self.strides % self.levels - self.levels // 2
        return steps / (self.levels // 2)
