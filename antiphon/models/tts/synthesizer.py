"""Text as it comes to sound as it comes: speller, talker and codec in a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from antiphon.codecs.base import CodecState
from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import UnsayableError
from antiphon.models.tts.normalization.normalize import can_be_said
from antiphon.models.tts.phonemes import Phonemizer, SpelledWord, Speller, SpellerState, alphabet
from antiphon.models.tts.talker import Talker, TalkerState
from antiphon.nn.batching import Batcher
from antiphon.nn.cpu import one_thread
from antiphon.nn.state import rows_of, together

Given = TypeVar("Given")


@dataclass
class SynthesizerState:
    """One reply that is being spoken.

    Attributes:
        text: what came so far.
        read: how much of the text the talker has, after each word of it: (characters, symbols).
        earlier: the thinker's states from which the replies before it began, [turns, hidden]; None for none.
        begins: those, and the one from which this reply begins; None where nobody thought it.
    """

    speller: SpellerState
    talker: TalkerState
    codec: CodecState
    text: str = ""
    read: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1)])
    earlier: Tensor | None = None
    begins: Tensor | None = None


@dataclass(frozen=True)
class Timing:
    """When the words of a reply are heard.

    Attributes:
        text: all that is to be said, so far.
        ends: seconds at which each of the talker's symbols has been said, [symbols]; None before there is any sound.
        read: as in `SynthesizerState`.
    """

    text: str
    ends: Tensor | None
    read: tuple[tuple[int, int], ...]

    def until(self, seconds: float) -> str:
        """The beginning of the text that is to be heard in the first `seconds` of the sound, in whole words."""
        if self.ends is None:
            return ""
        symbols = int((self.ends <= seconds).sum())
        at = bisect_right(self.read, symbols, key=lambda mark: mark[1]) - 1
        if at < 0:
            return ""
        return self.text[: self.read[at][0]]


class Synthesizer:
    """Speaks.

    Args:
        talker, codec: trained for each other.
        phonemizer: spells.
        reads_thinker: the talker was trained beside this thinker and reads its states; False: it reads the text alone.
    """

    def __init__(
        self,
        talker: Talker,
        codec: MiniCodec,
        phonemizer: Phonemizer,
        reads_thinker: bool = True,
    ):
        self.talker, self.codec, self.speller = talker, codec, Speller(phonemizer)
        self.reads_thinker = reads_thinker
        # Its own, not the thinker's: one reply's next words are thought of while another's sound is made, a core each.
        self._step = Batcher().batched(self.step_many)

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def voices(self) -> Sequence[str]:
        """Names of the voices; none where there is one without a name."""
        return self.talker.config.speakers

    def init_state(
        self,
        seed: int = 0,
        temperature: float = 0.25,
        top_k: int = 5,
        voice: str | None = None,
        earlier: Tensor | None = None,
    ) -> SynthesizerState:
        """A new reply; the same seed, voice and text give the same sound. See `Talker.init_state`; `voice` is passed
        over where there is one without a name. `earlier`: as in `SynthesizerState`."""
        talker = self.talker.init_state(seed, temperature, top_k, voice if self.voices else None)
        return SynthesizerState(self.speller.init_state(), talker, self.codec.init_state(1), earlier=earlier)

    def add(self, text: str, state: SynthesizerState, hidden: Tensor | None = None) -> None:
        """More text to say; `hidden` is the thinker's state at it, [hidden]."""
        hidden = hidden if self.reads_thinker else None
        state.text += text
        if state.begins is None and hidden is not None:
            state.begins = hidden[None] if state.earlier is None else torch.cat([state.earlier, hidden[None]])
        self._add_words(self.speller.words(text, state.speller), state, hidden)

    def end(self, state: SynthesizerState) -> None:
        """No more text will come."""
        self._add_words(self.speller.words("", state.speller, last=True), state)
        self._has_read(state, len(state.text))
        self.talker.end_text(state.talker)

    def read(self, text: str, state: SynthesizerState) -> None:
        """A whole text to say.

        Raises:
            UnsayableError: nothing of it can be said.
        """
        self.add(text, state)
        self.end(state)
        if not state.speller.speaks or not can_be_said(text):
            raise UnsayableError("The voice speaks English and can say nothing of that text.")

    def say(
        self, text: str, seed: int = 0, temperature: float = 0.25, top_k: int = 5, voice: str | None = None
    ) -> Iterator[Tensor]:
        """A whole text aloud, 80 ms [samples] at a time.

        Raises:
            UnsayableError: nothing of it can be said.
        """
        state = self.init_state(seed, temperature, top_k, voice)
        self.read(text, state)
        while (samples := self.step(state)) is not None:
            yield samples

    def _add_words(self, words: list[SpelledWord], state: SynthesizerState, hidden: Tensor | None = None) -> None:
        if self.talker.config.situation:  # words are spelled later than they are thought
            hidden = state.begins
        for word in words:
            self.talker.add_phonemes(word.phonemes, state.talker, hidden)
            self._has_read(state, word.end)

    def timing(self, state: SynthesizerState) -> Timing:
        """When the words are heard, as far as is known.

        May be asked while the reply is being spoken on another thread: words count when the talker has given them their
        time, so text that runs ahead of the speech is not said yet.
        """
        ends, read = state.talker.text.ends, tuple(state.read)
        return Timing(state.text, None if ends is None else ends[0].clone(), read)

    @staticmethod
    def _has_read(state: SynthesizerState, characters: int) -> None:
        """Notes where the talker stands when it has so much of the text; the pause behind a word isn't waited for."""
        symbols = len(state.talker.text.symbols)
        while (
            symbols > 1 and state.talker.text.symbols[symbols - 1] <= alphabet()[" "]
        ):  # marks have the lowest numbers
            symbols -= 1
        if characters > state.read[-1][0]:
            state.read.append((characters, symbols))

    def step(self, state: SynthesizerState) -> Tensor | None:
        """The next 80 ms, [samples]; None if more text is needed first, or if all is said (`state.talker.done`).
        Replies that are spoken on several threads share a step."""
        return self._step(state)

    @torch.no_grad()
    @one_thread()
    def step_many(self, states: Sequence[SynthesizerState]) -> list[Tensor | None]:
        """`step` of several replies in one batch."""
        found = self.talker.step_many([state.talker for state in states])
        going = [(state, codes) for state, codes in zip(states, found) if codes is not None]
        if len(going) < 2:  # nothing to join
            return [codes if codes is None else self._sound(codes, state) for state, codes in zip(states, found)]
        codec = together([state.codec for state, _ in going])
        made = iter(self.codec.decode_step(torch.cat([codes for _, codes in going]), codec)[:, 0])
        for (state, _), own in zip(going, rows_of(codec)):
            state.codec = own
        return [codes if codes is None else next(made) for codes in found]

    def _sound(self, codes: Tensor, state: SynthesizerState) -> Tensor:
        return self.codec.decode_step(codes, state.codec)[0, 0]


class SpokenText:
    """A text that is said while it comes. Once it is over, all that is kept of it is when its words were heard: what it
    was made with holds megabytes.

    Args:
        synthesizer: speaks.
        seed, temperature, top_k, voice, earlier: see `Synthesizer.init_state`.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        seed: int = 0,
        temperature: float = 0.25,
        top_k: int = 5,
        voice: str | None = None,
        earlier: Tensor | None = None,
    ):
        self.synthesizer = synthesizer
        self.state: SynthesizerState | None = synthesizer.init_state(seed, temperature, top_k, voice, earlier)
        self._timing: Timing | None = None

    def overlapped(self, pieces: Iterator[tuple[Given, str | None, Tensor | None]]) -> Iterator[Given | Tensor]:
        """Pieces and sound in the order in which they are ready: the next 80 ms are made as soon as the text allows it,
        and another piece is asked for only when it does not.

        Args:
            pieces: whatever comes, the text in it (None for none), and the thinker's state at that text [hidden].

        Yields:
            What came, before anything is heard of it; and sound [samples]. Of a text of nothing there is none.
        """
        synthesizer, state = self.synthesizer, self.state
        assert state is not None
        more, worded = True, False
        while True:
            samples = synthesizer.step(state)
            if samples is not None:
                yield samples
            elif not more:
                return
            elif (piece := next(pieces, None)) is None:
                if not worded:
                    return
                more = False
                synthesizer.end(state)
            else:
                given, text, hidden = piece
                yield given
                if text is not None:
                    worded = worded or bool(text.strip())
                    synthesizer.add(text, state, hidden)

    def close(self) -> None:
        """It is over, or broken off."""
        if self.state is not None:
            self._timing, self.state = self.synthesizer.timing(self.state), None

    def until(self, seconds: float) -> str:
        """The beginning of the text that is heard in the first `seconds`, in whole words; may be asked while it is
        being said on another thread."""
        state, timing = self.state, self._timing  # in this order: another thread may be closing it
        if state is not None:
            timing = self.synthesizer.timing(state)
        assert timing is not None
        return timing.until(seconds)
