"""What every live session is: a model at work on a thread of its own, and events that the caller takes meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Self

from torch import Tensor

from antiphon.dialogue.events import Event
from antiphon.errors import SessionError

DIRECTIONS = ("listen", "speak")


def check_mode(mode: str, direction: str, modes: Sequence[str]) -> None:
    """Whether there is such a session.

    Raises:
        SessionError: a mode that isn't one of `modes`, or a direction that isn't one of `DIRECTIONS`.
    """
    if mode not in modes:
        raise SessionError(f"this model has no {mode!r} session; it has {', '.join(map(repr, modes))}")
    if direction not in DIRECTIONS:
        raise SessionError(f"a simplex session listens or speaks: 'listen' or 'speak', not {direction!r}")


def check_frame(frame: Tensor) -> None:
    """Whether a frame is [samples].

    Raises:
        SessionError: it has other dimensions.
    """
    if frame.ndim != 1:
        raise SessionError(f"a frame is [samples], got {list(frame.shape)}; mix channels down first")


class LiveSession:
    """A context manager. A kind of session says in `_work` what its thread does, and in `_wake` how it is woken from a
    wait; it starts the thread with `_start` when all that `_work` needs is there.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self) -> list[Event]:
        """What is ready, without giving anything. An error of the model is raised here, and ends the session."""
        events = []
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, BaseException):
                self.close()
                raise event
            events.append(event)
        return events

    def close(self) -> None:
        """Ends the session; what is under way is dropped."""
        if not self._closed.is_set():
            self._closed.set()
            self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _start(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        """Works until `_closed` is set, on the session's thread."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Ends whatever `_work` waits for; `_closed` is set by then."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SessionError("the session is closed; open a new one with model.session()")

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # handed to the caller: a thread must not die in silence
            self._events.put(error)
