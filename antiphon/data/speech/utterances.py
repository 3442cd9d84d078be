"""Sets of spoken utterances: what is said, by whom, when each phoneme sounds, and the sound as 16-bit samples.

    with SpeechWriter("set", sample_rate=24000) as writer:
        writer.add(Utterance("u0", "Hello.", "hibari"), samples)
    speech = SpeechSet("set")
    speech.crop(24000, np.random.default_rng(0))        # a second from somewhere in it

On disk it is a store (`antiphon.data.store`) of kind "speech": int16 [samples].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.errors import DataError


@dataclass(frozen=True)
class Turn:
    """A message before an answer.

    Attributes:
        role: "user" or "assistant".
        text: what was said.
        heard: how the user was heard to sound, "group/label" (`antiphon.models.scene.labels`); "" for nothing of note.
    """

    role: str
    text: str
    heard: str = ""


@dataclass(frozen=True)
class Utterance:
    """A line of the manifest.

    Attributes:
        id: Unique in the set; for sentences the hash of their text.
        text: What is said.
        voice: Who says it.
        duration: Seconds.
        seed: What everything random about it came from.
        role: "user" or "assistant".
        source: Where the text came from.
        phonemes: One character a phoneme; empty where the voice cannot tell.
        phoneme_ends: Seconds, one per phoneme.
        phonemes_start: Seconds at which the first phoneme starts.
        words: (word's phonemes, start, end), seconds.
        changes: How it differs from the voice as it is (speed, tempo, pitch, formant, augmented, ...).
        context: What was said before, oldest first (fields of `Turn`); empty where not known.
        shard, offset, length: Where its samples are.
    """

    id: str
    text: str
    voice: str
    duration: float = 0.0
    seed: int = 0
    role: str = ""
    source: str = ""
    phonemes: str = ""
    phoneme_ends: list[float] = field(default_factory=list)
    phonemes_start: float = 0.0
    words: list[tuple[str, float, float]] = field(default_factory=list)
    changes: dict[str, float] = field(default_factory=dict)
    context: list[dict[str, str]] = field(default_factory=list)
    shard: str = ""
    offset: int = 0
    length: int = 0


class SpeechWriter(ArrayWriter):
    """Adds utterances to a set, creating it where there is none; a context manager.

    Args:
        folder: The set's.
        sample_rate: Hz; must be the set's where it exists.
        worker: Number of this writer among those that write at the same time.
        shard_seconds: A shard is closed once it holds as much speech, however long it has been open: a run in pieces
            then makes the shards of one run.

    Raises:
        DataError: The set has another sample rate, or another process writes as this worker.
    """

    def __init__(self, folder: str | Path, sample_rate: int, worker: int = 0, shard_seconds: float = 300.0) -> None:
        rows, about = int(shard_seconds * sample_rate), {"sample_rate": sample_rate}
        super().__init__(folder, "speech", about, (), worker, rows, float("inf"))
        self.sample_rate = sample_rate

    def add(self, utterance: Utterance, samples: NDArray[np.floating]) -> None:
        """Add one utterance; `duration`, `shard`, `offset` and `length` are filled in here.

        Args:
            utterance: What is said in `samples`.
            samples: [N] in [-1, 1]; what goes over is clipped.
        """
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise DataError(f"Utterance {utterance.id}, {samples.shape}, is not finite samples [N]: check its voice.")
        whole = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
        super().add({**vars(utterance), "duration": round(len(whole) / self.sample_rate, 4)}, whole)


class SpeechSet:
    """Reads a set, also while it is being written.

    Args:
        folder: The set's.
        hours: Take only the first hours of the manifest. What a growing set holds then stays the same, so a run can be
            repeated exactly.
        voices: Take only these voices.
        seconds: Take only utterances from the first to the second length.

    Raises:
        DataError: No set there, or a broken one.
    """

    def __init__(
        self,
        folder: str | Path,
        hours: float | None = None,
        voices: list[str] | None = None,
        seconds: tuple[float, float] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.hours, self.voices, self.seconds = hours, voices, seconds
        self.utterances: list[Utterance] = []
        self._store = ArrayStore(folder, "speech")
        self.sample_rate = int(self._store.header["sample_rate"])
        self._read_seconds = 0.0
        self._ends = np.zeros(0, np.int64)
        self._take(self._store.rows)

    def refresh(self) -> int:
        """Take in what was written since; returns the number of utterances that came."""
        return self._take(self._store.refresh())

    def _take(self, rows: list[dict[str, Any]]) -> int:
        before = len(self.utterances)
        for row in rows:
            if self.hours is not None and self._read_seconds >= self.hours * 3600.0:
                break
            self._read_seconds += row["duration"]
            if self.voices is not None and row["voice"] not in self.voices:
                continue
            if self.seconds is not None and not self.seconds[0] <= row["duration"] <= self.seconds[1]:
                continue
            self.utterances.append(Utterance(**row))
        self._ends = np.cumsum([utterance.length for utterance in self.utterances], dtype=np.int64)
        return len(self.utterances) - before

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[tuple[Utterance, NDArray[np.float32]]]:
        for index, utterance in enumerate(self.utterances):
            yield utterance, self.samples(index)

    @property
    def duration(self) -> float:
        """Seconds of speech in the set."""
        return float(self._ends[-1]) / self.sample_rate if len(self) else 0.0

    def samples(self, index: int, start: int = 0, count: int | None = None) -> NDArray[np.float32]:
        """Samples of an utterance, [count] float32 in [-1, 1].

        Args:
            index: Of the utterance.
            start: First sample.
            count: How many; the rest of the utterance where None. Fewer come back where the utterance ends.
        """
        stop = None if count is None else start + count
        samples = self._store.array(vars(self.utterances[index]), start, stop)
        return samples.astype(np.float32) / np.float32(32767.0)

    def crop(self, count: int, generator: Generator) -> tuple[NDArray[np.float32], int]:
        """A random piece of a random utterance, drawn so that every second of the set is about equally likely.

        Args:
            count: Samples wanted.
            generator: Draws utterance and place.

        Returns:
            Samples [count], zeros after the utterance's end; how many of them are speech.
        """
        if not len(self):
            raise DataError(f"{self.folder} holds no utterances (yet): wait for its writer's first shard.")
        index = int(np.searchsorted(self._ends, generator.integers(int(self._ends[-1])), side="right"))
        spare = self.utterances[index].length - count
        start = int(generator.integers(spare + 1)) if spare > 0 else 0
        piece = self.samples(index, start, count)
        return np.pad(piece, (0, count - len(piece))), len(piece)
