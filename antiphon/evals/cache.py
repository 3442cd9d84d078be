"""The result cache: what never changes is measured once, such as what the ASR judge hears in the teacher's voice.

References depend on the material alone, so a second evaluation needs not measure them again. A cache is a file of JSON
lines, `{"key": ..., "value": ...}`; lines that cannot be read (a run that was killed while
writing) are passed over and measured anew. Delete the file to forget.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.audio.io import Audio
from antiphon.errors import DataError, EvalError


class NotOurs(EvalError):
    """What is asked for is another shard's work."""


class ResultCache:
    """Values by key, on disk.

    Args:
        path: the file; None keeps nothing beyond this object.
        others: files that are read, too, such as those of shards.
        shard: (number from 0, how many): of values that are made together only this shard's are made; None makes all.
    """

    def __init__(
        self, path: Path | None = None, others: Sequence[Path] = (), shard: tuple[int, int] | None = None
    ) -> None:
        self.path, self.shard = path, shard
        self.values: dict[str, Any] = {}
        for each in (*others, *([path] if path is not None else [])):
            for line in each.read_bytes().split(b"\n") if each.is_file() else ():
                try:  # each decoded on its own: a cut one may end inside a sign
                    row = json.loads(line)
                    self.values[row["key"]] = row["value"]
                except (ValueError, KeyError, TypeError):
                    continue

    def get(
        self, keys: Sequence[str], make: Callable[[list[int]], Sequence[Any]], chunk: int = 64, of: str | None = None
    ) -> list[Any]:
        """The values of `keys`.

        Args:
            keys: one an item.
            make: gives the values of the items at these indices; called for those that are missing, `chunk` at a time.
            chunk: how many values are at most lost when a run is killed.
            of: the key by which it is told whose work this is; the first of `keys` where not given.

        Raises:
            DataError: the file cannot be written.
            NotOurs: some are missing, and another shard makes them.
        """
        missing = [i for i, key in enumerate(keys) if key not in self.values]
        if missing and self.shard is not None:
            number, count = self.shard
            if int((of or keys[0])[:8], 16) % count != number:
                raise NotOurs(f"this is for another of the {count} shards")
        for start in range(0, len(missing), chunk):
            rows = missing[start : start + chunk]
            made = dict(zip((keys[i] for i in rows), make(rows), strict=True))
            self.values |= made
            self._write(made)
        return [self.values[key] for key in keys]

    def _write(self, made: dict[str, Any]) -> None:
        if self.path is None:
            return
        lines = "".join(
            json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n" for key, value in made.items()
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Names of files need not be UTF-8: JSON's own escapes say what it cannot.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                if file.tell() and not _ends_line(self.path):
                    file.write("\n")
                file.write(lines)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}): choose another place, or make room."
            ) from error


def key_of(*things: str | Audio) -> str:
    """A key for texts and sounds: 24 hex digits of a hash over all of them."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Audio):
            digest.update(f"{thing.sample_rate} {list(thing.samples.shape)}".encode())
            digest.update(thing.samples.contiguous().numpy().tobytes())
        else:
            digest.update(thing.encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()[:24]


def pack_codes(codes: np.ndarray) -> dict:
    """Codes [codebooks, frames] as JSON: a kilobyte for a second of most codecs."""
    data = zlib.compress(np.ascontiguousarray(codes, "<i4").tobytes())
    return {"shape": list(codes.shape), "zlib": base64.b64encode(data).decode()}


def unpack_codes(value: dict) -> np.ndarray:
    """What `pack_codes` was made of, int64."""
    flat = np.frombuffer(zlib.decompress(base64.b64decode(value["zlib"])), "<i4")
    return flat.reshape(value["shape"]).astype(np.int64)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
