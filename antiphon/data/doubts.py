"""What is odd about data that is used all the same: told in the log, the first few of each kind and how many more."""

from __future__ import annotations

import logging
from collections import Counter

log = logging.getLogger(__name__)


class Doubts:
    """Warns of odd items, but not ten thousand times of the same thing; a context manager, at whose end what was left
    out is summed up.

    Args:
        shown: so many of each kind are told one by one.
    """

    def __init__(self, shown: int = 3) -> None:
        self.shown = shown
        self.counts: Counter[str] = Counter()

    def tell(self, kind: str, message: str) -> None:
        """Warns, unless enough of the kind have been told.

        Args:
            kind: completes "N more conversations: ...".
            message: which item, what is odd about it, and what is done.
        """
        self.counts[kind] += 1
        if self.counts[kind] <= self.shown:
            log.warning("%s", message)

    def __enter__(self) -> Doubts:
        return self

    def __exit__(self, *_: object) -> None:
        for kind, count in self.counts.items():
            if count > self.shown:
                log.warning("%d more conversations: %s", count - self.shown, kind)
