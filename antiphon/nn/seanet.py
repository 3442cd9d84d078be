"""SEANet, the convolutional encoder and decoder of EnCodec, Mimi and SpeechTokenizer, whole or live.

Defossez et al. 2022 ("High Fidelity Neural Audio Compression", section 3.1). Everything is [batch, time, channels]
inside, and every layer, upsampling included, is one convolution as a matrix product (`antiphon.nn.conv.convolve`).

A causal network streams: `step` takes any number of samples (encoder) or latents (decoder) and gives what is certain.
Reflect padding needs a few frames before the first output, so such a network collects its lead-in; rows of one batch
may be in it or past it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.conv import convolve, pad
from antiphon.nn.state import in_groups


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
        return math.prod(self.ratios)


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


@dataclass
class SeanetState:
    """Where a stream stands.

    Attributes:
        layers: one state a layer.
        pending: input that doesn't fill a frame, [batch, less than a hop, channels]; none in a decoder.
        lead: the lead-in collected so far, [batch, most that it can be, channels].
        count: how much of `lead` is filled, [batch]; one more than it can hold once the stream is past it.
    """

    layers: list[TailState | LstmState]
    pending: Tensor
    lead: Tensor
    count: Tensor


class _Seanet(nn.Module):
    """What encoder and decoder share: layers in a row, named as in the published weights, and streaming.

    Args:
        config: sizes.
        layers: number in the published sequence (activations have numbers too) -> module.
        unit: time steps of input that a stream takes at once.
        channels: of the input.
    """

    def __init__(self, config: SeanetConfig, layers: dict[str, nn.Module], unit: int, channels: int):
        super().__init__()
        self.config, self.unit, self.channels = config, unit, channels
        self.layers = nn.ModuleDict(layers)
        self.lead = 0  # steps of input needed before the first output
        if config.causal and config.padding == "reflect":
            while not self._mirrors(self.lead):
                self.lead += unit

    def _mirrors(self, length: int) -> bool:
        """Whether that much input is enough for the reflect padding of every layer."""
        for module in self.modules():
            if isinstance(module, SeanetConv):
                if module.padding == "reflect" and length <= module.keep:
                    return False
                length = length // module.stride * module.upsample
        return True

    def init_state(self, batch: int) -> SeanetState:
        if not self.config.causal:
            raise ValueError("only a causal SEANet streams")
        weight = next(self.parameters())
        return SeanetState(
            [layer.init_state(batch) for layer in self.layers.values()],
            weight.new_zeros(batch, 0, self.channels),
            weight.new_zeros(batch, max(self.lead - self.unit, 0), self.channels),
            torch.zeros(batch, dtype=torch.long, device=weight.device),
        )

    def _whole(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def _run(self, x: Tensor, layers: list[TailState | LstmState], first: bool, last: bool) -> Tensor:
        for layer, state in zip(self.layers.values(), layers):
            x = layer.step(x, state, first, last)
        return x

    def _advance(self, x: Tensor, state: SeanetState, last: bool) -> list[Tensor] | Tensor:
        """Steps all rows: one tensor if all have the same number of outputs, else one a row.

        Args:
            x: [batch, whole frames unless last, channels].
        """
        if not len(x):  # all rows have left
            return x.new_zeros(0, 0, [*self.layers.values()][-1].channels_out)
        if not self.lead:
            return self._run(x, state.layers, False, last)
        counts = state.count.tolist()
        if len(set(counts)) == 1:
            return self._advance_together(x, state, counts[0], last)

        def run(rows: list[int], part: SeanetState) -> Tensor:
            return self._advance_together(x[rows], part, counts[rows[0]], last)

        outputs, whole = in_groups(state, counts, run)
        state.layers, state.lead, state.count = whole.layers, whole.lead, whole.count
        return torch.cat(outputs) if len({y.shape[1] for y in outputs}) == 1 else outputs

    def _advance_together(self, x: Tensor, state: SeanetState, count: int, last: bool) -> Tensor:
        """Rows that have all collected `count` steps."""
        room = state.lead.shape[1]
        if count > room:
            return self._run(x, state.layers, False, last)
        time = x.shape[1]
        if count + time < self.lead and not last:
            # Not in place: what was made in inference mode may be changed there only.
            state.lead = torch.cat([state.lead[:, :count], x, state.lead[:, count + time :]], dim=1)
            state.count = state.count + time
            return self._run(x[:, :0], state.layers, False, False)
        state.count = torch.full_like(state.count, room + 1)
        return self._run(torch.cat([state.lead[:, :count], x], dim=1), state.layers, True, last)


class SeanetEncoder(_Seanet):
    """Waveform to latents, one every `config.hop` samples.

    Args:
        config: sizes.
        unit: samples that a stream takes at once, a multiple of the hop; the hop when None.
    """

    def __init__(self, config: SeanetConfig, unit: int | None = None):
        habits = dict(causal=config.causal, padding=config.padding, norm=config.norm)
        width = config.filters
        row: list[nn.Module | None] = [SeanetConv(config.channels, width, config.kernel, activate=False, **habits)]
        for ratio in reversed(config.ratios):
            row += [SeanetBlock(width, config.dilation_growth**j, config) for j in range(config.residual_layers)]
            row += [None, SeanetConv(width, 2 * width, 2 * ratio, ratio, **habits)]
            width *= 2
        if config.lstm:
            row += [SkipLstm(width, config.lstm, config.bidirectional)]
            width *= 2 if config.bidirectional else 1
        row += [None, SeanetConv(width, config.dimension, config.last_kernel, **habits)]
        super().__init__(config, _numbered(row), unit or config.hop, config.channels)

    def forward(self, audio: Tensor) -> Tensor:
        """audio [batch, channels, samples] -> latents [batch, ceil(samples / hop), dimension]; differentiable."""
        return self._whole(audio.transpose(1, 2))

    def step(self, audio: Tensor, state: SeanetState, last: bool = False) -> Tensor | list[Tensor]:
        """More audio, any number of samples -> the latents that are now certain.

        Args:
            audio: [batch, channels, samples].
            state: of `init_state`, changed in place.
            last: the signal ends here: what doesn't fill a frame is padded as `forward` pads it.

        Returns:
            [batch, n, dimension]; where rows are in their lead-in and others aren't, a list of one [1, n, dimension] a
            row.
        """
        x = torch.cat([state.pending, audio.transpose(1, 2)], dim=1) if state.pending.shape[1] else audio.mT
        whole = x.shape[1] if last else x.shape[1] // self.unit * self.unit
        state.pending = x[:, whole:].clone()
        return self._advance(x[:, :whole], state, last)


class SeanetDecoder(_Seanet):
    """Latents to waveform.

    Args:
        config: sizes.
    """

    def __init__(self, config: SeanetConfig):
        habits = dict(causal=config.causal, padding=config.padding, norm=config.norm)
        width = config.filters * 2 ** len(config.ratios)
        row: list[nn.Module | None] = [SeanetConv(config.dimension, width, config.kernel, activate=False, **habits)]
        row += [SkipLstm(width, config.lstm)] if config.lstm else []
        for ratio in config.ratios:
            row += [None, SeanetConv(width, width // 2, 2, upsample=ratio, **habits)]
            width //= 2
            row += [SeanetBlock(width, config.dilation_growth**j, config) for j in range(config.residual_layers)]
        row += [None, SeanetConv(width, config.channels, config.last_kernel, **habits)]
        super().__init__(config, _numbered(row), 1, config.dimension)

    def forward(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, dimension] -> audio [batch, channels, frames * hop]; differentiable."""
        return self._whole(latents).transpose(1, 2)

    def step(self, latents: Tensor, state: SeanetState, last: bool = False) -> Tensor | list[Tensor]:
        """More latents [batch, n, dimension] -> audio [batch, channels, samples], or a list as in the encoder."""
        y = self._advance(latents, state, last)
        return y.mT if isinstance(y, Tensor) else [row.mT for row in y]


def _numbered(row: list[nn.Module | None]) -> dict[str, nn.Module]:
    """Gives each module its place as its name; None is an activation, which a convolution applies itself."""
    return {str(place): module for place, module in enumerate(row) if module is not None}


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
