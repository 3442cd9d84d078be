"""Causal convolutions that stream: feeding a signal in pieces gives what feeding it whole gives.

Each module has `init_state(batch)` and `step(x, state)`; `forward(x)` is a step from a fresh state. States are small
objects that hold tensors and are changed in place by `step`; `copy.deepcopy` forks one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class ConvState:
    """The last `kernel - stride` inputs, [batch, channels, kernel - stride]."""

    past: Tensor


class CausalConv1d(nn.Module):
    """1-d convolution whose output t sees inputs up to (t + 1) * stride - 1 and none after.

    Args:
        channels_in, channels_out, kernel, stride, groups: as in `torch.nn.Conv1d`; the kernel is at least the stride.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        if kernel < stride:
            raise ValueError(f"kernel {kernel} is shorter than stride {stride}: inputs would be skipped")
        self.channels_in, self.keep = channels_in, kernel - stride
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, stride, groups=groups)

    def init_state(self, batch: int) -> ConvState:
        weight = self.conv.weight
        return ConvState(torch.zeros(batch, self.channels_in, self.keep, device=weight.device, dtype=weight.dtype))

    def step(self, x: Tensor, state: ConvState) -> Tensor:
        """[batch, channels_in, n * stride] -> [batch, channels_out, n]."""
        x = torch.cat([state.past.to(x.dtype), x], dim=-1)
        state.past = x[..., x.shape[-1] - self.keep :]
        return self.conv(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (self.keep, 0)))


class ConvNeXtBlock(nn.Module):
    """Causal ConvNeXt block (Liu et al. 2022, as in Vocos): depthwise convolution, norm, two-layer MLP, scaled
    residual.

    Args:
        channels: width.
        kernel: of the depthwise convolution.
        expand: width of the MLP over `channels`.
        scale: initial value of the residual's per-channel scale.
    """

    def __init__(self, channels: int, kernel: int = 7, expand: int = 3, scale: float = 0.1):
        super().__init__()
        self.depthwise = CausalConv1d(channels, channels, kernel, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, expand * channels)
        self.down = nn.Linear(expand * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def init_state(self, batch: int) -> ConvState:
        return self.depthwise.init_state(batch)

    def _mix(self, x: Tensor, mixed: Tensor) -> Tensor:
        hidden = self.down(F.gelu(self.up(self.norm(mixed.transpose(1, 2)))))
        return x + (self.scale * hidden).transpose(1, 2)

    def step(self, x: Tensor, state: ConvState) -> Tensor:
        """[batch, channels, n] -> [batch, channels, n]."""
        return self._mix(x, self.depthwise.step(x, state))

    def forward(self, x: Tensor) -> Tensor:
        return self._mix(x, self.depthwise(x))


class Upsample(nn.Module):
    """Each input becomes `factor` outputs, by one linear map. Looks at nothing but its input, so it has no state.

    Args:
        channels_in, channels_out: widths.
        factor: outputs an input.
    """

    def __init__(self, channels_in: int, channels_out: int, factor: int):
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(channels_in, channels_out * factor)

    def init_state(self, batch: int) -> None:
        return None

    def step(self, x: Tensor, state: None) -> Tensor:
        return self(x)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels_in, n] -> [batch, channels_out, n * factor]."""
        batch, _, frames = x.shape
        y = self.linear(x.transpose(1, 2)).reshape(batch, frames * self.factor, -1)
        return y.transpose(1, 2)


class CausalStack(nn.Sequential):
    """Streaming modules in a row."""

    def init_state(self, batch: int) -> list[ConvState | None]:
        return [module.init_state(batch) for module in self]

    def step(self, x: Tensor, state: list[ConvState | None]) -> Tensor:
        for module, part in zip(self, state):
            x = module.step(x, part)
        return x
