"""How fast the codecs are: time over that of a named peer, same weights (random ones), measured in turns in one run.

Each number of threads has a process of its own (a pool of threads keeps its size), and so has each measure of memory.
In a process, ours and the peers take turns frame by frame, so that a busy machine slows all of them; medians are
compared. A peer that isn't installed is skipped, and said so.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antiphon.errors import EvalError
from antiphon.evals.report import Figure, Report, environment

GROUPS = ("streaming", "offline", "memory", "long")
PEERS = ("moshi", "rustymimi", "transformers", "speechtokenizer")
BESIDE = {
    "mimi": "transformers",
    "encodec": "transformers",
    "dac": "transformers",
    "speechtokenizer": "speechtokenizer",
}
LONG = ("mimi", "encodec", "dac", "speechtokenizer", "mini")
LEVELS = 8  # codebooks: Moshi's number; 6 kbit/s of EnCodec


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    Attributes:
        only: groups, see `GROUPS`. "long" encodes `minutes` of noise and takes its time.
        codecs: see `LONG`; "offline" and "memory" know those of `BESIDE`, "streaming" knows mimi.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        frames: of 80 ms that are timed, after `warmup` that aren't.
        warmup: frames.
        seconds: of audio in a round of "offline", and in "memory".
        rounds: of "offline".
        minutes: of audio in "long".
        small: tiny models, to try the bench itself.
    """

    only: tuple[str, ...] = ("streaming", "offline", "memory")
    codecs: tuple[str, ...] = tuple(BESIDE)
    threads: tuple[int, ...] = (1, 2)
    frames: int = 150
    warmup: int = 10
    seconds: float = 10.0
    rounds: int = 5
    minutes: float = 60.0
    small: bool = False

    def __post_init__(self) -> None:
        if unknown := set(self.only) - set(GROUPS):
            raise EvalError(f"There is no group {', '.join(sorted(unknown))}. Groups: {', '.join(GROUPS)}.")
        if unknown := set(self.codecs) - set(LONG):
            raise EvalError(f"There is no codec {', '.join(sorted(unknown))} here. Codecs: {', '.join(LONG)}.")


def missing_peers() -> list[str]:
    """Peers that aren't installed."""
    return [name for name in PEERS if importlib.util.find_spec(name) is None]


def bench_codec(config: BenchConfig, progress: Callable[[str], None] = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
    """
    report = Report(environment={**environment(), "threads": list(config.threads), "skipped": missing_peers()})
    report.environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY")  # active by default
    for name in PEERS:
        if name not in report.environment["skipped"]:
            report.environment["versions"][name] = importlib.metadata.version(name)
        else:
            progress(f"{name} isn't installed: what is measured against it is skipped")
    with tempfile.TemporaryDirectory() as folder:
        run = _Runs(config, Path(folder), progress)
        if "streaming" in config.only and "mimi" in config.codecs:
            times = {count: run("streaming", count) for count in config.threads}
            for peer in ("rustymimi", "moshi"):
                _compare(report, f"mimi-streaming-vs-{peer}", times, "ours", peer, "<= 1.0")
        for codec, peer in BESIDE.items():
            if codec not in config.codecs or peer in report.environment["skipped"]:
                continue
            if "offline" in config.only:
                times = {count: run(f"offline_{codec}", count) for count in config.threads}
                _compare(report, f"{codec}-offline-vs-{peer}", times, "ours", peer, "<= 0.8")
            if "memory" in config.only:
                peaks = {who: run(f"memory_{codec}_{who}", 1)["bytes"][0] for who in ("ours", peer)}
                name = f"{codec}-offline-memory-vs-{peer}"
                report.add(Figure(name, peaks["ours"] / peaks[peer], "peak bytes over theirs", "<= 1.0", None, 1))
        for codec in config.codecs if "long" in config.only else ():
            _long(report, codec, [run(f"long_{codec}_{part}", 1) for part in (6, 1, 6)])
    return report


@dataclass
class _Runs:
    """Starts workers, one at a time."""

    config: BenchConfig
    folder: Path
    progress: Callable[[str], None]
    made: dict[str, Any] = field(default_factory=dict)

    def __call__(self, work: str, threads: int) -> dict[str, list[float]]:
        self.progress(f"{work.replace('_', ' ')}, {threads} thread{'s' if threads > 1 else ''}")
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
        settings = {**{name: count for name in names}, "NO_TORCH_COMPILE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        fields = json.dumps({**vars(self.config), "work": work, "folder": str(self.folder), "count": threads})
        code = "import sys; from antiphon.bench.codec_worker import main; main(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", code, fields], env={**os.environ, **settings}, capture_output=True, text=True
        )
        if done.returncode:
            raise EvalError(f"{work} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return json.loads(done.stdout.strip().splitlines()[-1])


def _compare(
    report: Report, name: str, times: dict[int, dict[str, list[float]]], ours: str, peer: str, bar: str
) -> None:
    """One figure a number of threads, and the worst of them under the plain name."""
    ratios = {}
    for count, found in times.items():
        if peer in found:
            mine, theirs = statistics.median(found[ours]), statistics.median(found[peer])
            ratios[count] = (mine / theirs, 1000 * mine, 1000 * theirs, len(found[ours]))
    if not ratios:
        return
    worst = max(ratios, key=lambda count: ratios[count][0])
    report.add(Figure(name, ratios[worst][0], "time over theirs", bar, None, ratios[worst][3]))
    for count, (ratio, mine, theirs, n) in ratios.items():
        of = f"{name}-{count}-thread{'s' if count > 1 else ''}"
        report.add(Figure(of, ratio, f"{mine:.1f} / {theirs:.1f} ms", bar, None, n))


def _long(report: Report, codec: str, runs: list[dict[str, list[float]]]) -> None:
    """Figures of a sixth, the whole, and the sixth once more: a machine's own pace changes within minutes."""
    (before, long, after), name = runs, f"{codec}-long-encode"
    seconds, size = (statistics.mean((before[key][0], after[key][0])) for key in ("seconds", "bytes"))
    pace = long["seconds"][0] / seconds / 6
    report.add(Figure(f"{name}-time", pace, "CPU time a minute, whole over a sixth", "<= 1.2", None, 1))
    apart = before["seconds"][0] / after["seconds"][0]
    report.add(Figure(f"{name}-steadiness", apart, "CPU time of the sixth, before over after", None, None, 1))
    report.add(Figure(f"{name}-memory", long["bytes"][0] / size, "bytes beside audio and codes", "<= 1.2", None, 1))
    speed = long["audio"][0] / long["seconds"][0]
    report.add(Figure(f"{name}-speed", speed, "seconds of audio a second of CPU", None, None, 1))
    report.add(Figure(f"{name}-bytes", long["bytes"][0] / 2**20, "MB beside audio and codes", None, None, 1))


def in_turns(sides: dict[str, Callable[[int], None]], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds that each side took for each of `rounds` rounds, after `warmup` that aren't counted.

    Args:
        sides: name -> what to do in round i.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for i in range(rounds + warmup):
        for name in names if i % 2 else names[::-1]:
            start = time.perf_counter()
            sides[name](i)
            taken = time.perf_counter() - start
            if i >= warmup:
                times[name].append(taken)
    return times
