"""Arrays on disk, the one store under every set: made once, resumed after a kill, read while it still grows.

A store is a folder:

    set.json              {"format": 1, "kind": "speech", ...}: what it is of, and what its kind needs to know
    manifest.jsonl        one line an item: its id, what its kind tells of it, and its place: shard, offset, length
    skipped.jsonl         what was tried and left out, with the reason, so that no rerun tries it again
    shard-00-00000.npy    [rows, ...]: items end to end; the first number is the writing worker's

A shard is written under another name, flushed to the disk and renamed, and only then do its items enter the manifest,
all in one append. So whatever stands in the manifest can be read, at any time, and a killed writer loses at most the
shard it was filling. Nothing that was written changes later: the first items of a growing store stay the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.data import old_sets
from antiphon.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows, where two writers of one worker's shards go unnoticed
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
MADE_BY = {
    "speech": "antiphon data speak",
    "codes": "antiphon tokenize",
    "dialogues": "antiphon data converse --codec",
    "features": "antiphon data features",
    "heard": "antiphon train recipes/duplex/hearing.yaml",
    "scenes": "antiphon data scene",
    "samples": "antiphon data preferences",
}


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


def complete_lines(path: Path, position: int = 0) -> tuple[list[dict[str, Any]], int]:
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


def append_durably(path: Path, *rows: dict[str, Any]) -> None:
    """Append lines of JSON in one write, so that readers and other workers see whole lines."""
    # A file's name need not be UTF-8, nor a text whole: JSON's own escapes (\udce9) keep what UTF-8 cannot say.
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = text.encode("utf-8", "backslashreplace")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def cut_incomplete_line(path: Path) -> None:
    """Cuts off what a kill left of a last line."""
    if path.exists() and (end := complete_lines(path)[1]) < path.stat().st_size:
        os.truncate(path, end)


def lock(path: Path, shared: bool = False) -> int | None:
    """A lock that lasts until its handle is closed; None where the system has none. For a shared one it waits.

    Raises:
        BlockingIOError: somebody else has it.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def kind_of(folder: str | Path) -> str | None:
    """The kind of the store in a folder, None where there is none (or one of an older version of some kinds)."""
    try:
        header = json.loads((Path(folder) / "set.json").read_text(encoding="utf-8"))
        return str(header.get("kind", "speech"))
    except (OSError, ValueError, AttributeError):
        return old_sets.kind_of(Path(folder))


def read_header(folder: Path, kind: str) -> dict[str, Any]:
    """What the store in a folder is of.

    Raises:
        DataError: no store of the kind there, or of another format.
    """
    make = f"make one with `{MADE_BY[kind]}`" if kind in MADE_BY else "training makes one"
    try:
        header = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        found, version = header.get("kind", "speech"), header["format"]
    except FileNotFoundError:
        raise DataError(f"{folder} is no set of {kind} (no set.json): {make}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / 'set.json'} cannot be read ({error!r}): make the set anew.") from None
    if version != FORMAT:
        raise DataError(f"{folder} has format {version}, this version reads {FORMAT}: make the set anew.")
    if found != kind:
        raise DataError(f"{folder} is a set of {found}, not of {kind}: {make}.")
    return header


class ArrayWriter:
    """Adds items to a store, creating it where there is none; a context manager.

    Args:
        folder: the store's.
        kind: "speech", "codes", ...
        about: what else its header says; must be what it says already where the store exists.
        free: names in `about` that may be others then.
        worker: number of this writer among those that write at the same time.
        shard_rows: a shard is closed once it holds as many rows,
        shard_seconds: or has been open for so long: that is the work at most lost when the writer is killed.

    Attributes:
        header: as it stands in the store.
        items: rows of the manifest when the writer was opened.
        done: ids that need no more work: written or skipped.
        skipped: ids that were skipped.
        shards: how many shards this worker has closed.

    Raises:
        DataError: the store is of something else, another process writes as this worker, or it cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        kind: str,
        about: dict[str, Any],
        free: Collection[str] = (),
        worker: int = 0,
        shard_rows: int = 100_000,
        shard_seconds: float = 300.0,
    ) -> None:
        self.folder, self.worker = Path(folder), worker
        self.shard_rows, self.shard_seconds = shard_rows, shard_seconds
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            try:
                self.header = self._claim(kind, about, free)
                self.items = self._recover()
            except BaseException:
                self._unlock()
                raise
        self.done = {row["id"] for row in self.items}
        self.skipped = {row["id"] for row in complete_lines(self.folder / "skipped.jsonl")[0]} - self.done
        self.done |= self.skipped
        mine = [row["shard"] for row in self.items if row["shard"].startswith(self._prefix)]
        self.shards = 1 + max((int(name.split("-")[2].split(".")[0]) for name in mine), default=-1)
        self._rows: list[dict[str, Any]] = []
        self._arrays: list[NDArray] = []
        self._held, self._opened = 0, 0.0

    @property
    def _prefix(self) -> str:
        return f"shard-{self.worker:02d}-"

    def _take_lock(self) -> int | None:
        try:
            return lock(self.folder / f".worker-{self.worker:02d}.lock")
        except BlockingIOError:
            raise DataError(f"Another process is writing {self.folder}: wait, or write to another folder.") from None

    def _claim(self, kind: str, about: dict[str, Any], free: Collection[str]) -> dict[str, Any]:
        """The header, written where there is none yet."""
        path = self.folder / "set.json"
        if not path.exists():
            if old_sets.kind_of(self.folder) or any(self.folder.glob("shard-*.npy")):
                raise DataError(
                    f"{self.folder} holds shards of something else, or of a set that an older version made; that can "
                    "be read, not added to: choose another folder."
                )
            fresh = self.folder / f"set.json.{os.getpid()}"
            fresh.write_text(json.dumps({"format": FORMAT, "kind": kind, **about}) + "\n", encoding="utf-8")
            fresh.replace(path)
        header = read_header(self.folder, kind)
        for name, value in about.items():
            if name not in free and header.get(name) != value:
                raise DataError(
                    f"{self.folder} holds {kind} with {name.replace('_', ' ')} {header.get(name)}, not {value}: write "
                    "to another folder."
                )
        return header

    def _recover(self) -> list[dict[str, Any]]:
        """The manifest's rows, after clearing up what a kill left: a cut line, half a shard, one not in it."""
        if self.worker == 0:  # only the first worker cuts: the others start later, when it may already append
            for name in ("manifest.jsonl", "skipped.jsonl"):
                cut_incomplete_line(self.folder / name)
        rows = complete_lines(self.folder / "manifest.jsonl")[0]
        known = {row["shard"] for row in rows}
        for path in [*self.folder.glob(f"{self._prefix}*.npy"), *self.folder.glob(f"{self._prefix}*.part")]:
            if path.name not in known:
                path.unlink()
        return rows

    def add(self, row: dict[str, Any], array: NDArray) -> None:
        """Adds an item.

        Args:
            row: its line in the manifest; has an "id". Its place (shard, offset, length) is filled in here.
            array: [rows, ...], of the type and width of all others.
        """
        if row["id"] in self.done:
            raise DataError(f"{self.folder} has {row['id']!r} already: check `done` before making one.")
        if not self._rows:
            self._opened = time.monotonic()
        place = {"shard": f"{self._prefix}{self.shards:05d}.npy", "offset": self._held, "length": len(array)}
        self._rows.append({**row, **place})
        self._arrays.append(array)
        self._held += len(array)
        self.done.add(row["id"])
        if self._held >= self.shard_rows or time.monotonic() - self._opened >= self.shard_seconds:
            self.flush()

    def skip(self, identity: str, reason: str, **more: str) -> None:
        """Records that an item was tried and left out, and whatever else may help to find out why."""
        self.done.add(identity)
        self.skipped.add(identity)
        with writing(self.folder):
            append_durably(self.folder / "skipped.jsonl", {"id": identity, **more, "reason": reason})

    def retry(self) -> None:
        """Forgets what was skipped, so that it is tried again."""
        (self.folder / "skipped.jsonl").unlink(missing_ok=True)
        self.done -= self.skipped
        self.skipped = set()

    def flush(self) -> None:
        """Closes the shard that is being filled, so that readers see it."""
        if not self._rows:
            return
        path = self.folder / self._rows[0]["shard"]
        part = path.with_suffix(".part")
        with writing(self.folder):
            with part.open("wb") as file:
                np.save(file, np.concatenate(self._arrays))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            append_durably(self.folder / "manifest.jsonl", *self._rows)
        self._rows, self._arrays, self._held = [], [], 0
        self.shards += 1

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

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArrayStore:
    """Reads a store, also while it is being written; and sets that older versions made.

    Args:
        folder: the store's.
        kind: that it must be of.

    Attributes:
        header: what it is of.
        rows: the manifest's lines that have been read, in the order of writing.

    Raises:
        DataError: no such store there, or a broken one.
    """

    def __init__(self, folder: str | Path, kind: str) -> None:
        self.folder = Path(folder)
        self._old = not (self.folder / "set.json").exists() and old_sets.kind_of(self.folder) == kind
        self.header = old_sets.read_header(self.folder) if self._old else read_header(self.folder, kind)
        self.rows: list[dict[str, Any]] = []
        self._position = 0
        self._maps: dict[str, NDArray] = {}
        self.refresh()

    def refresh(self) -> list[dict[str, Any]]:
        """Takes in what was written since; returns the rows that came."""
        if self._old:
            rows = old_sets.read_rows(self.folder)[len(self.rows) :]
            self._maps = {}
        else:
            rows, self._position = complete_lines(self.folder / "manifest.jsonl", self._position)
        self.rows += rows
        return rows

    def __len__(self) -> int:
        return len(self.rows)

    def array(self, row: dict[str, Any], start: int = 0, stop: int | None = None) -> NDArray:
        """Rows `start` to `stop` (the end where None) of an item, [rows, ...], mapped into memory."""
        shard, length = row["shard"], row["length"]
        if shard not in self._maps:
            path = self.folder / shard
            try:
                self._maps[shard] = old_sets.open_shard(path) if self._old else np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path} cannot be read ({error}): make the set anew.") from None
        start = min(max(start, 0), length)
        stop = length if stop is None else min(max(stop, start), length)
        return self._maps[shard][row["offset"] + start : row["offset"] + stop]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # other processes map their own
