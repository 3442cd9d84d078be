"""The model's side of a Realtime connection: the commands of the machine, done by the workers or by a duplex engine.

What they find goes into the machine on the event loop, in the order in which it was found, and nothing of it after an
answer was stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from antiphon.audio.pcm import RATE
from antiphon.dialogue.events import AudioEvent, Event, LostEvent, Sampling
from antiphon.dialogue.half_duplex import Listener, cut_sampling
from antiphon.errors import AntiphonError, TooLongError
from antiphon.serve.openai.tools import CALL_TOKENS
from antiphon.serve.realtime.commands import Answer, Drop, Finish, Hear, Heard, Peek, Stop
from antiphon.serve.realtime.duplex_session import Frames, LiveSession, Mute
from antiphon.serve.realtime.items import messages
from antiphon.serve.realtime.session import RealtimeSession
from antiphon.serve.work.scheduler import Handle, Lane, Stopped

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.batched import Slot
    from antiphon.serve.recordings import Recorder
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

BLOCK = 24000  # samples that are heard in one step
PATIENCE = 0.4  # seconds that a duplex model waits for sound
CUSHION = 0.2  # seconds of sound that a client is taken to hold before it plays
START = 0.4  # seconds in which an answer is due to begin: who is heard already and has less in store goes first


class ModelWork:
    """One client's. Who derives from it sends what the machine says (`flush`).

    Args:
        session: the machine.
        served: the server.
    """

    def __init__(self, session: RealtimeSession, served: Served):
        self.session, self.served, self.loop = session, served, asyncio.get_running_loop()
        self.slot: Slot | None = None
        self.unframed = np.zeros(0, np.float32)  # less than a frame
        self.framed = 0  # samples that the slot has got, of those since `live_since`
        self.live_since: float | None = None
        self.failed = False  # of a duplex model, which can't go on
        self.ears, self.mouth = Lane(served.workers), Lane(served.workers)
        self.chat = served.backend.chat() if served.engine is None else None
        self.listeners: dict[str, Listener] = {}
        self.unheard_of: dict[str, str] = {}  # items that couldn't be heard, and why
        self.unheard: dict[str, list[np.ndarray]] = {}
        self.backlog = 0  # samples that wait to be heard
        self.lock = threading.Lock()  # of the two before
        self.answers: dict[str, Handle] = {}
        self.lanes: dict[str, Lane] = {}
        self.turn_ended: float | None = None
        self.ended = False
        self.recorder: Recorder | None = None
        if served.recordings is not None:
            self.recorder = served.recordings.begin(session.id, served.backend.name)
            session.tapped = True

    def flush(self) -> None:
        """Sends and does what has come out of the machine."""
        raise NotImplementedError

    def forget_sound(self, response_id: str) -> None:
        """Throws away the sound of a response that hasn't been sent yet."""
        raise NotImplementedError

    def do(self, command: object) -> None:
        """Does a command of the machine."""
        COMMANDS[type(command)](self, command)

    def take_slot(self) -> None:
        """Joins the engine of a duplex model, if there is one."""
        if self.served.engine is not None:
            self.slot = self.served.engine.join(lambda events: self._later(self._made, events))

    def stop_work(self) -> None:
        """The client has gone."""
        self.ended = True
        if self.slot is not None:
            self.slot.leave()
        self.ears.close()
        for lane in (self.mouth, *self.lanes.values()):
            lane.close()
        self.chat = None  # what remembers the conversation goes now, not when Python next looks for what nobody needs
        self.listeners.clear()

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        """Calls a function of ours on the event loop, from a worker."""

        def call() -> None:
            if not self.ended:
                function(*args)
                self.flush()

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call)

    # A duplex model

    def _frames(self, command: Frames) -> None:
        assert self.slot is not None and self.served.engine is not None
        size = self.served.engine.frame_samples
        if self.live_since is None:
            self.live_since = time.monotonic()
        samples = np.concatenate([self.unframed, command.samples])
        whole = len(samples) // size * size
        self.unframed = samples[whole:]
        self.framed += whole
        for frame in torch.from_numpy(samples[:whole].copy()).split(size) if whole else ():
            self.slot.push(frame)

    def go_on(self, now: float) -> None:
        """Lets time go by for the model when the client sends nothing: what isn't there is silence."""
        if self.live_since is not None:
            behind = (now - self.live_since) * RATE - self.framed
            if behind > PATIENCE * RATE:
                self._frames(Frames(np.zeros(int(behind), np.float32)))

    def _mute(self, command: Mute) -> None:
        assert self.slot is not None
        self.slot.mute(command.silent)

    def _made(self, events: list[Event] | BaseException) -> None:
        if isinstance(events, BaseException):
            self._explain(events)
            self.failed = True
            return
        assert isinstance(self.session, LiveSession)
        self.served.metrics.frames.inc()
        for event in events:
            if isinstance(event, LostEvent):
                self.served.metrics.lost.inc(event.frames)
            elif isinstance(event, AudioEvent) and self.recorder is not None:
                self.recorder.model(event.audio.samples.numpy())
        self.session.frame(events, time.monotonic())

    # The ears

    def _hear(self, command: Hear) -> None:
        if not self.served.hears:
            return
        with self.lock:
            waiting = self.unheard.setdefault(command.item_id, [])
            waiting.append(command.samples)
            self.backlog += len(command.samples)
            if len(waiting) > 1:  # who hears the first of them hears these as well
                return
        self._start_ears(command.item_id, lambda: self._listen(command.item_id), START + 0.5)

    def _finish(self, command: Finish) -> None:
        item_id = command.item_id
        self.turn_ended = time.monotonic()

        def steps() -> Iterator[Any]:
            yield from self._listen(item_id)
            listener, failure = self.listeners.pop(item_id, None), self.unheard_of.pop(item_id, None)
            yield (item_id, listener.finish() if listener is not None else None, failure)

        self._start_ears(item_id, steps, START, finishing=True)

    def _peek(self, command: Peek) -> None:
        def steps() -> Iterator[Any]:
            yield from self._listen(command.item_id)
            if (listener := self.listeners.get(command.item_id)) is not None:
                yield (command, listener.peek())

        self._start_ears(command.item_id, steps, 0.1)

    def _drop(self, command: Drop) -> None:
        def steps() -> Iterator[Any]:
            self.listeners.pop(command.item_id, None)
            self.unheard_of.pop(command.item_id, None)
            yield None

        self._take_unheard(command.item_id)
        self._start_ears(command.item_id, steps, START + 0.5)

    def _listen(self, item_id: str) -> Iterator[None]:
        """Hears what has come for an item, on a worker."""
        gathered = self._take_unheard(item_id)
        if not gathered or item_id in self.unheard_of:
            return
        samples = torch.from_numpy(np.concatenate(gathered))
        if item_id not in self.listeners:
            self.listeners[item_id] = self.served.backend.listen()
            yield None
        for part in samples.split(BLOCK):
            self.listeners[item_id].step(part)
            yield None

    def _take_unheard(self, item_id: str) -> list[np.ndarray]:
        with self.lock:
            gathered = self.unheard.pop(item_id, [])
            self.backlog -= sum(map(len, gathered))
        return gathered

    def _start_ears(
        self, item_id: str, steps: Callable[[], Iterator[Any]], within: float, finishing: bool = False
    ) -> None:
        def give(found: Any) -> None:
            if isinstance(found[0], Peek):
                self._later(lambda: self.session.peeked(found[0].item_id, found[0].number, found[1], time.monotonic()))
            else:
                self._later(lambda: self.session.heard(*found, time.monotonic()))

        def end(error: BaseException | None) -> None:
            if error is not None and not isinstance(error, Stopped):
                said = self._explain(error)
                self.listeners.pop(item_id, None)
                if not finishing:
                    self.unheard_of[item_id] = said
                else:
                    self._later(lambda: self.session.heard(item_id, None, said, time.monotonic()))

        self.ears.start(steps, time.monotonic() + within, give, end)

    # The answers

    def _answer(self, command: Answer) -> None:
        response_id, began = command.response_id, time.monotonic()
        asked = self.turn_ended or began
        self.turn_ended = None
        chat, lane = self.chat, self.mouth
        if command.outside or chat is None:
            chat, lane = self.served.backend.chat(), Lane(self.served.workers)
        if command.outside:
            self.lanes[response_id] = lane
        played_from: float | None = None
        spoken = 0.0

        def steps() -> Iterator[Any]:
            how = Sampling() if command.functions is None else Sampling(max_tokens=CALL_TOKENS)
            how, past = cut_sampling(how, command.most), messages(command.turns)
            answer = chat.answer(past, how, command.instructions, command.spoken, command.functions)
            yield answer
            yield from answer.events()

        def give(found: Any) -> None:
            nonlocal played_from, spoken
            if isinstance(found, AudioEvent):
                now = time.monotonic()
                if played_from is None:
                    played_from = now
                    self.served.metrics.first_audio.observe(now - asked)
                elif now > played_from + spoken + CUSHION:
                    self.served.metrics.late.inc()
                spoken += found.audio.duration
                self.served.metrics.frames.inc()
                handle.set_due(played_from + spoken)
            if hasattr(found, "events"):
                self._later(self.session.answer_begun, response_id, found)
            else:
                self._later(self._said, response_id, found)

        def end(error: BaseException | None) -> None:
            if isinstance(error, Stopped):
                self._later(self._forget, response_id)
                return
            said = None if error is None else self._explain(error)

            def over() -> None:
                self._forget(response_id)
                code = "context_length_exceeded" if isinstance(error, TooLongError) else "model_error"
                self.session.answer_ended(response_id, said, time.monotonic(), code)

            self._later(over)

        handle = lane.start(steps, asked + START, give, end)
        self.answers[response_id] = handle

    def _said(self, response_id: str, found: object) -> None:
        if self.recorder is not None and isinstance(found, AudioEvent) and response_id in self.session.responses:
            self.recorder.model(found.audio.samples.numpy())
        self.session.answered(response_id, found, time.monotonic())

    def _tap(self, command: Heard) -> None:
        if self.recorder is not None:
            self.recorder.user(command.samples)

    def _stop(self, command: Stop) -> None:
        if self.recorder is not None:
            self.recorder.interrupted()
        handle = self.answers.get(command.response_id)
        if handle is not None:
            handle.stop()
        self.forget_sound(command.response_id)

    def _forget(self, response_id: str) -> None:
        self.answers.pop(response_id, None)
        self.lanes.pop(response_id, None)

    def _explain(self, error: BaseException) -> str:
        """What a client may know of an error; the log gets where it was, without what was said."""
        self.served.metrics.errors.inc()
        if isinstance(error, AntiphonError):
            return str(error)
        log.error("session %s: the model failed", self.session.id, exc_info=error)
        return "The model failed; the session goes on."


COMMANDS: dict[type, Callable[[ModelWork, Any], None]] = {
    Hear: ModelWork._hear,
    Heard: ModelWork._tap,
    Finish: ModelWork._finish,
    Peek: ModelWork._peek,
    Drop: ModelWork._drop,
    Answer: ModelWork._answer,
    Stop: ModelWork._stop,
    Frames: ModelWork._frames,
    Mute: ModelWork._mute,
}
