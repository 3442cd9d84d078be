"""What sessions and answers give, one after the other: what was heard, the words of the answer, its sound."""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.audio.io import Audio
from antiphon.dialogue.tool_calls import Call
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.scene.scene import Scene


@dataclass(frozen=True)
class HeardEvent:
    """What the user said; where a session keeps time, from `start` to `end` seconds. Where the model hears more than
    words, what else was heard."""

    heard: str
    start: float | None = None
    end: float | None = None
    scene: Scene | None = None


@dataclass(frozen=True)
class TextChances:
    """How likely a token of the answer was, for the language model alone.

    Attributes:
        token: its bytes, which may be part of a character, and its log probability.
        top: likewise the likeliest tokens there.
    """

    token: tuple[bytes, float]
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class TextEvent:
    """The next piece of the answer's text; where a session keeps time, the second from which it sounds. Where
    `Sampling.top_chances` asks for it, how likely the tokens were that it is made of."""

    text: str
    time: float | None = None
    chances: tuple[TextChances, ...] = ()


@dataclass(frozen=True)
class AudioEvent:
    """The next 80 ms of the answer."""

    audio: Audio


@dataclass(frozen=True)
class CallEvent:
    """The answer calls a function."""

    call: Call


@dataclass(frozen=True)
class ResultEvent:
    """What came of a call.

    Attributes:
        call: the call.
        text: as the model reads it.
        error: the function failed, or took too long; the text says how.
    """

    call: Call
    text: str
    error: bool = False


@dataclass(frozen=True)
class FailedEvent:
    """The answer failed, and the conversation goes on without it; an EndEvent follows."""

    error: str


@dataclass(frozen=True)
class EndEvent:
    """The answer is complete."""

    text: str
    interrupted: bool = False


@dataclass(frozen=True)
class SpeakingEvent:
    """A full-duplex model began to speak (`speaking`) or stopped, at `time` seconds."""

    speaking: bool
    time: float


@dataclass(frozen=True)
class LostEvent:
    """Frames of what the user said that the model didn't hear.

    Attributes:
        frames: how many.
        time: seconds at which the first of them would have been heard.
        reason: "behind": the model was too slow and left out the oldest; "late": they came when it had gone on without
            them.
    """

    frames: int
    time: float
    reason: str


Event = (
    HeardEvent | TextEvent | AudioEvent | CallEvent | ResultEvent | FailedEvent | EndEvent | SpeakingEvent | LostEvent
)


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        seed: the same seed gives the same wav.
        temperature, top_k: of the talker; temperature 0 takes the likeliest code.
        think_temperature, think_top_k, think_top_p: of the thinker; it is greedy unless told otherwise.
        presence, frequency, bias: see `TokenSampling`; of the thinker.
        top_chances: likewise, for `TextEvent.chances`, of a backend that is `structured`.
        schema: JSON of a schema that the answer fits, which is JSON then: of a written one, and of such a backend.
        max_tokens: of the answer's text.
        voice: one of the backend's; None is the first.
    """

    seed: int = 0
    temperature: float = 0.25
    top_k: int = 5
    think_temperature: float = 0.0
    think_top_k: int = 0
    max_tokens: int = 512
    voice: str | None = None
    think_top_p: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    top_chances: int | None = None
    schema: str | None = None

    @property
    def thinking(self) -> TokenSampling:
        """Of the thinker."""
        return TokenSampling(
            self.think_temperature, self.think_top_k, self.think_top_p, presence=self.presence,
            frequency=self.frequency, bias=self.bias, seed=self.seed, top_chances=self.top_chances,
        )  # fmt: skip
