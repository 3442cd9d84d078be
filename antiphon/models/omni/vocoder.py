"""BigVGAN (Lee et al. 2023) as Qwen2.5-Omni has it: spectrogram to sound, whole or as it comes.

Its convolutions see both ways. Fed in pieces, each layer keeps the inputs that its next outputs need and gives those
that no later input can change, so that nothing is computed twice and the pieces give what the whole gives; a sample
comes as soon as everything that it depends on is there. Names of weights are the published ones.

    sound = vocoder(mel)                               # [batch, mel, frames] -> [batch, frames * hop]
    state = vocoder.init_state()
    sound = vocoder.step(mel, state)                   # as much as is certain; `last=True` for the rest
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import mel_filters
from antiphon.models.omni.config import VocoderConfig

State = dict[str, Tensor]
"""What each layer keeps, by its name; a layer that isn't there has seen nothing."""
TAPS, RATIO = 12, 2
MIN_DB, HEADROOM_DB = -115.0, 20.0


def kaiser_sinc(cutoff: float, half_width: float, taps: int) -> Tensor:
    """A low-pass filter [taps], an even number, that sums to one; cutoff and transition as shares of the sample
    rate."""
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    beta = 0.0
    if attenuation > 50.0:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21.0:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21.0)
    time = torch.arange(-(taps // 2), taps // 2) + 0.5
    shape = 2 * cutoff * torch.kaiser_window(taps, periodic=False, beta=beta) * torch.sinc(2 * cutoff * time)
    return shape / shape.sum()


def spectrogram(audio: Tensor, config: VocoderConfig, sample_rate: int) -> Tensor:
    """What a vocoder is taught to sound like: log-mel of amplitudes, as BigVGAN's own (section 3 there).

    Args:
        audio: [batch, samples], whole frames of `config.hop`.
        config: of the vocoder.
        sample_rate: Hz.

    Returns:
        [batch, mel, samples / hop], natural logarithm.
    """
    window = 1 << (4 * config.hop - 1).bit_length()
    padding = window - config.hop
    padded = F.pad(audio[:, None], (padding // 2, padding - padding // 2), mode="reflect")[:, 0]
    frames = padded.unfold(1, window, config.hop) * torch.hann_window(window, device=audio.device)
    bank = mel_filters(config.mel_dim, window, sample_rate).to(audio.device)
    return torch.log((bank @ torch.fft.rfft(frames).abs().transpose(1, 2)).clamp_min(1e-5))


def nothing(x: Tensor, side: int) -> Tensor:
    """Zeros around a signal."""
    return x.new_zeros(x.shape[0], x.shape[1], 1)


def nearest(x: Tensor, side: int) -> Tensor:
    """A signal's first value (side 0) before it, its last one (side -1) behind it."""
    return x[..., :1] if side == 0 else x[..., -1:]


@lru_cache(maxsize=1)
def low_pass() -> list[float]:
    """The filter between a rate and twice that rate."""
    with torch.device("cpu"):
        return kaiser_sinc(0.5 / RATIO, 0.6 / RATIO, TAPS).tolist()


class Sliding(nn.Module):
    """What layers share that read a window around each output.

    Attributes:
        name: under which the state has what is kept.
        reach: inputs from a window's first to its last, an even number.
    """

    name = ""
    reach = 0

    def windows(self, x: Tensor, state: State, last: bool, edge: Callable[[Tensor, int], Tensor] = nothing) -> Tensor:
        """The next inputs [batch, channels, n] behind those that were kept: all that there are windows of, so of n or
        more than `reach` inputs n - reach outputs follow; what the next windows need is kept.

        Args:
            x, state: the state is changed.
            last: nothing follows.
            edge: what stands before and behind the whole signal, half a window of it.
        """
        half = self.reach // 2
        if self.name in state:
            x = torch.cat([state[self.name], x], dim=2)
        elif x.shape[2]:
            x = torch.cat([edge(x, 0).expand(-1, -1, half), x], dim=2)
        else:
            return x  # nothing has begun
        if last:
            x = torch.cat([x, edge(x, -1).expand(-1, -1, half)], dim=2)
        done = max(0, x.shape[2] - self.reach)
        state[self.name] = x[..., done:].clone()  # a view would keep all of x
        return x if done else x[..., :0]


class Convolution(Sliding):
    """`nn.Conv1d` that keeps the length, whose weights lie in it under their published names."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True):
        super().__init__()
        made = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, bias=bias)
        self.weight, self.bias = made.weight, made.bias
        self.dilation, self.reach = dilation, (kernel - 1) * dilation

    def forward(self, x: Tensor, state: State, last: bool) -> Tensor:
        """Outputs that are certain, [batch, outputs, n]."""
        x = self.windows(x, state, last)
        if not x.shape[2]:
            return x.new_zeros(len(x), len(self.weight), 0)
        return F.conv1d(x, self.weight, self.bias, dilation=self.dilation)


class Upsampling(nn.Module):
    """`nn.ConvTranspose1d` that gives `rate` outputs for an input."""

    name = ""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: int):
        super().__init__()
        made = nn.ConvTranspose1d(inputs, outputs, kernel, rate)
        self.weight, self.bias, self.rate, self.kernel = made.weight, made.bias, rate, kernel
        self.padding = (kernel - rate) // 2

    def forward(self, x: Tensor, state: State, last: bool) -> Tensor:
        """What is kept is the sum so far where outputs of inputs to come still add to it."""
        carried = self.kernel - self.rate
        if not x.shape[2] and self.name not in state:
            return x.new_zeros(len(x), self.weight.shape[1], 0)
        y = F.conv_transpose1d(x, self.weight, stride=self.rate) if x.shape[2] else x.new_zeros(
            len(x), self.weight.shape[1], carried
        )  # fmt: skip
        skipped = 0
        if self.name in state:
            held = state[self.name]
            y = torch.cat([y[..., :carried] + held[..., :carried], y[..., carried:]], dim=2)
        else:
            skipped = min(self.padding, y.shape[2])
        whole = y.shape[2] - carried
        if not last:
            state[self.name] = y[..., whole:].clone()
            return y[..., skipped:whole] + self.bias[:, None]
        return y[..., skipped : y.shape[2] - self.padding] + self.bias[:, None]


class Window(Sliding):
    """A window of three inputs before an output's own and three behind it."""

    reach = TAPS // 2


class Activation(nn.Module):
    """x + sin(a x)^2 / b, computed at twice the rate so that the harmonics that it makes don't fold back.

    At twice the rate even and odd values are two signals: each is a filter of six taps over the input, and the output
    is one over each of them. A few taps are quickest as so many shifted sums.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.act = nn.ParameterDict({"alpha": torch.zeros(channels), "beta": torch.zeros(channels)})
        self.up, self.down = Window(), Window()

    def forward(self, x: Tensor, state: State, last: bool) -> Tensor:
        """[batch, channels, n] -> outputs that are certain."""
        taps = low_pass()
        x = self.up.windows(x, state, last, nearest)
        if x.shape[2]:
            # Value 2t sees inputs t - 3 to t + 2, and 2t + 1 sees t - 2 to t + 3.
            early, late = ([RATIO * tap for tap in taps[first::-2]] for first in (-1, -2))
            both = filtered(x[..., :-1], early), filtered(x[..., 1:], late)
            x = torch.cat([self._periodic(each) for each in both], dim=1)
        else:
            x = x.repeat(1, 2, 1)
        x = self.down.windows(x, state, last, self._edge)
        even, odd = x.chunk(2, dim=1)
        if not x.shape[2]:
            return even
        # Output t sees values 2t - 5 to 2t + 6: even ones from 2 (t - 2) on, odd ones from 2 (t - 3) + 1 on.
        return filtered(even[..., 1:], taps[1::2]) + filtered(odd[..., :-1], taps[0::2])

    def _periodic(self, x: Tensor) -> Tensor:
        alpha, beta = self.act["alpha"].exp()[:, None], self.act["beta"].exp()[:, None]
        return torch.addcmul(x, torch.sin(x * alpha).square(), 1.0 / (beta + 1e-9))

    @staticmethod
    def _edge(x: Tensor, side: int) -> Tensor:
        """The first value is an even one, the last an odd one."""
        even, odd = x.chunk(2, dim=1)
        return (even[..., :1] if side == 0 else odd[..., -1:]).repeat(1, 2, 1)


def filtered(x: Tensor, taps: list[float]) -> Tensor:
    """The sums of as many neighbours as there are taps, weighted by them: [..., n] -> [..., n - taps + 1]."""
    size = x.shape[-1] - len(taps) + 1
    y = x[..., :size] * taps[0]
    for shift, tap in enumerate(taps[1:], 1):
        y.add_(x[..., shift : shift + size], alpha=tap)
    return y


class Sum(nn.Module):
    """Adds signals of which more is there of one than of another."""

    name = ""

    def forward(self, *parts: Tensor, state: State) -> Tensor:
        """As much of the sum [batch, channels, n] as all of them have."""
        names = [f"{self.name}.{number}" for number in range(len(parts))]
        held = [torch.cat([state[key], part], 2) if key in state else part for key, part in zip(names, parts)]
        ready = min(part.shape[2] for part in held)
        for key, part in zip(names, held):
            state[key] = part[..., ready:].clone()
        total = held[0][..., :ready]
        for part in held[1:]:
            total = total + part[..., :ready]
        return total


class ResidualBlock(nn.Module):
    """Dilated convolutions between activations."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(Convolution(channels, channels, kernel, each) for each in dilations)
        self.convs2 = nn.ModuleList(Convolution(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(Activation(channels) for _ in range(2 * len(dilations)))
        self.sums = nn.ModuleList(Sum() for _ in dilations)

    def forward(self, x: Tensor, state: State, last: bool) -> Tensor:
        for number, (first, second, total) in enumerate(zip(self.convs1, self.convs2, self.sums)):
            y = first(self.activations[2 * number](x, state, last), state, last)
            y = second(self.activations[2 * number + 1](y, state, last), state, last)
            x = total(x, y, state=state)
        return x


class BigVGAN(nn.Module):
    """See the module."""

    def __init__(self, config: VocoderConfig):
        super().__init__()
        self.config, channels = config, config.upsample_initial_channel
        self.conv_pre = Convolution(config.mel_dim, channels, 7)
        kinds = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes):
            self.ups.append(nn.ModuleList([Upsampling(channels, channels // 2, kernel, rate)]))
            channels //= 2
            self.resblocks.extend(ResidualBlock(channels, size, dilations) for size, dilations in kinds)
        self.sums = nn.ModuleList(Sum() for _ in self.ups)
        self.activation_post = Activation(channels)
        self.conv_post = Convolution(channels, 1, 7, bias=False)
        for name, module in self.named_modules():
            if hasattr(module, "name"):
                module.name = name

    @property
    def lead(self) -> int:
        """How many frames behind one must be there, at most, before the first of its samples is certain."""
        config, activation = self.config, TAPS // 2
        samples = 3 + activation
        for rate, kernel in zip(config.upsample_rates[::-1], config.upsample_kernel_sizes[::-1]):
            kinds = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes)
            samples += max(
                sum((size - 1) // 2 * (each + 1) + 2 * activation for each in dilations) for size, dilations in kinds
            )
            samples = -(-(samples + (kernel - rate) // 2) // rate)
        return samples + 3

    def init_state(self) -> State:
        """The state before the first frame."""
        return {}

    def step(self, mel: Tensor, state: State, last: bool = False) -> Tensor:
        """The sound that is certain: log-mel [batch, mel, frames] (natural logarithm of amplitudes) -> [batch, n]
        between -1 and 1. The state is changed."""
        decibels = 20 * torch.log10(mel.exp().clamp_min(10 ** (MIN_DB / 20))) - HEADROOM_DB
        x = (2 * (decibels - MIN_DB) / -MIN_DB - 1).clamp(-1, 1)
        x = self.conv_pre(x, state, last)
        kinds = len(self.config.resblock_kernel_sizes)
        for number, (up, total) in enumerate(zip(self.ups, self.sums)):
            x = up[0](x, state, last)
            blocks = self.resblocks[number * kinds : (number + 1) * kinds]
            x = total(*(block(x, state, last) for block in blocks), state=state) / kinds
        x = self.conv_post(self.activation_post(x, state, last), state, last)
        return x.clamp(-1, 1)[:, 0]

    def forward(self, mel: Tensor) -> Tensor:
        """The sound of whole spectrograms [batch, mel, frames], [batch, frames * hop]."""
        return self.step(mel, {}, last=True)
