"""Sets of codes on disk: made once from recordings, resumed after a kill, read while they still grow.

A set is a folder:

    codes.json            {"format": 1, "codec": "mimi", "fingerprint": ..., "sample_rate": 24000, "codebooks": 8, ...}
    manifest.jsonl        one line a recording: id, text, voice, samples, frames, shard, offset, stamp
    skipped.jsonl         what could not be encoded: id, path, reason
    shard-00000.npy       int16 or int32 [frames, codebooks]: recordings end to end

Shards and manifest are written as those of a speech set are (`antiphon.data.shards`): whatever stands in the manifest
can be read, at any time, and a killed writer loses at most the shard that it was filling. One process writes a set,
however many encode for it: codes are small.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.data.shards import append_durably, complete_lines
from antiphon.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows, where two writers of one set go unnoticed
    fcntl = None

FORMAT = 1


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what a disk refuses into one of our errors.

    Raises:
        DataError: something could not be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}): name a folder that can (-o), or make room."
        ) from error


@dataclass(frozen=True)
class About:
    """What a set of codes is of.

    Attributes:
        codec: name or folder that the codec was loaded by.
        fingerprint: of the codec's weights.
        sample_rate, channels: of the audio, Hz.
        frame_rate: frames a second.
        codebooks: codes a frame that are kept.
        codebook_size: codes in each codebook.
        source: where the recordings were.
    """

    codec: str
    fingerprint: str
    sample_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int
    source: str = ""


@dataclass(frozen=True)
class Coded:
    """A line of the manifest.

    Attributes:
        id: unique in the set.
        text, voice: what is said, by whom; empty where not known.
        samples: length at the codec's sample rate.
        frames: of codes.
        shard, offset: where they are.
        stamp: of the recording (`Recording.stamp`); empty in sets that older versions made.
        scales: of its chunks, where the codec has such (`ChunkedEncodec`): decoding needs them besides the codes.
    """

    id: str
    text: str = ""
    voice: str = ""
    samples: int = 0
    frames: int = 0
    shard: str = ""
    offset: int = 0
    stamp: str = ""
    scales: list[float] = field(default_factory=list)

    def line(self) -> str:
        """The manifest's line, with its newline; most codecs have no scales, and nothing is written of them then."""
        row = {name: value for name, value in vars(self).items() if name != "scales" or value}
        return json.dumps(row, ensure_ascii=False) + "\n"


def read_about(folder: str | Path) -> About:
    """What the set in a folder is of.

    Raises:
        DataError: no set there, or of another format.
    """
    path = Path(folder) / "codes.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields.pop("format")
        if version != FORMAT:
            raise DataError(f"{folder} has format {version}, this version reads {FORMAT}: make the set anew.")
        return About(**fields)
    except FileNotFoundError:
        raise DataError(f"{folder} is no set of codes (no codes.json): make one with `antiphon tokenize`.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): make the set anew.") from None


class TokenWriter:
    """Adds codes to a set, creating it where there is none; a context manager.

    Args:
        folder: the set's.
        about: what it is of; must be what the set is of where it exists (but for the names of codec and source).
        shard_frames: a shard is closed once it holds as many frames,
        shard_seconds: or has been open for so long: that is the work at most lost when the writer is killed.

    Raises:
        DataError: the set is of another codec, another process writes it, or the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, about: About, shard_frames: int = 100_000, shard_seconds: float = 300.0
    ) -> None:
        self.folder, self.about = Path(folder), about
        self.shard_frames, self.shard_seconds = shard_frames, shard_seconds
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            try:
                self._open()
            except BaseException:
                self._unlock()
                raise

    def _open(self) -> None:
        about, path = self.about, self.folder / "codes.json"
        if not path.exists():
            if any(self.folder.glob("shard-*.npy")):
                raise DataError(f"{self.folder} holds shards of something else: choose another folder.")
            fresh = self.folder / "codes.json.part"
            fresh.write_text(json.dumps({"format": FORMAT, **asdict(about)}, indent=2) + "\n", encoding="utf-8")
            fresh.replace(path)
        there = read_about(self.folder)
        for name, value in asdict(about).items():
            old = getattr(there, name)
            if name not in ("codec", "source") and old != value:
                raise DataError(
                    f"{self.folder} holds codes of {there.codec} with {name.replace('_', ' ')} {old}, not {value}: "
                    "write to another folder."
                )
        self.dtype = np.int16 if about.codebook_size <= 2**15 else np.int32
        rows = self._recover()
        #: ids that need no more work: encoded or skipped
        self.done = {row["id"] for row in rows}
        #: of the recordings whose codes were there: what they were then
        self.stamps = {row["id"]: row.get("stamp", "") for row in rows}
        #: where the recordings were that the set was begun with
        self.source = there.source
        self.skipped = {row["id"] for row in complete_lines(self.folder / "skipped.jsonl")[0]} - self.done
        self.done |= self.skipped
        self._next = 1 + max((int(row["shard"].split("-")[1].split(".")[0]) for row in rows), default=-1)
        self._rows: list[Coded] = []
        self._codes: list[NDArray] = []
        self._held = 0
        self._opened = 0.0

    def _take_lock(self) -> int | None:
        if fcntl is None:
            return None
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
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
            if path.exists() and (end := complete_lines(path)[1]) < path.stat().st_size:
                os.truncate(path, end)
        rows = complete_lines(self.folder / "manifest.jsonl")[0]
        known = {row["shard"] for row in rows}
        for path in [*self.folder.glob("shard-*.npy"), *self.folder.glob("shard-*.part")]:
            if path.name not in known:
                path.unlink()
        return rows

    def retry(self) -> None:
        """Forgets what was skipped, so that it is tried again."""
        (self.folder / "skipped.jsonl").unlink(missing_ok=True)
        self.done -= self.skipped
        self.skipped = set()

    def add(self, coded: Coded, codes: NDArray[np.integer]) -> None:
        """Adds the codes [codebooks, frames] of a recording; `frames`, `shard` and `offset` are filled in here."""
        if coded.id in self.done:
            raise DataError(f"{self.folder} has codes of {coded.id} already: check `done` before making them.")
        if codes.ndim != 2 or len(codes) != self.about.codebooks:
            raise DataError(
                f"Codes of {coded.id}, {list(codes.shape)}, are not [{self.about.codebooks}, frames]: check the codec."
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < self.about.codebook_size:
            raise DataError(f"Codes of {coded.id} do not fit into codebooks of {self.about.codebook_size}.")
        if not self._rows:
            self._opened = time.monotonic()
        place = {"frames": codes.shape[1], "shard": f"shard-{self._next:05d}.npy", "offset": self._held}
        self._rows.append(Coded(**{**vars(coded), **place}))
        self._codes.append(codes.T.astype(self.dtype))
        self._held += codes.shape[1]
        self.done.add(coded.id)
        if self._held >= self.shard_frames or time.monotonic() - self._opened >= self.shard_seconds:
            self.flush()

    def skip(self, identity: str, path: str, reason: str) -> None:
        """Lists a recording that could not be encoded."""
        self.done.add(identity)
        self.skipped.add(identity)
        row = {"id": identity, "path": path, "reason": reason}
        with writing(self.folder):
            append_durably(self.folder / "skipped.jsonl", json.dumps(row, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Closes the shard that is being filled, so that readers see it."""
        if not self._rows:
            return
        path = self.folder / self._rows[0].shard
        part = path.with_suffix(".part")
        with writing(self.folder):
            with part.open("wb") as file:
                np.save(file, np.concatenate(self._codes))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            append_durably(self.folder / "manifest.jsonl", "".join(row.line() for row in self._rows))
        self._rows, self._codes, self._held = [], [], 0
        self._next += 1

    def close(self) -> None:
        """Flushes and lets other writers in."""
        try:
            self.flush()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TokenSet:
    """Reads a set of codes, also while it is being written.

    Args:
        folder: the set's.

    Attributes:
        about: what it is of.
        rows: what it holds, in the order of writing.

    Raises:
        DataError: no set there, or a broken one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.about = read_about(folder)
        try:
            self.rows = [Coded(**row) for row in complete_lines(self.folder / "manifest.jsonl")[0]]
        except TypeError as error:
            raise DataError(f"{self.folder / 'manifest.jsonl'} is no list of codes ({error}): make it anew.") from None
        self._maps: dict[str, NDArray] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """The codes of a recording, [codebooks, frames]."""
        row = self.rows[index]
        if row.shard not in self._maps:
            path = self.folder / row.shard
            try:
                self._maps[row.shard] = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({error}): make the set anew.") from None
        return self._maps[row.shard][row.offset : row.offset + row.frames].T.astype(np.int64)

    def __iter__(self) -> Iterator[tuple[Coded, NDArray[np.int64]]]:
        return ((row, self[i]) for i, row in enumerate(self.rows))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}  # other processes open their own
