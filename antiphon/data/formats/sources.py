"""Sources of examples for a mixture: sets of codes in one of the four formats, and plain text.

An example follows from its item, the seed and the pass alone, so that whoever computes it computes the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from omegaconf import MISSING

from antiphon.data.codes import CodeSet
from antiphon.data.formats.example import Example
from antiphon.data.formats.formats import (
    Interleaving,
    Speller,
    Weights,
    interleaved,
    speech,
    speech_to_text,
    text,
    text_to_speech,
)
from antiphon.data.formats.item import Item, make_item, piece
from antiphon.data.text.corpora import ROLES, SOURCES, read_sentences
from antiphon.errors import ConfigError, DataError

FORMATS = ("speech", "speech-to-text", "text-to-speech", "interleaved", "text")


@dataclass
class SourceConfig:
    """A source, as a recipe names it."""

    format: str = MISSING
    """"speech", "speech-to-text", "text-to-speech", "interleaved" or "text"."""
    place: str = MISSING
    """A set of codes; of text a file (lines, or JSON lines with "text"; .gz too) or a folder of the text sources."""
    hours: float | None = None
    """Use only the first hours of a set of codes."""
    speaker: bool = False
    """Put the speaker's tag before the example; the model's vocabulary must have it."""
    language: str = ""
    """Put this language's tag before it."""
    weights: Weights = field(default_factory=Weights)
    """What the loss of speech, text and tags counts."""
    cuts: Interleaving = field(default_factory=Interleaving)
    """How "interleaved" cuts."""
    words: list[int] = field(default_factory=list)
    """Fewest and most words: of each utterance a run of so many alone, drawn anew in each pass, where the times of its
    words are known. In short pieces it is learnt much sooner which sounds are which words."""

    def __post_init__(self) -> None:
        if self.words and not (len(self.words) == 2 and 1 <= self.words[0] <= self.words[1]):
            raise ConfigError(f"words is {self.words}: give fewest and most, 1 or more, such as [1, 4]")
        if self.format not in FORMATS:
            raise ConfigError(f"format is {self.format!r}; choose {', '.join(FORMATS)}")


def is_held_out(identity: str, one_in: int) -> bool:
    """Whether an item is kept apart for measuring: one in so many, by the hash of its id alone; 0 keeps none."""
    return one_in > 0 and int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") % one_in == 0


class SpeechSource:
    """A set of codes in one of the formats of speech.

    Args:
        config: of the source.
        model: of the ids.
        seed: of what is drawn.
        held_out: one item in so many is kept apart.
        development: take those that are.

    Raises:
        DataError: no item that fits the format, or codes of another tokenizer than the vocabulary's.
    """

    def __init__(self, config: SourceConfig, model: Speller, seed: int, held_out: int, development: bool = False):
        self.config, self.model, self.seed = config, model, seed
        vocabulary, codes = model.vocabulary, CodeSet(config.place)
        info = codes.info
        if info.codebook_size != vocabulary.codebook_size or info.codebooks < vocabulary.codebooks:
            raise DataError(
                f"{config.place} holds {info.codebooks} codebooks of {info.codebook_size} units, the vocabulary has "
                f"{vocabulary.codebooks} of {vocabulary.codebook_size}: tokenize with the vocabulary's codec"
            )
        if vocabulary.fingerprint and info.fingerprint and vocabulary.fingerprint != info.fingerprint:
            raise DataError(f"{config.place} holds units of another tokenizer than {vocabulary.codec}: make them anew")
        ends = np.cumsum(codes.frames) / info.frame_rate
        count = len(codes) if config.hours is None else int(np.searchsorted(ends, 3600.0 * config.hours)) + 1
        self.codes = codes
        needs_text, needs_words = config.format != "speech", config.format == "interleaved"
        self.places = [
            place
            for place, row in enumerate(codes.rows[:count])
            if row.length
            and is_held_out(row.id, held_out) == development
            and (row.text.strip() or not needs_text)
            and (row.phones or not needs_words)
        ]
        if not self.places and not development:
            raise DataError(
                f"{config.place} holds nothing for the format {config.format!r}: it needs "
                f"{'the times of words' if needs_words else 'texts' if needs_text else 'recordings'}"
            )
        self.item = lru_cache(maxsize=None)(self._item)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        return self.item(index)

    def _item(self, index: int) -> Item:
        place, vocabulary = self.places[index], self.model.vocabulary
        row = self.codes.rows[place]
        speaker = row.voice if self.config.speaker else ""
        return make_item(
            self.codes[place][: vocabulary.codebooks], self.codes.info.frame_rate, row.text, row.phones,
            vocabulary.deduplicated, speaker, self.config.language,
        )  # fmt: skip

    def example(self, index: int, epoch: int = 0) -> Example:
        """Item `index` in its format, as it is cut in that pass."""
        item, weights = self[index], self.config.weights
        rng = random.Random(f"{self.seed}/{self.codes.rows[self.places[index]].id}/{epoch}")
        if self.config.words:
            item = piece(item, *self.config.words, rng)
        if self.config.format == "speech":
            return speech(item, self.model, weights)
        if self.config.format == "text-to-speech":
            return text_to_speech(item, self.model, weights)
        # What has no times after all (a text that isn't what was said) is still speech and its text.
        if self.config.format == "speech-to-text" or not item.words:
            return speech_to_text(item, self.model, weights)
        return interleaved(item, self.model, self.config.cuts, rng, weights)


class TextSource:
    """Plain text, a line an example. Args as `SpeechSource`."""

    def __init__(self, config: SourceConfig, model: Speller, seed: int, held_out: int, development: bool = False):
        self.config, self.model = config, model
        lines = read_lines(Path(config.place))
        self.lines = [line for line in lines if is_held_out(line, held_out) == development]
        if not self.lines and not development:
            raise DataError(f"{config.place} holds no text")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> str:
        return self.lines[index]

    def example(self, index: int, epoch: int = 0) -> Example:
        """Line `index`."""
        return text(self[index], self.model, self.config.weights)


Formatted = SpeechSource | TextSource


def open_source(
    config: SourceConfig, model: Speller, seed: int = 0, held_out: int = 50, development: bool = False
) -> Formatted:
    """The source that a recipe names; see `SpeechSource`."""
    kind: Callable[..., Formatted] = TextSource if config.format == "text" else SpeechSource
    return kind(config, model, seed, held_out, development)


def read_lines(place: Path) -> Sequence[str]:
    """The lines of a file, those that aren't empty; or the sentences of a folder of the text sources, sorted.

    Raises:
        DataError: nothing there that can be read.
    """
    if place.is_dir():
        if not any((place / f"{source}.jsonl.gz").is_file() for source in SOURCES):
            raise DataError(
                f"{place} holds none of the text sources: give a file, or make them with antiphon data texts"
            )
        return sorted({sentence.text for role in ROLES for sentence in read_sentences(place, role, "train")})
    try:
        raw = gzip.decompress(place.read_bytes()) if place.suffix == ".gz" else place.read_bytes()
        lines = [line.strip() for line in raw.decode("utf-8").split("\n") if line.strip()]
        if place.name.removesuffix(".gz").endswith(".jsonl"):
            lines = [str(json.loads(line)["text"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{place} cannot be read as lines of text: {error!r}") from error
    return lines
