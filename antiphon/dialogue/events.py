"""One turn of a conversation, as a stream of events: what was heard, the words of the answer, its sound.

Thinker, talker and codec overlap by demand: the next 80 ms are made as soon as the text allows it, and the thinker is
asked for another piece only when it does not. So sound starts while the sentence is still being thought, and nothing
waits for a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.tool_calls import Call, Calling
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.tts.synthesizer import Synthesizer, SynthesizerState

if TYPE_CHECKING:
    from antiphon.models.llm.thinker import GeneratedToken, Thinker, ThinkerState


@dataclass(frozen=True)
class HeardEvent:
    """What the user said; where a session keeps time, from `start` to `end` seconds."""

    heard: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class TextEvent:
    """The next piece of the answer's text; where a session keeps time, the second from which it sounds."""

    text: str
    time: float | None = None


@dataclass(frozen=True)
class AudioEvent:
    """The next 80 ms of the answer."""

    audio: Audio


@dataclass(frozen=True)
class CallEvent:
    """The answer calls a function."""

    call: Call


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


Event = HeardEvent | TextEvent | AudioEvent | CallEvent | EndEvent | SpeakingEvent | LostEvent


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        seed: the same seed gives the same wav.
        temperature, top_k: of the talker; temperature 0 takes the likeliest code.
        think_temperature, think_top_k: of the thinker; it is greedy unless told otherwise.
        max_tokens: of the answer's text.
    """

    seed: int = 0
    temperature: float = 0.25
    top_k: int = 5
    think_temperature: float = 0.0
    think_top_k: int = 0
    max_tokens: int = 64


@dataclass
class Answer:
    """An answer while it is made. Iterate over `events()`; `text` grows meanwhile.

    Attributes:
        thinker, state: who thinks, and the conversation up to and with the user's turn.
        voice: who speaks, or None for a written answer.
        sampling: how.
        text: what was thought so far.
        speech: where the voice stands, once it speaks.
        calling: parses calls of functions; None where there are no functions.
    """

    thinker: Thinker
    state: ThinkerState
    voice: Synthesizer | None
    sampling: Sampling = field(default_factory=Sampling)
    text: str = ""
    speech: SynthesizerState | None = None
    calling: Calling | None = None

    def events(self) -> Iterator[Event | None]:
        """Text and sound in the order in which they are ready, then the end; None, only where there are functions, for
        a thought that gave neither.

        Raises:
            FunctionError: a call can't be read.
        """
        how = self.sampling
        drawing = TokenSampling(how.think_temperature, how.think_top_k, seed=how.seed)
        thoughts = self.thinker.stream(self.state, how.max_tokens, drawing)
        if self.calling is not None:
            thoughts = self.calling.part(thoughts, how.max_tokens)
        if self.voice is None:
            for thought in thoughts:
                yield from self._said(thought)
        else:
            yield from self._spoken(thoughts)
        yield EndEvent(self.text)

    def _said(self, thought: GeneratedToken | Call) -> Iterator[Event | None]:
        if isinstance(thought, Call):
            yield CallEvent(thought)
        elif thought.text:
            self.text += thought.text
            yield TextEvent(thought.text)
        elif self.calling is not None:
            yield None

    def _spoken(self, thoughts: Iterator[GeneratedToken | Call]) -> Iterator[Event | None]:
        voice, how = self.voice, self.sampling
        speech = self.speech = voice.init_state(how.seed, how.temperature, how.top_k)
        thinking = True
        while True:
            samples: Tensor | None = voice.step(speech)
            if samples is not None:
                yield AudioEvent(Audio(samples, voice.sample_rate))
            elif not thinking:
                return
            elif (thought := next(thoughts, None)) is None:
                thinking = False
                voice.end(speech)
            else:
                yield from self._said(thought)
                if not isinstance(thought, Call):
                    voice.add(thought.text, speech, thought.hidden)
