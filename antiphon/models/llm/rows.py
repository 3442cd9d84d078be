"""Rows of unequal length: all but attention is computed of the tokens that are read, end to end, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys and values to what attention gives


def own_tokens(counts: Tensor | None, steps: int) -> Tensor | None:
    """Which of `[B, steps]` tokens are read, the first `counts` of each row; None where all are."""
    if counts is None or steps == 1 or not int(counts.max()) or bool((counts == steps).all()):
        return None
    return torch.arange(steps, device=counts.device) < counts[:, None]


def in_rows(x: Tensor, own: Tensor) -> Tensor:
    """Tokens end to end, `[1, tokens, width]`, in the places that are theirs: `[B, steps, width]`, elsewhere 0."""
    return x.new_zeros(*own.shape, x.shape[-1]).index_put((own,), x[0])


def attend_own(q: Tensor, k: Tensor, v: Tensor, attend: Attend, own: Tensor) -> Tensor:
    """Attention of tokens that lie end to end, row by row."""
    return attend(*(in_rows(part, own) for part in (q, k, v)))[own][None]


def attend_each(q: Tensor, k: Tensor, v: Tensor, attends: Sequence[Attend], counts: list[int]) -> Tensor:
    """Attention of conversations whose tokens lie end to end, `counts` of each, each by its own."""
    parts = zip(*(part.split(counts, dim=1) for part in (q, k, v)))
    return torch.cat([attend(*own) for attend, own in zip(attends, parts)], dim=1)
