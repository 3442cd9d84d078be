"""What the formats are made of: an utterance as units and words on one clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from antiphon.models.tts.normalization.normalize import Normalizer

Phones = Sequence[tuple[str, float, float]]


@dataclass(frozen=True)
class Word:
    """A word and its units.

    Attributes:
        text: as it is written.
        start, end: its first unit, and the one behind its last; the silence before a word is the word's own.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Item:
    """An utterance.

    Attributes:
        units: int64 [n] of one codebook, or [codebooks, n].
        text: what is said; "" where nobody knows.
        words: all of them in order, together all units; empty where nobody knows when they are said.
        speaker, language: that have tags, or "".
    """

    units: NDArray[np.int64]
    text: str = ""
    words: tuple[Word, ...] = ()
    speaker: str = ""
    language: str = ""


def make_item(
    codes: NDArray[np.integer],
    frame_rate: float,
    text: str = "",
    phones: Phones = (),
    deduplicated: bool = True,
    speaker: str = "",
    language: str = "",
) -> Item:
    """An utterance from a set of codes.

    Args:
        codes: [codebooks, frames].
        frame_rate: frames a second.
        text: as it is written.
        phones: (phone, start, end) in seconds, " " between words.
        deduplicated: keep one unit of each run of equal ones; of one codebook alone.
        speaker, language: as in `Item`.
    """
    codes = np.asarray(codes, np.int64)
    kept = np.arange(codes.shape[1])
    if deduplicated and codes.shape[1]:
        kept = np.flatnonzero(np.r_[True, (codes[:, 1:] != codes[:, :-1]).any(0)])
    units = codes[0, kept] if len(codes) == 1 else codes[:, kept]
    starts = word_starts(phones)
    said = text.split()
    if len(said) != len(starts):
        said = spoken_words(text)
    if not starts or len(said) != len(starts):
        return Item(units, text, (), speaker, language)
    # A unit that stands for a run belongs to the word in which the run begins.
    cuts = np.searchsorted(kept, np.round(np.asarray(starts) * frame_rate), side="left")
    cuts = [0, *cuts[1:].tolist(), len(kept)]
    words = tuple(Word(word, start, end) for word, start, end in zip(said, cuts[:-1], cuts[1:], strict=True))
    return Item(units, " ".join(said), words, speaker, language)


def piece(item: Item, fewest: int, most: int, rng: random.Random) -> Item:
    """A run of the item's words.

    Args:
        item: with the times of its words; one without comes back whole.
        fewest, most: words of the run, drawn evenly; of an item of fewer words all.
        rng: draws.
    """
    if not item.words:
        return item
    count = min(rng.randint(fewest, most), len(item.words))
    first = rng.randint(0, len(item.words) - count)
    words = item.words[first : first + count]
    start, end = words[0].start, words[-1].end
    shifted = tuple(Word(word.text, word.start - start, word.end - start) for word in words)
    return replace(item, units=item.units[..., start:end], text=" ".join(word.text for word in words), words=shifted)


def word_starts(phones: Phones) -> list[float]:
    """Seconds at which each word begins."""
    starts, inside = [], False
    for phone, start, _ in phones:
        if phone == " ":
            inside = False
        elif not inside:
            starts.append(start)
            inside = True
    return starts


def spoken_words(text: str) -> list[str]:
    """The words of a text as they are said, numbers and signs in words."""
    normalizer = Normalizer()
    words = normalizer.step(text, normalizer.init_state(), last=True)
    return " ".join(word.text for word in words).split()
