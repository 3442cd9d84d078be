"""One command measures a model as papers do: `antiphon eval tables --model base --data benchmarks -o report`.

The report's folder has
- `items/TASK.jsonl`: every question, answer and score; `results.json`: the figures, and what was not measured and why;
- `index.html`: one page to look at, offline or on paper;
- `answers.jsonl`: what the model said to what, so that a run that was stopped goes on and ends in the same.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.errors import AntiphonError, ConfigError, EvalError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.harness import reason, tell
from antiphon.evals.machine import environment
from antiphon.evals.tables.items import Item, Measured, write_items
from antiphon.evals.tables.page import write_page
from antiphon.evals.tables.results import Results

ROWS = ("text", "audio", "speech")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TablesConfig:
    """What to measure.

    Attributes:
        model: a preset, a folder or a hub id; a folder of a `transformers` audio model; the address of an
            OpenAI-compatible endpoint.
        output: the report's folder.
        parts: of a model of ours that are replaced.
        rows: of the tables: "text", "audio", "speech".
        tasks: only these; empty for all of the rows.
        data: folder with a folder a set, in its official layout.
        n: questions of a task at most, at even distances over the set.
        seed: of everything drawn.
        max_tokens: of a reply at most; None leaves that to the tasks.
        allow_code: code that the model wrote may be run, confined.
        judge: of open answers: an endpoint's address, or "self" for the model itself; None leaves those out.
    """

    model: str
    output: Path
    parts: dict[str, str] = field(default_factory=dict)
    rows: tuple[str, ...] = ("text",)
    tasks: tuple[str, ...] = ()
    data: Path | None = None
    n: int | None = None
    seed: int = 0
    max_tokens: int | None = None
    allow_code: bool = False
    judge: str | None = None


def tasks_of(row: str) -> list[str]:
    """The tasks of a row.

    Raises:
        ConfigError: there is no such row.
    """
    if row == "text":
        from antiphon.evals.tables.text import NOT_MEASURED, TASKS

        return [*TASKS, *NOT_MEASURED]
    if row == "audio":
        from antiphon.evals.tables.audio import TASKS as AUDIO

        return list(AUDIO)
    if row == "speech":
        from antiphon.evals.tables.speech import TASKS as SPEECH

        return list(SPEECH)
    raise ConfigError(f"There is no row {row!r} of the tables. Rows: {', '.join(ROWS)}.")


def run(config: TablesConfig) -> Results:
    """Measures, telling stderr what is going on and how long the rest takes; what can't be measured is told, and the
    others are measured.

    Raises:
        ConfigError: a row or a task that isn't known, no folder of data.
        AntiphonError: not one task could be measured.
    """
    named = {row: tasks_of(row) for row in config.rows}
    if unknown := set(config.tasks) - {task for tasks in named.values() for task in tasks}:
        known = ", ".join(task for tasks in named.values() for task in tasks)
        raise ConfigError(f"There is no task {min(unknown)!r} in the rows {', '.join(named)}. Tasks: {known}.")
    if config.data is None:
        raise ConfigError("The sets are public, but not part of this package: --data FOLDER, with a folder a set.")
    wanted = [(row, task) for row, tasks in named.items() for task in tasks if not config.tasks or task in config.tasks]
    system = Measuring(config)
    settings = {
        "weights": system.weights, "n": config.n, "seed": config.seed, "max_tokens": config.max_tokens,
        "judge": config.judge,
    }  # fmt: skip
    results = Results(config.model, settings, machine=environment())
    if (config.output / "results.json").is_file():
        earlier = Results.load(config.output)
        if earlier.settings == settings:
            results.figures = earlier.figures
        else:
            tell(f"{config.output} was measured otherwise: answers are used again where the same was asked.")
    start, done = time.perf_counter(), 0
    for number, (row, task) in enumerate(wanted):
        if task in results.figures and (config.output / "items" / f"{task}.jsonl").is_file():
            continue
        rest = (
            f", about {(time.perf_counter() - start) / done * (len(wanted) - number) / 60:.0f} min left" if done else ""
        )
        tell(f"{task} ({number + 1} of {len(wanted)}{rest})")
        try:
            figure, items = system.measure(row, task)
        except Exception as error:  # whatever one task dies of, the others are worth having
            log.debug("task %s", task, exc_info=True)
            results.missing[task] = reason(error)
            tell(f"  not measured: {reason(error)}")
            results.save(config.output)
            continue
        done += 1
        write_items(config.output / "items" / f"{task}.jsonl", items)
        results.figures[task] = replace(figure, seconds=round(figure.seconds, 1))
        results.missing.pop(task, None)
        results.save(config.output)
        tell(
            f"  {figure.title}: {figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}] {figure.metric}, n={figure.n}"
        )
    order = [task for _, task in wanted]
    results.figures = {task: results.figures[task] for task in (*order, *results.figures) if task in results.figures}
    if not results.figures:
        raise AntiphonError("Nothing could be measured. " + " ".join(results.missing.values()))
    results.save(config.output)
    write_page(config.output)
    return results


class Measuring:
    """A model, opened as far as its tasks need it.

    Args:
        config: what to measure.
    """

    def __init__(self, config: TablesConfig) -> None:
        self.config = config
        self.cache = ResultCache(config.output / "answers.jsonl")
        self._lm: Any = None
        self.weights = self._weights()

    def _weights(self) -> dict[str, str]:
        """Fingerprints of what is measured, by part."""
        from antiphon.evals.assistant.evaluation import fingerprint, fingerprints
        from antiphon.evals.harness import EvalConfig

        folder = Path(self.config.model)
        found = {"model": fingerprint(folder)[:12]} if folder.is_dir() and any(folder.glob("*.safetensors")) else {}
        if not folder.is_dir() and "://" not in self.config.model:
            found |= fingerprints(EvalConfig(model=self.config.model, parts=self.config.parts))
        return found

    @property
    def name(self) -> str:
        """Under which answers are kept: another model's are others."""
        return key_of(self.config.model, *(f"{role} {digits}" for role, digits in sorted(self.weights.items())))

    def measure(self, row: str, task: str) -> tuple[Measured, list[Item]]:
        """A task's figure and items."""
        config = self.config
        assert config.data is not None
        if row == "audio":
            from antiphon.evals.tables.audio import measure_audio

            return measure_audio(
                task, self.system, config.data, config.n, config.seed, self.cache, config.max_tokens, self.name
            )
        if row == "speech":
            from antiphon import hub
            from antiphon.evals.tables.speech import measure_speech

            return measure_speech(
                task, self.system, config.data, config.n, config.seed, self.cache, config.max_tokens, self.name,
                self.judge, hub.cache_dir() / "eval",
            )  # fmt: skip
        from antiphon.evals.tables.text import measure_text

        return measure_text(task, self.lm, config.data, config.n, config.seed, config.allow_code)

    @cached_property
    def system(self) -> Any:
        """The model as one that hears and answers; the first time loads it."""
        from antiphon.evals.tables.systems import open_system

        return open_system(self.config.model, self.config.parts)

    @cached_property
    def judge(self) -> Any:
        """What judges open answers: an endpoint, the model itself ("self"), or nothing."""
        from antiphon.evals.tables.speech import Judge
        from antiphon.evals.tables.systems import open_system

        wanted = self.config.judge
        if wanted is None:
            return None
        return Judge(self.system if wanted == "self" else open_system(wanted, {}))

    @property
    def lm(self) -> Any:
        """The language model behind lm-eval's interface; the first time loads it."""
        if self._lm is None:
            try:
                from antiphon.evals.tables.lm import ThinkerLM
            except ImportError as error:
                raise EvalError(f"The text table needs lm-eval: pip install 'antiphon[tables]' ({error})") from error
            if "://" in self.config.model:
                raise EvalError("An endpoint tells no likelihoods: the rows audio and speech measure it.")
            thinker = open_thinker(self.config.model, self.config.parts)
            self._lm = ThinkerLM(thinker, self.name, self.cache, self.config.max_tokens, self.config.seed)
        return self._lm


def open_thinker(model: str, parts: dict[str, str]) -> Any:
    """The thinker of a preset or a folder of ours, or of a folder that holds a language model alone.

    Raises:
        HubError: it can't be had.
        ModelError: it can't be read.
    """
    from antiphon import hub
    from antiphon.models.llm.thinker import Thinker

    folder = Path(model)
    if "thinker" in parts:
        return Thinker.from_pretrained(hub.folder(parts["thinker"]))
    if (folder / "tokenizer.json").is_file():
        return Thinker.from_pretrained(folder)
    if folder.is_dir() and (folder / "thinker").is_dir():
        return Thinker.from_pretrained(folder / "thinker")
    if model in {preset.name for preset in hub.PRESETS}:
        preset = hub.preset(model)
        if "thinker" not in preset.parts:
            raise ConfigError(f"{model} has no language model that could be asked in writing.")
        return Thinker.from_pretrained(hub.folder(preset.parts["thinker"], preset))
    return Thinker.from_pretrained(hub.folder(model))
