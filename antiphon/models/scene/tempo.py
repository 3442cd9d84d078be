"""The tempo of music: where notes begin, how that repeats itself, and which beat one would tap to it.

A small convolution over the spectrogram learns curves of onsets. How they repeat is not learnt: their autocorrelation
over the last seconds is read, for each tempo that is asked about, at the beat's period and at fractions and multiples
of it. Seen over the logarithm of the tempo that is a picture in which a faster piece is the same one moved aside, so a
few convolutions over it tell the beat from its double and its half, at any tempo (after Grosche and Mueller 2011 and
Schreiber and Mueller 2018). Only which of the two people would tap depends on the tempo itself: a learnt bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.models.scene.labels import MAX_TEMPO, MIN_TEMPO
from antiphon.nn.conv import CausalConv1d, ConvState

RATE = 100  # of the spectrogram, frames/s
MULTIPLES = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0, 3 / 2, 2.0, 3.0, 4.0)  # of a beat's period that are looked at


@dataclass(frozen=True)
class TempoConfig:
    """Sizes.

    Attributes:
        bands: of the spectrogram.
        width: channels of the convolutions.
        curves: of onsets.
        seconds: that are looked back.
        bins: tempi that are told apart, evenly spaced in the logarithm from 40 to 240 beats a minute.
    """

    bands: int = 80
    width: int = 32
    curves: int = 4
    seconds: float = 12.0
    bins: int = 128


@dataclass
class TempoState:
    """Where the onsets stand.

    Attributes:
        conv: of the first convolution.
        onsets: of the last seconds, [batch, curves, size], the latest last; zeros before the first.
        heard: how many of them there are, [batch].
    """

    conv: ConvState
    onsets: Tensor
    heard: Tensor


class TempoNet(nn.Module):
    """Log-mel [B, bands, T] at 100 frames/s -> how likely each tempo is.

    Args:
        config: sizes.
    """

    def __init__(self, config: TempoConfig) -> None:
        super().__init__()
        self.config = config
        self.size = int(config.seconds * RATE)
        self.conv = CausalConv1d(config.bands, config.width, 9)
        self.out = nn.Conv1d(config.width, config.curves, 1)
        self.find = nn.Sequential(
            nn.Conv1d(config.curves * len(MULTIPLES), config.width, 7, padding=3),
            nn.GELU(),
            nn.Conv1d(config.width, config.width, 7, padding=3),
            nn.GELU(),
            nn.Conv1d(config.width, 1, 1),
        )
        self.bias = nn.Parameter(torch.zeros(config.bins))

    @property
    def tempi(self) -> Tensor:
        """Beats a minute of each bin, [bins]."""
        return torch.exp(torch.linspace(math.log(MIN_TEMPO), math.log(MAX_TEMPO), self.config.bins))

    def onsets(self, mel: Tensor) -> Tensor:
        """[B, bands, T] -> [B, curves, T], of whole signals."""
        return self._curves(self.conv(mel))

    def init_state(self, batch: int = 1) -> TempoState:
        """The state before the first frame."""
        weight = self.bias
        onsets = weight.new_zeros(batch, self.config.curves, self.size)
        heard = torch.zeros(batch, dtype=torch.long, device=weight.device)
        return TempoState(self.conv.init_state(batch), onsets, heard)

    def step(self, mel: Tensor, state: TempoState) -> None:
        """Takes more of the spectrogram, [B, bands, any T]; changes the state."""
        if not mel.shape[2]:
            return
        together = torch.cat([state.onsets, self._curves(self.conv.step(mel, state.conv))], 2)
        state.onsets = together[:, :, -self.size :]
        state.heard = (state.heard + mel.shape[2]).clamp_max(self.size)

    def read(self, state: TempoState) -> Tensor:
        """Logits [B, bins] of the tempi in the seconds that the state holds."""
        return self.logits(state.onsets, state.heard)

    def forward(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        """Logits [B, bins] of the last seconds of whole signals of so many frames [B] each; None: all of them."""
        onsets = F.pad(self.onsets(mel), (self.size, 0))
        frames = torch.full((len(mel),), mel.shape[2], device=mel.device) if frames is None else frames
        places = frames[:, None] + torch.arange(self.size, device=mel.device)  # the last of a row's own at the end
        last = onsets.gather(2, places[:, None].expand(-1, self.config.curves, -1))
        return self.logits(last, frames.clamp_max(self.size))

    def logits(self, onsets: Tensor, heard: Tensor) -> Tensor:
        """[B, curves, size], of which the last `heard` [B] count -> [B, bins]."""
        repeats = autocorrelation(onsets.float(), heard)
        lags = 60 * RATE / self.tempi.to(onsets.device) * torch.tensor(MULTIPLES, device=onsets.device)[:, None]
        lags = lags.clamp_max(repeats.shape[2] - 2)
        below = lags.floor().long()
        part = lags - below
        picture = repeats[:, :, below] * (1 - part) + repeats[:, :, below + 1] * part  # [B, curves, multiples, bins]
        return self.find(picture.flatten(1, 2))[:, 0] + self.bias

    def tempo(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest tempo, between bins, and how likely it is (its bin's and its neighbours' share).

        Args:
            logits: [B, bins].

        Returns:
            [B] beats a minute, [B].
        """
        shares, width = logits.softmax(-1), 2
        best = F.avg_pool1d(shares[:, None], 2 * width + 1, 1, width)[:, 0].argmax(-1)
        near = (best[:, None] + torch.arange(-width, width + 1, device=logits.device)).clamp(0, shares.shape[1] - 1)
        weights = shares.gather(1, near)
        logs = self.tempi.to(logits.device).log()[near]
        return ((weights * logs).sum(1) / weights.sum(1)).exp(), weights.sum(1)

    def target(self, tempi: Tensor) -> Tensor:
        """Shares [B, bins] for tempi [B]: a bell of 2 % around each."""
        distance = (self.tempi.to(tempi.device).log() - tempi[:, None].log()) / 0.02
        return (-0.5 * distance.square()).softmax(-1)

    def _curves(self, x: Tensor) -> Tensor:
        return F.softplus(self.out(F.gelu(x)))


def autocorrelation(x: Tensor, heard: Tensor) -> Tensor:
    """How a signal repeats itself at each lag up to half its length, against its own power.

    Args:
        x: [B, curves, size], of which the last `heard` [B] count.

    Returns:
        [B, curves, size / 2], 1 at lag 0 where there is anything; 0 at lags that few of its frames can tell of.
    """
    size = x.shape[2]
    there = (torch.arange(size, device=x.device) >= size - heard[:, None]).to(x.dtype)[:, None]
    count = heard.clamp_min(1).to(x.dtype)[:, None, None]
    x = (x - (x * there).sum(2, keepdim=True) / count) * there
    spectrum = torch.fft.rfft(x, 2 * size)
    products = torch.fft.irfft(spectrum.abs().square(), 2 * size)[:, :, : size // 2]
    lags = torch.arange(size // 2, device=x.device)
    pairs = (count - lags).clamp_min(1)
    enough = (count - lags >= 0.25 * count).to(x.dtype)
    return products / (products[:, :, :1] + 1e-6) * count / pairs * enough
