"""Many live conversations with one duplex model: one batch, on one thread, each at its own pace.

    hall = DuplexHall(duplex)
    seat = hall.join(give)                             # give(events) is called on the hall's thread
    seat.push(frame)                                   # 80 ms that were heard; returns at once
    seat.leave()

Whoever has a frame waiting when the model is free is in the next step of the batch; the others rest. So conversations
whose frames come at about the same time share a step, and none waits for another's microphone. Who falls behind loses
the oldest of what waits, as one lost frame (`LostEvent`), as in a `DuplexSession`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.dialogue.duplex.engine import DuplexEngine
from antiphon.dialogue.duplex.stream import frame_events
from antiphon.dialogue.events import Event, LostEvent
from antiphon.dialogue.transcriber import FloorTracker
from antiphon.errors import SessionError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import MoshiSampling

Give = Callable[[list[Event] | BaseException], None]


@dataclass(eq=False)
class Seat:
    """One conversation's place in a hall.

    Attributes:
        hall, give, seed: see `DuplexHall.join`.
        handle: in the engine, once it has joined.
        frames: heard so far.
        gone: it has left, or an error has ended it.
        waiting: frames that the model hasn't come to yet.
        wishes: to be done before the next frame.
        floor: whether the model is speaking.
    """

    hall: DuplexHall
    give: Give
    seed: int
    handle: int | None = None
    frames: int = 0
    gone: bool = False
    waiting: deque[Tensor | None] = field(default_factory=deque)
    wishes: deque[Callable[[DuplexEngine, int], None]] = field(default_factory=deque)
    floor: FloorTracker = field(default_factory=FloorTracker)

    def push(self, frame: Tensor | None) -> None:
        """80 ms that were heard, float32 [frame_samples]; None if they were lost. After `leave` nobody hears it.

        Raises:
            SessionError: another shape, which would end all conversations of the step.
        """
        if frame is not None and tuple(frame.shape) != (self.hall.frame_samples,):
            raise SessionError(f"a frame is [{self.hall.frame_samples}] samples, got {list(frame.shape)}")
        if not self.gone:
            self.hall._wake(lambda: self.waiting.append(frame))

    def mute(self, own: bool) -> None:
        """Makes the model silent in this conversation, or lets it speak again."""
        self.hall._wake(lambda: self.wishes.append(lambda engine, handle: engine.mute(handle, own=own)))

    def leave(self) -> None:
        """Ends the conversation; nothing is given after this returns, unless it is being given."""
        self.gone = True
        self.hall._wake(lambda: None)


class DuplexHall:
    """See the module.

    Args:
        duplex: the weights.
        sampling: how text and codes are drawn.
        most_waiting: frames of one conversation that may wait.
    """

    def __init__(self, duplex: Duplex, sampling: MoshiSampling | None = None, most_waiting: int = 25):
        self.duplex, self.most_waiting = duplex, most_waiting
        self.sample_rate, self.frame_samples = duplex.sample_rate, duplex.frame_samples
        self.frame_seconds = 1 / duplex.frame_rate
        self._engine = DuplexEngine(duplex, sampling)
        self._seats: list[Seat] = []
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="antiphon-hall", daemon=True)
        self._thread.start()

    def join(self, give: Give, seed: int = 0) -> Seat:
        """Begins a conversation. `give` gets the events of each frame, or the exception that ended the conversation.

        Raises:
            SessionError: the hall is closed.
        """
        if self._closing:
            raise SessionError("the hall is closed: make a new one")
        seat = Seat(self, give, seed)
        self._wake(lambda: self._seats.append(seat))
        return seat

    def close(self) -> None:
        """Ends all conversations."""

        def end() -> None:
            self._closing = True

        self._wake(end)
        self._thread.join(timeout=10)

    def pace(self, most: int = 16, steps: int = 12) -> int:
        """How many conversations at once this machine keeps up with: the largest batch whose step takes less than a
        frame lasts, with a fifth to spare. At least one. Call it before anyone joins."""
        engine = DuplexEngine(self.duplex, self._engine.sampling)
        silence, handles, fits = torch.zeros(self.frame_samples), [], 1
        while len(handles) < most:
            handles.append(engine.join())
            engine.step({handle: silence for handle in handles})
            began = time.perf_counter()
            for _ in range(steps):
                engine.step({handle: silence for handle in handles})
            if (time.perf_counter() - began) / steps > 0.8 * self.frame_seconds:
                break
            fits = len(handles)
        return fits

    def _wake(self, change: Callable[[], None]) -> None:
        with self._ready:
            change()
            self._ready.notify()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            losses: dict[Seat, list[Event]] = {}
            frames: dict[int, Tensor | None] = {}
            by_handle: dict[int, Seat] = {}
            for seat, frame, lost in due:
                if seat.handle is None:
                    seat.handle = self._engine.join(seed=seat.seed)
                while seat.wishes:
                    seat.wishes.popleft()(self._engine, seat.handle)
                if lost:
                    losses[seat] = [LostEvent(lost, seat.frames * self.frame_seconds, "behind")]
                    seat.frames += lost - 1
                frames[seat.handle], by_handle[seat.handle] = frame, seat
            try:
                made = self._engine.step(frames)
            except BaseException as error:  # those who were in it hear of it; the others go on
                for seat in by_handle.values():
                    self._end(seat)
                    seat.give(error)
                continue
            for handle, frame in made.items():
                seat = by_handle[handle]
                seat.frames += 1
                if not seat.gone:
                    told = frame_events(
                        frame, seat.floor, seat.frames * self.frame_seconds, self.frame_seconds, self.sample_rate
                    )
                    seat.give(losses.get(seat, []) + told)

    def _next(self) -> list[tuple[Seat, Tensor | None, int]] | None:
        """Waits for frames: (who, what was heard, how many were lost before it); None at the end."""
        with self._ready:
            while True:
                for seat in [seat for seat in self._seats if seat.gone]:
                    self._end(seat)
                if self._closing:
                    return None
                due = []
                for seat in self._seats:
                    if len(seat.waiting) > self.most_waiting:
                        lost = len(seat.waiting) - 1
                        newest = seat.waiting.pop()
                        seat.waiting.clear()
                        seat.waiting.append(newest)
                        due.append((seat, None, lost))
                    elif seat.waiting:
                        due.append((seat, seat.waiting.popleft(), 0))
                if due:
                    return due
                self._ready.wait()

    def _end(self, seat: Seat) -> None:
        seat.gone = True
        if seat in self._seats:
            self._seats.remove(seat)
        if seat.handle is not None:
            self._engine.leave(seat.handle)
            seat.handle = None
