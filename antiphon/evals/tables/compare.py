"""Whether two models that were asked the same differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from antiphon.evals.tables.items import RESAMPLES, Item


@dataclass(frozen=True)
class Difference:
    """Between two models' scores of the same questions.

    Attributes:
        n: questions that both were asked.
        first, second: percent of each.
        p: how likely so large a difference is where there is none.
        test: by which that was found.
    """

    n: int
    first: float
    second: float
    p: float
    test: str


def difference(first: Sequence[Item], second: Sequence[Item], seed: int = 0) -> Difference | None:
    """Compares the items that have the same question: McNemar's exact test where each is right or wrong (McNemar
    1947), a paired bootstrap (Efron 1979) where scores lie between. None where they share no question."""
    others = {(item.id, item.target): item for item in second}
    pairs = [(item.score, others[key].score) for item in first if (key := (item.id, item.target)) in others]
    if not pairs:
        return None
    ours, theirs = (np.array(scores, float) for scores in zip(*pairs))
    shares = 100 * float(ours.mean()), 100 * float(theirs.mean())
    if set(np.unique([ours, theirs])) <= {0.0, 1.0}:
        return Difference(
            len(pairs), *shares, mcnemar(int((ours > theirs).sum()), int((ours < theirs).sum())), "McNemar"
        )
    gaps = ours - theirs
    drawn = np.random.default_rng(seed).choice(gaps - gaps.mean(), (RESAMPLES, len(gaps))).mean(1)
    p = (1 + int((abs(drawn) >= abs(gaps.mean())).sum())) / (1 + RESAMPLES)
    return Difference(len(pairs), *shares, p, "paired bootstrap")


def mcnemar(one: int, other: int) -> float:
    """How likely it is that of so many questions on which two differ the shares are as uneven, by chance alone.

    Args:
        one, other: questions that only the first, only the second has right.
    """
    count, least = one + other, min(one, other)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(least + 1)) / 2**count)
