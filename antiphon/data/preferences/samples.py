"""Samples: several answers of a model to each prompt, and what was measured of them; pairs are chosen from these.

    samples = SampleSet("pairs/talker")
    samples[0].measured["wer"], samples.drawn(0)          # 0.125, codes [codebooks, frames]

On disk it is a store (`antiphon.data.store`) of kind "samples": a line of the manifest says what was asked, what came,
what was measured, and which file one can listen to; the array is what the model drew, [length, streams]: codes, or
tokens of text in one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.errors import DataError

KIND = "samples"


@dataclass(frozen=True)
class Sample:
    """A line of the manifest.

    Attributes:
        id: unique in the set: the prompt's and the sample's number.
        prompt: id of the prompt; the samples of one prompt are compared with each other.
        asked: the prompt's text: what was to be said or answered.
        answer: what was answered, in words; empty where it is only heard.
        measured: by name; numbers, and words such as what a recognizer heard.
        about: what training must know besides the array, the same for all samples of the prompt.
        file: of the sound, relative to the folder; empty where there is none.
        shard, offset, length: where the array is.
    """

    id: str
    prompt: str
    asked: str
    answer: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    shard: str = ""
    offset: int = 0
    length: int = 0


class SampleWriter(ArrayWriter):
    """Adds samples to a set, creating it where there is none; a context manager.

    Args:
        folder: the set's.
        about: how its samples are drawn; a set that exists must say the same.

    Raises:
        DataError: the set's samples are drawn in another way, another process writes it, or it cannot be written.
    """

    def __init__(self, folder: str | Path, about: dict[str, Any]) -> None:
        super().__init__(folder, KIND, about, shard_rows=1_000_000)

    def add(self, sample: Sample, drawn: NDArray[np.integer]) -> None:
        """Adds what a sample drew, [streams, length]."""
        row = {name: value for name, value in vars(sample).items() if value not in ("", {}, 0)}
        super().add(row, np.asarray(drawn, np.int32).T)


class SampleSet(Sequence[Sample]):
    """Reads a set of samples, also while it is being written.

    Args:
        folder: the set's.

    Attributes:
        header: how the samples were drawn.

    Raises:
        DataError: no set there, or a broken one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._store = ArrayStore(folder, KIND)
        self.header = self._store.header
        try:
            self.samples = [Sample(**row) for row in self._store.rows]
        except TypeError as error:
            raise DataError(f"{self.folder / 'manifest.jsonl'} is no list of samples ({error}): mine anew.") from None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def drawn(self, index: int) -> NDArray[np.int64]:
        """What the model drew, [streams, length]."""
        return self._store.array(vars(self.samples[index])).T.astype(np.int64)
