"""How a bench compares: sides take turns in a process of their own, and the ratio of their medians is the figure.

Each number of threads has a process of its own (a pool of threads keeps its size). In a process, ours and the peers
take turns frame by frame, so that a busy machine slows all of them; medians are compared. A peer that isn't installed
is skipped, and said so.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from antiphon.errors import EvalError
from antiphon.evals.machine import environment, version
from antiphon.evals.report import Figure, Report

Times = dict[str, list[float]]
"""Seconds of each round, by side."""
Progress = Callable[[str], None]


def missing(peers: Iterable[str]) -> list[str]:
    """Those that aren't installed."""
    return [name for name in peers if importlib.util.find_spec(name) is None]


def start_report(peers: Iterable[str], threads: Sequence[int], progress: Progress) -> Report:
    """An empty report of this machine, these numbers of threads and the peers' versions; tells which are skipped."""
    skipped = missing(peers)
    report = Report(environment={**environment(), "threads": list(threads), "skipped": skipped})
    report.environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY")  # active by default
    for name in peers:
        if name in skipped:
            progress(f"{name} isn't installed: what is measured against it is skipped")
        else:
            report.environment["versions"][name] = version(name)
    return report


def check_known(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Raises EvalError where a name is not among those that are known."""
    if unknown := set(given) - set(known):
        raise EvalError(f"There is no {what} {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")


def on_threads(count: int) -> str:
    """For people, and with hyphens for names of figures."""
    return f"{count} thread{'s' if count > 1 else ''}"


def in_turns(sides: Mapping[str, Callable[[int], object]], rounds: int, warmup: int) -> Times:
    """Seconds that each side took for each of `rounds` rounds, after `warmup` that aren't counted.

    Args:
        sides: name -> what to do in round i.
        rounds, warmup: how many.
    """
    times: Times = {name: [] for name in sides}
    for i in range(rounds + warmup):
        for name in list(sides) if i % 2 else list(sides)[::-1]:
            start = time.perf_counter()
            sides[name](i)
            taken = time.perf_counter() - start
            if i >= warmup:
                times[name].append(taken)
    return times


def add_ratios(
    report: Report, name: str, found: Mapping[str, Times], side: str, peer: str, bar: str | None, digits: int = 1
) -> None:
    """Figures of the time of a side over a peer's, where both were measured.

    Args:
        report: gets them.
        name: of the worst; the others' names follow from it.
        found: seconds by what was measured.
        side, peer: in each of these.
        bar: of all of them.
        digits: of the milliseconds that are told.
    """
    ratios = {}
    for label, times in found.items():
        if side in times and peer in times:
            mine, theirs = statistics.median(times[side]), statistics.median(times[peer])
            detail = f"{1000 * mine:.{digits}f} / {1000 * theirs:.{digits}f} ms"
            ratios[label] = (mine / theirs, detail, len(times[side]))
    add_worst(report, name, ratios, "time over theirs", bar)


def add_worst(
    report: Report,
    name: str,
    found: Mapping[str, tuple[float, str, int]],
    unit: str,
    bar: str | None,
    worst: Callable[..., tuple[float, str, int]] = max,
) -> None:
    """One figure for each of `found` (label -> value, its unit and details, rounds), after the worst of them under the
    plain name."""
    if not found:
        return
    value, _, n = worst(found.values(), key=lambda each: each[0])
    report.add(Figure(name, value, unit, bar, None, n))
    for label, (value, detail, n) in found.items():
        report.add(Figure(f"{name}-{label.replace(' ', '-')}", value, detail, bar, None, n))
