"""What every evaluation of a model shares: its settings, what is loaded once for all figures, and the run itself.

    run(AssistantEvaluation(AssistantConfig(texts=Path("texts"))), GROUPS, fingerprints, Path("figures.json"))

Figures come in groups that share their work; each group can be run alone, with fewer items. The JSON is written after
every group, so an interrupted run keeps what it has measured, and `resume` goes on from there.
"""

from __future__ import annotations

import json as jsonlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.errors import AntiphonError, ConfigError
from antiphon.evals.asr_judge import MAX_TOKENS, AsrJudge
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.machine import available_cores, environment
from antiphon.evals.metrics.speech import dnsmos_all
from antiphon.evals.report import Figure, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalConfig:
    """How to measure a model.

    Attributes:
        model: a preset, a folder or a hub id.
        parts: parts of it to replace: role -> folder or hub id.
        only: groups or figures to measure; empty measures all.
        n: most items a figure; None is each group's own number.
        keep: folder for every single item (transcripts, replies, sounds), to see what is wrong; None keeps none.
        seed: of everything sampled.
    """

    model: str = "mini"
    parts: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    n: int | None = None
    keep: Path | None = None
    seed: int = 0


class Evaluation:
    """What the figures of one run share, each made when first asked for and then kept.

    Args:
        config: how to measure.
    """

    def __init__(self, config: EvalConfig) -> None:
        self.config = config

    @cached_property
    def model(self) -> Any:
        """The model that is measured."""
        import antiphon

        return antiphon.load(self.config.model, **self.config.parts)

    @cached_property
    def asr_judge(self) -> AsrJudge:
        """Whisper base."""
        return AsrJudge.from_pretrained()

    @cached_property
    def references(self) -> ResultCache:
        """Results that depend on the material alone."""
        return ResultCache(self.cached("references.jsonl"))

    def cached(self, name: str) -> Path:
        """A place for material in the user's cache."""
        from antiphon import hub

        return hub.cache_dir() / "eval" / name

    def transcribed(
        self, title: str, clips: Sequence[Audio], reference: bool = False, language: str = "en"
    ) -> list[str]:
        """The ASR judge's transcripts, with progress; those of references are made once and for all."""

        def hear(rows: list[int], told: Callable[[int], Any]) -> list[str]:
            return self.asr_judge.transcribe([clips[i] for i in rows], progress=told, language=language)

        name = f"whisper-base, {MAX_TOKENS} tokens" + (f", {language}" if language != "en" else "")
        keys = [key_of(name, clip) for clip in clips] if reference else None
        return self.measured(f"judge hears {title}", len(clips), hear, keys)

    def dnsmos(self, title: str, clips: Sequence[Audio], reference: bool = False) -> list[float]:
        """DNSMOS OVRL of each clip, with progress; those of references are made once and for all."""

        def score(rows: list[int], told: Callable[[int], Any]) -> list[float]:
            return dnsmos_all([clips[i] for i in rows], available_cores(), told)

        keys = [key_of("dnsmos", clip) for clip in clips] if reference else None
        return self.measured(f"DNSMOS of {title}", len(clips), score, keys)

    def measured(
        self,
        title: str,
        count: int,
        measure: Callable[[list[int], Callable[[int], Any]], Sequence[Any]],
        keys: Sequence[str] | None = None,
        chunk: int = 64,
    ) -> list[Any]:
        """Values of `count` items, with progress.

        Args:
            title: of the progress.
            count: how many.
            measure: gives the values of the items at these indices, and tells how many more are done.
            keys: of the items in the result cache, at most `chunk` of which are measured at a time; None keeps nothing.
            chunk: how many.
        """
        with tqdm(total=count, desc=f"  {title}", file=sys.stderr, leave=False) as bar:
            if keys is None:
                return list(measure(list(range(count)), bar.update))
            return self.references.get(keys, lambda rows: measure(rows, bar.update), chunk)

    def each(self, title: str, items: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
        """`work` of every item, with progress."""
        return [work(item) for item in tqdm(list(items), desc=f"  {title}", file=sys.stderr, leave=False)]

    def save_items(self, group: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keeps every single item of a group as JSON lines, where that was asked for; numbers with three decimals."""
        if self.config.keep is not None:
            lines = [jsonlib.dumps(rounded(dict(row)), ensure_ascii=False) + "\n" for row in rows]
            self.config.keep.mkdir(parents=True, exist_ok=True)
            (self.config.keep / f"{group}.jsonl").write_text("".join(lines), encoding="utf-8")

    def save_sound(self, name: str, audio: Audio) -> None:
        """Keeps a sound as a wav file, where that was asked for."""
        if self.config.keep is not None:
            audio.save(self.config.keep / f"{name}.wav")


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """A dictionary for each row of columns of one length."""
    return [dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)]


def rounded(value: Any) -> Any:
    """A value with its floats, also those in a dictionary or tuple, at three decimals."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Group:
    """Figures that are measured together.

    Attributes:
        measure: takes the evaluation and the number of items. Named at the top of its module, unless `alone`.
        n: how many items, unless fewer are asked for.
        figures: the names of what it returns.
        alone: it measures speed, nothing may run beside it.
    """

    measure: Callable[[Any, int], list[Figure]]
    n: int
    figures: tuple[str, ...]
    alone: bool = False


def chosen(only: Sequence[str], groups: Mapping[str, Group]) -> list[str]:
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
    return [name for name in groups if name in wanted or not only]


def run(
    evaluation: Evaluation,
    groups: Mapping[str, Group],
    weights: dict[str, Any],
    json: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
) -> Report:
    """Measures, telling stderr what is going on.

    A group that cannot be measured (its material is missing, a part fails) doesn't stop the others; the end tells.

    Args:
        evaluation: what the groups share.
        groups: what there is to measure.
        weights: fingerprints of what is measured.
        json: where the report is written after each group.
        resume: keep the figures of an earlier report at `json`, if it is of the same weights, and measure the others.
        jobs: processes that share the groups after those that need the machine for themselves.

    Raises:
        ConfigError: `only` names what there is not.
        EvalError: the JSON cannot be written, or (with `resume`) read.
        AntiphonError: not one group could be measured.
    """
    config = evaluation.config
    names = chosen(config.only, groups)
    report = Report(environment={**environment(), "weights": weights, "seconds": {}})
    if resume and json is not None and json.is_file():
        earlier = Report.load(json)
        if earlier.environment.get("weights") == weights:
            report.figures = earlier.figures
            report.environment["seconds"] = earlier.environment.get("seconds", {})
        else:
            tell(f"{json} was measured on other weights: starting anew.")
    names = [name for name in names if not (resume and all(report.get(f) for f in groups[name].figures))]
    failed: dict[str, Exception] = {}

    def take(name: str, measured: Callable[[], tuple[list[Figure], float]]) -> None:
        try:
            figures, seconds = measured()
        except Exception as error:  # whatever one group dies of, the others are worth having
            log.debug("group %s", name, exc_info=True)
            failed[name] = error
            tell(f"{name}: not measured: {reason(error)}")
            return
        report.environment["seconds"][name] = round(seconds, 1)
        for figure in figures:
            report.add(figure)
            tell(f"  {figure.name} {figure.value:.4g} ({figure.bar or 'no bar'}; n={figure.n})")
        if json is not None:
            report.save(json)

    count = {name: groups[name].n if config.n is None else min(config.n, groups[name].n) for name in names}
    together = [name for name in names if jobs > 1 and not groups[name].alone]
    for name in names:
        if name not in together:
            tell(f"{name}: {', '.join(groups[name].figures)}")
            take(name, partial(_timed, groups[name].measure, evaluation, count[name]))
    if together:
        tell(f"{jobs} at a time: {', '.join(together)}")
        work = partial(_measure_apart, type(evaluation), config, max(1, available_cores() // jobs))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(work, groups[name].measure, count[name]): name for name in together}
            for future in as_completed(futures):
                take(futures[future], future.result)
    if failed and not report.figures:
        raise AntiphonError("Nothing could be measured. " + " ".join(map(reason, failed.values())))
    if failed:
        report.environment["not-measured"] = {name: reason(error) for name, error in failed.items()}
    if json is not None:
        report.save(json)
    return report


def _measure_apart(
    kind: type[Evaluation], config: EvalConfig, threads: int, measure: Callable[..., list[Figure]], n: int
) -> tuple[list[Figure], float]:
    """One group in a worker process, with its share of the cores; the figures, and how many seconds they took."""
    import torch

    torch.set_num_threads(threads)
    return _timed(measure, kind(config), n)


def _timed(measure: Callable[..., list[Figure]], evaluation: Evaluation, n: int) -> tuple[list[Figure], float]:
    start = time.perf_counter()
    return measure(evaluation, n), time.perf_counter() - start


def reason(error: Exception) -> str:
    """Why something was not measured; our own errors speak for themselves."""
    return str(error) if isinstance(error, AntiphonError) else f"unexpected {type(error).__name__}: {error}"


def tell(message: str) -> None:
    """On stderr, at once."""
    print(message, file=sys.stderr, flush=True)
