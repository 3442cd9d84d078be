"""What the ids of a speech language model stand for: text, tags, and the units of each codebook, in this order.

vocabulary = SpeechVocabulary(text=49152, codebook_size=500, speakers=("heart",))
vocabulary.tag("S")                         # the id of [S]
vocabulary.units(codes)                     # codes of the first codebook -> ids
vocabulary.codes(vocabulary.units(codes))   # and back
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.errors import ModelError

TAGS = {"B": "begin", "E": "end", "S": "speech", "T": "text"}
"""The tags of the formats, and a word that means about the same: an example begins and ends, speech or text follows."""

NOTHING = -1
"""In a grid of several codebooks: where a stream has nothing."""


@dataclass(frozen=True)
class SpeechVocabulary:
    """Ids: those of the text tokenizer as they were, then [B] [E] [S] [T], speakers, languages, then codebook after
    codebook.

    Attributes:
        text: ids of the text tokenizer.
        codebook_size, codebooks: of the tokenizer of speech, as many as are used.
        frame_rate: of its frames, a second.
        deduplicated: each run of equal units is one token; of one codebook alone.
        codec: name or folder of the tokenizer.
        fingerprint: of its weights.
        speakers, languages: that have tags.
    """

    text: int
    codebook_size: int
    codebooks: int = 1
    frame_rate: float = 50.0
    deduplicated: bool = True
    codec: str = ""
    fingerprint: str = ""
    speakers: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.text < 0 or self.codebook_size < 1 or self.codebooks < 1:
            raise ModelError(
                f"{self.codebooks} codebooks of {self.codebook_size} units on {self.text} text tokens: one or more of "
                "each are needed"
            )
        if self.deduplicated and self.codebooks > 1:
            raise ModelError("units of several codebooks can't be deduplicated: set deduplicated to false")
        object.__setattr__(self, "speakers", tuple(self.speakers))
        object.__setattr__(self, "languages", tuple(self.languages))

    @cached_property
    def names(self) -> list[str]:
        """Of the tags, in the order of their ids."""
        speakers = [f"speaker:{name}" for name in self.speakers]
        return [*TAGS, *speakers, *(f"language:{name}" for name in self.languages)]

    @property
    def first_unit(self) -> int:
        """Id of unit 0 of the first codebook."""
        return self.text + len(self.names)

    @property
    def size(self) -> int:
        """Ids in all."""
        return self.first_unit + self.codebooks * self.codebook_size

    def tag(self, name: str) -> int:
        """Id of a tag: "B", "E", "S", "T", "speaker:NAME" or "language:NAME".

        Raises:
            ModelError: there is none of that name.
        """
        if name not in self.names:
            raise ModelError(f"there is no tag {name!r} in this vocabulary: {', '.join(self.names)}")
        return self.text + self.names.index(name)

    def head(self, stream: int = 0, in_text: bool = False) -> slice:
        """The ids that a stream chooses from: in text, text and tags; in speech, tags and the first codebook; in other
        streams, a codebook of their own."""
        if stream == 0:
            return slice(0, self.first_unit) if in_text else slice(self.text, self.first_unit + self.codebook_size)
        start = self.first_unit + stream * self.codebook_size
        return slice(start, start + self.codebook_size)

    def in_text(self, first: Tensor) -> Tensor:
        """Of the columns of a first stream [..., length], those after which text goes on: text, [T], and those that
        have nothing there behind such a one. After all others comes speech or a tag, as the formats have it."""
        place = torch.arange(first.shape[-1], device=first.device)
        last = torch.where(first != NOTHING, place, 0).cummax(-1).values  # the column that says it
        first = first.gather(-1, last)
        return ((first >= 0) & (first < self.text)) | (first == self.tag("T"))

    def units(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Codes [n] of the first codebook, or [codebooks, n] of all, to ids of the same shape; NOTHING stays.

        Raises:
            ModelError: codes beyond the codebook, or of more codebooks than there are.
        """
        codes = np.asarray(codes, np.int64)
        if codes.size and not NOTHING <= codes.min() <= codes.max() < self.codebook_size:
            raise ModelError(
                f"units {codes.min()} to {codes.max()} are beyond this vocabulary's {self.codebook_size}: encode with "
                f"{self.codec or 'the codec that it is of'}"
            )
        if codes.ndim > 2 or (codes.ndim == 2 and len(codes) > self.codebooks):
            raise ModelError(f"units {list(codes.shape)} have more codebooks than this vocabulary's {self.codebooks}")
        streams = np.arange(len(codes))[:, None] if codes.ndim == 2 else 0
        return np.where(codes == NOTHING, NOTHING, codes + self.first_unit + streams * self.codebook_size)

    def codes(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """The inverse of `units`."""
        ids = np.asarray(ids, np.int64)
        streams = np.arange(len(ids))[:, None] if ids.ndim == 2 else 0
        return np.where(ids == NOTHING, NOTHING, ids - self.first_unit - streams * self.codebook_size)

    def is_unit(self, token: int) -> bool:
        """Whether an id stands for a unit of the first codebook."""
        return self.first_unit <= token < self.first_unit + self.codebook_size

    def token_name(self, token: int) -> str:
        """How an id beyond the text is written in a tokenizer's file: ``<|S|>``, ``<|u17|>``, ``<|u1:17|>``."""
        if token < self.first_unit:
            return f"<|{self.names[token - self.text]}|>"
        stream, unit = divmod(token - self.first_unit, self.codebook_size)
        return f"<|u{stream}:{unit}|>" if stream else f"<|u{unit}|>"

    def to_dict(self) -> dict[str, Any]:
        """As config.json holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> SpeechVocabulary:
        """Reads what `to_dict` gave.

        Raises:
            ModelError: something else.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"{where} describes no vocabulary of speech ({error}): export the model anew") from error
