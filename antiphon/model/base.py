"""What every model that can be talked to has in common, and what `Model`'s kinds share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from antiphon import hub
from antiphon.audio.given import as_stream
from antiphon.audio.io import Audio
from antiphon.dialogue.chat import Chat, Reply
from antiphon.dialogue.events import Event, Sampling
from antiphon.dialogue.session import Session
from antiphon.dialogue.tools import Tool
from antiphon.errors import HubError, SessionError
from antiphon.models.asr.heard import Heard
from antiphon.models.asr.recognizer import RATE as HEARING_RATE

if TYPE_CHECKING:
    from antiphon.audio.endpoint import FindsEnds
    from antiphon.audio.given import Sound


class Model(ABC):
    """What every model that `load` gives can be asked for; one that can't do it says so (`SessionError`)."""

    @abstractmethod
    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """What was said: `.text`, `.language`, and what else a thinker reads of it.

        Args:
            audio, sample_rate: see `as_audio`; a file may be of any length, and is read as it is heard.
            language: that is spoken ("ru", "Russian"); None to find out.
            translate: into English.
            words: with each word's times and confidence, `.words`.
            scene: with what else is heard, `.scene`, by a model that hears more than words; False saves the work.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
            ModelError: a language that isn't known.
        """

    @abstractmethod
    def reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Reply:
        """Answers a spoken question aloud.

        Args:
            audio, sample_rate: the question; see `as_audio`.
            seed: the same seed gives the same wav.
            temperature, top_k: of the voice; None is the model's own.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
        """

    def stream_reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Generator[Event, None, Reply]:
        """Answers a spoken question as `reply` does, and gives the answer while it is made.

            for event in model.stream_reply("question.wav"):
                if isinstance(event, AudioEvent):
                    speaker.write(event.audio.samples)         # 80 ms

        Yields:
            What was heard (`HeardEvent`); then text (`TextEvent`) and sound (`AudioEvent`) as they are ready, and the
            end (`EndEvent`).

        Raises:
            AudioError: see `reply`.
            SessionError: a model that listens and speaks at once.
        """
        raise SessionError("This model talks live: use session(), or antiphon.load('base') for answers to questions.")

    async def areply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Reply:
        """`reply`, while an event loop goes on: the work is done in a thread."""
        return await asyncio.to_thread(self.reply, audio, seed, temperature, top_k, sample_rate)

    async def astream_reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """`stream_reply`, likewise: `async for event in model.astream_reply("question.wav")`."""
        events = self.stream_reply(audio, seed, temperature, top_k, sample_rate)
        working: asyncio.Future[Event | None] | None = None
        try:
            while True:
                working = asyncio.ensure_future(asyncio.to_thread(next, events, None))
                if (event := await asyncio.shield(working)) is None:
                    return
                yield event
        finally:  # a step that is under way can't be left: it is waited for
            if working is not None and not working.done():
                await asyncio.wait([working])
            await asyncio.to_thread(events.close)

    async def ahear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """`hear`, likewise."""
        return await asyncio.to_thread(self.hear, audio, sample_rate, language, translate, words, scene)

    async def asay(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """`say`, likewise."""
        return await asyncio.to_thread(self.say, text, seed, temperature, top_k)

    def reply_text(self, text: str) -> str:
        """The answer of the voice assistant to typed words, without speaking it."""
        raise SessionError("This model can't be asked in writing: use reply(audio), or antiphon.load('base').")

    @abstractmethod
    def say(
        self,
        text: str,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        voice: str | None = None,
    ) -> Audio:
        """Reads a text aloud.

        Args:
            text: what to say.
            seed, temperature, top_k: as in `reply`.
            voice: of a model that has several; None is the first.

        Raises:
            UnsayableError: nothing of it can be said.
            ModelError: there is no such voice.
        """

    def chat(
        self,
        sampling: Sampling | None = None,
        text_only: bool = False,
        tools: Sequence[Callable[..., Any] | Tool] = (),
    ) -> Chat:
        """A conversation in turns, typed or spoken, that remembers.

        Args:
            sampling: how answers are drawn.
            text_only: written, with the plain language model.
            tools: typed Python functions, with docstrings, that answers may call.

        Raises:
            SessionError: a model that listens and speaks at once.
            ToolCallError: the language model can't call functions, or one can't be a tool.
            ModelError: there is no such voice.
        """
        raise SessionError("This model talks live: use session(), or antiphon.load('base') for turns one by one.")

    @abstractmethod
    def session(self, mode: str = ..., *, direction: str = "listen", endpointer: FindsEnds | None = None) -> Session:
        """A live conversation: microphone frames in, events out.

        Args:
            mode: "full-duplex": both at once; "half-duplex": turns; "simplex": it only listens or only speaks.
            direction: of a simplex session: "listen" hears the user, "speak" reads aloud what `say` gives it.
            endpointer: finds the ends of the user's turns; None leaves them to `end_of_turn`.

        Raises:
            SessionError: a mode or a direction that this model doesn't have.
        """

    @abstractmethod
    def save(self, folder: Path | str) -> Path:
        """Writes a folder that `load` takes, and gives its path."""


def named_parts(
    name: str | Path, parts: Mapping[str, str | Path | None], roles: Sequence[str]
) -> dict[str, str | Path | None]:
    """The given parts under today's names of their roles, of which these there are."""
    parts = {hub.role_of(role): part for role, part in parts.items()}
    if unknown := set(parts) - set(roles):
        raise HubError(f"{str(name)!r} has no part {min(unknown)!r}; its parts are {', '.join(dict.fromkeys(roles))}")
    return parts


def heard_from(audio: Sound, sample_rate: int | None) -> Audio | Iterator[Tensor]:
    """A sound as a recognizer takes it: a file piece by piece, however long it is."""
    return as_stream(audio, HEARING_RATE, sample_rate)


def given_sampling(temperature: float | None, top_k: int | None) -> dict[str, Any]:
    """Those that were given; a model's own hold for the others."""
    return {name: value for name, value in (("temperature", temperature), ("top_k", top_k)) if value is not None}
