"""Live conversations with one duplex model: one batch, on one thread, each at its own pace.

    engine = BatchedEngine(duplex)
    slot = engine.join(give)                           # give(events) is called on the engine's thread
    slot.push(frame)                                   # 80 ms that were heard; returns at once
    slot.leave()

Whoever has a frame waiting when the model is free is in the next step of the batch; the others rest. So conversations
whose frames come at about the same time share a step, and none waits for another's microphone. Who falls behind loses
the oldest of what waits, as one lost frame (`LostEvent`).
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
from antiphon.dialogue.duplex.stream import DuplexStream, Snapshot, step_together
from antiphon.dialogue.events import Event, LostEvent
from antiphon.errors import SessionError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import MoshiSampling

Give = Callable[[list[Event] | BaseException], None]
Command = Callable[[DuplexStream], None]


@dataclass
class _Work:
    """What is to be done next for a slot: commands, and then a frame, if `hears`.

    Attributes:
        frame: that was heard; None if it was lost.
        lost: frames that were left out, the one that stands for them with them.
        reason: why, see `LostEvent`.
    """

    commands: list[Command]
    hears: bool = True
    frame: Tensor | None = None
    lost: int = 0
    reason: str = "behind"


@dataclass(eq=False)
class Slot:
    """One conversation's place in a batched engine.

    Attributes:
        engine, give, seed, patience: see `BatchedEngine.join`.
        stream: the conversation, once it has begun.
        gone: it has left, or an error has ended it.
        queue: frames that the model hasn't come to yet, and commands between them.
        owed: frames that the model went on without.
        since: when it was last at work, on the clock of `time.monotonic`.
    """

    engine: BatchedEngine
    give: Give
    seed: int = 0
    stream: DuplexStream | None = None
    patience: float | None = None
    gone: bool = False
    queue: deque[Tensor | Command | None] = field(default_factory=deque)
    owed: int = 0
    since: float = field(default_factory=time.monotonic)

    def push(self, frame: Tensor | None) -> None:
        """80 ms that were heard, float32 [frame_samples]; None if they were lost. After `leave` nobody hears it.

        Raises:
            SessionError: another shape, which would end all conversations of the step.
        """
        if frame is not None and tuple(frame.shape) != (self.engine.frame_samples,):
            raise SessionError(f"a frame is [{self.engine.frame_samples}] samples, got {list(frame.shape)}")
        if not self.gone:
            self.engine._wake(lambda: self.queue.append(frame))

    def command(self, command: Command) -> None:
        """Something to be done on the engine's thread, when the frames before it have been heard."""
        if not self.gone:
            self.engine._wake(lambda: self.queue.append(command))

    def mute(self, own: bool) -> None:
        """Makes the model silent in this conversation, or lets it speak again, from the next frame on."""
        if not self.gone:
            self.engine._wake(lambda: self.queue.appendleft(lambda stream: stream.mute(own)))

    @property
    def waiting(self) -> int:
        """Frames that the model hasn't come to yet."""
        with self.engine._ready:
            return sum(not callable(item) for item in self.queue)

    def snapshot(self) -> Snapshot:
        """The conversation as it is now, a value; waits for the frame under way (frames that wait are not in it)."""
        with self.engine._at_work:
            return self._begun().snapshot()

    def rewind(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot, its own or another's of the same mode. Frames that wait are heard then."""
        with self.engine._at_work:
            self._begun().rewind(snapshot)

    def leave(self) -> None:
        """Ends the conversation; nothing is given after this returns, unless it is being given."""
        self.gone = True
        self.engine._wake(lambda: None)

    def _begun(self) -> DuplexStream:
        if self.gone:
            raise SessionError("the conversation is over")
        if self.stream is None:
            self.stream = DuplexStream(self.engine.duplex, seed=self.seed, engine=self.engine.engine)
        return self.stream

    def _next(self, max_waiting: int | None) -> _Work | None:
        """Takes the next work from the queue; None if there is none."""
        commands: list[Command] = []
        while self.queue:
            item = self.queue.popleft()
            if callable(item):
                commands.append(item)
            elif self.owed:
                self.owed -= 1
            else:
                later = [each for each in self.queue if not callable(each)]
                if max_waiting is None or len(later) < max_waiting:
                    return _Work(commands, frame=item)
                commands += [each for each in self.queue if callable(each)]
                self.queue = deque(later[-1:])
                return _Work(commands, lost=len(later))
        if self.patience is not None and time.monotonic() - self.since >= self.patience:
            self.owed += 1
            return _Work(commands, lost=1, reason="late")
        return _Work(commands, hears=False) if commands else None


class BatchedEngine:
    """See the module.

    Args:
        duplex: the weights.
        sampling: how text and codes are drawn.
        max_waiting: frames of one conversation that may wait; None for any number.
        engine: that makes the steps, where there is one already.
    """

    def __init__(
        self,
        duplex: Duplex,
        sampling: MoshiSampling | None = None,
        max_waiting: int | None = 25,
        engine: DuplexEngine | None = None,
    ):
        self.duplex, self.max_waiting = duplex, max_waiting
        self.sample_rate, self.frame_samples = duplex.sample_rate, duplex.frame_samples
        self.frame_seconds = 1 / duplex.frame_rate
        self.engine = engine or DuplexEngine(duplex, sampling)
        self._slots: list[Slot] = []
        self._ready = threading.Condition()  # of slots and their queues
        self._at_work = threading.Lock()  # held by whoever steps the streams, or looks at them
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="antiphon-duplex", daemon=True)
        self._thread.start()

    def join(
        self, give: Give, seed: int = 0, stream: DuplexStream | None = None, patience: float | None = None
    ) -> Slot:
        """Begins a conversation.

        Args:
            give: gets the events of each frame, or the exception that ended the conversation.
            seed: of a fresh conversation in full duplex.
            stream: the conversation instead, one of `engine`'s; from now on nobody else may step it.
            patience: seconds after which a frame that doesn't come counts as lost, and is passed over when it comes;
                None waits for it.

        Raises:
            SessionError: the engine is closed.
        """
        if self._closing:
            raise SessionError("the engine is closed: make a new one")
        slot = Slot(self, give, seed, stream, patience)
        self._wake(lambda: self._slots.append(slot))
        return slot

    def close(self) -> None:
        """Ends all conversations."""

        def end() -> None:
            self._closing = True

        self._wake(end)
        self._thread.join(timeout=10)

    def pace(self, max_conversations: int = 16, steps: int = 12) -> int:
        """How many conversations at once this machine keeps up with: the largest batch whose step takes less than a
        frame lasts, with a fifth to spare. At least one. Call it before anyone joins."""
        engine = DuplexEngine(self.duplex, self.engine.sampling)
        silence, handles, fits = torch.zeros(self.frame_samples), [], 1
        while len(handles) < max_conversations:
            handles.append(engine.join())
            engine.step(dict.fromkeys(handles, silence))
            began = time.perf_counter()
            for _ in range(steps):
                engine.step(dict.fromkeys(handles, silence))
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
            with self._at_work:
                given = self._work(due)
            for slot, events in given:
                slot.since = time.monotonic()
                if slot.gone:
                    continue
                if isinstance(events, BaseException):
                    self._end(slot)
                if events:
                    slot.give(events)

    def _next(self) -> dict[Slot, _Work] | None:
        """Waits for something to do: what is to be done for whom; None at the end."""
        with self._ready:
            while True:
                for slot in [slot for slot in self._slots if slot.gone]:
                    self._end(slot)
                if self._closing:
                    return None
                due = {slot: work for slot in self._slots if (work := slot._next(self.max_waiting)) is not None}
                if due:
                    return due
                patient_until = [slot.since + slot.patience for slot in self._slots if slot.patience is not None]
                self._ready.wait(max(0.0, min(patient_until) - time.monotonic()) if patient_until else None)

    def _work(self, due: dict[Slot, _Work]) -> list[tuple[Slot, list[Event] | BaseException]]:
        """Does it, all frames in one step. An error ends those who were in it; the others go on."""
        given: dict[Slot, list[Event] | BaseException] = {}
        for slot, work in due.items():
            try:
                stream, given[slot] = slot._begun(), []
                for command in work.commands:
                    command(stream)
                if work.lost:
                    given[slot] = [LostEvent(work.lost, stream.time, work.reason)]
                    stream.skip(work.lost - 1)  # the lost frame is the last of them
            except BaseException as error:
                given[slot] = error
        hearing = {slot: slot.stream for slot in due if due[slot].hears and isinstance(given[slot], list)}
        try:
            made = step_together({stream: due[slot].frame for slot, stream in hearing.items()}) if hearing else {}
            for slot, stream in hearing.items():
                given[slot] += made[stream]
        except BaseException as error:
            given |= dict.fromkeys(hearing, error)
        return list(given.items())

    def _end(self, slot: Slot) -> None:
        slot.gone = True
        with self._ready:
            if slot in self._slots:
                self._slots.remove(slot)
        with self._at_work:
            if slot.stream is not None:
                slot.stream.leave()
                slot.stream = None
