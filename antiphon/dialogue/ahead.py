"""A generator worked off ahead of who reads it, on a thread of its own: the next words of an answer are thought while
those before are said, a core each.

    with closing(Ahead(thinker.stream(state), most=12)) as tokens:
        for token in tokens: ...                       # of which the next ones are being made

Conversations whose words are thought ahead ask for the next one as soon as they have one, so that their steps are
joined (`antiphon.nn.batching`).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Generic, TypeVar

Item = TypeVar("Item")

_in_turn: ContextVar[bool] = ContextVar("in_turn", default=False)


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """What is begun to be read inside, on this thread, is worked off when it is asked for and not ahead: where
    computing time is counted."""
    before = _in_turn.set(True)
    try:
        yield
    finally:
        _in_turn.reset(before)


class Ahead(Generic[Item]):
    """See the module. Read by one thread at a time.

    Args:
        source: is worked off on the thread, and closed by whoever closes this; its exceptions come in its place.
        most: results that wait to be read, at most.
    """

    def __init__(self, source: Generator[Item, None, None], most: int):
        self._source, self._most = source, most
        self._made: deque[Item] = deque()
        self._changed = threading.Condition()
        self._over = self._closing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if not _in_turn.get():
            self._thread = threading.Thread(target=self._run, name="antiphon-ahead", daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._thread is None:
            return next(self._source)
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._over)
            if self._made:
                self._changed.notify_all()
                return self._made.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> int:
        """Works no further, and closes the source, on this thread; gives how many results nobody has read."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        left = len(self._made)
        self._made.clear()
        self._source.close()
        return left

    def _run(self) -> None:
        try:
            for item in self._source:
                with self._changed:
                    self._made.append(item)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closing or len(self._made) < self._most)
                    if self._closing:
                        return
        except BaseException as error:  # told to who reads
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
