"""Conversations that are kept, if that is asked for: a stereo file each (left the model, right the user), and SQLite.

    recordings = Recordings(folder)
    recorder = recordings.begin("sess_...", "mini")
    recorder.user(samples), recorder.model(samples)    # as they come; both are placed on one clock
    recorder.end(items)

The user's sound lies where it came, the model's where it was to be played; what was never played because the answer was
interrupted is cut off. `/v1/recordings` lists, plays and deletes them.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from antiphon.audio.pcm import RATE, pcm16
from antiphon.errors import DataError
from antiphon.serve.errors import RequestError
from antiphon.serve.openai.errors import RESPONSES

NAME = re.compile(r"[a-z]{1,10}_[0-9a-f]{20}")
GAP_SAMPLES = RATE // 2  # a longer pause between two pieces of a stream is one in the conversation, too
BLOCK_SAMPLES = 60 * RATE
COLUMNS = ("id", "model", "began", "seconds")


class Recordings:
    """A folder of conversations. From any thread.

    Args:
        folder: made if there is none; only its owner can read it.

    Raises:
        DataError: it can't be written.
    """

    def __init__(self, folder: Path):
        self.folder, self._lock = folder, threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(folder / "conversations.sqlite", check_same_thread=False)
            with self._database as database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS conversations "
                    "(id TEXT PRIMARY KEY, model TEXT, began REAL, seconds REAL, items TEXT)"
                )
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{folder} can't hold recordings: {error}.") from error

    def begin(self, name: str, model: str) -> Recorder:
        """A conversation begins."""
        return Recorder(self, name, model)

    def _rows(self, columns: Sequence[str], rest: str, value: Any) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._database.execute(f"SELECT {', '.join(columns)} FROM conversations {rest}", (value,)).fetchall()
        return [dict(zip(columns, row)) for row in rows]

    def list(self, max_rows: int = 1000) -> list[dict[str, Any]]:
        """Those that are kept, newest first, without their words."""
        return self._rows(COLUMNS, "ORDER BY began DESC LIMIT ?", max_rows)

    def get(self, name: str) -> dict[str, Any] | None:
        """One, with its items; None if there is none of that name."""
        for row in self._rows((*COLUMNS, "items"), "WHERE id = ?", name):
            return row | {"items": json.loads(row["items"])}
        return None

    def sound(self, name: str) -> Path | None:
        """Its stereo file."""
        path = self.folder / f"{name}.flac"
        return path if NAME.fullmatch(name) and path.is_file() else None

    def delete(self, name: str) -> bool:
        """Deletes one; false if there is none of that name."""
        path = self.sound(name)
        if path is not None:
            path.unlink(missing_ok=True)
        with self._lock, self._database as database:
            return database.execute("DELETE FROM conversations WHERE id = ?", (name,)).rowcount > 0

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _add(self, name: str, model: str, began: float, seconds: float, items: list[dict[str, Any]]) -> None:
        with self._lock, self._database as database:
            row = (name, model, began, seconds, json.dumps(items, ensure_ascii=False))
            database.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?, ?)", row)


class Track:
    """One side of a conversation, on disk: 16-bit samples, zeros where nothing was said."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="antiphon-")
        self.end, self.silent = 0, True

    def put(self, at: int, samples: np.ndarray) -> None:
        self.file.seek(2 * at)
        self.file.write(pcm16(samples))
        self.silent = self.silent and not samples.any()
        self.end = at + len(samples)

    def cut(self, at: int) -> None:
        """What lies behind was never heard."""
        if at < self.end:
            self.file.truncate(2 * at)
            self.end = at

    def read(self, start: int, length: int) -> np.ndarray:
        """int16 [length]; zeros behind the end."""
        self.file.seek(2 * start)
        found = np.frombuffer(self.file.read(2 * length), "<i2")
        return np.pad(found, (0, length - len(found)))


class Recorder:
    """One conversation, while it lasts. See the module.

    Args:
        recordings: where it goes.
        name, model: of the conversation.
    """

    def __init__(self, recordings: Recordings, name: str, model: str):
        self.recordings, self.name, self.model_name = recordings, name, model
        self.wall, self.began = time.time(), time.monotonic()
        self.tracks = {"model": Track(), "user": Track()}

    def user(self, samples: np.ndarray) -> None:
        """The user was heard, float32 [N] at 24 kHz."""
        track = self.tracks["user"]
        arrived = self._now() - len(samples)
        track.put(arrived if arrived > track.end + GAP_SAMPLES else track.end, samples)

    def model(self, samples: np.ndarray) -> None:
        """The model said this, to be played now or after what is playing."""
        track = self.tracks["model"]
        track.put(max(self._now(), track.end), samples)

    def interrupted(self) -> None:
        """What has not been played by now never will be."""
        self.tracks["model"].cut(self._now())

    def end(self, items: list[dict[str, Any]]) -> None:
        """The conversation is over; `items` are its messages. Takes a while. Silence is not kept."""
        import soundfile

        try:
            length = max(track.end for track in self.tracks.values())
            if not items and all(track.silent for track in self.tracks.values()):
                return
            if length == 0:  # typed: there are words, and no sound
                self.recordings._add(self.name, self.model_name, self.wall, 0.0, items)
                return
            path = self.recordings.folder / f"{self.name}.flac"
            part = path.with_suffix(".part")
            try:
                with soundfile.SoundFile(part, "w", RATE, 2, "PCM_16", format="FLAC") as out:
                    for start in range(0, length, BLOCK_SAMPLES):
                        size = min(BLOCK_SAMPLES, length - start)
                        sides = [self.tracks[side].read(start, size) for side in ("model", "user")]
                        out.write(np.stack(sides, axis=1))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)  # no half of a file is left
            self.recordings._add(self.name, self.model_name, self.wall, length / RATE, items)
        finally:
            for track in self.tracks.values():
                with contextlib.suppress(OSError):
                    track.file.close()

    def _now(self) -> int:
        return int((time.monotonic() - self.began) * RATE)


# The routes


class Kept(BaseModel):
    """A conversation: when it began (seconds since 1970), and how long it was."""

    id: str
    model: str
    began: float
    seconds: float


class KeptList(BaseModel):
    data: list[Kept]


class KeptWhole(Kept):
    """With its messages, as the Realtime protocol shows them."""

    items: list[dict[str, Any]]


class Deleted(BaseModel):
    id: str
    deleted: bool = True


async def _recordings(request: Request) -> Recordings:
    recordings: Recordings | None = request.app.state.served.recordings
    if recordings is None:
        said = "This server keeps no conversations; see `antiphon serve --record`."
        raise RequestError("not_recording", said, status=404)
    return recordings


def _gone(name: str) -> RequestError:
    return RequestError("not_found", f"No conversation '{name[:100]}' is kept.", "id", status=404)


All = Annotated[Recordings, Depends(_recordings)]
router = APIRouter(
    prefix="/v1/recordings", responses={code: RESPONSES[code] for code in (401, 403)} | {404: RESPONSES[400]}
)


@router.get("", summary="Conversations that were kept")
async def recordings(kept: All) -> KeptList:
    return KeptList(data=[Kept(**row) for row in kept.list()])


@router.get("/{name}", summary="One, with its words")
async def recording(kept: All, name: str) -> KeptWhole:
    found = kept.get(name)
    if found is None:
        raise _gone(name)
    return KeptWhole(**found)


@router.get("/{name}/audio", summary="Its sound: left the model, right the user", response_class=FileResponse)
async def recording_audio(kept: All, name: str) -> FileResponse:
    path = kept.sound(name)
    if path is None:
        raise _gone(name)
    return FileResponse(path, media_type="audio/flac", filename=path.name)


@router.delete("/{name}", summary="Forget one")
async def delete_recording(kept: All, name: str) -> Deleted:
    if not kept.delete(name):
        raise _gone(name)
    return Deleted(id=name)
