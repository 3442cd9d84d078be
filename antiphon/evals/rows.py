"""Rows of public sets, in the files in which they are published."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antiphon.errors import DataError


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl, .json (a list), .csv or .tsv file, or of one that is packed (.gz).

    Raises:
        DataError: it can't be read.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    try:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8-sig")
        if kind in ("csv", "tsv"):
            return list(csv.DictReader(text.splitlines(True), delimiter="\t" if kind == "tsv" else ","))
        if kind == "json" and text.lstrip().startswith("["):
            return json.loads(text)
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}. Get the set anew, or name another folder.") from error


def find_files(folder: Path, *names: str) -> list[Path]:
    """The files of these names (patterns), whatever their format, in name order."""
    ends = [f".{kind}{packed}" for kind in ("jsonl", "json", "csv", "tsv") for packed in ("", ".gz")]
    found = {path for name in names for path in folder.glob(f"{name}.*") if path.name.endswith(tuple(ends))}
    return sorted(found)


def spread(items: Sequence, n: int) -> list:
    """`n` of the items at even distances (all if there are no more), so that every part of a set is in the sample."""
    if n >= len(items):
        return list(items)
    return [items[i * len(items) // n] for i in range(n)]
