"""Runs code that a model wrote, in a child that has no network, can write nowhere but in a folder of its own, and is
stopped where it takes too much time, memory, room or too many processes; see `confined`.

    run_confined(["python3", "program.py"], {"program.py": "print(1)"}).output      # "1\n"
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from antiphon.errors import EvalError
from antiphon.evals.tables.text.confined import REFUSED

CONFINED = Path(__file__).with_name("confined.py")
MOST_OUTPUT = 1 << 20  # characters that are kept


@dataclass(frozen=True)
class Limits:
    """What a program may take.

    Attributes:
        seconds: of time, and of a core's work.
        memory: bytes of a process.
        file: bytes of a file.
        processes: of this user, where that isn't the machine's administrator.
    """

    seconds: int = 10
    memory: int = 1 << 30
    file: int = 16 << 20
    processes: int = 256


@dataclass(frozen=True)
class Outcome:
    """What came of a program.

    Attributes:
        code: that it exited with; negative for a signal; None where its time was over.
        output, errors: what it wrote.
    """

    code: int | None
    output: str
    errors: str

    @property
    def passed(self) -> bool:
        """Whether it ended well."""
        return self.code == 0

    @property
    def why(self) -> str:
        """What happened, on a line."""
        if self.code is None:
            return "time was over"
        return "passed" if self.passed else (self.errors.strip().splitlines() or [f"exit {self.code}"])[-1][:200]


def run_confined(
    command: Sequence[str], files: Mapping[str, str], stdin: str = "", limits: Limits = Limits()
) -> Outcome:
    """Runs a command in a folder that holds these files and is deleted afterwards.

    Args:
        command: program and arguments; the files stand in its folder.
        files: name to text.
        stdin: what it reads.
        limits: what it may take.

    Raises:
        EvalError: this machine can't confine it; then nothing was run.
    """
    with tempfile.TemporaryDirectory(prefix="antiphon-code-", ignore_cleanup_errors=True) as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        given = json.dumps({**asdict(limits), "folder": folder})
        world = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
        world |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # A compiler that is installed for one user alone is found from that user's home.
        world |= {"RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
        # What it writes goes to files that have a limit, too, so that it can't fill our memory.
        with (Path(folder) / ".out").open("w+b") as out, (Path(folder) / ".err").open("w+b") as err:
            with (Path(folder) / ".in").open("w+b") as read:
                read.write(stdin.encode("utf-8", "surrogatepass"))
                read.seek(0)
                child = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(CONFINED), given, *command],
                    stdin=read, stdout=out, stderr=err, env=world, cwd=folder, start_new_session=True,
                )  # fmt: skip
            try:
                code: int | None = child.wait(limits.seconds + 1)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read(MOST_OUTPUT).decode("utf-8", "replace"))
    if code == REFUSED and texts[1].startswith("the kernel refuses"):
        raise EvalError(
            f"Code that a model wrote is run without network and apart from your files, and here {texts[1].strip()}. "
            "Nothing was run: allow user namespaces, or leave out the tasks with code."
        )
    return Outcome(code, *texts)
