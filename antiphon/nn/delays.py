"""Streams on one clock: each row of a grid [batch, streams, frames] may lag behind by its own delay."""

from __future__ import annotations

import torch
from torch import Tensor


def delay(grid: Tensor, delays: list[int], fill: int) -> Tensor:
    """Shifts stream k by delays[k] frames.

    Args:
        grid: [batch, streams, frames].
        delays: a number of frames, 0 or more, for each stream.
        fill: what stands where nothing is.

    Returns:
        [batch, streams, frames + max(delays)].
    """
    if len(delays) != grid.shape[1] or min(delays) < 0:
        raise ValueError(f"{grid.shape[1]} streams need as many delays of 0 or more, got {delays}")
    batch, streams, frames = grid.shape
    out = torch.full((batch, streams, frames + max(delays)), fill, dtype=grid.dtype, device=grid.device)
    for k, lag in enumerate(delays):
        out[:, k, lag : lag + frames] = grid[:, k]
    return out


def undelay(grid: Tensor, delays: list[int]) -> Tensor:
    """The inverse of `delay`: [batch, streams, frames + max(delays)] -> [batch, streams, frames]."""
    frames = grid.shape[-1] - max(delays)
    return torch.stack([grid[:, k, lag : lag + frames] for k, lag in enumerate(delays)], dim=1)
