"""What SEANet is made of: sizes, convolutions with padding, residual blocks, LSTM; and the layout of their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.timeconv import convolve, pad


@dataclass
class SeanetConfig:
    """Sizes and habits of an encoder and the decoder that mirrors it.

    Attributes:
        channels: of the audio.
        dimension: width of the latents.
        filters: width at the sample rate; it doubles at each stride.
        residual_layers: residual blocks at each rate.
        ratios: strides as the decoder meets them, lowest rate first.
        kernel, last_kernel, residual_kernel: of the first convolution, the last, and in residual blocks.
        dilation_growth: dilation of residual block j is this to the power j.
        compress: how much narrower residual blocks are inside.
        causal: no output looks at later input; else padding is shared between both sides.
        padding: "constant" (zeros), "reflect" or, where it isn't causal, "replicate".
        shortcut: residual blocks have a convolution of kernel 1 beside them; else the identity.
        norm: None, or "time_group_norm" behind every convolution. (Weight norm is folded into the weights.)
        lstm: layers of the LSTM at the lowest rate; 0 for none.
        bidirectional: whether the encoder's LSTM is; it then doubles the width.
    """

    channels: int = 1
    dimension: int = 128
    filters: int = 32
    residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    kernel: int = 7
    last_kernel: int = 7
    residual_kernel: int = 3
    dilation_growth: int = 2
    compress: int = 2
    causal: bool = True
    padding: str = "reflect"
    shortcut: bool = True
    norm: str | None = None
    lstm: int = 2
    bidirectional: bool = False

    def __post_init__(self) -> None:
        self.ratios = tuple(self.ratios)
        if self.padding not in ("constant", "reflect", "replicate"):
            raise ValueError(f"padding {self.padding!r} is none of constant, reflect, replicate")
        if self.norm not in (None, "time_group_norm"):
            raise ValueError(f"norm {self.norm!r} is neither None nor time_group_norm")
        if self.causal and (self.norm or self.bidirectional):
            raise ValueError("group norm over time and a bidirectional LSTM see the future: they need causal=False")
        if self.causal and self.padding == "replicate":
            raise ValueError("a causal SEANet pads with 'constant' or 'reflect', not with 'replicate'")

    @property
    def hop(self) -> int:
        """Samples a latent."""
        hop = 1
        for ratio in self.ratios:
            hop *= ratio
        return hop


@dataclass
class TailState:
    """The last inputs of a convolution, [batch, kernel - stride, channels], as they were after the activation."""

    tail: Tensor


@dataclass
class LstmState:
    """Hidden and cell state, [batch, layers, width]."""

    hidden: Tensor
    cell: Tensor


class SeanetConv(nn.Module):
    """Convolution with padding, norm and, before it, ELU.

    Args:
        channels_in, channels_out, kernel, stride, dilation: as in `torch.nn.Conv1d`.
        upsample: outputs an input. A transposed convolution of stride s and kernel k * s is a convolution of kernel k
            that gives s outputs a time step; `kernel` is that k.
        activate: apply ELU to the input.
        causal, padding, norm: see `SeanetConfig`; upsampling pads with zeros.
        bias: whether there is one.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1, upsample: int = 1,
        activate: bool = True, causal: bool = True, padding: str = "constant", norm: str | None = None,
        bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.channels_in, self.channels_out = channels_in, channels_out
        self.kernel, self.stride, self.dilation, self.upsample = kernel, stride, dilation, upsample
        self.activate, self.causal = activate, causal
        self.padding = padding if upsample == 1 else "constant"
        self.keep = dilation * (kernel - 1) + 1 - stride
        if self.keep < 0:
            raise ValueError(f"kernel {kernel} is shorter than stride {stride}: inputs would be skipped")
        bound = (channels_in * kernel) ** -0.5
        self.weight = nn.Parameter(torch.empty(upsample * channels_out, kernel * channels_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels_out).uniform_(-bound, bound)) if bias else None
        self.norm = nn.GroupNorm(1, channels_out) if norm else None

    def init_state(self, batch: int) -> TailState:
        return TailState(self.weight.new_zeros(batch, self.keep, self.channels_in))

    def _convolve(self, x: Tensor) -> Tensor:
        """Padded input -> output."""
        bias = self.bias if self.upsample == 1 or self.bias is None else self.bias.repeat(self.upsample)
        y = convolve(x, self.weight, bias, self.kernel, self.stride, self.dilation)
        if self.upsample > 1:
            y = y.reshape(y.shape[0], -1, self.channels_out)
        if self.norm is not None:
            y = F.layer_norm(y, y.shape[1:], eps=self.norm.eps) * self.norm.weight + self.norm.bias
        return y

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, channels_in] -> [batch, ceil(time / stride) * upsample, channels_out]."""
        x = F.elu(x) if self.activate else x
        extra = -x.shape[1] % self.stride
        if self.causal:
            return self._convolve(pad(x, self.keep, extra, self.padding))
        if self.upsample > 1:  # a step more on either side, then the surplus is cut off
            surplus = self.keep * self.upsample
            y = self._convolve(pad(x, self.keep, self.keep, "constant"))
            return y[:, surplus - surplus // 2 : y.shape[1] - surplus // 2]
        right = self.keep // 2
        return self._convolve(pad(x, self.keep - right, right + extra, self.padding))

    def step(self, x: Tensor, state: TailState, first: bool, last: bool = False) -> Tensor:
        """More input; a multiple of `stride` unless it is the last.

        Args:
            x: [batch, time, channels_in].
            state: changed in place.
            first: nothing came before (of any row); then there must be enough to be mirrored, or it is the last.
            last: nothing follows.
        """
        x = F.elu(x) if self.activate else x
        extra = -x.shape[1] % self.stride
        if extra and not last:
            raise ValueError(f"{x.shape[1]} time steps are no multiple of stride {self.stride}")
        if first and self.padding != "constant":
            padded = pad(x, self.keep, extra, self.padding)
        else:
            padded = torch.cat([state.tail, x], dim=1) if self.keep else x
            if extra:
                padded = pad(padded, 0, extra, self.padding)
        if self.keep:
            state.tail = padded[:, padded.shape[1] - self.keep :].clone()
        return self._convolve(padded)


class SeanetBlock(nn.Module):
    """Residual block: ELU, convolution, ELU, convolution of kernel 1.

    Args:
        width: channels.
        dilation: of the first convolution.
        config: the rest.
    """

    def __init__(self, width: int, dilation: int, config: SeanetConfig):
        super().__init__()
        habits = dict(causal=config.causal, padding=config.padding, norm=config.norm)
        inner = width // config.compress
        self.block = nn.ModuleDict(
            {
                "1": SeanetConv(width, inner, config.residual_kernel, dilation=dilation, **habits),
                "3": SeanetConv(inner, width, 1, **habits),
            }
        )
        self.shortcut = SeanetConv(width, width, 1, activate=False, **habits) if config.shortcut else None

    def init_state(self, batch: int) -> TailState:
        return self.block["1"].init_state(batch)

    def _add(self, x: Tensor, inner: Tensor) -> Tensor:
        return (x if self.shortcut is None else self.shortcut(x)) + self.block["3"](inner)

    def forward(self, x: Tensor) -> Tensor:
        return self._add(x, self.block["1"](x))

    def step(self, x: Tensor, state: TailState, first: bool, last: bool = False) -> Tensor:
        return self._add(x, self.block["1"].step(x, state, first, last))


class SkipLstm(nn.Module):
    """LSTM with its input added to its output.

    Args:
        width, layers: as in `torch.nn.LSTM`.
        bidirectional: doubles the width.
    """

    def __init__(self, width: int, layers: int, bidirectional: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=bidirectional)

    def init_state(self, batch: int) -> LstmState:
        zeros = self.lstm.weight_ih_l0.new_zeros(batch, self.lstm.num_layers, self.lstm.hidden_size)
        return LstmState(zeros, zeros.clone())

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, width] -> [batch, time, width], or twice that."""
        if not x.shape[1]:
            return x.repeat(1, 1, 2) if self.lstm.bidirectional else x
        y = self.lstm(x)[0]
        return y + (torch.cat([x, x], dim=-1) if self.lstm.bidirectional else x)

    def step(self, x: Tensor, state: LstmState, first: bool, last: bool = False) -> Tensor:
        if not x.shape[1]:
            return x
        before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        y, (hidden, cell) = self.lstm(x, before)
        state.hidden, state.cell = hidden.transpose(0, 1), cell.transpose(0, 1)
        return y + x


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm multiplied out: `weight_g` and `weight_v`, or torch's parametrization of them, become `weight`.

    A half without the other one is kept, so that loading complains of it.
    """
    out = dict(weights)
    for length, direction in (
        ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):  # fmt: skip
        for key in weights:
            stem = key.removesuffix(direction)
            if key.endswith("." + direction) and stem + length in out:
                value = out.pop(key)
                norm = value.float().flatten(1).norm(dim=1).view(-1, *[1] * (value.ndim - 1))
                out[stem + "weight"] = value * (out.pop(stem + length) / norm)
    return out


def pack(weight: Tensor, conv: SeanetConv) -> Tensor:
    """A published convolution's weight as `conv` keeps it."""
    if conv.upsample == 1:
        return weight.transpose(1, 2).flatten(1).contiguous()
    taps = weight.unflatten(2, (conv.kernel, conv.upsample)).flip(2)  # [in, out, taps, step], oldest input first
    return taps.permute(3, 1, 2, 0).flatten(2).flatten(0, 1).contiguous()


def unpack(weight: Tensor, conv: SeanetConv) -> Tensor:
    """The inverse of `pack`."""
    if conv.upsample == 1:
        return weight.unflatten(1, (conv.kernel, -1)).transpose(1, 2).contiguous()
    taps = weight.unflatten(0, (conv.upsample, -1)).unflatten(2, (conv.kernel, -1))  # [step, out, taps, in]
    return taps.permute(3, 1, 2, 0).flip(2).flatten(2).contiguous()
