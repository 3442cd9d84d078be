"""Discriminators that tell made sound from real.

Each returns verdicts and hidden features, for the losses in `antiphon.train.codec.losses`. `PeriodDiscriminator` folds
the waveform by several periods, and hears pitch and phase (Kong et al. 2020, section 2.3); `StftDiscriminator` looks at
complex spectrograms at several resolutions, with one tower for each band of frequencies where bands are given (Kumar et
al. 2023, section 3.3) and one for all of them where not (Defossez et al. 2022, section 3.4; Mimi's). `Discriminators`
runs several of them as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from antiphon.errors import ModelError

Judged = tuple[list[Tensor], list[list[Tensor]]]
"""A verdict map for each tower, and the hidden features [batch, channels, ...] of each tower's layers."""


def _tower(layers: Sequence[nn.Module], head: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(weight_norm(layer) for layer in (*layers, head))


def _run(tower: nn.ModuleList, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The verdict and the hidden features of one tower."""
    hidden = []
    for layer in tower[:-1]:
        x = F.leaky_relu(layer(x), 0.1)
        hidden.append(x)
    return tower[-1](x), hidden


class PeriodDiscriminator(nn.Module):
    """Multi-period discriminator (Kong et al. 2020, section 2.3; the sizes are DAC's).

    Args:
        periods: samples a row; primes, so that towers see different things.
        channels: of the convolutions; HiFi-GAN's and DAC's are 32, 128, 512, 1024, 1024.
        kernel, stride: along time, in rows; the last layer has stride 1.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        channels: Sequence[int] = (32, 128, 512, 1024, 1024),
        kernel: int = 5,
        stride: int = 3,
    ):
        super().__init__()
        self.periods = tuple(periods)
        self.towers = nn.ModuleList()
        for _ in periods:
            layers, wide = [], 1
            for index, width in enumerate(channels):
                step = stride if index + 1 < len(channels) else 1
                layers.append(nn.Conv2d(wide, width, (kernel, 1), (step, 1), padding=(kernel // 2, 0)))
                wide = width
            self.towers.append(_tower(layers, nn.Conv2d(wide, 1, (3, 1), padding=(1, 0))))

    def forward(self, audio: Tensor) -> Judged:
        """audio [batch, samples] -> verdicts [batch, 1, rows, period] and features, a tower a period."""
        if audio.shape[-1] < max(self.periods):
            raise ModelError(f"{audio.shape[-1]} samples are less than a period of {max(self.periods)}")
        verdicts, features = [], []
        for period, tower in zip(self.periods, self.towers):
            # The mirrored end is HiFi-GAN's: zeros would be an edge to judge by.
            whole = F.pad(audio[:, None], (0, -audio.shape[-1] % period), mode="reflect")
            verdict, hidden = _run(tower, whole.unflatten(-1, (-1, period)))
            verdicts.append(verdict)
            features.append(hidden)
        return verdicts, features


class StftDiscriminator(nn.Module):
    """Complex spectrograms at several resolutions.

    Args:
        windows: in samples; hops are a quarter of them. EnCodec and Mimi: 128 to 2048; DAC: 512, 1024, 2048.
        channels: of the convolutions; 32 in all three.
        bands: edges of frequency bands as shares of the Nyquist frequency, e.g. DAC's (0, 0.1, 0.25, 0.5, 0.75, 1);
            each has its own tower. Empty: one tower for the whole spectrum, with kernels dilated along time (1, 2, 4).
        compress: magnitudes are raised to this power, or loud bins drown the others; 1 leaves them as they are.
    """

    def __init__(
        self,
        windows: Sequence[int] = (128, 256, 512, 1024, 2048),
        channels: int = 32,
        bands: Sequence[float] = (),
        compress: float = 1.0,
    ):
        super().__init__()
        edges = tuple(bands)
        if edges and (edges[0] != 0 or edges[-1] != 1 or list(edges) != sorted(set(edges))):
            raise ModelError(f"bands are {list(edges)}; they must rise from 0 to 1")
        self.windows, self.compress = tuple(windows), compress
        self.slices: list[list[tuple[int, int]]] = []
        self.towers = nn.ModuleList()
        for window in windows:
            bins = window // 2 + 1
            cuts = [round(edge * bins) for edge in edges] or [0, bins]
            self.slices.append(list(zip(cuts, cuts[1:])))
            if min(high - low for low, high in self.slices[-1]) < 1:
                raise ModelError(f"window {window} has too few bins for bands {list(edges)}")
            self.towers.extend(self._layers(channels, bool(edges)) for _ in self.slices[-1])
            self.register_buffer(f"shape_{window}", torch.hann_window(window), persistent=False)

    @staticmethod
    def _layers(channels: int, banded: bool) -> nn.ModuleList:
        c = channels
        layers = [nn.Conv2d(2, c, (3, 9), (1, 1), padding=(1, 4))]
        for dilation in (1, 1, 1) if banded else (1, 2, 4):
            layers.append(nn.Conv2d(c, c, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1)))
        layers.append(nn.Conv2d(c, c, 3, padding=1))
        return _tower(layers, nn.Conv2d(c, 1, 3, padding=1))

    def spectrum(self, audio: Tensor, window: int) -> Tensor:
        """audio [batch, samples] -> real and imaginary parts [batch, 2, frames, window // 2 + 1]."""
        frames = audio.float().unfold(-1, window, window // 4) * getattr(self, f"shape_{window}")
        x = torch.view_as_real(torch.fft.rfft(frames, norm="ortho")).permute(0, 3, 1, 2)
        if self.compress != 1.0:
            x = x * x.square().sum(1, keepdim=True).clamp_min(1e-8).pow((self.compress - 1) / 2)
        return x

    def forward(self, audio: Tensor) -> Judged:
        """audio [batch, samples] -> verdicts [batch, 1, frames, bins] and features, a tower a resolution and band."""
        if audio.shape[-1] < max(self.windows):
            raise ModelError(f"{audio.shape[-1]} samples are less than a window of {max(self.windows)}")
        verdicts, features, towers = [], [], iter(self.towers)
        for window, slices in zip(self.windows, self.slices):
            with torch.autocast(audio.device.type, enabled=False):
                x = self.spectrum(audio, window)
            for low, high in slices:
                verdict, hidden = _run(next(towers), x[..., low:high])
                verdicts.append(verdict)
                features.append(hidden)
        return verdicts, features


class Discriminators(nn.Module):
    """Several discriminators as one.

    Args:
        period: arguments of `PeriodDiscriminator`, None for none.
        stft: arguments of `StftDiscriminator`, None for none.
    """

    def __init__(self, period: dict[str, object] | None = None, stft: dict[str, object] | None = None):
        super().__init__()
        if period is None and stft is None:
            raise ModelError("no discriminator is asked for: give `period`, `stft` or both")
        parts = []
        try:
            if period is not None:
                parts.append(PeriodDiscriminator(**period))
            if stft is not None:
                parts.append(StftDiscriminator(**stft))
        except TypeError as error:
            raise ModelError(f"{error}; antiphon/train/codec/discriminators.py says what there is") from None
        self.parts = nn.ModuleList(parts)

    def forward(self, audio: Tensor) -> Judged:
        """audio [batch, channels, samples] or [batch, samples] -> what all of them say; channels are judged apart."""
        audio = audio.flatten(0, 1) if audio.ndim == 3 else audio
        verdicts, features = [], []
        for part in self.parts:
            v, f = part(audio)
            verdicts += v
            features += f
        return verdicts, features
