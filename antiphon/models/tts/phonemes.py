"""Text to phonemes, and where phonemes lie in time."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from antiphon.models.tts.languages import ENGLISH, english_name, language
from antiphon.models.tts.normalization.normalize import Normalizer, NormalizerState, Word

if TYPE_CHECKING:
    from hibari.g2p import G2P

STRESS = "ˈˌ"
SILENCE = 0  # the id of "nothing sounds", also the padding
PAUSES = ".,;:!?"  # these follow a word without a space
NOTICE = "This is in {}, and I only speak English, so please read it on the screen."
LONGEST_SENTENCE = 100  # words; a longer one is read as several

# What a word is told of the one behind it: whether that begins with a vowel (None: with punctuation, or there is none),
# and whether it is "to".
_Context = tuple[bool | None, bool]
_END: _Context = (None, False)
_ANY: tuple[_Context, ...] = (_END, (True, False), (False, False), (False, True))


@functools.cache
def alphabet() -> dict[str, int]:
    """Phoneme -> id, as `hibari-tts` numbers them (misaki's alphabet, 1 to 177)."""
    from pathlib import Path

    import hibari

    return json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))


def phone_at(phonemes: str, ends: np.ndarray, start: float, times: np.ndarray) -> np.ndarray:
    """Which phone sounds at each time.

    Args:
        phonemes: one character each.
        ends: seconds at which each ends; phoneme i starts where i - 1 ends.
        start: seconds at which the first starts.
        times: seconds, any shape.

    Returns:
        Ids, int64, the shape of `times`; `SILENCE` before the first phoneme, after the last, and at spaces and
        punctuation. The time of a stress mark belongs to the phone that follows it.
    """
    known = alphabet()
    ids = np.zeros(len(phonemes) + 1, np.int64)
    for i in range(len(phonemes) - 1, -1, -1):
        c = phonemes[i]
        ids[i] = ids[i + 1] if c in STRESS else known.get(c, SILENCE) if c.isalpha() else SILENCE
    index = np.searchsorted(ends, times, side="right")
    return np.where(times < start, SILENCE, ids[index])


class Phonemizer:
    """English text to phonemes, by the rules and lexicon of `hibari-tts` (a port of misaki's).

    Numbers, abbreviations, signs and markup are put into words first, by `Normalizer`.
    """

    def __init__(self) -> None:
        from hibari.g2p import G2P
        from hibari.g2p.oov import OOV

        self._unknown = OOV()
        self._g2p = G2P(oov=functools.lru_cache(4096)(self._read_unknown))
        self._known = alphabet()
        self._tokens = functools.lru_cache(1 << 14)(self._g2p.tokenizer)
        self._read = functools.lru_cache(1 << 14)(self._read_in_context)

    def __call__(self, text: str) -> str:
        """Phonemes of a text; words stay apart by single spaces. Empty if nothing in it can be spoken."""
        speller = Speller(self)
        return speller.step(text, speller.init_state(), last=True)

    def english(self, sentence: str) -> str:
        """Phonemes of an English sentence in words, whatever language its names may look like."""
        return " ".join(filter(None, self.certain(sentence.split(), 0, ended=True)))

    def sentences(self, text: str) -> list[str]:
        """Splits at sentence ends; what follows the last one is the last element."""
        normalizer, cuts = Normalizer(), [0]
        for word in normalizer.step(text, normalizer.init_state(), last=True):
            if word.last:
                cuts.append(word.end)
        return [part for a, b in zip(cuts, [*cuts[1:], len(text)]) if (part := text[a:b].strip())]

    def certain(self, words: Sequence[str], first: int, ended: bool) -> list[str]:
        """Phonemes of the words of one sentence, as far as no word that may follow can change them.

        What is said of a word depends on its part of speech, which depends on up to two words after it, and on the
        sound that the next word begins with ("the" before a vowel). From the end of what is there, each word is read in
        every way that is still open.

        Args:
            words: from the beginning of the sentence; nothing in them but letters and punctuation.
            first: of the words to be read; those before it are there for their part of speech.
            ended: nothing follows the last one in its sentence.

        Returns:
            The phonemes of words[first], words[first + 1], ... up to the first that is open.
        """
        tokens = [self._tokens(word) for word in words]
        flat = [text for parts in tokens for text, _ in parts]
        tags = self._g2p.tagger(flat)
        fixed = len(flat) if ended else len(flat) - 2
        contexts, spelled, at = (_END,) if ended else _ANY, [], len(flat)
        for parts in reversed(tokens[first:]):
            at -= len(parts)
            own = tuple(tags[at : at + len(parts)])
            open_ = [i for i in range(len(parts)) if at + i >= fixed and parts[i][0] not in self._g2p.tagger.tagdict]
            readings = {
                self._read(tuple(parts), tagged, context)
                for tagged in self._possible(own, open_)
                for context in contexts
            }
            contexts = tuple({context for _, context in readings})
            spelled.append(readings.pop()[0] if len({phonemes for phonemes, _ in readings}) == 1 else None)
        spelled.reverse()
        return spelled[: spelled.index(None)] if None in spelled else spelled

    def _possible(self, tags: tuple[str, ...], open_: list[int]) -> Iterator[tuple[str, ...]]:
        """The tags, and with any other at each open place; a reading depends on one tag at a time."""
        yield tags
        for i in open_:
            for tag in self._g2p.tagger.tags:
                yield (*tags[:i], tag, *tags[i + 1 :])

    def _read_in_context(
        self, parts: tuple[tuple[str, str], ...], tags: tuple[str, ...], context: _Context
    ) -> tuple[str, _Context]:
        """The phonemes of a word's tokens, and what the word before is told of it."""
        from hibari.g2p.token import Tok

        reader = _word_reader()(self._g2p, context)
        tokens = [Tok(text, tag, space) for (text, space), tag in zip(parts, tags)]
        tokens[-1].whitespace = " "
        read = reader.phonemize_tokens([*tokens, Tok("", "NN", "", phonemes="")])
        spoken = "".join((token.phonemes or "") + token.whitespace for token in read)
        known = "".join(c for c in spoken if c in self._known)
        return " ".join(known.split()), (reader.context.future_vowel, reader.context.future_to)

    def _read_unknown(self, word: str) -> str:
        """A word that no lexicon has, by hibari's network, which takes so many letters at once."""
        known, most = self._unknown.cin, self._unknown.maxlen
        letters = "".join(c if c in known else _nearest(c, known) for c in word)
        parts = -(-len(letters) // most)
        cuts = [round(i * len(letters) / max(parts, 1)) for i in range(parts + 1)]
        return " ".join(filter(None, (self._unknown(letters[a:b]) for a, b in zip(cuts, cuts[1:]))))


def _nearest(letter: str, known: dict[str, int]) -> str:
    """The letter small, or without its accents, where the network knows only that."""
    bare = unicodedata.normalize("NFKD", letter)
    for other in (letter.lower(), bare[0], bare[0].lower()):
        if other in known:
            return other
    return ""


@functools.cache
def _word_reader() -> type[G2P]:
    """The class of a `G2P` over another's tables that reads one word as if `following` stood behind it.

    Its `context` tells what stands before.
    """
    from hibari.g2p import G2P, Context

    class WordReader(G2P):
        def __init__(self, whole: G2P, following: _Context) -> None:
            self.__dict__.update(whole.__dict__)
            self.context = Context(*following)

        def token_context(self, ctx, ps, token):
            if token.text:  # the empty token at the end stands for what follows
                self.context = G2P.token_context(ctx, ps, token)
            return self.context

    return WordReader


@dataclass(frozen=True)
class SpelledWord:
    """A word as phonemes.

    Attributes:
        phonemes: with a space before all but the first of a text.
        end: letters of the text up to and with it.
    """

    phonemes: str
    end: int


@dataclass
class SpellerState:
    """A text that is being spelled.

    Attributes:
        text: what of it isn't in words yet.
        words: of the sentence.
        spelled: how many of them are given out.
        begun: anything was given out.
        speaks: more than punctuation was.
        unsaid: pieces of the text that have letters or digits, but nothing that can be said.
        written: the words of the sentence as they are written, those that tell of its language.
        language: of the sentence; None before that is certain.
        told: the language of the sentence before, if it isn't English: what was said of it holds for the next too.
        end: letters of the text up to and with the last word that came.
    """

    text: NormalizerState
    words: list[Word] = field(default_factory=list)
    spelled: int = 0
    begun: bool = False
    speaks: bool = False
    unsaid: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    language: str | None = None
    told: str = ENGLISH
    end: int = 0


class Speller:
    """Text as it comes to phonemes as soon as no later text can change them: any pieces give those of the whole.

    A sentence in a language that the voice doesn't speak isn't spelled; that it is there is said instead, once for
    all such sentences in a row.

    Args:
        phonemizer: spells.
    """

    def __init__(self, phonemizer: Phonemizer):
        self.phonemizer, self.normalizer = phonemizer, Normalizer()

    def init_state(self) -> SpellerState:
        return SpellerState(self.normalizer.init_state())

    def step(self, text: str, state: SpellerState, last: bool = False) -> str:
        """More text; `last` says that no more will come.

        Returns:
            The phonemes that have become certain, with a space before each word but the very first. What was returned
            is never revised.
        """
        return "".join(word.phonemes for word in self.words(text, state, last))

    def words(self, text: str, state: SpellerState, last: bool = False) -> list[SpelledWord]:
        """`step`, word by word, with their places in the text."""
        given: list[SpelledWord] = []
        for word in self.normalizer.step(text, state.text, last):
            if word.unsaid:
                state.unsaid.append(word.unsaid)
            if word.last or len(state.words) == LONGEST_SENTENCE:
                given += self._spell(state, ended=True)
                state.words, state.spelled, state.written, state.language = [], 0, [], None
            if word.text:
                state.words.append(word)
            if word.written and state.language is None:
                state.written.append(word.written)
                state.language = language(state.written, ended=False)
            state.end = word.end
        return given + self._spell(state, ended=last)

    def _notice(self, state: SpellerState) -> list[SpelledWord]:
        """Says of a sentence that isn't English that it isn't, unless that was just said."""
        state.unsaid += [word.text for word in state.words[state.spelled :]]
        state.speaks = state.speaks or bool(state.words)  # letters that English has could be said
        state.spelled = len(state.words)
        if state.told == state.language:
            return []
        state.told = state.language
        said = self.phonemizer.english(NOTICE.format(english_name(state.language)))
        begun, state.begun = state.begun, True
        return [SpelledWord((" " if begun else "") + said, state.end)]

    def _spell(self, state: SpellerState, ended: bool) -> list[SpelledWord]:
        if state.language is None and ended and state.written:
            state.language = language(state.written, ended=True)
        if state.language is None and state.written:
            return []
        if state.language not in (None, ENGLISH):
            return self._notice(state)
        if state.words:
            state.told = ENGLISH
        given = []
        fresh = state.words[state.spelled :]
        phonemes = self.phonemizer.certain([word.text for word in state.words], state.spelled, ended) if fresh else []
        for word, sounds in zip(fresh, phonemes):
            if sounds:
                apart = state.begun and sounds[0] not in PAUSES
                given.append(SpelledWord((" " if apart else "") + sounds, word.end))
                state.begun = True
                state.speaks = state.speaks or any(c.isalpha() for c in sounds)
            elif any(c.isalnum() for c in word.text):
                state.unsaid.append(word.text)
        state.spelled += len(phonemes)
        return given
