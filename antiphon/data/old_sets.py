"""Sets that older versions wrote in formats of their own: read as `antiphon.data.store` has them, never added to.

    codes.json            codes of recordings in shards; the manifest calls the length "frames"
    codes.npy             codes of one voice [codebooks, frames]; index.json tells their phonemes as numbers
    conversations.json    codes of two-channel conversations in codes.i16, with index.jsonl
    manifest.jsonl alone  features of an audio encoder

Speech sets are as they were. States of a thinker are made anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.errors import DataError


def kind_of(folder: Path) -> str | None:
    """The kind that such a set is of; None where there is none."""
    if (folder / "codes.json").is_file() or (folder / "codes.npy").is_file():
        return "codes"
    if (folder / "conversations.json").is_file():
        return "dialogues"
    if (folder / "manifest.jsonl").is_file() and (folder / "shard-00000.npy").is_file():
        return "features"
    return None


def read_header(folder: Path) -> dict[str, Any]:
    """What it is of; of codes.npy no more than the number of codebooks is known.

    Raises:
        DataError: it cannot be read.
    """
    try:
        for name in ("codes.json", "conversations.json"):
            if (folder / name).is_file():
                header = json.loads((folder / name).read_text(encoding="utf-8"))
                if header.pop("format") != 1:
                    raise DataError(f"{folder / name} has another format than 1: make the set anew.")
                return {"codec": "", "channels": 1, **header}
        if (folder / "codes.npy").is_file():
            codes = np.load(folder / "codes.npy", mmap_mode="r")
            return {"codec": "", "fingerprint": "", "codebooks": codes.shape[0]}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{folder} holds an old set that cannot be read ({error!r}): make it anew.") from None
    return {}


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Its manifest as a store has it."""
    if (folder / "codes.npy").is_file():
        return _rows_of_one_voice(folder)
    name = "index.jsonl" if (folder / "conversations.json").is_file() else "manifest.jsonl"
    lines = (folder / name).read_bytes() if (folder / name).is_file() else b""
    rows = [json.loads(line) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]
    for row in rows:
        row["length"] = row.pop("frames")
        row.pop("seconds" if name == "manifest.jsonl" else "", None)
        if "start" in row:
            row |= {"shard": "codes.i16", "offset": row.pop("start")}
    return rows


def _rows_of_one_voice(folder: Path) -> list[dict[str, Any]]:
    from antiphon.models.tts.phonemes import alphabet

    names, rows, offset = {number: phone for phone, number in alphabet().items()}, [], 0
    for number, old in enumerate(json.loads((folder / "index.json").read_text(encoding="utf-8"))):
        ends = old["ends"]
        phones = [(names[i], start, end) for i, start, end in zip(old["symbols"][1:-1], ends, ends[1:])]
        place = {"shard": "codes.npy", "offset": offset, "length": old["frames"]}
        rows.append({"id": str(number), "text": old["text"], "phones": phones, **place})
        offset += old["frames"]
    return rows


def open_shard(path: Path) -> NDArray:
    """One of its arrays, [rows, ...], mapped into memory."""
    if path.name == "codes.npy":
        return np.load(path, mmap_mode="r").T
    if path.name == "codes.i16":
        streams = 2 * int(read_header(path.parent)["codebooks"])
        whole = np.memmap(path, "<i2", "r")
        return whole[: len(whole) // streams * streams].reshape(-1, streams)
    return np.load(path, mmap_mode="r")
