"""Recordings as a person names them: files, folders, patterns such as talks/*.mp3, and addresses on the web.

for each in named(["talks", "https://example.org/a.ogg"]):
    with fetched(each) as file: ...               # a file here; what was downloaded is gone afterwards
"""

from __future__ import annotations

import glob
import os
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from antiphon.errors import AudioError

MAX_BYTES = 2 << 30  # of a download: a day of speech in most formats
WAIT_SECONDS = 30.0  # for a server that says nothing
BLOCK = 1 << 20
ADDRESSES = ("http://", "https://")
SUFFIXES = frozenset(
    ".aac .aif .aiff .amr .au .caf .flac .m4a .mka .mp2 .mp3 .mp4 .oga .ogg .opus .sph .w64 .wav .webm .wma".split()
)


@dataclass(frozen=True)
class Named:
    """A recording.

    Attributes:
        place: its file or its address.
        name: for what is made of it, with "/" between folders, without an ending; no two of a list have the same.
    """

    place: str
    name: str


def named(places: Sequence[str]) -> list[Named]:
    """The recordings that are meant, each once.

    Args:
        places: files; folders, of whose sound files all are meant, those of folders in them, too; patterns with *, ? or
            [...], where the shell has left them; addresses that begin with http:// or https://.

    Raises:
        AudioError: a folder or a pattern without sound files. Whether files are there and can be read is told when
            they are.
    """
    found: dict[str, Named] = {}
    for place in places:
        for each in _named(place):
            found.setdefault(each.place, each)
    # Two with the same name keep their endings, and where that doesn't help they are numbered.
    for suffixed in (True, False):
        twice = {name for name, count in Counter(each.name for each in found.values()).items() if count > 1}
        for number, (place, each) in enumerate(found.items(), 1):
            if each.name in twice:
                ending = _path(place).suffix if suffixed else f"-{number}"
                found[place] = replace(each, name=f"{each.name}{ending}")
    return list(found.values())


def sound_files(folder: Path) -> list[str]:
    """Names of the sound files in a folder and those below it, sorted, with "/" between; hidden ones are left out."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(root) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _named(place: str) -> list[Named]:
    if place.startswith(ADDRESSES):
        return [Named(place, _path(place).stem or urlsplit(place).netloc)]
    path = Path(place)
    if path.is_dir():
        names = sound_files(path)
        if not names:
            raise AudioError(f"{place} holds no sound files ({', '.join(sorted(SUFFIXES))}).")
        return [Named(str(path / name), str(PurePosixPath(name).with_suffix(""))) for name in names]
    if glob.has_magic(place) and not path.exists():
        files = sorted(each for each in glob.glob(place, recursive=True) if Path(each).is_file())
        if not files:
            raise AudioError(f"No file is called {place}.")
        return [Named(each, Path(each).stem) for each in files]
    return [Named(place, path.stem)]


def _path(place: str) -> PurePosixPath:
    return PurePosixPath(unquote(urlsplit(place).path)) if place.startswith(ADDRESSES) else PurePosixPath(place)


@contextmanager
def fetched(recording: Named) -> Iterator[Path]:
    """A recording's file; of an address, what lies there, as long as the context lasts.

    Raises:
        AudioError: it can't be had, or is larger than `MAX_BYTES`.
    """
    if not recording.place.startswith(ADDRESSES):
        yield Path(recording.place)
        return
    try:
        answer = urllib.request.urlopen(recording.place, timeout=WAIT_SECONDS)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise AudioError(f"{recording.place} can't be had: {getattr(error, 'reason', error)}.") from error
    with answer, on_disk(answer, recording.place, _path(recording.place).suffix) as path:
        yield path


@contextmanager
def on_disk(source: IO[bytes], called: str, suffix: str = "") -> Iterator[Path]:
    """What can be read, as a file, as long as the context lasts.

    Args:
        source: read to its end.
        called: in errors that are raised meanwhile, as nobody knows the file by its own name.
        suffix: of that.

    Raises:
        AudioError: it breaks off, gives no bytes, or is larger than `MAX_BYTES`.
    """
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        size = 0
        try:
            while block := source.read(BLOCK):
                if not isinstance(block, bytes):
                    raise AudioError("A file is opened to read bytes: open(name, 'rb').")
                size += len(block)
                if size > MAX_BYTES:
                    raise AudioError(f"{called} is larger than {MAX_BYTES >> 30} GB: save it, and name the file.")
                file.write(block)
        except OSError as error:
            raise AudioError(f"{called} can't be read to its end: {error}.") from error
        file.flush()
        try:
            yield Path(file.name)
        except AudioError as error:
            raise AudioError(str(error).replace(file.name, called)) from error
