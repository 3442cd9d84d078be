"""A generator worked off ahead of who reads it, on a thread of its own: the next words of an answer are thought while
those before are said, a core each.

    tokens = Ahead(thinker.stream(state), most=12)
    for token in tokens: ...                           # the next ones are being made
    tokens.close()

Conversations whose words are thought ahead ask for the next one as soon as they have one, so that their steps are
joined (`antiphon.nn.batching`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Generic, TypeVar

Item = TypeVar("Item")

PATIENCE_SECONDS = 20.0  # that closing waits for the step under way
log = logging.getLogger(__name__)
_unthreaded: ContextVar[bool] = ContextVar("unthreaded", default=False)


@contextlib.contextmanager
def unthreaded() -> Iterator[None]:
    """An `Ahead` that is made inside works when it is asked, on the thread that asks: for who counts computing time."""
    before = _unthreaded.set(True)
    try:
        yield
    finally:
        _unthreaded.reset(before)


class Ahead(Generic[Item]):
    """See the module. Read by one thread at a time.

    Args:
        source: is worked off on the thread until this is closed, and is left open; its exceptions come in their place.
        most: results that wait to be read, at most.
    """

    def __init__(self, source: Generator[Item, None, None], most: int):
        self._source, self._most = source, most
        self._made: deque[Item] = deque()
        self._changed = threading.Condition()
        self._over = self._closing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if not _unthreaded.get():
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
        error, self._error = self._error, None
        raise error if error is not None else StopIteration

    def close(self) -> int | None:
        """Works no further. May be called again.

        Returns:
            How many results nobody has read. None where the step under way doesn't end, as it can't while the garbage
            collector closes a reader on the very thread that works, or on one that this waits for: what the source
            works on must be left alone then.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            if self._thread is threading.current_thread():
                return None
            self._thread.join(PATIENCE_SECONDS)
            if self._thread.is_alive():
                return None
        left, error = len(self._made), self._error
        self._made.clear()
        self._error = None
        if error is not None:
            log.error("what was worked on ahead failed, before anybody had read so far", exc_info=error)
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
