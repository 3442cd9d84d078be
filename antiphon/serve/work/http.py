"""HTTP requests and the workers: model work as an asynchronous iterator, within the number of requests admitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from antiphon.serve.errors import full
from antiphon.serve.state import Served
from antiphon.serve.work.admission import Full
from antiphon.serve.work.scheduler import Stopped

PATIENCE = 1.0  # seconds by which live speech goes first


async def worked(served: Served, steps: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
    """What steps yield (not None), made on the workers.

    Closing the iterator stops the work. A place is taken when the first is asked for, and given back when work ends.

    Raises:
        ApiError: no room.
    """
    try:
        served.admission.enter()
    except Full:
        served.metrics.refused.labels("http").inc()
        raise full(served.admission.draining) from None
    inside = True

    def leave() -> None:
        nonlocal inside
        if inside:
            inside = False
            served.admission.leave()

    loop = asyncio.get_running_loop()
    found: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def give(value: Any) -> None:
        _call(loop, found.put_nowait, ("value", value))

    def end(error: BaseException | None) -> None:
        _call(loop, leave)  # whoever reads slowly keeps nobody out
        _call(loop, found.put_nowait, ("end", error))

    def made() -> Iterator[Any]:
        yield from steps()

    work = served.workers.start(made(), time.monotonic() + PATIENCE, give, end)
    try:
        while True:
            kind, value = await found.get()
            if kind == "value":
                yield value
            elif value is None:
                return
            else:
                served.metrics.errors.inc()
                raise value if not isinstance(value, Stopped) else full(draining=True)
    finally:
        work.stop()
        leave()


async def first(stream: AsyncIterator[Any], count: int = 1) -> tuple[list[Any], AsyncIterator[Any]]:
    """Waits for what comes first, so that what fails at once is an error and not a broken stream."""
    ahead: list[Any] = []
    while len(ahead) < count:
        try:
            ahead.append(await anext(stream))
        except StopAsyncIteration:
            break
    return ahead, stream


async def chained(ahead: list[Any], rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """What came first, then the rest."""
    try:
        for one in ahead:
            yield one
        async for one in rest:
            yield one
    finally:
        await rest.aclose()  # type: ignore[attr-defined]  # whoever stops reading stops the work


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # the loop has ended
        pass
