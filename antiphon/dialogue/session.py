"""A live session: microphone frames in, events out, and `step` never waits for the model.

with model.session("half-duplex") as session: ...                     # HeardEvent, TextEvents, AudioEvents, EndEvent
with model.session("simplex", direction="listen") as session: ...     # HeardEvent at the end of each turn
with model.session("simplex", direction="speak") as session:
    session.say("Good morning.")                                      # TextEvent, AudioEvents, EndEvent
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from antiphon.audio.endpoint import Endpointer, FindsEnds
from antiphon.dialogue.backend import Backend, ChatSession, Hearing, Listener, StreamingReply
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, FailedEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.speculation import SpeculativeReply
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import Tool, ToolChat
from antiphon.dialogue.turn_ends import endpointer as default_endpointer
from antiphon.errors import SessionError, ToolCallError, TooLongError, UnsayableError
from antiphon.models.asr.heard import ENGLISH, HearingOptions

DIRECTIONS = ("listen", "speak")
DRAFT_SECONDS = 0.4  # of sound after which what was heard so far is read ahead again
IDLE_SECONDS = 30.0  # in which nobody spoke, after which what else was heard is put away
LEAD_SECONDS = 1.0  # before now that are heard again then, as somebody may just begin to speak


class Session(ABC):
    """What every live session is, whatever its model: a context manager that takes sound and gives events.

    A kind of session puts events, or the error that ended it, into `_events`, and says in `_end` how its work is ended.

    Attributes:
        mode: "full-duplex", "half-duplex" or "simplex".
        direction: of a simplex session, "listen" or "speak".
        sample_rate: of the sound both ways, Hz.
        frame_samples: of the 80 ms that `step` usually gets.

    Raises:
        SessionError: a mode that isn't one of `modes`, or a direction that there isn't.
    """

    sample_rate: int
    frame_samples: int

    def __init__(self, mode: str, direction: str, modes: Sequence[str]):
        check_mode(mode, direction, modes)
        self.mode, self.direction = mode, direction
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, frame: Tensor) -> list[Event]:
        """Gives the session what the microphone heard and takes what is ready; returns at once.

        Args:
            frame: float32 [samples] at `sample_rate`, usually 80 ms (`frame_samples`) of it.

        Returns:
            Events since the last call, in order.

        Raises:
            SessionError: the session is closed, or the frame isn't one-dimensional.
        """
        self._check_open()
        if frame.ndim != 1:
            raise SessionError(f"a frame is [samples], got {list(frame.shape)}; mix channels down first")
        self._take(frame)
        return self.poll()

    @abstractmethod
    def say(self, text: str) -> None:
        """Has the model say a text, after what it was given before."""

    @abstractmethod
    def end_of_turn(self) -> None:
        """Half-duplex: the user has finished; answer now."""

    @abstractmethod
    def interrupt(self, heard: float | None = None) -> None:
        """Half-duplex: the answer ends, and it is the user's turn.

        Args:
            heard: seconds of the answer that were played; a model that takes turns forgets the words after them. None:
                nothing of what came of it.
        """

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
        self._closed.set()
        self._end()

    @abstractmethod
    def _take(self, frame: Tensor) -> None:
        """Hands a frame to whoever works on it; doesn't wait."""

    @abstractmethod
    def _end(self) -> None:
        """Ends the work and waits for that, if it hasn't ended; `_closed` is set by then."""

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SessionError("the session is closed; open a new one with model.session()")


def check_mode(mode: str, direction: str, modes: Sequence[str]) -> None:
    """Whether there is such a session.

    Raises:
        SessionError: a mode that isn't one of `modes`, or a direction that isn't one of `DIRECTIONS`.
    """
    if mode not in modes:
        raise SessionError(f"this model has no {mode!r} session; it has {', '.join(map(repr, modes))}")
    if direction not in DIRECTIONS:
        raise SessionError(f"a simplex session listens or speaks: 'listen' or 'speak', not {direction!r}")


@dataclass(frozen=True)
class _Say:
    """Command: the text is to be read aloud."""

    text: str


@dataclass(frozen=True)
class _Forget:
    """Command: of the last answer no more than the first seconds was heard."""

    seconds: float


_END_OF_TURN, _CLOSE = object(), object()  # commands


class TurnSession(Session):
    """One side at a time, on a thread of its own.

    Half-duplex: the user speaks, then the model; what the user says meanwhile is not listened to. Simplex: the model
    writes down the user's turns ("listen"), or reads aloud what `say` gives it ("speak").

    While the user speaks, what has come so far is encoded, and what is known of the words is read ahead. A turn ends
    where the endpointer finds its end, or because the caller says so. When an `Endpointer` says that the end is likely,
    the answer is begun, and dropped if the user goes on. Sound comes as fast as it is made, faster than it is to be
    played.

    Args:
        backend: what listens, thinks and speaks.
        mode: "half-duplex" or "simplex".
        direction: of a simplex session.
        sampling: how answers are drawn.
        endpointer: finds the end of a turn, an `Endpointer` or a `SpeechDetector`; None leaves that to `end_of_turn`,
            or in a listening simplex session to an `Endpointer`.
        tools: that answers may call; CallEvents and ResultEvents tell of it.
    """

    def __init__(
        self,
        backend: Backend,
        mode: str = "half-duplex",
        direction: str = "listen",
        sampling: Sampling | None = None,
        endpointer: FindsEnds | None = None,
        tools: Sequence[Tool] = (),
    ):
        super().__init__(mode, direction, ("half-duplex", "simplex"))
        self.backend, self.sampling = backend, sampling or Sampling()
        if endpointer is None and mode == "simplex" and direction == "listen":
            endpointer = default_endpointer(backend.sample_rate)
        self.endpointer = endpointer
        if isinstance(endpointer, Endpointer):
            endpointer.worded = mode == "half-duplex"
        self.sample_rate, self.frame_samples = backend.sample_rate, backend.sample_rate * 2 // 25
        chat = backend.chat() if mode == "half-duplex" else None
        self._chat = ToolChat(chat, tools) if chat is not None and tools else chat
        self._past: list[Message] = []
        self._drafted: Hearing | None = None  # what was heard of a turn that is likely over
        self._begun: SpeculativeReply | None = None  # the answer to that
        self._given: StreamingReply | None = None  # the last answer
        self._draft, self._unread = "", 0  # what was read ahead, and the samples since
        self._idle: int | None = 0  # samples since the turn before; None where somebody speaks
        self._lead: deque[Tensor] = deque(maxlen=round(LEAD_SECONDS * 12.5))
        self._language = ENGLISH  # of the last turn, which the next one is expected in
        self._incoming: queue.SimpleQueue[Tensor | _Say | _Forget | object] = queue.SimpleQueue()
        self._interrupted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="antiphon-session", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Something to be read aloud, after what was given before.

        Raises:
            SessionError: the session is closed, or doesn't read aloud.
        """
        self._check_open()
        if (self.mode, self.direction) != ("simplex", "speak"):
            raise SessionError('this session answers; model.session("simplex", direction="speak") reads aloud')
        self._incoming.put(_Say(text))

    def end_of_turn(self) -> None:
        """The user has finished: answer now."""
        self._incoming.put(_END_OF_TURN)

    def interrupt(self, heard: float | None = None) -> None:
        """Stops the answer that is being made; it ends with an EndEvent marked so. Sound is made faster than it is
        played: with `heard`, the seconds of it that were, the conversation goes on from the words in them, also where
        all of the answer was made."""
        self._interrupted.set()
        if heard is not None:
            self._incoming.put(_Forget(heard))

    def _take(self, frame: Tensor) -> None:
        self._incoming.put(frame)

    def _end(self) -> None:
        self._interrupted.set()
        self._incoming.put(_CLOSE)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        listens = self.mode == "half-duplex" or self.direction == "listen"
        try:
            listener = self._listen() if listens else None  # before the turn begins: the first takes a while
            self._read_ahead(listener)
            while not self._closed.is_set():
                item = self._next()
                if isinstance(item, _Say):
                    self._read_aloud(item.text)
                elif isinstance(item, _Forget):
                    self._forget(item.seconds)
                elif listener is None or item is _CLOSE:
                    continue
                elif item is _END_OF_TURN or (isinstance(item, Tensor) and self._hears_end(listener, item)):
                    self._turn_over(listener)
                    listener = self._listen(HearingOptions(expected=self._language))
                elif isinstance(item, Tensor) and self._waits(item):
                    listener = self._put_away(listener)
        except BaseException as error:  # handed to the caller: a thread must not die in silence
            self._events.put(error)
        finally:
            self._drop()

    def _listen(self, options: HearingOptions | None = None) -> Listener:
        """The next turn, heard; a session that answers nothing wants the words."""
        live = self._chat is not None or self.backend.writes_down
        if self._chat is not None:
            options = replace(options or HearingOptions(), likelihoods=self._chat.likelihoods)
        return self.backend.listen(options, live)

    def _next(self) -> Tensor | _Say | object:
        """What came next; while nothing has, an answer that was begun is gone on with."""
        while self._incoming.empty() and self._begun is not None and self._begun.step():
            pass
        return self._incoming.get()

    def _hears_end(self, listener: Listener, frame: Tensor) -> bool:
        """Listens to a frame; whether it ends the turn."""
        listener.step(frame)
        over = False
        for event in self.endpointer.step(frame.numpy()) if self.endpointer is not None else ():
            if event.kind == "likely":
                self._begin(listener)
            elif event.kind in ("start", "resume"):
                self._idle = None
                self._drop()
            over = over or event.kind == "stop"
        self._unread += len(frame)
        if not over and self._drafted is None and self._unread >= DRAFT_SECONDS * self.sample_rate:
            self._read_ahead(listener)
        return over

    def _waits(self, frame: Tensor) -> bool:
        """Whether nobody has spoken for a while, up to this frame."""
        self._lead.append(frame)
        if self._idle is None or self.endpointer is None:
            return False
        self._idle += len(frame)
        return self._idle >= IDLE_SECONDS * self.sample_rate

    def _put_away(self, listener: Listener) -> Listener:
        """Keeps what was heard while nobody spoke, and goes on with a listener that has heard nothing else."""
        heard, self._idle = listener.finish(), 0
        if heard.text:  # somebody speaks, too softly for the endpointer
            return listener
        self._keep(heard)
        listener = self._listen(HearingOptions(expected=self._language))
        for frame in self._lead:
            listener.step(frame)
        return listener

    def _keep(self, heard: Hearing) -> None:
        """What was heard without words isn't answered, but it may be asked about: the last of it is kept."""
        if heard.notes is not None and heard.message().is_something:
            if self._past and self._past[-1].notes is not None and not self._past[-1].text:
                self._past.pop()
            self._past.append(heard.message())

    def _read_ahead(self, listener: Listener | None) -> None:
        """Has what is known of the words read, if there is time for that."""
        if self._chat is None or listener is None or not self._incoming.empty():
            return
        self._unread = 0
        draft = listener.draft()
        if draft != self._draft or not draft:
            for _ in self._chat.read_ahead(self._past, draft):
                pass
            self._draft = draft

    def _begin(self, listener: Listener) -> None:
        """The turn is likely over: begins an answer."""
        self._drop()
        self._drafted = listener.peek()
        if self._chat is not None and self._drafted.is_speech:
            if isinstance(self.endpointer, Endpointer):
                for _ in self._chat.read_ahead(self._past, self._drafted.text):
                    pass
                self.endpointer.judge_words(self._chat.sounds_over())
            if isinstance(self._chat, ToolChat):
                return  # what a function does can't be undone
            past = [*self._past, self._drafted.message()]
            self._begun = SpeculativeReply(self._chat.answer(past, self.sampling), past)

    def _drop(self) -> None:
        """The turn wasn't over, or is no more."""
        begun, self._begun, self._drafted = self._begun, None, None
        if begun is not None:
            begun.drop()

    def _turn_over(self, listener: Listener) -> None:
        # Of a turn that was likely over, nothing but silence has come since.
        heard = self._drafted or listener.finish()
        self._language = heard.language or self._language
        if self.endpointer is not None:
            self.endpointer.stop()
        self._interrupted.clear()  # before the first event: who has seen one may interrupt
        if self._chat is not None or heard.text:
            self._events.put(HeardEvent(heard.text, scene=heard.scene))
        if self._chat is not None:
            self._answer(self._chat, heard)
        self._drop()
        self._draft, self._unread, self._idle = "", 0, 0

    def _answer(self, chat: ChatSession | ToolChat, heard: Hearing) -> None:
        if not heard.is_speech:
            self._keep(heard)
            self._events.put(EndEvent(""))
            return
        before = len(self._past)
        self._past.append(heard.message())
        try:
            begun = self._begun or SpeculativeReply(chat.answer(self._past, self.sampling), self._past)
            making = begun.events()
            self._give(making, lambda: begun.reply.text)
            making.close()
            self._given = begun.reply
            if begun.reply.message is not None:
                self._past.append(begun.reply.message)
        except (ToolCallError, TooLongError) as error:  # of this turn, not of the conversation
            del self._past[before:]
            self._events.put(FailedEvent(str(error)))
            self._events.put(EndEvent(""))
        self._pass_over_frames()

    def _read_aloud(self, text: str) -> None:
        self._interrupted.clear()
        self._events.put(TextEvent(text))
        try:
            whole = self._give(map(AudioEvent, self.backend.say(text, self.sampling)), lambda: text)
        except UnsayableError:
            whole = True  # there is nothing to be heard of it
        if whole:
            self._events.put(EndEvent(text))

    def _give(self, events: Iterator[Event | None], said: Callable[[], str]) -> bool:
        """Hands events to the caller as they are made; false if that was interrupted, which is told too."""
        for event in events:
            if self._interrupted.is_set() or self._closed.is_set():
                self._events.put(EndEvent(said(), interrupted=True))
                return False
            if event is not None:
                self._events.put(event)
        return True

    def _forget(self, seconds: float) -> None:
        """Leaves of the last answer what was heard of it."""
        if self._given is not None and self._past and self._past[-1] is self._given.message:
            self._past[-1] = replace(self._past[-1], text=self._given.until(seconds))

    def _pass_over_frames(self) -> None:
        """What was said during an answer is gone, and so is a word that it was over."""
        while not self._incoming.empty():
            item = self._incoming.get()
            if isinstance(item, _Forget):
                self._forget(item.seconds)
            elif item is _CLOSE:
                self._incoming.put(_CLOSE)
                return
