"""The model's side of a Realtime connection: the commands of its session, done by the scheduler or a duplex engine.

What they find goes into the session on the event loop, in the order in which it was found, and nothing of it after an
answer was stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from antiphon.audio.pcm import RATE
from antiphon.dialogue.backend import Hearing, Listener
from antiphon.dialogue.events import AudioEvent, Event, LostEvent, Sampling
from antiphon.dialogue.half_duplex import Message, cut_sampling
from antiphon.dialogue.speculation import SpeculativeReply
from antiphon.dialogue.tool_calls import Functions
from antiphon.errors import AntiphonError, TooLongError
from antiphon.models.asr.heard import ENGLISH, HearingOptions
from antiphon.models.asr.language import language_code
from antiphon.serve.openai.tools import CALL_TOKENS
from antiphon.serve.realtime.commands import (
    Answer,
    Begin,
    Drop,
    Expect,
    Finish,
    Hear,
    Judge,
    Mute,
    Received,
    Resume,
    Stop,
)
from antiphon.serve.realtime.duplex_session import DuplexRealtimeSession
from antiphon.serve.realtime.items import messages
from antiphon.serve.realtime.session import RealtimeSession
from antiphon.serve.work.scheduler import SerialQueue, Stopped, Work

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.batched import Slot
    from antiphon.serve.recordings import Recorder
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

BLOCK_SAMPLES = RATE  # that are heard in one step
DRAFT_SECONDS = 0.4  # of sound after which what was heard so far is read ahead again
PATIENCE_SECONDS = 0.4  # that a duplex model waits for sound
CUSHION_SECONDS = 0.2  # of sound that a client is taken to hold before it plays
# In which an answer is due to begin: who is heard already and has less in store goes first.
START_SECONDS = 0.4


class Client(Protocol):
    """Who sends what the session says."""

    def flush(self) -> None:
        """Sends and does what has come out of the session."""

    def forget_sound(self, response_id: str) -> None:
        """Throws away the sound of a response that hasn't been sent yet."""


class ModelRunner:
    """Runs the model for one client.

    Args:
        session: whose commands are done.
        served: the server.
        client: is told when the session has something to say.

    Attributes:
        backlog: samples that wait to be heard.
        failed: a duplex model has, and can't go on.
    """

    def __init__(self, session: RealtimeSession, served: Served, client: Client):
        self.session, self.served, self.loop = session, served, asyncio.get_running_loop()
        self._client: Client | None = client
        self.failed = False
        self.backlog = 0
        self.recorder: Recorder | None = None
        if served.recordings is not None:
            self.recorder = served.recordings.begin(session.id, served.backend.name)
        # A model that takes turns
        self._hearing, self._speaking = SerialQueue(served.scheduler), SerialQueue(served.scheduler)
        self._chat = served.backend.chat() if served.engine is None else None
        self._listeners: dict[str, Listener] = {}
        self._failures: dict[str, str] = {}  # items that couldn't be heard, and why
        self._unheard: dict[str, list[np.ndarray]] = {}
        self._lock = threading.Lock()  # of what is unheard
        self._answers: dict[str, tuple[Work, SerialQueue]] = {}
        self._expected: dict[str, Answer] = {}  # by the item whose turn goes on
        self._undrafted: dict[str, int] = {}  # its samples since its words were read ahead
        self._reading = False  # ahead
        self._pausing: dict[str, object] = {}  # items whose turn is likely over, with a mark of that pause
        self._drafts: dict[str, tuple[object, Hearing]] = {}  # what was heard by then
        self._begun: SpeculativeReply | None = None  # the answer to it
        self._turn_ended: float | None = None
        self._language = ENGLISH  # of the last turn, which the next one is expected in
        # A duplex model
        self._slot: Slot | None = None
        self._unframed = np.zeros(0, np.float32)  # less than a frame
        self._framed = 0  # samples that the model has got, of those since `_live_since`
        self._live_since: float | None = None

    def begin(self) -> None:
        """Joins the engine of a duplex model, if there is one."""
        if self.served.engine is not None:
            self._slot = self.served.engine.join(lambda events: self._later(self._made, events))

    def run(self, command: object) -> None:
        """Does a command of the session."""
        COMMANDS[type(command)](self, command)

    def close(self) -> None:
        """The client has gone."""
        if self._slot is not None:
            self._slot.leave()
        self._hearing.close()
        for queue in (self._speaking, *(queue for _, queue in self._answers.values())):
            queue.close()
        # What remembers the conversation goes now, not when Python next looks for what nobody needs.
        if self._begun is not None:
            self._begun.decided = True
        self._chat = self._client = self._begun = None
        self._listeners.clear()
        self._answers.clear()

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        """Calls a function of ours on the event loop, from a worker."""

        def call() -> None:
            if self._client is not None:
                function(*args)
                self._client.flush()

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call)

    def _receive(self, command: Received) -> None:
        if self.recorder is not None:
            self.recorder.user(command.samples)
        if self._slot is not None:
            self._push(command.samples)

    # A duplex model

    def _push(self, samples: np.ndarray) -> None:
        assert self._slot is not None and self.served.engine is not None
        size = self.served.engine.frame_samples
        if self._live_since is None:
            self._live_since = time.monotonic()
        samples = np.concatenate([self._unframed, samples])
        whole = len(samples) // size * size
        self._unframed = samples[whole:]
        self._framed += whole
        for frame in torch.from_numpy(samples[:whole].copy()).split(size) if whole else ():
            self._slot.push(frame)

    def go_on(self, now: float) -> None:
        """Lets time go by for the model when the client sends nothing: what isn't there is silence."""
        if self._live_since is not None:
            behind = (now - self._live_since) * RATE - self._framed
            if behind > PATIENCE_SECONDS * RATE:
                self._push(np.zeros(int(behind), np.float32))

    def _mute(self, command: Mute) -> None:
        assert self._slot is not None
        self._slot.mute(command.silent)

    def _made(self, events: list[Event] | BaseException) -> None:
        if isinstance(events, BaseException):
            self._explain(events)
            self.failed = True
            return
        assert isinstance(self.session, DuplexRealtimeSession)
        self.served.metrics.frames.inc()
        for event in events:
            if isinstance(event, LostEvent):
                self.served.metrics.lost.inc(event.frames)
            elif isinstance(event, AudioEvent) and self.recorder is not None:
                self.recorder.model(event.audio.samples.numpy())
        self.session.frame(events, time.monotonic())

    # What the user says

    def _hear(self, command: Hear) -> None:
        if not self.session.model.transcribes:
            return
        with self._lock:
            waiting = self._unheard.setdefault(command.item_id, [])
            waiting.append(command.samples)
            self.backlog += len(command.samples)
            if len(waiting) > 1:  # who hears the first of them hears these as well
                return
        self._start_hearing(command.item_id, lambda: self._listen(command.item_id), START_SECONDS + 0.5)

    def _finish(self, command: Finish) -> None:
        item_id = command.item_id
        self._turn_ended = time.monotonic()

        def steps() -> Iterator[Any]:
            yield from self._listen(item_id)
            listener, failure = self._listeners.pop(item_id, None), self._failures.pop(item_id, None)
            mark, hearing = self._drafts.pop(item_id, (None, None))
            if hearing is None or mark is not self._pausing.get(item_id):  # else nothing but silence has come since
                hearing = listener.finish() if listener is not None else None
            self._forget(item_id)
            if hearing is not None and hearing.language is not None:
                self._language = hearing.language
            yield (item_id, hearing, failure)

        self._start_hearing(item_id, steps, START_SECONDS, finishing=True)

    def _judge(self, command: Judge) -> None:
        detector = self.served.turn_detector
        if detector is None:
            return

        def steps() -> Iterator[Any]:
            yield detector.probability(command.samples)

        def give(chance: float) -> None:
            self._later(lambda: self.session.judged(command.item_id, command.number, chance, time.monotonic()))

        def end(error: BaseException | None) -> None:
            if error is not None and not isinstance(error, Stopped):
                self._explain(error)

        self.served.scheduler.start(steps, time.monotonic(), give, end)

    # What is done before the user has finished

    def _expect(self, command: Expect) -> None:
        self._expected[command.item_id], self._undrafted[command.item_id] = command.answer, 0

    def _read_ahead(self, item_id: str) -> None:
        """On a worker: has what is known of the words of a turn read, if nobody waits for an answer."""
        expected, chat, listener = self._expected.get(item_id), self._chat, self._listeners.get(item_id)
        if expected is None or chat is None or listener is None or self._reading or item_id in self._pausing:
            return
        self._reading, self._undrafted[item_id] = True, 0
        draft = listener.draft()

        def steps() -> Iterator[None]:
            if item_id in self._expected and self._begun is None:
                yield from chat.read_ahead(messages(expected.turns), draft, expected.instructions, expected.functions)

        def end(error: BaseException | None) -> None:
            self._reading = False
            if error is not None:  # whoever asks for an answer will be told
                self._expected.pop(item_id, None)

        self._speaking.start(steps, time.monotonic() + START_SECONDS + 0.5, lambda _: None, end)

    def _begin_answer(self, command: Begin) -> None:
        item_id, mark = command.item_id, object()
        self._pausing[item_id] = mark

        def steps() -> Iterator[Any]:
            yield from self._listen(item_id)
            listener = self._listeners.get(item_id)
            if listener is None or self._pausing.get(item_id) is not mark:
                return
            hearing = listener.peek()
            self._drafts[item_id] = (mark, hearing)
            if command.answer is not None and hearing.is_speech:
                self._speculate(command, command.answer, hearing.message(), lambda: self._pausing.get(item_id) is mark)

        self._start_hearing(item_id, steps, 0.1)

    def _speculate(self, begin: Begin, command: Answer, heard: Message, wanted: Callable[[], bool]) -> None:
        """Looks at the words, and begins an answer that nobody is told of yet, if it is still wanted when its turn
        comes."""
        chat = self._chat

        def steps() -> Iterator[None]:
            if chat is None or not wanted():
                return
            past, how = [*messages(command.turns), heard], _how(command)
            yield from chat.read_ahead(past[:-1], heard.text, command.instructions, command.functions)
            chance, where = chat.sounds_over(), (begin.item_id, begin.number)
            self._later(lambda: self.session.worded(*where, chance, time.monotonic()))
            begun, self._begun = self._begun, None
            if begun is not None:
                begun.drop()
            begun = self._begun = SpeculativeReply(chat.answer(past, *how), past, how)
            try:
                while begun.step():
                    yield None
            except GeneratorExit:  # the client has gone
                begun.drop()
                raise

        self._speaking.start(steps, time.monotonic() + START_SECONDS, lambda _: None, lambda _: None)

    def _resume(self, command: Resume) -> None:
        if self._pausing.pop(command.item_id, None) is not None:
            if self._begun is not None:
                self._begun.decided = True

            def steps() -> Iterator[None]:
                begun, self._begun = self._begun, None
                if begun is not None:
                    begun.drop()
                yield None

            self._speaking.start(steps, time.monotonic() + START_SECONDS, lambda _: None, lambda _: None)

    def _forget(self, item_id: str) -> None:
        """Whatever was known of a turn that is over."""
        for known in (self._expected, self._undrafted, self._pausing, self._drafts):
            known.pop(item_id, None)

    def _drop(self, command: Drop) -> None:
        def steps() -> Iterator[Any]:
            self._listeners.pop(command.item_id, None)
            self._failures.pop(command.item_id, None)
            self._forget(command.item_id)
            yield None

        self._resume(Resume(command.item_id))
        self._take_unheard(command.item_id)
        self._start_hearing(command.item_id, steps, START_SECONDS + 0.5)

    def _listen(self, item_id: str) -> Iterator[None]:
        """Hears what has come for an item, on a worker."""
        gathered = self._take_unheard(item_id)
        if not gathered or item_id in self._failures:
            return
        samples = torch.from_numpy(np.concatenate(gathered))
        if item_id not in self._listeners:
            live = self.served.backend.writes_down or self.session.config["type"] == "realtime"
            self._listeners[item_id] = self.served.backend.listen(self._options(), live)
            yield None
        for part in samples.split(BLOCK_SAMPLES):
            self._listeners[item_id].step(part)
            yield None
            if item_id in self._expected:
                self._undrafted[item_id] = self._undrafted.get(item_id, 0) + len(part)
                if self._undrafted[item_id] >= DRAFT_SECONDS * RATE:
                    self._read_ahead(item_id)

    def _options(self) -> HearingOptions:
        """How turns are heard: in the language that the client names, or in whatever it turns out to be."""
        asked = (self.session.config["audio"]["input"]["transcription"] or {}).get("language")
        told = language_code(asked, self.served.backend.languages) if asked else None
        return HearingOptions(told, self._language)

    def _take_unheard(self, item_id: str) -> list[np.ndarray]:
        with self._lock:
            gathered = self._unheard.pop(item_id, [])
            self.backlog -= sum(map(len, gathered))
        return gathered

    def _start_hearing(
        self, item_id: str, steps: Callable[[], Iterator[Any]], within: float, finishing: bool = False
    ) -> None:
        def give(found: Any) -> None:
            self._later(lambda: self.session.heard(*found, time.monotonic()))

        def end(error: BaseException | None) -> None:
            if error is not None and not isinstance(error, Stopped):
                said = self._explain(error)
                self._listeners.pop(item_id, None)
                if not finishing:
                    self._failures[item_id] = said
                else:
                    self._later(lambda: self.session.heard(item_id, None, said, time.monotonic()))

        self._hearing.start(steps, time.monotonic() + within, give, end)

    # The answers

    def _answer(self, command: Answer) -> None:
        response_id, began = command.response_id, time.monotonic()
        asked = self._turn_ended or began
        self._turn_ended = None
        chat, queue = self._chat, self._speaking
        if command.outside or chat is None:
            chat, queue = self.served.backend.chat(), SerialQueue(self.served.scheduler)
        elif self._begun is not None:
            self._begun.decided = True
        played_from: float | None = None
        spoken = 0.0

        def steps() -> Iterator[Any]:
            past, how, begun = messages(command.turns), _how(command), None
            if chat is self._chat:
                begun, self._begun = self._begun, None
            if begun is not None and not begun.answers(past, how):
                begun.drop()
                begun = None
            answer = chat.answer(past, *how) if begun is None else begun.reply
            yield answer
            yield from answer.events() if begun is None else begun.events()

        def give(found: Any) -> None:
            nonlocal played_from, spoken
            if isinstance(found, AudioEvent):
                now = time.monotonic()
                if played_from is None:
                    played_from = now
                    self.served.metrics.first_audio.observe(now - asked)
                elif now > played_from + spoken + CUSHION_SECONDS:
                    self.served.metrics.late.inc()
                spoken += found.audio.duration
                self.served.metrics.frames.inc()
                work.due = played_from + spoken
            if hasattr(found, "events"):
                self._later(self.session.answer_begun, response_id, found)
            else:
                self._later(self._said, response_id, found)

        def end(error: BaseException | None) -> None:
            if isinstance(error, Stopped):
                self._later(self._answers.pop, response_id, None)
                return
            said = None if error is None else self._explain(error)

            def over() -> None:
                self._answers.pop(response_id, None)
                code = "context_length_exceeded" if isinstance(error, TooLongError) else "model_error"
                self.session.answer_ended(response_id, said, time.monotonic(), code)

            self._later(over)

        work = queue.start(steps, asked + START_SECONDS, give, end)
        self._answers[response_id] = (work, queue)

    def _said(self, response_id: str, found: object) -> None:
        if self.recorder is not None and isinstance(found, AudioEvent) and response_id in self.session.responses:
            self.recorder.model(found.audio.samples.numpy())
        self.session.answered(response_id, found, time.monotonic())

    def _stop(self, command: Stop) -> None:
        if self.recorder is not None:
            self.recorder.interrupted()
        if command.response_id in self._answers:
            self._answers[command.response_id][0].stop()
        if self._client is not None:
            self._client.forget_sound(command.response_id)

    def _explain(self, error: BaseException) -> str:
        """What a client may know of an error; the log gets where it was, without what was said."""
        self.served.metrics.errors.inc()
        if isinstance(error, AntiphonError):
            return str(error)
        log.error("session %s: the model failed", self.session.id, exc_info=error)
        return "The model failed; the session goes on."


def _how(command: Answer) -> tuple[Sampling, str | None, bool, Functions | None]:
    """What an answer is asked for with, besides its past."""
    how = Sampling(voice=command.voice)
    how = how if command.functions is None else replace(how, max_tokens=CALL_TOKENS)
    return cut_sampling(how, command.max_tokens), command.instructions, command.spoken, command.functions


COMMANDS: dict[type, Callable[[ModelRunner, Any], None]] = {
    Received: ModelRunner._receive,
    Hear: ModelRunner._hear,
    Finish: ModelRunner._finish,
    Judge: ModelRunner._judge,
    Expect: ModelRunner._expect,
    Begin: ModelRunner._begin_answer,
    Resume: ModelRunner._resume,
    Drop: ModelRunner._drop,
    Answer: ModelRunner._answer,
    Stop: ModelRunner._stop,
    Mute: ModelRunner._mute,
}
