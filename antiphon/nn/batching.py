"""Calls of several threads that come at about the same time, run as one: a batch over conversations.

    batcher = Batcher()
    step = batcher.batched(model.step_many)            # a function of a list, as a function of one
    y = step(x)                                        # on any thread; runs with what other threads ask for

Each conversation is written as if it were alone, on a thread of its own, and the model is run by whichever of them is
there: it takes all that wait for the same function. A batcher runs one batch at a time, and while it does, the next one
gathers; what may run beside each other has batchers of its own. A thread that has mostly asked for the next result as
soon as it was given one is waited for, a quarter of a step at most, so that conversations that go on together stay in
one batch; a thread that is alone waits for nobody.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

Request, Result = TypeVar("Request"), TypeVar("Result")

PATIENCE = 0.25  # of the time that the longest step takes, in which who was given a result is expected again
MAX_PATIENCE = 0.25  # seconds
STEADY = 4  # how steadily a thread must have come back to be waited for: one more each time it did, half when it didn't
MAX_STEADY = 8
MAX_ROWS = 16  # of a batch


@dataclass(eq=False)
class _Call:
    """What one thread waits for."""

    request: Any
    thread: int
    steady: int
    done: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass(eq=False)
class _Function:
    """What is run, and the calls that wait for it, oldest first."""

    run: Callable[[list[Any]], Sequence[Any]]
    rank: int
    waiting: list[_Call] = field(default_factory=list)
    seconds: float = 0.0  # that the last run took


class Batcher:
    """See the module."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._functions: list[_Function] = []
        self._running = False
        self._expected: dict[int, float] = {}  # threads that were given a result, and until when they are waited for
        self._patience = 0.0  # seconds, now
        self._own = threading.local()  # of each thread: `steady`, and when it was given a result last

    def __reduce__(self) -> tuple[type[Batcher], tuple[()]]:
        return Batcher, ()  # a copy of a model is run by other threads, or none

    def batched(self, run: Callable[[list[Request]], Sequence[Result]], rank: int = 0) -> Callable[[Request], Result]:
        """A function of one request that runs with those of other threads.

        Args:
            run: gives a result for each request, in order. Where it raises an exception, each of its requests is run
                again alone, so that who is to blame is told and nobody else: by then it must have changed nothing
                that matters.
            rank: of what waits the lowest goes first. What is cheap is best done first: whoever needs what is dear has
                come to ask for it by then, and it is done once for all of them.
        """
        function = _Function(run, rank)
        with self._changed:
            self._functions.append(function)

        def call(request: Request) -> Result:
            return cast(Result, self._call(function, request))

        return call

    def _call(self, function: _Function, request: Any) -> Any:
        steady, since = getattr(self._own, "steady", 0), time.monotonic() - getattr(self._own, "given", -math.inf)
        self._own.steady = min(steady + 1, MAX_STEADY) if since <= self._patience else steady // 2
        call = _Call(request, threading.get_ident(), self._own.steady)
        with self._changed:
            self._expected.pop(call.thread, None)
            function.waiting.append(call)
            self._changed.notify_all()
        try:
            while (taken := self._take(call)) is not None:
                self._run(*taken)
        except BaseException:  # an interrupt, while this thread waited: nobody is to work for who has gone
            with self._changed:
                function.waiting = [each for each in function.waiting if each is not call]
            raise
        self._own.given = time.monotonic()
        if call.error is not None:
            raise call.error
        return call.result

    def _take(self, call: _Call) -> tuple[_Function, list[_Call]] | None:
        """Waits until a call is done, or it is this thread's turn to run what waits, its own call or others'."""
        with self._changed:
            while self._running and not call.done:
                self._changed.wait()
            if call.done:
                return None
            self._running = True
            try:
                while (patient := max(self._expected.values(), default=0.0) - time.monotonic()) > 0:
                    self._changed.wait(patient)
            except BaseException:
                self._running = False
                self._changed.notify_all()
                raise
            self._expected.clear()
            function = min((each for each in self._functions if each.waiting), key=lambda each: each.rank)
            calls, function.waiting = function.waiting[:MAX_ROWS], function.waiting[MAX_ROWS:]
            return function, calls

    def _run(self, function: _Function, calls: list[_Call]) -> None:
        began = time.monotonic()
        try:
            for call, result in zip(calls, function.run([call.request for call in calls]), strict=True):
                call.result = result
        except BaseException as error:  # handed to those who asked
            self._run_alone(function, calls, error)
        with self._changed:
            now = time.monotonic()
            self._running, function.seconds = False, now - began
            self._patience = min(PATIENCE * max(each.seconds for each in self._functions), MAX_PATIENCE)
            for call in calls:
                call.done = True
                if call.steady >= STEADY:
                    self._expected[call.thread] = now + self._patience
            self._changed.notify_all()

    @staticmethod
    def _run_alone(function: _Function, calls: list[_Call], error: BaseException) -> None:
        for call in calls:
            call.error = error
            if len(calls) > 1 and isinstance(error, Exception):
                try:
                    (call.result,), call.error = function.run([call.request]), None
                except BaseException as own:
                    call.error = own
