"""Where fetched weights are kept, and the lock that lets one process at a time put something there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antiphon.errors import HubError

ENVIRONMENT = "ANTIPHON_CACHE"


def cache_dir() -> Path:
    """The cache's folder (it may not exist yet): $ANTIPHON_CACHE, or the system's place for a user's caches."""
    if override := os.environ.get(ENVIRONMENT):
        return Path(override).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("antiphon", appauthor=False)


@contextmanager
def filling(target: Path) -> Iterator[Path | None]:
    """Fills a folder of the cache as a whole or not at all.

    Takes the target's lock, then gives an empty scratch folder beside the target. The caller builds `scratch / "done"`;
    when the block ends well it becomes `target` in one rename, and the rest of the scratch folder goes. When the block
    raises, or the process is killed, `target` does not exist.

    Args:
        target: a folder in the cache.

    Yields:
        The scratch folder, or None if another process has filled the target meanwhile.

    Raises:
        HubError: the cache cannot be written, or its disk is full.
    """
    import filelock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.parent / f".{target.name}.lock"):
            if target.exists():
                yield None
                return
            for left in target.parent.glob(f".{target.name}.part-*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
            try:
                yield scratch
                os.replace(scratch / "done", target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        place = error.filename or target.parent
        raise HubError(
            f"The cache {target.parent} could not be written ({error.strerror or error}: {place}). Free some space or "
            f"name another folder in ${ENVIRONMENT}."
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Raises HubError if `folder`'s disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HubError(
            f"Not enough disk space in {folder}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free. Free "
            f"some, or name a folder on another disk in ${ENVIRONMENT}."
        )
