"""Turns that build on each other, typed or spoken, each answered as a whole.

chat = Chat(backend)
chat.say_typed("My name is Ann.")
chat.say_spoken(question).text
for event in chat.stream_typed("What's my name?"): ...     # text and sound while they are made
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.backend import TurnBackend, check_voice, sounding
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, HeardEvent, ResultEvent, Sampling, TextEvent
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import Tool, ToolChat
from antiphon.errors import AntiphonError, SessionError
from antiphon.models.asr.heard import ENGLISH, HearingOptions
from antiphon.models.scene.scene import Scene


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        heard: what the user said, or typed.
        scene: what else was heard, where the model hears more than words.
        text: the answer.
        audio: the answer aloud; None for a written one.
        timings: seconds: "hear" from the call to the words, "first text" and "first audio" likewise to those, "total";
            and "speech", the length of the answer.
        calls: of functions that were called for it, with what came of them.
    """

    heard: str
    text: str
    audio: Audio | None = None
    timings: dict[str, float] = field(default_factory=dict)
    calls: tuple[ResultEvent, ...] = ()
    scene: Scene | None = None


class Chat:
    """Turns that build on each other, typed or spoken.

    Args:
        backend: what answers.
        sampling: how answers are drawn.
        text_only: answers are written by the plain language model, not spoken by the voice assistant.
        tools: that answers may call.
    """

    def __init__(
        self,
        backend: TurnBackend,
        sampling: Sampling | None = None,
        text_only: bool = False,
        tools: Sequence[Tool] = (),
    ):
        self.backend, self.text_only, self.sampling = backend, text_only, sampling or Sampling()
        chat = backend.chat(assistant=not text_only)
        self._chat = ToolChat(chat, tools) if tools else chat
        self._past: list[Message] = []
        self._language = ENGLISH  # of the last turn, which the next one is expected in

    def forget(self) -> None:
        """Begins anew: nothing of what was said is known any more."""
        self._past, self._language = [], ENGLISH

    def speak_as(self, voice: str) -> None:
        """From the next turn on, answers are spoken in this voice.

        Raises:
            ModelError: there is none of that name.
        """
        check_voice(voice, self.backend.voices)
        self.sampling = replace(self.sampling, voice=voice)

    def check_sees(self) -> None:
        """Raises SessionError if the model sees nothing."""
        if not self.backend.sees:
            raise SessionError("This model sees nothing: load a Qwen2.5-Omni for that.")

    def say_typed(self, text: str, seen: Sequence[Mapping[str, Any]] = ()) -> Reply:
        """A typed turn.

        Args:
            text: the words.
            seen: pictures and videos before them; see `say_contents`.
        """
        return _collected(self.stream_typed(text, seen))

    def stream_typed(self, text: str, seen: Sequence[Mapping[str, Any]] = ()) -> Generator[Event, None, Reply]:
        """A typed turn, whose answer is given while it is made: see `stream_spoken`."""
        if seen:
            return self._stream_contents([*seen, {"type": "text", "text": text}])
        return self._stream(Message("user", text), time.perf_counter(), {})

    def say_contents(self, contents: Sequence[Mapping[str, Any]]) -> Reply:
        """A turn of texts, pictures, videos and sounds in their order, for a model that sees: contents as its processor
        takes them, such as {"type": "image", "image": "cat.png"}.

        Raises:
            SessionError: the model sees nothing.
        """
        return _collected(self._stream_contents(contents))

    def _stream_contents(self, contents: Sequence[Mapping[str, Any]]) -> Generator[Event, None, Reply]:
        self.check_sees()
        text = " ".join(str(each["text"]) for each in contents if each.get("type") == "text")
        return self._stream(Message("user", text, contents=tuple(contents)), time.perf_counter(), {})

    def say_spoken(self, audio: Audio, seen: Sequence[Mapping[str, Any]] = ()) -> Reply:
        """A spoken turn. One without words is not answered; what else was heard of it is remembered.

        Args:
            audio: what is said.
            seen: pictures and videos before it; see `say_contents`.
        """
        return _collected(self.stream_spoken(audio, seen))

    def stream_spoken(self, audio: Audio, seen: Sequence[Mapping[str, Any]] = ()) -> Generator[Event, None, Reply]:
        """A spoken turn, see `say_spoken`, whose answer is given while it is made.

        Yields:
            What was heard (`HeardEvent`); then text, sound, calls and their results as they are ready, and the end.
            Whoever closes it before that leaves what was said so far in the conversation.

        Returns:
            The whole.
        """
        if seen:
            self.check_sees()
        began = time.perf_counter()
        hearing = self.backend.heard(audio, HearingOptions(expected=self._language))
        self._language = hearing.language or self._language
        if self.text_only and hearing.text:
            hearing = replace(hearing, embeddings=None)
        timings = {"hear": time.perf_counter() - began}
        yield HeardEvent(hearing.text, scene=hearing.scene)
        if hearing.is_speech:
            message = hearing.message()
            message = replace(message, contents=(*seen, hearing.content())) if seen else message
            reply = yield from self._stream(message, began, timings)
            return replace(reply, scene=hearing.scene)
        unworded = hearing.message()
        if not unworded.is_something and self.backend.sees:
            unworded = Message("user", "", heard=True, contents=sounding(audio))
        self._past += [unworded] if unworded.is_something else []  # it may be asked about
        yield EndEvent("")
        return Reply("", "", joined([], self.backend.sample_rate), timings, scene=hearing.scene)

    def _stream(self, message: Message, began: float, timings: dict[str, float]) -> Generator[Event, None, Reply]:
        before = len(self._past)
        self._past.append(message)
        pieces, calls = list[Tensor](), list[ResultEvent]()
        try:
            answer = self._chat.answer(self._past, self.sampling, spoken=not self.text_only)
            with closing(answer.events()) as events:
                while (event := _next(events)) is not None:
                    now = time.perf_counter() - began
                    if isinstance(event, TextEvent):
                        timings.setdefault("first text", now)
                    elif isinstance(event, AudioEvent):
                        timings.setdefault("first audio", now)
                        pieces.append(event.audio.samples)
                    elif isinstance(event, ResultEvent):
                        calls.append(event)
                    yield event
        except AntiphonError:  # a turn that fails doesn't end the conversation: it was never said
            del self._past[before:]
            raise
        except GeneratorExit:
            self._past += [answer.message] if answer.message is not None else []
            raise
        timings["total"] = time.perf_counter() - began
        self._past += [answer.message] if answer.message is not None else []
        if self.text_only:
            return Reply(message.text, answer.text.strip(), None, timings, tuple(calls))
        audio = joined(pieces, self.backend.sample_rate)
        return Reply(message.text, answer.text.strip(), audio, timings | {"speech": audio.duration}, tuple(calls))


def _next(events: Iterator[Event | None]) -> Event | None:
    """The next event that is one; None at the end."""
    with torch.no_grad():
        return next(filter(None, events), None)


def _collected(events: Generator[Any, None, Reply]) -> Reply:
    """What a stream returns at its end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def joined(pieces: Sequence[Tensor], sample_rate: int) -> Audio:
    """Pieces of sound, [samples] each, as one."""
    return Audio(torch.cat(pieces) if pieces else torch.zeros(0), sample_rate)
