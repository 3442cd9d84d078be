"""WebDataset's tars, item by item: files of one name but for what follows its first dot are an item.

    tars = Tars("shards/")                # or one .tar
    tars[17]                              # {"key": "shards/000017", "flac": b"...", "txt": b"..."}

A tar's table is read once; an item is then read from where it lies, so that a mixture can draw any item at any time.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from antiphon.errors import DataError

BLOCK = 512  # bytes, of a tar


@dataclass(frozen=True)
class _Item:
    """Where an item's files lie: ending -> (first byte, bytes)."""

    tar: Path
    key: str
    parts: dict[str, tuple[int, int]]


class Tars:
    """See the module; a source of `antiphon.data.mixture`.

    Args:
        place: a .tar, or a folder of them, which are read in the order of their names.

    Raises:
        DataError: none there, one that is no uncompressed tar or ends early, or nothing in them.
    """

    def __init__(self, place: Path | str):
        place = Path(place)
        files = sorted(place.glob("*.tar")) if place.is_dir() else [place]
        self.items = [item for file in files for item in _items(file)]
        if not self.items:
            raise DataError(f"{place} holds no items in tars.")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, str | bytes]:
        """The item's files by their endings, in small letters, and its `key`."""
        item = self.items[index]
        return {"key": item.key} | {ending: self.read(index, ending) for ending in item.parts}

    def endings(self, index: int) -> list[str]:
        """Of an item's files."""
        return list(self.items[index].parts)

    def read(self, index: int, ending: str) -> bytes:
        """One file of an item."""
        item = self.items[index]
        start, size = item.parts[ending]
        with item.tar.open("rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise DataError(f"{item.tar} ends early, within {item.key}.{ending}: copy it anew.")
        return data


def _items(path: Path) -> Iterator[_Item]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = [(each.name, each.offset_data, each.size) for each in tar if each.isfile()]
    except (OSError, tarfile.TarError) as error:
        early = "unexpected end" in str(error)
        told = "it ends early: copy it anew" if early else "uncompressed tars are read"
        raise DataError(f"{path} cannot be read as a tar ({error}): {told}.") from None
    # Behind the last file, filled up to whole blocks, there is at least one empty block more.
    if members and -(-(members[-1][1] + members[-1][2]) // BLOCK) * BLOCK + BLOCK > path.stat().st_size:
        raise DataError(f"{path} ends early, in or behind {members[-1][0]}: copy it anew.")
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    for name, start, size in members:
        file = PurePosixPath(name)
        stem, _, ending = file.name.partition(".")
        if stem and ending:
            parts.setdefault(str(file.parent / stem), {})[ending.lower()] = (start, size)
    yield from (_Item(path, key, found) for key, found in parts.items())
