"""Where the model works: off the event loop, a small step at a time, most urgent conversation first.

A piece of work is an iterator. Each `next` of it is one step (the next 80 ms of speech, one token, one block of what is
being heard), and between two steps another conversation may have its turn. What is due soonest goes first, so two
conversations at once are both served in time as long as the machine can make it.

Where conversations on several threads share their steps (`antiphon.nn.batching`), several are worked on at once, but
only those that are about equally urgent: an answer with seconds of sound in store rests while another has none yet.

    work = scheduler.start(steps, due=time.monotonic(), give=print, end=done)
    work.stop()                     # no `give` comes after this, whatever was under way
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

log = logging.getLogger(__name__)

SPREAD_SECONDS = 1.0  # by which what is worked on may be less urgent than the most urgent of it

Steps = Callable[[], Iterator[Any]]
Give = Callable[[Any], None]
End = Callable[[BaseException | None], None]


class Stopped(Exception):
    """The work was stopped before its end."""


class Work:
    """An iterator that is being worked off, or will be.

    Args:
        steps: makes the iterator, on the worker's thread, when the work begins; it is closed there if it is stopped.
        due: monotonic seconds at which the next step's result is wanted; may be moved at any time.
        give: gets what steps yield (not None), on the worker's thread.
        end: is called once, on the worker's thread: with None at the end, with the exception that ended it, or with
            `Stopped`.
    """

    def __init__(self, steps: Steps, due: float, give: Give, end: End):
        self.due, self.stopped = due, False
        self._steps, self._give, self._end = _made(steps), give, end
        self._lock = threading.Lock()

    def stop(self) -> None:
        """It isn't wanted any more; nothing is given after this returns."""
        with self._lock:
            self.stopped = True

    def step(self) -> bool:
        """Does the next step; false if there is no more to do, and `end` was told."""
        try:
            value = next(self._steps)
        except StopIteration:
            self._finish(None)
            return False
        except BaseException as error:  # handed on: a thread must not die of one conversation
            self._finish(error)
            return False
        with self._lock:
            if value is not None and not self.stopped:
                self._give(value)
        return True

    def close(self) -> None:
        """Ends it before its end."""
        error: BaseException = Stopped()
        try:
            self._steps.close()
        except BaseException as failed:
            error = failed
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        end, nothing = self._end, lambda _: None
        # Who is told knows the work, and the work knows them: they would wait for each other to be forgotten.
        self._steps, self._give, self._end = _made(tuple), nothing, nothing
        try:
            end(error)
        except Exception:
            log.exception("what follows a piece of work failed")


def _made(steps: Steps) -> Generator[Any, None, None]:
    yield from steps()


class Scheduler:
    """Threads that work off what is due first.

    Args:
        threads: one is right for a model that uses the cores itself, unless it shares steps: then one a conversation.
    """

    def __init__(self, threads: int = 1):
        self._heap: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._ready = threading.Condition()
        self._closing = False
        self._current: list[Work] = []  # a step of it is being done
        self._busy: deque[tuple[float, float]] = deque(maxlen=4096)
        self._threads = [
            threading.Thread(target=self._run, name=f"antiphon-worker-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, steps: Steps, due: float, give: Give, end: End) -> Work:
        """Queues a piece of work. See `Work`."""
        work = Work(steps, due, give, end)
        self.put(work)
        return work

    def put(self, work: Work) -> None:
        """Queues it for its next step."""
        with self._ready:
            self._queue(work)

    def _queue(self, work: Work) -> None:
        heapq.heappush(self._heap, (work.due, next(self._order), work))
        self._ready.notify_all()

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
        """The share of the last seconds in which any of the threads worked, 0 to 1."""
        until = time.monotonic() - seconds
        busy = 0.0
        for start, end in sorted(self._busy.copy()):
            if end > until:
                busy += end - max(start, until)
                until = end
        return min(1.0, busy / seconds)

    def _take(self) -> Work | None:
        with self._ready:
            while not self._closing and not self._pressing():
                self._ready.wait()
            if not self._heap:
                return None
            self._current.append(heapq.heappop(self._heap)[2])
            return self._current[-1]

    def _pressing(self) -> bool:
        """Whether something waits that is to be worked on now."""
        most_urgent = min((work.due for work in self._current), default=math.inf)
        return bool(self._heap) and self._heap[0][0] <= most_urgent + SPREAD_SECONDS

    def _run(self) -> None:
        while (work := self._take()) is not None:
            if work.stopped or self._closing:
                work.close()
                goes_on = False
            else:
                began = time.monotonic()
                goes_on = work.step()
                self._busy.append((began, time.monotonic()))
            with self._ready:
                self._current.remove(work)
                if goes_on:
                    self._queue(work)
                self._ready.notify_all()
            del work  # what waits for more holds on to nobody


class SerialQueue:
    """Pieces of work that follow one another: each starts when the one before has ended.

    Args:
        scheduler: who does them.
    """

    def __init__(self, scheduler: Scheduler):
        self.scheduler = scheduler
        self._waiting: deque[Work] = deque()
        self._current: Work | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self, steps: Steps, due: float, give: Give, end: End) -> Work:
        """Queues a piece of work. See `Work`; `end` isn't called once the queue is closed."""

        def over(error: BaseException | None) -> None:
            with self._lock:
                self._current = None
            try:
                if not self._closed:
                    end(error)
            finally:
                self._next()

        work = Work(steps, due, give, over)
        with self._lock:
            if not self._closed:
                self._waiting.append(work)
        self._next()
        return work

    def close(self) -> None:
        """Stops what is under way and drops the rest; nothing is given after this returns."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            current = self._current
        if current is not None:
            current.stop()

    def _next(self) -> None:
        with self._lock:
            if self._current is not None or not self._waiting:
                return
            work = self._current = self._waiting.popleft()
        self.scheduler.put(work)
