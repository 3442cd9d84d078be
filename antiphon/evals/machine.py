"""The machine that figures are of: what it is, how much memory a process holds, and fresh processes to measure in."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antiphon.errors import EvalError

PACKAGES = ("antiphon", "torch", "transformers", "onnxruntime", "numpy", "jiwer", "pystoi", "speechmos", "hibari-tts")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def environment() -> dict[str, Any]:
    """The machine and the versions: what one needs to believe a figure of speed, or to repeat one of quality."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def version(package: str) -> str | None:
    """Of an installed package; None where it isn't."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory_bytes(kind: str = "VmRSS") -> int:
    """Memory of this process.

    Args:
        kind: as Linux names it: "VmRSS" now, "VmHWM" at most so far, "RssAnon" now without pages of program files,
            which come and go with what else the machine does. Other systems tell the most so far, whatever is asked.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(re.search(rf"{kind}:\s*(\d+) kB", text)[1])
    except (OSError, TypeError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes


def in_fresh_process(
    work: Callable[[dict[str, Any]], Any], fields: dict[str, Any], title: str, threads: int | None = None
) -> Any:
    """What a function finds in a Python process of its own: nothing has warmed it up, and its memory is its alone.

    Args:
        work: at the top of its module; takes `fields` and returns what JSON can hold.
        fields: the same.
        title: of the job, for the error.
        threads: of every library in it (a pool of threads keeps its size); None leaves them as they are.

    Raises:
        EvalError: the process failed.
    """
    code = (
        f"import json, sys; from {work.__module__} import {work.__name__} as work; "
        "print(json.dumps(work(json.loads(sys.argv[1]))))"
    )
    settings = {"NO_TORCH_COMPILE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    settings |= {name: str(threads) for name in THREAD_SETTINGS if threads is not None}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(fields)], env=os.environ | settings, capture_output=True, text=True
    )
    if done.returncode:
        raise EvalError(f"{title} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
