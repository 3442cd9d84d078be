"""Sets of spoken utterances on disk: made once, resumed after a kill, read while they still grow.

A set is a folder:

    set.json              {"format": 1, "sample_rate": 24000}
    manifest.jsonl        one line an utterance: id, text, voice, shard, offset and length in samples, ...
    skipped.jsonl         ids that were tried and left out, with the reason, so that no rerun tries them again
    shard-00-00000.npy    int16 [samples]: utterances end to end; the first number is the writing worker's

A shard is written under another name, flushed to the disk and renamed, and only then do its utterances enter the
manifest, all in one append. So whatever stands in the manifest can be read, at any time, and a killed writer loses at
most the shard it was filling. Nothing that was written changes later: the first hours of a growing set stay the first.
"""
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows, where two writers of one worker's shards go unnoticed
    fcntl = None

FORMAT = 1


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
        changes: How it differs from the voice as it is (speed, pitch, formant, augmented).
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
    shard: str = ""
    offset: int = 0
    length: int = 0

    def line(self) -> str:
        """The manifest's line, with its newline."""
        return json.dumps(vars(self), ensure_ascii=False) + "\n"


def complete_lines(path: Path, position: int = 0) -> tuple[list[dict], int]:
    """Rows of the lines from byte `position` on, and the position after the last complete one.

    A line whose end a kill cut off, or that is just being written, does not count.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    try:
        return [json.loads(line) for line in data.splitlines() if line.strip()], position + len(data)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} has a line that is not JSON ({error}): remove it, or make the set anew.") from None


def append_durably(path: Path, text: str) -> None:
    """Append lines of JSON in one write, so that readers and other workers see whole lines."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # A file's name need not be UTF-8, nor a text whole: JSON's own escapes (\udce9) keep what UTF-8 cannot say.
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sample_rate(folder: Path) -> int:
    try:
        about = json.loads((folder / "set.json").read_text())
        if about["format"] != FORMAT:
            raise DataError(f"{folder} has format {about['format']}, this version reads {FORMAT}: make the set anew.")
        return int(about["sample_rate"])
    except FileNotFoundError:
        raise DataError(f"{folder} is no speech set (no set.json): make one with `antiphon data speak`.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / 'set.json'} cannot be read ({error!r}): make the set anew.") from None


class ShardWriter:
    """Adds utterances to a set, creating it where there is none; a context manager.

    Args:
        folder: The set's.
        sample_rate: Hz; must be the set's where it exists.
        worker: Number of this writer among those that write at the same time.
        shard_seconds: A shard is closed once it holds as much.

    Raises:
        DataError: The set has another sample rate, or another process writes as this worker.
    """

    def __init__(self, folder: str | Path, sample_rate: int, worker: int = 0, shard_seconds: float = 300.0) -> None:
        self.folder, self.sample_rate, self.worker = Path(folder), sample_rate, worker
        self.shard_samples = int(shard_seconds * sample_rate)
        self.folder.mkdir(parents=True, exist_ok=True)
        about = self.folder / "set.json"
        if not about.exists():
            fresh = self.folder / f"set.json.{os.getpid()}"
            fresh.write_text(json.dumps({"format": FORMAT, "sample_rate": sample_rate}) + "\n")
            fresh.replace(about)
        if _sample_rate(self.folder) != sample_rate:
            there = _sample_rate(self.folder)
            raise DataError(f"{folder} holds {there} Hz, not {sample_rate} Hz: write to another folder.")
        self._lock = self._take_lock()
        rows = self._recover()
        #: ids that need no more work: written or skipped
        self.done = {row["id"] for row in rows}
        self.done |= {row["id"] for row in complete_lines(self.folder / "skipped.jsonl")[0]}
        mine = [row["shard"] for row in rows if row["shard"].startswith(self._prefix)]
        self._next = 1 + max((int(name.split("-")[2].split(".")[0]) for name in mine), default=-1)
        self._samples: list[NDArray[np.int16]] = []
        self._rows: list[Utterance] = []
        self._held = 0

    @property
    def _prefix(self) -> str:
        return f"shard-{self.worker:02d}-"

    def _take_lock(self) -> int | None:
        if fcntl is None:
            return None
        handle = os.open(self.folder / f".worker-{self.worker:02d}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise DataError(f"Another process is writing {self.folder}: wait, or write to another folder.") from None
        return handle

    def _recover(self) -> list[dict]:
        """The manifest's rows, after clearing up what a kill left: a cut line, half a shard, one not in it."""
        for name in ("manifest.jsonl", "skipped.jsonl"):
            path = self.folder / name
            # Only the first worker cuts: the others start later, when it may already append.
            if self.worker == 0 and path.exists() and complete_lines(path)[1] < path.stat().st_size:
                os.truncate(path, complete_lines(path)[1])
        rows = complete_lines(self.folder / "manifest.jsonl")[0]
        known = {row["shard"] for row in rows}
        for path in [*self.folder.glob(f"{self._prefix}*.npy"), *self.folder.glob(f"{self._prefix}*.part")]:
            if path.name not in known:
                path.unlink()
        return rows

    def add(self, utterance: Utterance, samples: NDArray[np.floating]) -> None:
        """Add one utterance; `duration`, `shard`, `offset` and `length` are filled in here.

        Args:
            utterance: What is said in `samples`.
            samples: [N] in [-1, 1]; what goes over is clipped.
        """
        if utterance.id in self.done:
            raise DataError(f"{self.folder} has an utterance {utterance.id} already: check `done` before making one.")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise DataError(f"Utterance {utterance.id}, {samples.shape}, is not finite samples [N]: check its voice.")
        whole = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
        place = {
            "duration": round(len(whole) / self.sample_rate, 4),
            "shard": f"{self._prefix}{self._next:05d}.npy",
            "offset": self._held,
            "length": len(whole),
        }
        self._rows.append(Utterance(**{**vars(utterance), **place}))
        self._samples.append(whole)
        self._held += len(whole)
        self.done.add(utterance.id)
        if self._held >= self.shard_samples:
            self.flush()

    def skip(self, identity: str, reason: str) -> None:
        """Record that an utterance was tried and left out."""
        self.done.add(identity)
        append_durably(self.folder / "skipped.jsonl", json.dumps({"id": identity, "reason": reason}) + "\n")

    def flush(self) -> None:
        """Close the shard that is being filled, so that readers see it."""
        if not self._rows:
            return
        path = self.folder / self._rows[0].shard
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, np.concatenate(self._samples))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        append_durably(self.folder / "manifest.jsonl", "".join(row.line() for row in self._rows))
        self._rows, self._samples, self._held = [], [], 0
        self._next += 1

    def close(self) -> None:
        """Flush and let other writers in."""
        self.flush()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


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
        self.sample_rate = _sample_rate(self.folder)
        self.hours, self.voices, self.seconds = hours, voices, seconds
        self.utterances: list[Utterance] = []
        self._position = 0
        self._read_seconds = 0.0
        self._maps: dict[str, NDArray[np.int16]] = {}
        self._ends = np.zeros(0, np.int64)
        self.refresh()

    def refresh(self) -> int:
        """Take in what was written since; returns the number of utterances that came."""
        rows, self._position = complete_lines(self.folder / "manifest.jsonl", self._position)
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

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}  # workers of a data loader open their own

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
        utterance = self.utterances[index]
        data = self._maps.get(utterance.shard)
        if data is None:
            try:
                data = np.load(self.folder / utterance.shard, mmap_mode="r")
            except (OSError, ValueError) as error:
                path = self.folder / utterance.shard
                raise DataError(f"{path} cannot be read ({error}): make the set anew.") from None
            self._maps[utterance.shard] = data
        start = min(max(start, 0), utterance.length)
        stop = utterance.length if count is None else min(start + count, utterance.length)
        return data[utterance.offset + start : utterance.offset + stop].astype(np.float32) / np.float32(32767.0)

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

    def crops(self, batch: int, count: int, generator: Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`batch` crops: samples [batch, count] and how many of each are speech [batch]."""
        pieces = [self.crop(count, generator) for _ in range(batch)]
        return np.stack([piece for piece, _ in pieces]), np.array([length for _, length in pieces], np.int64)
