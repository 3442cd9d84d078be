"""The four formats in which a language model learns speech and text, each a pure function, and the way back.

    speech(item, model)            [B] speech [E]
    speech_to_text(item, model)    [B] [S] speech [T] text [E]
    text_to_speech(item, model)    [B] [T] text [S] speech [E]
    interleaved(item, model, ...)  [B] [S] speech [T] text [S] speech ... [E], cut between words
    text(words, model)             [B] [T] text [E]: plain text, to keep what the model knew

Tags of speaker and language stand behind [B] where an item has them. With several codebooks an example is a grid whose
spans of speech are delayed, and everything else stands in its first stream (`antiphon.models.speech_lm.model`); the tag
that ends a span stands right behind its last unit, while the other streams still end, so that a model can say it.

Sources: (1) GSLM, Lakhotia et al. 2021; (2) and (3) SpeechGPT, Zhang et al. 2023; (4) SpiritLM, Nguyen et al. 2024
(spans of words), and GLM-4-Voice, Zeng et al. 2024 (spans of Poisson length until a share is speech).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.data.formats.example import Example
from antiphon.data.formats.item import Item
from antiphon.errors import ConfigError, DataError
from antiphon.models.speech_lm.vocabulary import NOTHING, SpeechVocabulary
from antiphon.nn.delays import delay, undelay


class Speller(Protocol):
    """What formats need of a model (`SpeechLM` is one)."""

    vocabulary: SpeechVocabulary

    def text_ids(self, text: str) -> list[int]:
        """Ids of a text."""

    def text_of(self, ids: list[int]) -> str:
        """The inverse."""


@dataclass(frozen=True)
class Weights:
    """What the loss of a token counts.

    Attributes:
        speech, text: of units, of text.
        tags: of [E], [S] and [T]; the first tags of an example, which nothing foretells, never count.
        given: a factor on the first part of `speech_to_text` and `text_to_speech`; 0 learns only the second.
    """

    speech: float = 1.0
    text: float = 1.0
    tags: float = 1.0
    given: float = 1.0

    def __post_init__(self) -> None:
        if min(self.speech, self.text, self.tags, self.given) < 0:
            raise ConfigError(f"weights of a loss are 0 or more, not {self}")


@dataclass(frozen=True)
class Interleaving:
    """How `interleaved` cuts an utterance.

    Attributes:
        speech, text: fewest and most words of a span of each, drawn evenly.
        first: "speech", "text", or "either", drawn.
        poisson: mean number of words of a text span, drawn after Poisson, until `share` of the words are text; replaces
            `speech` and `text` (GLM-4-Voice has spans of speech that long, in long texts).
        share: of the words that become text then.
    """

    speech: tuple[int, int] = (3, 8)
    text: tuple[int, int] = (3, 8)
    first: str = "either"
    poisson: float | None = None
    share: float = 0.3

    def __post_init__(self) -> None:
        if self.first not in ("speech", "text", "either"):
            raise ConfigError(f"first is {self.first!r}; choose speech, text or either")
        if not all(1 <= low <= high for low, high in (self.speech, self.text)):
            raise ConfigError(f"spans of {self.speech} and {self.text} words must be 1 or more, the fewest first")
        if not 0 <= self.share <= 1 or (self.poisson is not None and self.poisson <= 0):
            raise ConfigError(f"poisson {self.poisson} must be over 0, share {self.share} from 0 to 1")


@dataclass(frozen=True)
class Span:
    """A part of an example, as `undo` finds it.

    Attributes:
        text: if it is one, else "".
        units: [n] or [codebooks, n], if it is speech.
    """

    text: str = ""
    units: NDArray[np.int64] | None = None


def speech(item: Item, model: Speller, weights: Weights = Weights()) -> Example:
    """(1) Unsupervised: [B] speech [E]."""
    writer = _begun(item, model, weights)
    writer.units(item.units)
    return writer.done()


def speech_to_text(item: Item, model: Speller, weights: Weights = Weights()) -> Example:
    """(2) [B] [S] speech [T] text [E]."""
    writer = _begun(item, model, weights)
    writer.tag("S", 0.0)
    writer.units(item.units, weights.given)
    writer.tag("T")
    writer.text(_said(item))
    return writer.done()


def text_to_speech(item: Item, model: Speller, weights: Weights = Weights()) -> Example:
    """(3) [B] [T] text [S] speech [E]."""
    writer = _begun(item, model, weights)
    writer.tag("T", 0.0)
    writer.text(_said(item), weights.given)
    writer.tag("S")
    writer.units(item.units)
    return writer.done()


def interleaved(
    item: Item, model: Speller, cuts: Interleaving, rng: random.Random, weights: Weights = Weights()
) -> Example:
    """(4) Speech and text in turn, cut between words.

    Args:
        item: with the times of its words.
        model: of the ids.
        cuts: how it is cut.
        rng: draws the spans.
        weights: of the loss.

    Raises:
        DataError: it isn't known when its words are said.
    """
    if not item.words:
        raise DataError(f"{item.text[:40]!r} can't be interleaved: nobody knows when its words are said")
    writer = _begun(item, model, weights)
    for number, (is_speech, start, end) in enumerate(spans(len(item.words), cuts, rng)):
        words = item.words[start:end]
        writer.tag("S" if is_speech else "T", weights.tags if number else 0.0)
        if is_speech:
            writer.units(item.units[..., words[0].start : words[-1].end])
        else:
            writer.text(" ".join(word.text for word in words))
    return writer.done()


def text(words: str, model: Speller, weights: Weights = Weights()) -> Example:
    """[B] [T] text [E]."""
    writer = _Writer(model, weights)
    writer.tag("B", 0.0)
    writer.tag("T", 0.0)
    writer.text(words)
    return writer.done()


def spans(count: int, cuts: Interleaving, rng: random.Random) -> list[tuple[bool, int, int]]:
    """Spans of speech (True) and text in turn, (which, first word, behind the last word), that cover `count` words."""
    if cuts.poisson is not None:
        return _poisson_spans(count, cuts.poisson, cuts.share, rng)
    is_speech = rng.random() < 0.5 if cuts.first == "either" else cuts.first == "speech"
    found, start = [], 0
    while start < count:
        end = min(count, start + rng.randint(*(cuts.speech if is_speech else cuts.text)))
        found.append((is_speech, start, end))
        start, is_speech = end, not is_speech
    return found


def _poisson_spans(count: int, mean: float, share: float, rng: random.Random) -> list[tuple[bool, int, int]]:
    """Runs of words, each of Poisson length, become text at random places until the share is reached."""
    generator = np.random.default_rng(rng.getrandbits(63))
    is_speech = np.ones(count, bool)
    while (left := round(share * count) - int((~is_speech).sum())) > 0:
        length = min(left, max(1, int(generator.poisson(mean))))
        start = int(generator.integers(count))
        is_speech[start : start + length] = False
    edges = [0, *(np.flatnonzero(is_speech[1:] != is_speech[:-1]) + 1).tolist(), count]
    return [(bool(is_speech[start]), start, end) for start, end in zip(edges[:-1], edges[1:])]


def undo(tokens: NDArray[np.integer], model: Speller) -> list[Span]:
    """The parts of an example of any format, delays undone; tags are left out.

    Args:
        tokens: [length] or [codebooks, length], whole or cut off at the end.
        model: of the ids.
    """
    vocabulary, grid = model.vocabulary, np.atleast_2d(tokens)
    tail = len(grid) - 1
    found: list[Span] = []
    for kind, start, end in _runs(grid[0], vocabulary):
        if kind == "text":
            found.append(Span(text=model.text_of(grid[0, start:end].tolist()).strip()))
        elif kind == "speech":
            units = np.pad(
                grid[:, start : end + tail], ((0, 0), (0, max(0, end + tail - grid.shape[1]))), constant_values=NOTHING
            )
            if tail:
                units = undelay(torch.from_numpy(units)[None], list(range(len(units))))[0].numpy()
            codes = vocabulary.codes(units)
            found.append(Span(units=codes if tail else codes[0]))
    return found


def _runs(first: NDArray[np.integer], vocabulary: SpeechVocabulary) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of the stretches of a first stream that are alike."""
    kinds = np.where((first < vocabulary.text) & (first >= 0), "text", "tag")
    kinds = np.where(first >= vocabulary.first_unit, "speech", kinds)
    edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    for start, end in zip(edges[:-1], edges[1:]):
        if end > start:
            yield str(kinds[start]), start, end


def prompt(item: Item, model: Speller, tags: Sequence[str]) -> NDArray[np.int64]:
    """What a model is given to go on from: [B], the item's own tags, its units behind [S], and `tags`; [codebooks,
    length] or [length]. `("T",)` asks for what is said."""
    writer = _begun(item, model, Weights())
    writer.tag("S")
    writer.units(item.units)
    for name in tags:
        writer.tag(name)
    return writer.done(end=False).tokens


def prompt_to_say(words: str, model: Speller) -> NDArray[np.int64]:
    """What a model is given to say a text: [B] [T] text [S]; [codebooks, length] or [length]."""
    writer = _begun(Item(np.zeros(0, np.int64), words), model, Weights())
    writer.tag("T")
    writer.text(words)
    writer.tag("S")
    return writer.done(end=False).tokens


class _Writer:
    """Writes an example column by column."""

    def __init__(self, model: Speller, weights: Weights):
        self.model, self.vocabulary, self.scale = model, model.vocabulary, weights
        self.parts: list[NDArray[np.int64]] = []
        self.weights: list[NDArray[np.float32]] = []
        self.tail = False  # the last part is speech whose other streams run on

    def _put(self, columns: NDArray[np.int64], weight: float) -> None:
        self.parts.append(columns)
        self.weights.append(np.full(columns.shape[1], weight, np.float32))

    def _in_first(self, ids: Sequence[int], weight: float) -> None:
        columns = np.full((self.vocabulary.codebooks, len(ids)), NOTHING, np.int64)
        columns[0] = ids
        self._put(columns, weight)

    def tag(self, name: str, weight: float | None = None) -> None:
        tag, weight = self.vocabulary.tag(name), self.scale.tags if weight is None else weight
        if self.tail:
            column = self.parts[-1].shape[1] - (self.vocabulary.codebooks - 1)
            self.parts[-1][0, column] = tag
            self.weights[-1][column] = max(self.weights[-1][column], weight)
            self.tail = False
        else:
            self._in_first([tag], weight)

    def text(self, words: str, factor: float = 1.0) -> None:
        # With a space before it a word is the same token wherever it stands.
        self._in_first(self.model.text_ids(f" {words}"), self.scale.text * factor)

    def units(self, codes: NDArray[np.int64], factor: float = 1.0) -> None:
        grid = np.atleast_2d(self.vocabulary.units(codes))
        if len(grid) != self.vocabulary.codebooks:
            raise DataError(f"{len(grid)} codebooks of units for a vocabulary of {self.vocabulary.codebooks}")
        if len(grid) > 1:
            grid = delay(torch.from_numpy(grid)[None], list(range(len(grid))), NOTHING)[0].numpy()
            self.tail = True
        self._put(grid, self.scale.speech * factor)

    def done(self, end: bool = True) -> Example:
        if end:
            self.tag("E")
        tokens, weights = np.concatenate(self.parts, 1), np.concatenate(self.weights)
        return Example(tokens if len(tokens) > 1 else tokens[0], weights)


def _begun(item: Item, model: Speller, weights: Weights) -> _Writer:
    writer = _Writer(model, weights)
    writer.tag("B", 0.0)
    if item.speaker:
        writer.tag(f"speaker:{item.speaker}", 0.0)
    if item.language:
        writer.tag(f"language:{item.language}", 0.0)
    return writer


def _said(item: Item) -> str:
    if not item.text.strip():
        raise DataError("an item without text has only the format `speech`")
    return item.text
