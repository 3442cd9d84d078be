"""One training example of a language model: tokens, and how much each one's prediction counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Example:
    """A sequence that knows its loss.

    Attributes:
        tokens: ids [length], or a grid [streams, length] of several streams on one clock.
        weights: float32 [length]: what the loss of predicting the token at this position from those before it counts;
            0 where it isn't learnt. A weight stands at its own token's position; the shift by one is the objective's.
        segments: int64 [length], 1, 2, ... by example where several are packed end to end and must not see each other,
            0 for padding; None where there is one.
    """

    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]
    segments: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        length = self.tokens.shape[-1]
        if self.weights.shape != (length,) or (self.segments is not None and self.segments.shape != (length,)):
            raise ValueError(f"{length} tokens need as many weights and segments, got {self.weights.shape}")

    def __len__(self) -> int:
        return self.tokens.shape[-1]

    @classmethod
    def of(cls, *parts: tuple[Sequence[int], float]) -> Example:
        """Parts end to end, each (its tokens, the weight of every one of them)."""
        tokens = np.concatenate([np.asarray(ids, np.int64) for ids, _ in parts])
        weights = np.concatenate([np.full(len(ids), weight, np.float32) for ids, weight in parts])
        return cls(tokens, weights)
