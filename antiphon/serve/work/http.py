"""HTTP requests and the scheduler: model work as an asynchronous iterator, within the number of requests admitted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from antiphon.serve.errors import full
from antiphon.serve.state import Served
from antiphon.serve.work.admission import Full
from antiphon.serve.work.scheduler import Stopped

PATIENCE_SECONDS = 1.0  # by which live speech goes first


async def stream_steps(served: Served, steps: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
    """What steps yield (not None), made by the scheduler.

    Closing the iterator stops the work. A place is taken when the first is asked for, and given back when work ends.

    Raises:
        RequestError: no room.
    """
    try:
        served.admission.enter()
    except Full:
        raise served.refuse("http") from None
    inside = True

    def leave() -> None:
        nonlocal inside
        if inside:
            inside = False
            served.admission.leave()

    loop = asyncio.get_running_loop()
    found: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def call(function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(function, *args)

    def give(value: Any) -> None:
        call(found.put_nowait, ("value", value))

    def end(error: BaseException | None) -> None:
        call(leave)  # whoever reads slowly keeps nobody out
        call(found.put_nowait, ("end", error))

    work = served.scheduler.start(steps, time.monotonic() + PATIENCE_SECONDS, give, end)
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


async def begun(stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same stream, once its first has come: what fails at once is then an error and not a broken stream."""
    ahead = []
    with contextlib.suppress(StopAsyncIteration):
        ahead.append(await anext(stream))

    async def whole() -> AsyncIterator[Any]:
        try:
            for one in ahead:
                yield one
            async for one in stream:
                yield one
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # whoever stops reading stops the work

    return whole()
