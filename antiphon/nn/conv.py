"""Convolutions over time: causal modules that stream, and convolution as a matrix product.

Each streaming module has `init_state(batch)` and `step(x, state)`, which changes the state in place; feeding a signal
in pieces gives what `forward` gives of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.cpu import product


@dataclass
class ConvState:
    """The last inputs that the next output sees, [batch, channels, kernel's span - stride]."""

    past: Tensor


class CausalConv1d(nn.Module):
    """1-d convolution whose output t sees inputs up to (t + 1) * stride - 1 and none after.

    Args:
        channels_in, channels_out, kernel, stride, groups, dilation: as in `torch.nn.Conv1d`; the kernel is at least the
            stride.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
    ):
        super().__init__()
        if kernel < stride:
            raise ValueError(f"kernel {kernel} is shorter than stride {stride}: inputs would be skipped")
        self.channels_in, self.keep = channels_in, (kernel - 1) * dilation + 1 - stride
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, stride, dilation=dilation, groups=groups)

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
        eps: of the norm.
    """

    def __init__(self, channels: int, kernel: int = 7, expand: int = 3, scale: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.depthwise = CausalConv1d(channels, channels, kernel, groups=channels)
        self.norm = nn.LayerNorm(channels, eps)
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


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, kernel: int = 1, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Convolution without padding, in the layout [batch, time, channels].

    A window of a signal that lies time after time is one contiguous row, so a convolution is a product of such rows
    with one matrix, and no large weight is reordered when a call brings two time steps.

    Args:
        x: [batch, length, channels in].
        weight: [channels out, kernel * channels in], the oldest tap first.
        bias: [channels out] or None.
        kernel, stride, dilation: as in `torch.nn.Conv1d`.

    Returns:
        [batch, (length - dilation * (kernel - 1) - 1) // stride + 1, channels out].
    """
    batch, length, width = x.shape
    span = dilation * (kernel - 1) + 1
    time = (length - span) // stride + 1
    if time <= 0:
        return x.new_zeros(batch, 0, len(weight))
    if span == stride == 1:
        return product(x.reshape(batch * time, width), weight, bias).view(batch, time, -1)
    if torch.is_grad_enabled() or batch * time * 64 > weight.numel():
        # oneDNN's convolution needs no windows, but its weights in an order of its own: worth it for a small weight.
        kernels = weight.view(-1, kernel, width).permute(0, 2, 1).unsqueeze(2)  # what it takes for "channels last"
        y = F.conv2d(x.transpose(1, 2).unsqueeze(2), kernels, bias, (1, stride), 0, (1, dilation))
        return y.squeeze(2).transpose(1, 2)
    x = x.contiguous()
    shape = (batch, time, kernel, width)
    windows = x.as_strided(shape, (length * width, stride * width, dilation * width, 1), x.storage_offset())
    return product(windows.reshape(batch * time, -1), weight, bias).view(batch, time, -1)


def mirrored(x: Tensor, left: int, right: int) -> Tensor:
    """Reflect padding of [batch, time, channels] along time.

    Of a signal too short to be mirrored so far, zeros that follow it are (as EnCodec does), and are then cut off.
    """
    length = x.shape[1]
    if length == 0 or not (left or right):
        return x
    if extra := max(0, max(left, right) - length + 1):
        x = F.pad(x, (0, 0, 0, extra))
    end = x.shape[1] - 1
    x = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, end - right : end].flip(1)], dim=1)
    return x[:, : x.shape[1] - extra]


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pads [batch, time, channels] along time.

    Args:
        left, right: time steps.
        mode: "constant" (zeros), "replicate" or "reflect".
    """
    if mode == "reflect":
        return mirrored(x, left, right)
    if mode == "replicate" and x.shape[1]:
        return torch.cat([x[:, :1].expand(-1, left, -1), x, x[:, -1:].expand(-1, right, -1)], dim=1)
    return F.pad(x, (0, 0, left, right))
