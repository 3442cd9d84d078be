"""What every model that can be talked to has in common, and what `Model`'s kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from antiphon import hub
from antiphon.audio.given import as_stream
from antiphon.audio.io import Audio
from antiphon.dialogue.chat import Chat, Reply
from antiphon.dialogue.events import Sampling
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

    def reply_text(self, text: str) -> str:
        """The answer of the voice assistant to typed words, without speaking it."""
        raise SessionError("This model can't be asked in writing: use reply(audio), or antiphon.load('base').")

    @abstractmethod
    def say(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """Reads a text aloud.

        Raises:
            UnsayableError: nothing of it can be said.
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
