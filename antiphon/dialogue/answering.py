"""The half of a full-duplex session that works: hears words, thinks, speaks, a small step at a time.

    answering = Answering(backend, sampling, player, tell)
    answering.ask("begin", frames); answering.ask("hear", frame); ...        # at once, from any thread
    while answering.work(): ...                                              # on one thread, or between frames

What it is asked comes in order and before any answer is gone on with, so that nobody speaks past what was heard.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from antiphon.dialogue.backend import Backend, Hearing, Listener, StreamingReply
from antiphon.dialogue.events import (
    AudioEvent,
    CallEvent,
    EndEvent,
    Event,
    FailedEvent,
    HeardEvent,
    Sampling,
    TextEvent,
)
from antiphon.dialogue.said import SaidReply
from antiphon.dialogue.speculation import SpeculativeReply
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import Tool, ToolChat
from antiphon.errors import ToolCallError, TooLongError
from antiphon.models.asr.heard import ENGLISH, HearingOptions

DRAFT_SECONDS = 0.4  # of sound after which what was heard so far is read ahead again
INTERRUPTS = -1.0  # nats by which words said into an answer have to be likelier of who interrupts than of who listens
ADDRESSED = -1.0  # nats by which a sentence has to be likelier said to an assistant than to somebody else
FAR_DB = 15.0  # by which who speaks far away is softer than the loudest turn so far
SURE = 0.55  # how sure the recognizer has to be of the words, for an answer to them instead of a question
# Said as they stand: language models of every size would have to be told, and small ones don't follow.
UNCLEAR = "Sorry, could you say that again?"
NUDGE = "Are you still there?"


class Player:
    """Sound on its way to the loudspeaker: one thread makes it, another takes it as it is to be played.

    Attributes:
        played: seconds of the answer that were taken.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self.played = sample_rate, 0.0
        self._waiting: deque[Tensor] = deque()
        self._lock = threading.Lock()
        self._complete = True

    @property
    def playing(self) -> bool:
        """Whether something of an answer is to be played yet; also while its first sound is being made."""
        with self._lock:
            return bool(self._waiting) or not self._complete

    @property
    def sounds(self) -> bool:
        """Whether an answer has begun to sound, or can, and isn't over."""
        with self._lock:
            return bool(self._waiting) or (not self._complete and self.played > 0)

    def begin(self) -> None:
        """An answer begins."""
        with self._lock:
            self._waiting.clear()
            self.played, self._complete = 0.0, False

    def put(self, samples: Tensor) -> None:
        """The next of its sound, [n]."""
        with self._lock:
            if not self._complete:
                self._waiting.append(samples)

    def end(self) -> None:
        """Nothing more comes."""
        with self._lock:
            self._complete = True

    def clear(self) -> None:
        """It is dropped."""
        with self._lock:
            self._waiting.clear()
            self._complete = True

    def take(self, count: int) -> Tensor:
        """What is played next, [at most count]."""
        with self._lock:
            taken: list[Tensor] = []
            missing = count
            while self._waiting and missing:
                piece = self._waiting.popleft()
                taken.append(piece[:missing])
                if len(piece) > missing:
                    self._waiting.appendleft(piece[missing:])
                missing -= len(taken[-1])
            self.played += (count - missing) / self.sample_rate
        return torch.cat(taken) if taken else torch.zeros(0)


class Answering:
    """See the module.

    Args:
        backend: what listens, thinks and speaks.
        sampling: how answers are drawn.
        player: gets their sound.
        tell: takes events.
        judged: takes how likely the words of a turn are all, when its end is likely.
        tools: that answers may call; while one runs, hearing goes on.
        filler: is said when a tool is called, [n].
        selective: only who speaks to the assistant, and is not far away, is answered.

    Attributes:
        past: of the conversation; an interrupted answer has the words that were heard of it.
        reply: the last answer.
        verdict: on what was said into an answer (`ask("judge")`): "turn" or "nothing"; None while it isn't known.
    """

    def __init__(
        self,
        backend: Backend,
        sampling: Sampling,
        player: Player,
        tell: Callable[[Event], None],
        judged: Callable[[float], None],
        tools: Sequence[Tool] = (),
        filler: Tensor | None = None,
        selective: bool = False,
    ) -> None:
        self.backend, self.sampling, self.player = backend, sampling, player
        self.past: list[Message] = []
        self.reply: StreamingReply | None = None
        self.verdict: str | None = None
        self._tell, self._judged = tell, judged
        self._asked: deque[tuple[str, object]] = deque()
        self._some = threading.Event()
        self._chat = ToolChat(backend.chat(), tools) if tools else backend.chat()
        self._filler, self._filled = filler, 0.0  # seconds of it in the answer
        self._listener: Listener | None = None
        self._drafted: Hearing | None = None  # what was heard of a turn that is likely over
        self._begun: SpeculativeReply | None = None  # the answer to that
        self._making: Generator[Event | None, None, None] | None = None
        self._draft, self._unread = "", 0.0
        self._has_read = False  # what comes before the turn
        self._language = ENGLISH
        self._selective, self._loudest = selective, -200.0  # decibels of full scale

    def ask(self, what: str, about: object = None) -> None:
        """Asks for something; returns at once.

        Args:
            what: "begin" a turn of the user (about: frames of it that have come); "hear" a frame; the turn is "likely"
                over, or "resumed"; it is "over", answer (about: seconds from when to when it was said, and its level,
                decibels of full scale); what was said was "nothing"; "judge" what was said into an answer; "stop" the
                answer (about: seconds of it that were heard); "nudge" a user who is silent.
            about: see there.
        """
        if what in ("begin", "judge"):
            self.verdict = None
        self._asked.append((what, about))
        self._some.set()

    def wait(self, seconds: float) -> None:
        """Waits until something is asked."""
        self._some.wait(seconds)

    def work(self) -> bool:
        """Does a little; false if there is nothing to do."""
        self._some.clear()
        if self._asked:
            what, about = self._asked.popleft()
            getattr(self, f"_{what}")(about)
            return True
        if self._making is not None:
            self._make()
            return True
        if not self._has_read:  # the instructions, and what was said: the answer would have to wait for it
            self._read("")
            return True
        return self._begun is not None and self._begun.step()

    def until(self, seconds: float) -> str:
        """The words of the last answer that are heard in its first `seconds`."""
        return self.reply.until(max(0.0, seconds - self._filled)) if self.reply is not None else ""

    def close(self) -> None:
        """Drops what is under way."""
        self._drop()
        if self._making is not None:
            self._making.close()

    # What can be asked

    def _begin(self, frames: object) -> None:
        self._drop()
        self._draft, self._unread = "", 0.0
        self._has_read = self._has_read and not self.past
        how = HearingOptions(expected=self._language, likelihoods=self._chat.likelihoods)
        self._listener = self.backend.listen(how, True)
        assert isinstance(frames, Sequence)
        for frame in frames:
            self._listener.step(frame)

    def _hear(self, frame: object) -> None:
        if self._listener is None or not isinstance(frame, Tensor):
            return
        self._listener.step(frame)
        self._unread += len(frame) / self.backend.sample_rate
        free = not self._asked and self._making is None and self._drafted is None
        if free and self._unread >= DRAFT_SECONDS:
            self._unread = 0.0
            if (draft := self._listener.draft()) != self._draft:
                self._read(draft)

    def _likely(self, _: object) -> None:
        self._drop()
        if self._listener is None:
            return
        self._drafted = self._listener.peek()
        if not self._drafted.is_speech:
            return
        self._read(self._drafted.text)
        self._judged(self._chat.sounds_over())
        if isinstance(self._chat, ToolChat) or self._drafted.confidence < SURE:
            return  # what a function does can't be undone
        past = [*self.past, self._drafted.message()]
        self._begun = SpeculativeReply(self._chat.answer(past, self.sampling), past)

    def _resumed(self, _: object) -> None:
        self._drop()

    def _nothing(self, _: object) -> None:
        self._drop()
        self._listener = None

    def _judge(self, _: object) -> None:
        heard = self._listener.peek() if self._listener is not None else Hearing("")
        taken = heard.is_speech and (not heard.text or self._chat.interrupts(heard.text) >= INTERRUPTS)
        self.verdict = "turn" if taken else "nothing"

    def _nudge(self, _: object) -> None:
        if self.past and self._making is None:
            self._give(SaidReply(self.backend, NUDGE, self.sampling))

    def _over(self, about: object) -> None:
        if self._listener is None:
            return
        assert isinstance(about, tuple)
        *times, level = about
        # Of a turn that was likely over, nothing but silence has come since.
        heard, self._listener = self._drafted or self._listener.finish(), None
        self._language = heard.language or self._language
        # A sound that was taken for a voice, or what was said to somebody else: nobody is answered.
        if not heard.is_speech or (self._selective and not self._is_addressed(heard, level)):
            self._drop()
            return
        self._tell(HeardEvent(heard.text, *times, scene=heard.scene))
        self.past.append(heard.message())
        begun, self._begun, self._drafted = self._begun, None, None
        clear = heard.confidence >= SURE
        if begun is not None and not (clear and begun.answers(self.past)):
            begun.drop()
            begun = None
        if not clear:
            self._give(SaidReply(self.backend, UNCLEAR, self.sampling))
        else:
            self._give(begun or self._chat.answer(self.past, self.sampling))

    def _give(self, reply: StreamingReply | SpeculativeReply) -> None:
        """Has a reply made and played."""
        self.reply = reply.reply if isinstance(reply, SpeculativeReply) else reply
        self._filled = 0.0
        self.player.begin()
        self._making = reply.events()

    def _is_addressed(self, heard: Hearing, level: float) -> bool:
        """Whether a turn of so many decibels of full scale was said to the assistant."""
        if level < self._loudest - FAR_DB:
            return False
        said_here = not heard.text or self._chat.addressed(heard.text) >= ADDRESSED
        self._loudest = max(self._loudest, level) if said_here else self._loudest
        return said_here

    def _stop(self, seconds: object) -> None:
        assert isinstance(seconds, float)
        self.player.clear()
        reply, making, self._making = self.reply, self._making, None
        if reply is None:
            return
        if making is not None:
            making.close()
            if reply.message is not None and not reply.message.calls:  # whose results never came
                self.past.append(reply.message)
        heard = self.until(seconds)
        if self.past and self.past[-1] is reply.message:
            self.past[-1] = replace(self.past[-1], text=heard)
        self.reply = None
        self._tell(EndEvent(heard, interrupted=True))

    # Work

    def _make(self) -> None:
        assert self._making is not None
        try:
            event = next(self._making, self)
        except (ToolCallError, TooLongError) as error:  # of this turn, not of the conversation
            self.past.pop()
            self._tell(FailedEvent(str(error)))
            event = self
        if isinstance(event, AudioEvent):
            self.player.put(event.audio.samples)
        elif event is self:
            self._making = None
            if self.reply is not None and self.reply.message is not None:
                self.past.append(self.reply.message)
            self.player.end()
        elif event is not None and not isinstance(event, (TextEvent, EndEvent)):  # told as they sound
            if isinstance(event, CallEvent) and self._filler is not None and not self._filled:
                self.player.put(self._filler)
                self._filled = len(self._filler) / self.player.sample_rate
            self._tell(event)

    def _read(self, words: str) -> None:
        """Has the language model read what is known of the words."""
        self._has_read = True
        for _ in self._chat.read_ahead(self.past, words):
            pass
        self._draft = words

    def _drop(self) -> None:
        begun, self._begun, self._drafted = self._begun, None, None
        if begun is not None:
            begun.drop()
