"""Looks at every step before it is taken: a loss that jumps, or a gradient that is no number, isn't learnt from."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

from antiphon.train.config import GuardConfig

ENOUGH = 20  # losses from which a jump is told


class Guard:
    """The last losses of each optimizer group, and what is out of place among them.

    Args:
        config: when to speak up.
    """

    def __init__(self, config: GuardConfig):
        self.config = config
        self.seen: dict[str, deque[float]] = {}

    def wrong(self, group: str, loss: float, norm: float) -> str:
        """What is wrong with a step; "" if nothing is, and then its loss is remembered.

        Args:
            group: the optimizer group.
            loss: of the step.
            norm: of its gradient.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        seen = self.seen.setdefault(group, deque(maxlen=self.config.window))
        if self.config.spike and len(seen) >= min(ENOUGH, self.config.window):
            middle = statistics.median(seen)
            spread = statistics.median(abs(value - middle) for value in seen) + 1e-3 * abs(middle)
            if loss > middle + self.config.spike * spread:
                return f"the loss is {loss:.4g}, {(loss - middle) / spread:.0f} deviations above {middle:.4g}"
        seen.append(loss)
        return ""

    def state_dict(self) -> dict[str, Any]:
        """The losses that are remembered."""
        return {group: list(seen) for group, seen in self.seen.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with what `state_dict` gave."""
        self.seen = {group: deque(seen, maxlen=self.config.window) for group, seen in state.items()}
