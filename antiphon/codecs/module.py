"""What the families' classes have in common: what the config tells, and the checks of what comes in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def fewer(codebooks: int | None, there: int, fewest: int = 1) -> int:
    """How many codebooks to load where `codebooks` are asked for, all when None.

    Raises:
        ValueError: fewer than `fewest`, those that are always needed.
    """
    if codebooks is not None and codebooks < fewest:
        raise ValueError(f"{codebooks} codebooks can't be kept: {fewest} to {there}, or None for all")
    return there if codebooks is None else min(codebooks, there)


class CodecModule(nn.Module):
    """Base of the codecs.

    Args:
        config: has `sample_rate`, `samples_per_frame`, `codebooks`, `codebook_size`, and `channels` unless it is mono.
    """

    fewest = 1  # codebooks that are always there

    def __init__(self, config: Any):
        super().__init__()
        if config.codebooks < 1:
            raise ValueError(f"a codec has one codebook or more, not {config.codebooks}")
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

    @torch.no_grad()
    def codebook_vectors(self) -> list[Tensor]:
        """What each code of each codebook adds to the latent, [codebook_size, latent] a codebook."""
        source = getattr(self, "quantizer", self)
        parts = [source.semantic, source.acoustic] if hasattr(source, "semantic") else [source]
        books = [(book, book if hasattr(book, "outward") else part) for part in parts for book in part.codebooks]
        return [way.outward(book.codes) for book, way in books]

    def _checked(self, audio: Tensor, rows: Tensor | None = None) -> Tensor:
        """The audio, if it is [batch, channels, samples] of floating-point numbers, for a state of `rows` [batch]."""
        if audio.ndim != 3 or audio.shape[1] != self.channels:
            raise ValueError(f"audio must be [batch, {self.channels}, samples], got {list(audio.shape)}")
        if not audio.is_floating_point():
            raise ValueError(f"audio must be floating point in [-1, 1], got {audio.dtype}: divide 16 bits by 32768")
        return _of_rows(audio, rows)

    def _checked_codes(self, codes: Tensor, rows: Tensor | None = None, first: int = 0, least: int = 0) -> Tensor:
        """The codes, if they are [batch, 1 to codebooks, frames], of codebook `first` and those behind it, and not
        below `least`; for a state of `rows` [batch]. On a GPU, a look at them would take longer than a step."""
        most = self.codebooks - first
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= most:
            raise ValueError(f"codes must be [batch, 1 to {most} codebooks, frames], got {list(codes.shape)}")
        if codes.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"codes must be int64, got {codes.dtype}")
        if codes.device.type == "cpu" and codes.numel():
            lowest, highest = (int(bound) for bound in torch.aminmax(codes))
            if lowest < least or highest >= self.codebook_size:
                raise ValueError(f"codes must be 0 to {self.codebook_size - 1}, got {lowest} to {highest}")
        return _of_rows(codes, rows)

    def _levels(self, codebooks: int | None) -> int:
        """How many codebooks are asked for; all when None."""
        levels = self.codebooks if codebooks is None else codebooks
        if not self.fewest <= levels <= self.codebooks:
            raise ValueError(f"{levels} codebooks were asked for; there are {self.fewest} to {self.codebooks}")
        return levels


def _of_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    if rows is not None and len(rows) != len(x):
        raise ValueError(f"a step of {len(x)} streams can't go on from a state of {len(rows)}: join or select states")
    return x
