"""Where the model works: off the event loop, a small step at a time, most urgent conversation first.

A piece of work is an iterator. Each `next` of it is one step (the next 80 ms of speech, one token, one block of what is
being heard), and between two steps another conversation may have its turn. What is due soonest goes first, so two
conversations at once are both served in time as long as the machine can make it.

    work = workers.start(steps, due=time.monotonic(), give=print, end=done)
    work.stop()                     # no `give` comes after this, whatever was under way
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger(__name__)


class Work:
    """An iterator that is being worked off.

    Args:
        steps: the work; closed, on the worker's thread, if it is stopped.
        due: monotonic seconds at which the next step's result is wanted; may be moved at any time.
        give: gets what steps yield (not None), on the worker's thread.
        end: is called once, on the worker's thread: with None at the end, with the exception that ended it, or with
            `Stopped`.
    """

    def __init__(
        self,
        steps: Iterator[Any],
        due: float,
        give: Callable[[Any], None],
        end: Callable[[BaseException | None], None],
    ):
        self.steps, self.due, self._give, self._end = steps, due, give, end
        self.stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Nothing is given after this returns."""
        with self._lock:
            self.stopped = True

    def give(self, value: Any) -> None:
        with self._lock:
            if not self.stopped:
                self._give(value)

    def finish(self, error: BaseException | None) -> None:
        end, nothing = self._end, lambda _: None
        # Who is told knows the work, and the work knows them: they would wait for each other to be forgotten.
        self.steps, self._give, self._end = iter(()), nothing, nothing
        try:
            end(error)
        except Exception:
            log.exception("what follows a piece of work failed")


class Stopped(Exception):
    """The work was stopped before its end."""


class Workers:
    """Threads that work off what is due first.

    Args:
        threads: one is right for a model that uses the cores itself.
    """

    def __init__(self, threads: int = 1):
        self._heap: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._ready = threading.Condition()
        self._closing = False
        self._busy: deque[tuple[float, float]] = deque(maxlen=4096)
        self._threads = [
            threading.Thread(target=self._run, name=f"antiphon-worker-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(
        self,
        steps: Iterator[Any],
        due: float,
        give: Callable[[Any], None],
        end: Callable[[BaseException | None], None],
    ) -> Work:
        """Queues a piece of work. See `Work`."""
        work = Work(steps, due, give, end)
        self._put(work)
        return work

    def close(self) -> None:
        """Ends the threads; what is queued is ended as stopped."""
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a thread."""
        return len(self._heap)

    def load(self, seconds: float = 5.0) -> float:
        """The share of the last seconds in which the threads worked, 0 to 1."""
        since = time.monotonic() - seconds
        busy = sum(end - max(start, since) for start, end in list(self._busy) if end > since)
        return min(1.0, busy / seconds / len(self._threads))

    def _put(self, work: Work) -> None:
        with self._ready:
            heapq.heappush(self._heap, (work.due, next(self._order), work))
            self._ready.notify()

    def _take(self) -> Work | None:
        with self._ready:
            while not self._heap and not self._closing:
                self._ready.wait()
            return heapq.heappop(self._heap)[2] if self._heap else None

    def _run(self) -> None:
        while (work := self._take()) is not None:
            self._step(work)
            del work  # what waits for more holds on to nobody

    def _step(self, work: Work) -> None:
        if work.stopped or self._closing:
            self._close(work)
            return
        began = time.monotonic()
        try:
            value = next(work.steps)
        except StopIteration:
            work.finish(None)
        except BaseException as error:  # handed on: a thread must not die of one conversation
            work.finish(error)
        else:
            if value is not None:
                work.give(value)
            self._put(work)
        self._busy.append((began, time.monotonic()))

    @staticmethod
    def _close(work: Work) -> None:
        error: BaseException = Stopped()
        try:
            close = getattr(work.steps, "close", None)
            if close is not None:
                close()
        except BaseException as failed:
            error = failed
        work.finish(error)


class Handle:
    """A piece of work in a lane, begun or not."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self.stopped = False

    def stop(self) -> None:
        """It isn't wanted any more; nothing of it is given after this returns."""
        self.stopped = True
        if self.work is not None:
            self.work.stop()

    def set_due(self, due: float) -> None:
        """Moves the time at which the next step's result is wanted."""
        if self.work is not None:
            self.work.due = due


class Lane:
    """Pieces of work that follow one another: each starts when the one before has ended.

    Args:
        workers: who does them.
    """

    def __init__(self, workers: Workers):
        self.workers = workers
        self._waiting: deque[tuple[Handle, Callable[[], Iterator[Any]], float, Callable, Callable]] = deque()
        self._current: Handle | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(
        self,
        steps: Callable[[], Iterator[Any]],
        due: float,
        give: Callable[[Any], None],
        end: Callable[[BaseException | None], None],
    ) -> Handle:
        """Queues a piece of work; `steps` makes the iterator when its time has come. The rest as for `Work`."""
        handle = Handle()
        with self._lock:
            if not self._closed:
                self._waiting.append((handle, steps, due, give, end))
        self._next()
        return handle

    def close(self) -> None:
        """Stops what is under way and drops the rest; nothing is given after this returns."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            current = self._current
        if current is not None:
            current.stop()

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return self._current is not None

    def _next(self) -> None:
        with self._lock:
            if self._current is not None or not self._waiting:
                return
            handle, steps, due, give, end = self._waiting.popleft()

            def over(error: BaseException | None) -> None:
                with self._lock:
                    self._current = None
                try:
                    if not self._closed:
                        end(error)
                finally:
                    self._next()

            self._current = handle
            handle.work = self.workers.start(_made(steps), due, give, over)
            if handle.stopped:
                handle.work.stop()


def _made(steps: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    yield from steps()
