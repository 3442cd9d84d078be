"""What the families' classes have in common: what the config tells, and the checks of what comes in."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class CodecModule(nn.Module):
    """Base of the codecs.

    Args:
        config: has `sample_rate`, `samples_per_frame`, `codebooks`, `codebook_size`, and `channels` unless it is mono.
    """

    fewest = 1  # codebooks that are always there

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        return getattr(self.config, "channels", 1)

    @property
    def frame_rate(self) -> float:
        return self.config.sample_rate / self.config.samples_per_frame

    @property
    def codebooks(self) -> int:
        return self.config.codebooks

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def _checked(self, audio: Tensor) -> Tensor:
        """The audio, if it is [batch, channels, samples]."""
        if audio.ndim != 3 or audio.shape[1] != self.channels:
            raise ValueError(f"audio must be [batch, {self.channels}, samples], got {list(audio.shape)}")
        return audio

    def _levels(self, codebooks: int | None) -> int:
        """How many codebooks are asked for; all when None."""
        levels = self.codebooks if codebooks is None else codebooks
        if not self.fewest <= levels <= self.codebooks:
            raise ValueError(f"{levels} codebooks were asked for; there are {self.fewest} to {self.codebooks}")
        return levels
