"""How fast a step of Moshi is: time over that of named peers, same sizes and weights (random ones), in one run.

As in `antiphon.bench.codec`, each number of threads has a process of its own, in which ours and the peers take
turns frame by frame, so that a busy machine slows all of them; medians are compared. A step is what a frame needs
between the codec's encoder and decoder: the temporal transformer, the text and all codes, likeliest ones taken. The
weights are such as float16 can express, as those of saved models are; ours are packed (`Moshi.pack`), which changes no
result, and once more they are not ("unpacked").

Against `transformers`, its two decoders are called in a loop with caches, the way its `generate` does inside, without
what `generate` adds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from antiphon.errors import EvalError
from antiphon.evals.report import Figure, Report, environment
from antiphon.models.moshi.config import DepthConfig, MoshiConfig

GROUPS = ("step", "batch")
PEERS = {"moshi": "<= 1.0", "transformers": "<= 0.5"}
BATCH = 8

SIZES: dict[str, MoshiConfig] = {
    "mini": MoshiConfig(),
    "middle": MoshiConfig(
        dim=1024, heads=16, layers=8, inner=2816, text_card=8000, card=2048, context=750,
        depth=DepthConfig(dim=512, heads=8, layers=4, inner=1408),
    ),
    "tiny": MoshiConfig(
        dim=32, heads=2, layers=1, inner=48, text_card=40, card=24, context=20, codebooks=2, user_codebooks=2,
        depth=DepthConfig(dim=16, heads=2, layers=1, inner=24, codebooks=2),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class MoshiBenchConfig:
    """What to measure.

    Attributes:
        sizes: names of `SIZES`; "tiny" is there to try the bench itself.
        only: groups, see `GROUPS`.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        frames: of 80 ms that are timed, after `warmup` that aren't.
        warmup: frames.
    """

    sizes: tuple[str, ...] = ("mini", "middle")
    only: tuple[str, ...] = GROUPS
    threads: tuple[int, ...] = (1, 2)
    frames: int = 100
    warmup: int = 10

    def __post_init__(self) -> None:
        for given, known, what in ((self.sizes, SIZES, "size"), (self.only, GROUPS, "group")):
            if unknown := set(given) - set(known):
                raise EvalError(f"There is no {what} {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")


def bench_moshi(config: MoshiBenchConfig, progress: Callable[[str], None] = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
    """
    skipped = [name for name in PEERS if importlib.util.find_spec(name) is None]
    report = Report(environment={**environment(), "threads": list(config.threads), "skipped": skipped})
    report.environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY")  # active by default
    for name in PEERS:
        if name in skipped:
            progress(f"{name} isn't installed: what is measured against it is skipped")
        else:
            report.environment["versions"][name] = importlib.metadata.version(name)
    found: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for group in config.only:
        for size in config.sizes:
            for threads in config.threads:
                progress(f"{group}, {size}, {threads} thread{'s' if threads > 1 else ''}")
                found[group, size, threads] = _worker(config, group, size, threads)
    for peer, bar in PEERS.items():
        asked = ((f"moshi-step-vs-{peer}", "ours", bar), (f"moshi-step-unpacked-vs-{peer}", "unpacked", None))
        for name, side, limit in asked:
            of = {key[1:]: times for key, times in found.items() if key[0] == "step" and {side, peer} <= set(times)}
            ratios = {key: _ratio(times, side, peer) for key, times in of.items()}
            _add(report, name, ratios, "time over theirs", limit, max)
    speedups = {key[1:]: _speedup(times) for key, times in found.items() if key[0] == "batch"}
    _add(report, f"batch-{BATCH}-speedup", speedups, "frames/s over one at a time", ">= 3", min)
    return report


def _worker(config: MoshiBenchConfig, group: str, size: str, threads: int) -> dict[str, list[float]]:
    """Runs one job in a process of its own."""
    settings = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    settings |= {"NO_TORCH_COMPILE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    given = {"group": group, "size": size, "threads": threads, "frames": config.frames, "warmup": config.warmup}
    code = "import sys; from antiphon.bench.moshi_worker import main; main(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)], env={**os.environ, **settings}, capture_output=True, text=True
    )
    if done.returncode:
        raise EvalError(f"{group} of {size} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


Measured = tuple[float, str, int]


def _ratio(times: dict[str, list[float]], side: str, peer: str) -> Measured:
    mine, theirs = statistics.median(times[side]), statistics.median(times[peer])
    return mine / theirs, f"{1000 * mine:.2f} / {1000 * theirs:.2f} ms", len(times[side])


def _speedup(times: dict[str, list[float]]) -> Measured:
    one, many = statistics.median(times["one"]), statistics.median(times["many"])
    return BATCH * one / many, f"{BATCH / many:.0f} / {1 / one:.0f} frames/s", len(times["one"])


def _add(
    report: Report,
    name: str,
    found: dict[tuple[str, int], Measured],
    unit: str,
    bar: str | None,
    worst: Callable[..., Any],
) -> None:
    """One figure for each size and number of threads, and the worst of them under the plain name."""
    if not found:
        return
    value, _, n = worst(found.values(), key=lambda each: each[0])
    report.add(Figure(name, value, unit, bar, None, n))
    for (size, threads), (value, detail, n) in found.items():
        of = f"{name}-{size}-{threads}-thread{'s' if threads > 1 else ''}"
        report.add(Figure(of, value, detail, bar, None, n))
