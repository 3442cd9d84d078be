"""Work shared out to processes: in order, past what kills one of them, and stopped with us."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm


def in_processes(
    task: Callable[..., Any], job: Any, items: Sequence[Any], workers: int, killed: Callable[[int], Any]
) -> Iterator[Any]:
    """`task(job, i, item)` of all items in several processes, in their order, a few ahead of what has been taken.

    Args:
        task: a function of a module; must not raise.
        job, items: can be sent to another process.
        workers: how many processes.
        killed: what to give for an item whose process died under it, twice.
    """
    next_one = 0
    while next_one < len(items):
        flying = deque()
        try:
            with _pool(workers) as submit:
                while next_one < len(items) or flying:
                    while next_one < len(items) and len(flying) < 4 * workers:
                        item = items[next_one]
                        flying.append((next_one, item, submit(task, job, next_one, item)))
                        next_one += 1
                    result = flying[0][2].result()
                    flying.popleft()
                    yield result
        except BrokenProcessPool:
            for at, item, future in flying:
                if future.done() and not future.exception():
                    yield future.result()
                    continue
                try:
                    with _pool(1) as submit:
                        result = submit(task, job, at, item).result()
                except BrokenProcessPool:
                    result = killed(at)
                yield result


@contextlib.contextmanager
def followed(results: Iterator[Any], total: int, done: int, title: str, shown: bool) -> Iterator[tqdm]:
    """A bar on stderr for work on files, of which some were done before. At its end the results are closed, and not
    whenever a stopped run's traceback is dropped: processes must stop before who started them does."""
    bar = tqdm(
        total=total, initial=done, desc=title, unit="file", mininterval=1.0, disable=not shown, file=sys.stderr
    )  # fmt: skip
    with contextlib.closing(results), bar as progress:
        yield progress


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Any]]:
    """Gives the `submit` of a pool of processes, which are stopped at once if what uses them is."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))

    def submit(*arguments: Any) -> Any:
        with unreached():
            return pool.submit(*arguments)

    try:
        yield submit
    except BrokenProcessPool:
        raise
    except BaseException:
        for process in list((pool._processes or {}).values()):  # has no public name before Python 3.14
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def unreached() -> Iterator[None]:
    """Ctrl-C doesn't reach processes that are started in here, not even while they import: who started them stops them,
    and tells no more than its own end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
