"""Several examples in one row, end to end, so that little is padding; a model must not let them see each other.

rows = pack(examples, 1024)                 # each a row of at most 1024 tokens that knows its segments
tokens, weights, segments = stack(rows)     # [rows, longest], padded
hidden = llama(llama.embed(tokens), segments=segments)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from antiphon.data.formats.example import Example
from antiphon.errors import DataError


def fill(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Which items lie together in rows of `size`: the longest first, each into the fullest row that has room.

    Args:
        lengths: of the items.
        size: of a row.

    Returns:
        Indices of the items of each row, as few rows as this finds.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        fits = [(free, row) for row, free in enumerate(room) if free >= lengths[item]]
        if fits:
            row = min(fits)[1]
            rows[row].append(item)
            room[row] -= lengths[item]
        else:
            rows.append([item])
            room.append(size - lengths[item])
    return rows


def pack(examples: Sequence[Example], size: int) -> list[Example]:
    """Lays examples into as few rows as it can.

    The first token of each has no weight afterwards: it can't be predicted from another example.

    Args:
        examples: of tokens [length] each, or all of grids [streams, length].
        size: the longest row, in tokens.

    Raises:
        DataError: an example that is longer than a row.
    """
    lengths = [len(example) for example in examples]
    if (longest := max(lengths, default=0)) > size:
        raise DataError(
            f"an example of {longest} tokens doesn't fit into rows of {size}: pack to more tokens, or cut the examples"
        )
    rows = []
    for items in fill(lengths, size):
        chosen = [examples[item] for item in items]
        weights = np.concatenate([example.weights for example in chosen])
        starts = np.cumsum([0, *(len(example) for example in chosen[:-1])])
        weights[starts] = 0.0
        numbers = np.repeat(np.arange(1, len(chosen) + 1), [len(example) for example in chosen])
        rows.append(Example(np.concatenate([example.tokens for example in chosen], -1), weights, numbers))
    return rows


def stack(rows: Sequence[Example], padding: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as a batch, padded on the right.

    Args:
        rows: examples, packed or not.
        padding: the token there; it has no weight, and is of segment 0.

    Returns:
        Tokens int64 [batch, length] (or [batch, streams, length]), weights float32 and segments int64 [batch, length].
    """
    longest = max(len(row) for row in rows)
    tokens = torch.full((len(rows), *rows[0].tokens.shape[:-1], longest), padding, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    segments = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        tokens[number, ..., : len(row)] = torch.from_numpy(row.tokens)
        weights[number, : len(row)] = torch.from_numpy(row.weights)
        segments[number, : len(row)] = 1 if row.segments is None else torch.from_numpy(row.segments)
    return tokens, weights, segments
