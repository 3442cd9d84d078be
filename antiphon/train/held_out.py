"""What a task keeps apart from training, so that samples and measures are of what the model never saw."""

from __future__ import annotations

import sys


def held_back(asked: int, there: int) -> int:
    """How many items to keep apart: as many as asked for, but at most half of them, so that a small set trains, too."""
    return max(0, min(asked, there // 2))


def nothing_to_sample(step: int, what: str, how: str) -> None:
    """Says why there is no sample at a step.

    Args:
        step: of the training.
        what: there is none of, such as "utterance".
        how: what to do about it.
    """
    print(f"step {step}: nothing to sample, as no {what} is held out: {how}", file=sys.stderr, flush=True)
