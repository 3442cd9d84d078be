"""The snake activation: a line with ripples, for networks that must make periodic sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, with one alpha a channel (Ziyin et al. 2020; in codecs since Kumar et al. 2023).

    Args:
        channels: of the input [batch, channels, time].
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        over = (self.alpha + 1e-9).reciprocal()
        if torch.is_grad_enabled():
            return torch.addcmul(x, over, torch.sin(self.alpha * x).square())
        ripples = self.alpha * x  # in place from here: the activations at the sample rate are what memory goes to
        return ripples.sin_().square_().mul_(over).add_(x)
