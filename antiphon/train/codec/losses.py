"""Distances between waveforms by their spectra, and the losses of the adversarial game."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import mel_filters


class MultiScaleMel(nn.Module):
    """L1 between log-mel spectrograms at several resolutions (as in Kumar et al. 2023, section 3.4).

    Args:
        sample_rate: Hz.
        windows: in samples; hops are a quarter of them.
        mels: bins at each resolution; 0 leaves the frequencies as they are. Mel bins are wide where harmonics are many,
            and don't hear whether a voice or noise fills them.
    """

    def __init__(
        self, sample_rate: int, windows: tuple[int, ...] = (512, 1024, 2048), mels: tuple[int, ...] = (40, 80, 120)
    ):
        super().__init__()
        self.windows = windows
        for window, bins in zip(windows, mels):
            bank = mel_filters(bins, window, sample_rate).T if bins else None
            self.register_buffer(f"bank_{window}", bank, persistent=False)
            self.register_buffer(f"shape_{window}", torch.hann_window(window), persistent=False)

    def spectra(self, audio: Tensor) -> list[Tensor]:
        """audio [batch, samples] -> log-mels [batch, frames, bins], one a resolution."""
        result = []
        for window in self.windows:
            shape, bank = getattr(self, f"shape_{window}"), getattr(self, f"bank_{window}")
            frames = F.pad(audio, (window // 2, window // 2)).unfold(-1, window, window // 4) * shape
            spectrum = torch.fft.rfft(frames).abs()
            result.append(torch.log((spectrum @ bank if bank is not None else spectrum).clamp_min(1e-5)))
        return result

    def forward(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Two distances, both [batch, samples], averaged over the resolutions.

        Returns:
            the mean absolute difference in natural-log units, which hears quiet and loud alike, and the spectral
            convergence (Arik et al. 2018): the difference of amplitudes as a share of the target's, which hears the
            loud that carries the words.
        """
        with torch.autocast(made.device.type, enabled=False):
            pairs = list(zip(self.spectra(made.float()), self.spectra(target.float())))
            distance = sum((a - b).abs().mean() for a, b in pairs) / len(pairs)
            amplitudes = [(a.exp(), b.exp()) for a, b in pairs]
            convergence = sum((a - b).norm() / b.norm().clamp_min(1e-3) for a, b in amplitudes) / len(pairs)
        return distance, convergence


def adversarial_losses(
    fake: tuple[list[Tensor], list[list[Tensor]]], real: tuple[list[Tensor], list[list[Tensor]]]
) -> dict[str, Tensor]:
    """The maker's hinge and feature-matching losses from the discriminator's outputs on made and real audio."""
    hinge = sum(F.relu(1 - verdict).mean() for verdict in fake[0]) / len(fake[0])
    matching = [
        (f - r.detach()).abs().mean() / r.detach().abs().mean().clamp_min(1e-5)
        for fake_layers, real_layers in zip(fake[1], real[1])
        for f, r in zip(fake_layers, real_layers)
    ]
    return {"adversarial": hinge, "matching": sum(matching) / len(matching)}


def discriminator_loss(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Hinge loss: made audio below -1, real audio above 1."""
    return sum((F.relu(1 + f).mean() + F.relu(1 - r).mean()) for f, r in zip(fake, real)) / len(fake)
