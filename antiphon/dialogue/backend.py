"""What a server, a session or a chat drives, whatever the model: listeners, chats, and answers while they are made.

Work is done on the caller's thread, in small steps; a spoken answer may be thought ahead on another. Weights are
shared; each listener and each chat is one conversation's own.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from antiphon.audio.io import SILENCE_PEAK, Audio
from antiphon.dialogue.events import Event, Sampling
from antiphon.dialogue.tool_calls import Functions, Message
from antiphon.errors import ModelError
from antiphon.models.asr.heard import HearingOptions, Likelihoods, Passage
from antiphon.models.scene.scene import Scene

if TYPE_CHECKING:
    from antiphon.models.scene.reading import SceneNotes
    from antiphon.models.scene.words import WordResiduals

HEARING_RATE = 16000
MAX_PROMPT_TOKENS = 512  # of instructions; the rest of longer ones is not read
MAX_PROMPT_CHARACTERS = 64 * MAX_PROMPT_TOKENS  # of them that are looked at


@dataclass(frozen=True)
class Hearing:
    """What was heard of a turn.

    Attributes:
        text: the words; "" if there were none.
        embeddings: what the language model reads instead of the words, [T, width]; None where it reads the words.
        language: that was spoken, as Whisper's code; None where nothing tells.
        passages: what was written down one by one, with times, and words if they were asked for.
        scene: what else was heard; None where nothing listens for it.
        notes: what the language model may be told of that; None for nothing.
        residuals: what is added to the words where the language model reads them; None for nothing.
    """

    text: str
    embeddings: Tensor | None = None
    language: str | None = None
    passages: tuple[Passage, ...] = ()
    scene: Scene | None = None
    notes: SceneNotes | None = None
    residuals: WordResiduals | None = None

    @property
    def is_speech(self) -> bool:
        """Whether there is something to answer: words, or what a model hears without writing it down."""
        return bool(self.text) or self.embeddings is not None

    @property
    def confidence(self) -> float:
        """How sure the recognizer is of the words, 0 to 1: of the passage of which it is least."""
        return min((passage.confidence for passage in self.passages if passage.text), default=1.0)

    def content(self) -> Mapping[str, Any]:
        """As a content of a message, for a model that takes some."""
        return {"type": "text", "text": self.text} if self.text else {"type": "audio", "heard": self.embeddings}

    def message(self) -> Message:
        """Always the same one, so that who has read it once has read it."""
        return self._message

    @cached_property
    def _message(self) -> Message:
        return Message("user", self.text, self.embeddings, heard=True, notes=self.notes, residuals=self.residuals)


def sounding(audio: Audio) -> tuple[Mapping[str, Any], ...]:
    """A recording in which no word was heard as contents of a message, for a model that takes sounds; none of
    silence."""
    heard = audio.samples.numel() and float(audio.samples.abs().max()) >= SILENCE_PEAK
    return ({"type": "audio", "audio": audio},) if heard else ()


@dataclass
class Usage:
    """Tokens of the language model that went in, how many of them were remembered and not read again, and came out.

    Attributes:
        heard: of the input, those that were heard rather than typed; `heard_cached` likewise of `cached`.
        seen: of the input, those of pictures and videos; `seen_cached` likewise.
    """

    input: int = 0
    cached: int = 0
    heard: int = 0
    heard_cached: int = 0
    seen: int = 0
    seen_cached: int = 0
    output: int = 0


class Listener(Protocol):
    """One turn of the user, while it is heard. `step`, `peek` and `finish` work; a turn may be dropped at any point."""

    def step(self, samples: Tensor) -> None:
        """The next samples, float32 [N] at the backend's sample rate."""
        ...

    def draft(self) -> str:
        """The words so far that are known without more work; they may still change."""
        ...

    def passages(self) -> Sequence[Passage]:
        """What is written down for good by now, as `Hearing.passages` will have it: no work."""
        ...

    def peek(self) -> Hearing:
        """What was said up to here; more may come."""
        ...

    def finish(self) -> Hearing:
        """What was said; nothing more will come."""
        ...


class StreamingReply(Protocol):
    """An answer: iterate over `events()`, and close that iterator to stop."""

    usage: Usage
    message: Message | None
    cut: bool

    @property
    def text(self) -> str: ...

    def events(self) -> Generator[Event | None, None, None]: ...

    def until(self, seconds: float) -> str: ...


class ChatSession(Protocol):
    """One conversation's memory. Gives one answer at a time."""

    def answer(
        self,
        past: Sequence[Message],
        sampling: Sampling | None = None,
        instructions: str | None = None,
        spoken: bool = True,
        functions: Functions | None = None,
    ) -> StreamingReply: ...

    def read_ahead(
        self, past: Sequence[Message], said: str, instructions: str | None = None, functions: Functions | None = None
    ) -> Iterator[None]:
        """Work, a step at a time, that the next answer is spared if it is asked for with the same arguments and a
        message of the user that begins with the words `said`; otherwise it changes nothing."""
        ...

    def sounds_over(self) -> float:
        """How likely the user's message is over with the words that were last read ahead, 0 to 1; 1 where a model reads
        no words."""
        ...

    @property
    def likelihoods(self) -> Likelihoods | None:
        """How likely the user says each of several texts next, for who hears them (`HearingOptions.likelihoods`); None
        leaves that to the hearing. While an answer is made, the conversation before it counts for nothing."""
        ...

    def addressed(self, said: str) -> float:
        """How much likelier a sentence is to be said to an assistant than to somebody else, nats; 0 where nothing
        tells."""
        ...

    def interrupts(self, said: str) -> float:
        """How much likelier words that were said into an answer are to interrupt it than to be a sign of listening,
        nats; 0 where nothing tells."""
        ...


class Backend(Protocol):
    """What a server drives. Weights are shared; each listener and each chat is one conversation's own.

    Attributes:
        languages: codes of those that it understands.
        calls_functions: an answer may be given functions.
        sees: a message may have pictures (`Message.contents`).
        writes_down: what is heard of a live turn is written down (`Hearing.text`).
        structured: an answer may be held to a schema, and tell how likely its tokens were (`Sampling`).
        shares_steps: answers that are made on several threads share their steps, so that two cost less than twice one.
    """

    name: str
    sample_rate: int
    voices: Sequence[str]
    calls_functions: bool
    sees: bool
    writes_down: bool
    structured: bool
    shares_steps: bool

    @property
    def languages(self) -> Collection[str]: ...

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> Listener: ...

    def chat(self) -> ChatSession: ...

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]: ...


class TurnBackend(Backend, Protocol):
    """One whose turns are also answered as a whole."""

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """A whole turn, as it is answered."""
        ...

    def chat(self, assistant: bool = True) -> ChatSession:
        """A conversation; without `assistant` answered by the plain language model, where that is another one."""
        ...


def check_voice(named: str | None, voices: Sequence[str]) -> None:
    """Raises ModelError for a voice that isn't among those that there are."""
    if named is not None and named not in voices:
        raise ModelError(f"There is no voice {named!r}; there are: {', '.join(voices) or 'none'}.")
