"""Many live conversations with one duplex model: one batch, on one thread, each at its own pace.

    engine = BatchedEngine(duplex)
    slot = engine.join(give)                             # give(events) is called on the engine's thread
    slot.push(frame)                                   # 80 ms that were heard; returns at once
    slot.leave()

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
class Slot:
    """One conversation's place in a batched engine.

    Attributes:
        engine, give, seed: see `BatchedEngine.join`.
        handle: in the engine, once it has joined.
        frames: heard so far.
        gone: it has left, or an error has ended it.
        waiting: frames that the model hasn't come to yet.
        commands: to be done before the next frame.
        floor: whether the model is speaking.
    """

    engine: BatchedEngine
    give: Give
    seed: int
    handle: int | None = None
    frames: int = 0
    gone: bool = False
    waiting: deque[Tensor | None] = field(default_factory=deque)
    commands: deque[Callable[[DuplexEngine, int], None]] = field(default_factory=deque)
    floor: FloorTracker = field(default_factory=FloorTracker)

    def push(self, frame: Tensor | None) -> None:
        """80 ms that were heard, float32 [frame_samples]; None if they were lost. After `leave` nobody hears it.

        Raises:
            SessionError: another shape, which would end all conversations of the step.
        """
        if frame is not None and tuple(frame.shape) != (self.engine.frame_samples,):
            raise SessionError(f"a frame is [{self.engine.frame_samples}] samples, got {list(frame.shape)}")
        if not self.gone:
            self.engine._wake(lambda: self.waiting.append(frame))

    def mute(self, own: bool) -> None:
        """Makes the model silent in this conversation, or lets it speak again."""
        self.engine._wake(lambda: self.commands.append(lambda engine, handle: engine.mute(handle, own=own)))

    def leave(self) -> None:
        """Ends the conversation; nothing is given after this returns, unless it is being given."""
        self.gone = True
        self.engine._wake(lambda: None)


class BatchedEngine:
    """See the module.

    Args:
        duplex: the weights.
        sampling: how text and codes are drawn.
        max_waiting: frames of one conversation that may wait.
    """

    def __init__(self, duplex: Duplex, sampling: MoshiSampling | None = None, max_waiting: int = 25):
        self.duplex, self.max_waiting = duplex, max_waiting
        self.sample_rate, self.frame_samples = duplex.sample_rate, duplex.frame_samples
        self.frame_seconds = 1 / duplex.frame_rate
        self._engine = DuplexEngine(duplex, sampling)
        self._slots: list[Slot] = []
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="antiphon-engine", daemon=True)
        self._thread.start()

    def join(self, give: Give, seed: int = 0) -> Slot:
        """Begins a conversation. `give` gets the events of each frame, or the exception that ended the conversation.

        Raises:
            SessionError: the engine is closed.
        """
        if self._closing:
            raise SessionError("the engine is closed: make a new one")
        slot = Slot(self, give, seed)
        self._wake(lambda: self._slots.append(slot))
        return slot

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
            losses: dict[Slot, list[Event]] = {}
            frames: dict[int, Tensor | None] = {}
            by_handle: dict[int, Slot] = {}
            for slot, frame, lost in due:
                if slot.handle is None:
                    slot.handle = self._engine.join(seed=slot.seed)
                while slot.commands:
                    slot.commands.popleft()(self._engine, slot.handle)
                if lost:
                    losses[slot] = [LostEvent(lost, slot.frames * self.frame_seconds, "behind")]
                    slot.frames += lost - 1
                frames[slot.handle], by_handle[slot.handle] = frame, slot
            try:
                made = self._engine.step(frames)
            except BaseException as error:  # those who were in it hear of it; the others go on
                for slot in by_handle.values():
                    self._end(slot)
                    slot.give(error)
                continue
            for handle, frame in made.items():
                slot = by_handle[handle]
                slot.frames += 1
                if not slot.gone:
                    told = frame_events(
                        frame, slot.floor, slot.frames * self.frame_seconds, self.frame_seconds, self.sample_rate
                    )
                    slot.give(losses.get(slot, []) + told)

    def _next(self) -> list[tuple[Slot, Tensor | None, int]] | None:
        """Waits for frames: (who, what was heard, how many were lost before it); None at the end."""
        with self._ready:
            while True:
                for slot in [slot for slot in self._slots if slot.gone]:
                    self._end(slot)
                if self._closing:
                    return None
                due = []
                for slot in self._slots:
                    if len(slot.waiting) > self.max_waiting:
                        lost = len(slot.waiting) - 1
                        newest = slot.waiting.pop()
                        slot.waiting.clear()
                        slot.waiting.append(newest)
                        due.append((slot, None, lost))
                    elif slot.waiting:
                        due.append((slot, slot.waiting.popleft(), 0))
                if due:
                    return due
                self._ready.wait()

    def _end(self, slot: Slot) -> None:
        slot.gone = True
        if slot in self._slots:
            self._slots.remove(slot)
        if slot.handle is not None:
            self._engine.leave(slot.handle)
            slot.handle = None
