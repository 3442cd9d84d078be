"""The command line in a process of its own, as a user runs it, without the seconds that imports take.

A server process imports what commands import and forks for each of them.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

TIMEOUT_SECONDS = 300
PRELOADED = ["torch", "transformers", "scipy.signal", "av", "soundfile", "soxr", "rich.console", "antiphon.cli"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def antiphon(*arguments: str, stdin: str = "", environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `antiphon ARGUMENTS...` in the present folder, with nothing but this environment."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for path in files:
            path.write_text(stdin if path.name == "stdin" else "")
        process = _context.Process(
            target=_run, args=(arguments, environment, os.getcwd(), [str(path) for path in files])
        )
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["antiphon", *arguments], TIMEOUT_SECONDS)
        _, out, told = (path.read_text() for path in files)
    return subprocess.CompletedProcess(["antiphon", *arguments], process.exitcode, out, told)


def _run(arguments: Sequence[str], environment: dict[str, str], folder: str, files: Sequence[str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    sys.argv = ["antiphon", *arguments]

    from antiphon.cli import main

    main()
