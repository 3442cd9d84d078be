"""A duplex model talks with users who were recorded: they say what they say, whatever it answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.models.moshi.config import MoshiSampling
from antiphon.models.moshi.model import Moshi


def talk(model: Moshi, user: Tensor, sampling: MoshiSampling, seed: int | Sequence[int] = 0) -> Tensor:
    """Lets a model hear users for as long as they have codes.

    Args:
        model: talks, all rows in one batch.
        user: [batch, user codebooks, frames], -1 where nothing is known.
        sampling: how it chooses.
        seed: of the chance; see `Moshi.init_state`.

    Returns:
        Text and own codes [batch, 1 + codebooks, frames].
    """
    lag, frames = model.config.lag, user.shape[-1]
    state, unknown = model.init_state(len(user), seed=seed), torch.full_like(user[:, :, 0], -1)
    made = [
        model.step(user[:, :, t - 1] if 0 < t <= frames else unknown, state, sampling) for t in range(frames + lag)
    ]  # the user's frame t - 1 is known at step t, and frame t - lag comes out
    return torch.stack(made[lag:], dim=-1)
