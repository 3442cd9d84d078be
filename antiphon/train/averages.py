"""The running mean of a model's weights (Polyak and Juditsky 1992), which is often better than the last ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Averages:
    """Exponential means of the parameters that train, float32.

    Args:
        model: whose parameters.
        decay: of a step; less in the first ones, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.means = {name: p.detach().float().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            if name in self.means:
                self.means[name].lerp_(parameter.detach().float(), 1 - decay)

    def swap(self, model: nn.Module) -> None:
        """Puts the means into the model, and what was there in their place; twice is as before."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.means:
                    own: Tensor = parameter.detach().float().clone()
                    parameter.copy_(self.means[name])
                    self.means[name] = own
