"""What says a reply while it is being written: the model's own talker, or a synthesizer that reads its thinker.

    speaker = OwnVoices(model, processor)              # or SynthesizerVoice(model, processor, synthesizer)
    speech = speaker.speak(state, settings, Manner())
    for each in speech.events(): ...                   # Piece(text), samples, in the order in which they are ready
    speech.until(1.2)                                  # words that were heard in the first 1.2 s

`writing` is a reply that nobody says.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import ModelError, TooLongError, UnsayableError
from antiphon.models.llm.detokenizer import IncrementalDetokenizer
from antiphon.models.omni.model import Omni, OmniState, ReplySettings, Spoken
from antiphon.models.omni.processor import OmniProcessor
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import SpokenText, Synthesizer
from antiphon.models.tts.talker import Talker

READ_ALOUD = "Read this text aloud, word for word: "
LETTERS_A_SECOND = 15.0  # of speech, as far as nothing better is known of it
PATIENCE = (50, 100)  # codes, where they are 50 a second: a second for each token of a text, and two
VOICE = "heart"  # of the talkers that are trained here
TEMPERATURE, TOP_K = 0.25, 5  # of theirs
ROOM = 8  # tokens that stand around a reply


@dataclass(frozen=True)
class Manner:
    """How a reply is said.

    Attributes:
        voice: one of the speaker's; None is the first.
        seed: the same one gives the same sound.
        temperature, top_k: of its codes; None is what the talker was made for.
    """

    voice: str | None = None
    seed: int = 0
    temperature: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class Piece:
    """A token of a reply's text, what it adds to the text, and the thinker's state that chose it [width], where that
    is asked for."""

    token: int
    text: str
    hidden: Tensor | None = None


class Speech(Protocol):
    """A reply while it is made."""

    @property
    def text(self) -> str:
        """So far."""
        ...

    def events(self) -> Generator[Piece | Tensor, None, None]:
        """Pieces of the text and sound [samples], in the order in which they are ready; may be closed at any point."""
        ...

    def until(self, seconds: float) -> str:
        """The words that are heard in the first `seconds`, whole ones; of a written reply all of them. May be asked
        while it is made on another thread."""
        ...


class Speaker(Protocol):
    """What says replies.

    Attributes:
        voices: names.
        sample_rate: of the sound, Hz.
        context: tokens of a conversation and its reply that it can follow.
    """

    voices: Sequence[str]
    sample_rate: int
    context: int

    def speak(self, state: OmniState, settings: ReplySettings, manner: Manner) -> Speech:
        """The reply that is due."""
        ...

    def say(self, text: str, manner: Manner) -> Iterator[Tensor]:
        """Reads a text aloud: sound [samples] as it is made.

        Raises:
            UnsayableError: nothing of it can be said.
        """
        ...


def framed(made: Iterable[Piece | Tensor], size: int) -> Iterator[Piece | Tensor]:
    """The same with the sound in pieces of so many samples; the last one is what is left."""
    held = torch.zeros(0)
    for each in made:
        if isinstance(each, Piece):
            yield each
            continue
        held = torch.cat([held, each])
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if len(held):
        yield held


def pieces(
    model: Omni, processor: OmniProcessor, state: OmniState, settings: ReplySettings, voice: str | None = None
) -> Generator[Piece | Tensor, None, None]:
    """The reply that is due, its tokens as text; of those that end it nothing is told. See `Omni.reply`."""
    detokenizer = IncrementalDetokenizer(processor.tokenizer, {})
    with closing(model.reply(state, voice, settings)) as made:
        for event in made:
            if isinstance(event, Spoken):
                yield event.samples.float().cpu()
            elif event.token not in settings.ends:
                yield Piece(event.token, detokenizer.add(event.token), event.hidden)


@dataclass
class Writing:
    """A reply that nobody says."""

    pieces: Generator[Piece | Tensor, None, None]
    text: str = ""

    def events(self) -> Generator[Piece | Tensor, None, None]:
        """See `Speech`."""
        with closing(self.pieces) as pieces:
            for each in pieces:
                self.text += each.text if isinstance(each, Piece) else ""
                yield each

    def until(self, seconds: float) -> str:
        """See `Speech`."""
        return self.text


@dataclass
class OwnSpeech:
    """A reply that the model's own talker says.

    It tells no times: letters are taken to be said at an even pace, that of the whole reply once it is made, and until
    then that of usual speech.

    Attributes:
        pieces: of it.
        sample_rate: Hz.
        seconds: of its sound so far.
        ended: all of it is made.
    """

    pieces: Generator[Piece | Tensor, None, None]
    sample_rate: int
    text: str = ""
    seconds: float = 0.0
    ended: bool = False

    def events(self) -> Generator[Piece | Tensor, None, None]:
        """See `Speech`."""
        with closing(self.pieces) as pieces:
            for each in pieces:
                if isinstance(each, Piece):
                    self.text += each.text
                else:
                    self.seconds += len(each) / self.sample_rate
                yield each
        self.ended = True

    def until(self, seconds: float) -> str:
        """See `Speech`."""
        if self.ended and seconds >= self.seconds:
            return self.text
        pace = len(self.text) / self.seconds if self.ended and self.seconds else LETTERS_A_SECOND
        letters = int(pace * max(0.0, min(seconds, self.seconds)))
        if letters >= len(self.text) or self.text[letters : letters + 1].isspace():
            return self.text[:letters]
        begun = self.text[:letters].split(" ")
        return " ".join(begun[:-1])


class OwnVoices:
    """The talker and token2wav of a published folder.

    Args:
        model: with both, and voices.
        processor: of its text.
    """

    def __init__(self, model: Omni, processor: OmniProcessor):
        self.model, self.processor = model, processor
        self.voices: Sequence[str] = tuple(model.voices)
        self.sample_rate = model.sample_rate
        self.context = min(model.thinker.language_model.context, model.talker.lm.context)

    def speak(self, state: OmniState, settings: ReplySettings, manner: Manner) -> OwnSpeech:
        """See `Speaker`; the talker reads all of the conversation, too."""
        speaking = replace(self.model.speaking, seed=manner.seed)
        if manner.temperature is not None:
            speaking = replace(speaking, temperature=manner.temperature)
        if manner.top_k is not None:
            speaking = replace(speaking, top_k=manner.top_k)
        codes = min(settings.max_codes, self.model.talker.lm.context - int(state.thinker.length) - ROOM)
        patience = tuple(math.ceil(count * self.model.code_rate / 50) for count in PATIENCE)
        settings = replace(settings, max_codes=codes, speaking=speaking, seed=manner.seed, patience=patience)
        voice = manner.voice or self.voices[0]
        return OwnSpeech(pieces(self.model, self.processor, state, settings, voice), self.sample_rate)

    def say(self, text: str, manner: Manner) -> Iterator[Tensor]:
        """See `Speaker`: the thinker is made to reply with it.

        Raises:
            TooLongError: it is longer than the model's context.
        """
        script = tuple(self.processor.plain.encode(text.strip(), add_special_tokens=False).ids)
        if not script:
            raise UnsayableError("There is nothing to be said in the text.")
        state, asked = self.model.init_state(), {"role": "user", "content": READ_ALOUD + text.strip()}
        self.model.read(state, self.processor([*self.processor.opening(), asked]))
        if len(script) + 1 > self.context - int(state.thinker.length) - ROOM:
            raise TooLongError(f"{len(script)} tokens are more than the model can say at once: give less")
        settings = ReplySettings(len(script) + 1, ends=self.processor.ends, script=script)
        with closing(self.speak(state, settings, manner).events()) as events:
            for each in events:
                if not isinstance(each, Piece):
                    yield each


@dataclass
class SynthesizedSpeech:
    """A reply that a synthesizer says, which tells when each word is heard."""

    pieces: Generator[Piece | Tensor, None, None]
    spoken: SpokenText
    text: str = ""

    def events(self) -> Generator[Piece | Tensor, None, None]:
        """See `Speech`."""
        try:
            with closing(self.pieces) as pieces:
                yield from self.spoken.overlapped(map(self._read, pieces))
        finally:
            self.spoken.close()

    def _read(self, piece: Piece | Tensor) -> tuple[Piece, str, Tensor | None]:
        assert isinstance(piece, Piece)  # no other voice was asked for
        self.text += piece.text
        return piece, piece.text, None if piece.hidden is None else piece.hidden.float().cpu()

    def until(self, seconds: float) -> str:
        """See `Speech`."""
        return self.spoken.until(seconds)


class SynthesizerVoice:
    """A talker and a codec that are no part of the model: it reads the thinker's hidden states as far as it was trained
    beside a thinker like this one.

    Args:
        model: the thinker.
        processor: of its text.
        synthesizer: speaks.
    """

    def __init__(self, model: Omni, processor: OmniProcessor, synthesizer: Synthesizer):
        self.model, self.processor, self.synthesizer = model, processor, synthesizer
        self.voices: Sequence[str] = synthesizer.voices or (VOICE,)
        self.sample_rate = synthesizer.sample_rate
        self.context = model.thinker.language_model.context

    def speak(self, state: OmniState, settings: ReplySettings, manner: Manner) -> SynthesizedSpeech:
        """See `Speaker`."""
        spoken = SpokenText(self.synthesizer, manner.seed, *self._drawn(manner), manner.voice)
        return SynthesizedSpeech(pieces(self.model, self.processor, state, settings), spoken)

    def say(self, text: str, manner: Manner) -> Iterator[Tensor]:
        """See `Speaker`; it speaks English, and reads the text alone."""
        return self.synthesizer.say(text, manner.seed, *self._drawn(manner), manner.voice)

    @staticmethod
    def _drawn(manner: Manner) -> tuple[float, int]:
        temperature = TEMPERATURE if manner.temperature is None else manner.temperature
        return temperature, TOP_K if manner.top_k is None else manner.top_k


def speaker_of(model: Omni, processor: OmniProcessor, beside: Mapping[str, Path]) -> Speaker | None:
    """What says a model's replies: its own parts, or else the talker and the codec beside it; None where nothing does.

    Args:
        model: with a thinker.
        processor: of its text.
        beside: folders of parts, see `antiphon.models.omni.parts.beside`.

    Raises:
        ModelError: there is a talker and no codec, or the other way round.
        HubError: a folder holds something else.
    """
    if model.talker is not None and model.token2wav is not None and model.voices:
        return OwnVoices(model, processor)
    named = [place for place in ("talker", "codec") if place in beside]
    if not named:
        return None
    if len(named) < 2:
        raise ModelError(f"parts: there is a {named[0]} and not the other: a voice needs a talker and its codec")
    talker, codec = Talker.from_pretrained(beside["talker"]), MiniCodec.from_pretrained(beside["codec"])
    reads = talker.config.hidden == model.thinker.width
    return SynthesizerVoice(model, processor, Synthesizer(talker, codec, Phonemizer(), reads))
