"""Flow matching (Lipman et al. 2023): a network learns the straight way from noise to data, at any time on it.

x, velocity = between(noise, data, time)
loss = velocity_loss(network(x, time), velocity, mask)
"""

from __future__ import annotations

from torch import Tensor


def between(noise: Tensor, data: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Where the straight way from noise (time 0) to data (time 1) is, and how fast it goes there.

    Args:
        noise, data: [batch, ...].
        time: [batch].
    """
    time = time.view(-1, *[1] * (data.ndim - 1))
    return (1 - time) * noise + time * data, data - noise


def velocity_loss(found: Tensor, velocity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of velocities [batch, frames, width], of the frames in `mask` [batch, frames] alone."""
    error = (found - velocity).square().mean(-1)
    return error.mean() if mask is None else (error * mask).sum() / mask.sum().clamp_min(1)
