"""`antiphon eval mini`: every figure that the mini model must show, with the teacher or the reference beside it.

    report = run(MiniConfig(texts=Path("../shared/data/text")), Path("figures.json"))

Figures come in groups that share their work; each group can be run alone, with fewer items. The JSON is written after
every group, so an interrupted run keeps what it has measured, and `resume` goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.errors import AntiphonError, ConfigError
from antiphon.evals.assistant import hearing, replying, speaking
from antiphon.evals.assistant import speed as running
from antiphon.evals.harness import Bench, MiniConfig
from antiphon.evals.report import Figure, Report, available_cores, environment

log = logging.getLogger(__name__)
Measure = Callable[[Bench, int], list[Figure]]


@dataclass(frozen=True)
class Group:
    """Figures that are measured together.

    Attributes:
        measure: takes the bench and the number of items.
        n: how many items, unless fewer are asked for.
        figures: the names of what it returns.
        alone: it measures speed, nothing may run beside it.
    """

    measure: Measure
    n: int
    figures: tuple[str, ...]
    alone: bool = False


# Speed and memory come first; the order of the others makes it rare that two at once need the same reference.
GROUPS: dict[str, Group] = {
    "ready": Group(running.ready, 5, ("ready-s",), alone=True),
    "memory": Group(running.memory, 1, ("peak-memory-gb",), alone=True),
    "speed": Group(running.speed, 20, ("realtime-speed",), alone=True),
    "latency": Group(running.first_audio, 30, ("first-audio-s",), alone=True),
    "replies": Group(replying.replies, 200, ("reply-words", "reply-loops", "reply-agreement-f1")),
    "say": Group(speaking.say, 100, ("say-wer", "say-dnsmos-delta", "say-dnsmos")),
    "easy": Group(replying.easy, 200, ("easy-answers-right",)),
    "hear": Group(hearing.unseen_voices, 300, ("hear-wer-unseen-voices", "hear-wer-unseen-voices-adapter-alone")),
    "real": Group(hearing.real_speech, 1000, ("hear-wer-real-speech", "hear-wer-real-speech-adapter-alone")),
    "text": Group(replying.text_identical, 200, ("text-identical",)),
    "codec": Group(speaking.codec, 100, ("codec-wer-added", "codec-stoi", "codec-log-mel-distance")),
}


def chosen(only: tuple[str, ...], groups: Mapping[str, Group] = GROUPS) -> list[str]:
    """The groups that hold what was asked for, by group or by figure; all where nothing was.

    Raises:
        ConfigError: a name that is neither.
    """
    wanted = set()
    for name in only:
        found = {key for key, group in groups.items() if name == key or name in group.figures}
        if not found:
            figures = ", ".join(figure for group in groups.values() for figure in group.figures)
            raise ConfigError(f"There is no figure or group {name!r}. Groups: {', '.join(groups)}. Figures: {figures}.")
        wanted |= found
    return [name for name in groups if not only or name in wanted]


def run(
    config: MiniConfig,
    json: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
    groups: Mapping[str, Group] = GROUPS,
    weights: Callable[[Bench], dict[str, str]] | None = None,
    bench: Bench | None = None,
) -> Report:
    """Measures, telling stderr what is going on.

    A group that cannot be measured (its material is missing, a part fails) doesn't stop the others; the end tells.

    Args:
        config: how and what.
        json: where the report is written after each group.
        resume: keep the figures of an earlier report at `json`, if it is of the same weights, and measure the others.
        jobs: processes that share the groups after those that need the machine for themselves.
        groups: what there is to measure.
        weights: gives the fingerprints of the model's weights; those of the preset's shipped parts by default.
        bench: what the groups share; one of `config` by default. Another one needs `jobs` 1.

    Raises:
        ConfigError: `only` names what there is not.
        EvalError: the JSON cannot be written, or (with `resume`) read.
        AntiphonError: not one group could be measured.
    """
    names = chosen(config.only, groups)
    bench = bench or Bench(config)
    report = Report(environment={**environment(), "weights": (weights or fingerprints)(bench), "seconds": {}})
    if resume and json is not None and json.is_file():
        earlier = Report.load(json)
        if earlier.environment.get("weights") == report.environment["weights"]:
            report.figures = earlier.figures
            report.environment["seconds"] = earlier.environment.get("seconds", {})
        else:
            _tell(f"{json} was measured on other weights: starting anew.")
    names = [name for name in names if not (resume and all(report.get(f) for f in groups[name].figures))]
    failed: dict[str, Exception] = {}

    def take(name: str, measured: Callable[[], tuple[list[Figure], float]]) -> None:
        try:
            figures, seconds = measured()
        except Exception as error:  # whatever one group dies of, the others are worth having
            log.debug("group %s", name, exc_info=True)
            failed[name] = error
            _tell(f"{name}: not measured: {_why(error)}")
            return
        report.environment["seconds"][name] = round(seconds, 1)
        for figure in figures:
            report.add(figure)
            _tell(f"  {figure.name} {figure.value:.4g} ({figure.bar or 'no bar'}; n={figure.n})")
        if json is not None:
            report.save(json)

    count = {name: groups[name].n if config.n is None else min(config.n, groups[name].n) for name in names}
    together = [name for name in names if jobs > 1 and not groups[name].alone]
    for name in names:
        if name not in together:
            _tell(f"{name}: {', '.join(groups[name].figures)}")
            take(name, partial(_timed, groups[name].measure, bench, count[name]))
    if together:
        _tell(f"{jobs} at a time: {', '.join(together)}")
        threads = max(1, available_cores() // jobs)
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(measure_apart, config, name, count[name], threads): name for name in together}
            for future in as_completed(futures):
                take(futures[future], future.result)
    if failed and not report.figures:
        raise AntiphonError("Nothing could be measured. " + " ".join(map(_why, failed.values())))
    if failed:
        report.environment["not-measured"] = {name: _why(error) for name, error in failed.items()}
    if json is not None:
        report.save(json)
    return report


def measure_apart(config: MiniConfig, name: str, n: int, threads: int) -> tuple[list[Figure], float]:
    """One group in a worker process, with its share of the cores; the figures, and how many seconds they took."""
    import torch

    torch.set_num_threads(threads)
    return _timed(GROUPS[name].measure, Bench(config), n)


def _timed(work: Callable[..., list[Figure]], *arguments: Any) -> tuple[list[Figure], float]:
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


def fingerprints(bench: Bench) -> dict[str, Any]:
    """sha256 (first 12 digits) of the weights that this project trained, part by part: which model a figure is of."""
    from antiphon import hub

    found = {}
    for role, part in hub.preset("mini").parts.items():
        folder = Path(bench.config.parts[role]) if role in bench.config.parts else hub.present(part)
        file = None if folder is None else folder / "model.safetensors"
        if file is not None and file.is_file() and (part.shipped or role in bench.config.parts):
            found[role] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return found


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, AntiphonError) else f"unexpected {type(error).__name__}: {error}"


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
