"""One command measures a model as papers do: `antiphon eval tables --model base --data benchmarks -o report`.

The report's folder has
- `items/TASK.jsonl`: every question, answer and score; `results.json`: the figures, and what was not measured and why;
- `index.html`: one page to look at, offline or on paper;
- `answers.jsonl`: what the model said to what, so that a run that was stopped goes on and ends in the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.errors import AntiphonError, ConfigError, DataError, EvalError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.harness import reason, tell
from antiphon.evals.machine import environment
from antiphon.evals.tables.items import SOUNDS, Item, Measured, write_items
from antiphon.evals.tables.overall import OVERALL, overall
from antiphon.evals.tables.page import shown, write_page
from antiphon.evals.tables.results import Results

if TYPE_CHECKING:
    from antiphon.evals.tables.speech.measure import SpeechTask

ROWS = ("text", "text-spoken", "audio", "speech", "duplex")
SEED_TTS = "seed_tts_en"
SHARD = "answers-of-shard"  # of files
OTHER_TALKS = ("fdb2_examined", "fdb3_tools", "eot_bench", "eot_bench_session")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TablesConfig:
    """What to measure.

    Attributes:
        model: a preset, a folder or a hub id; a folder of a `transformers` audio model; the address of an
            OpenAI-compatible endpoint, of chat completions (http) or Realtime (ws).
        output: the report's folder.
        parts: of a model of ours that are replaced.
        rows: of the tables, of `ROWS`.
        tasks: only these; empty for all of the rows.
        data: folder with a folder a set, in its official layout.
        n: questions of a task at most, at even distances over the set.
        seed: of everything drawn.
        max_tokens: of a reply at most; None leaves that to the tasks.
        allow_code: code that the model wrote may be run, confined.
        judge: of open answers: an endpoint's address, or "self" for the model itself; None leaves those out.
        utmos: TorchScript of UTMOS, which rates what is spoken; None leaves that out.
        shard: (number from 1, how many): only this shard's answers are made, and no report; a run without it makes the
            report of all that were made, and what is missing.
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
    utmos: Path | None = None
    shard: tuple[int, int] | None = None


def tasks_of(row: str) -> list[str]:
    """The tasks of a row.

    Raises:
        ConfigError: there is no such row.
    """
    if row == "text":
        from antiphon.evals.tables.text.measure import NOT_MEASURED, TASKS

        return [*TASKS, *NOT_MEASURED]
    if row == "audio":
        from antiphon.evals.tables.audio import TASKS as AUDIO

        return list(AUDIO)
    if row in ("speech", "text-spoken"):
        return [*said_tasks(row), *([SEED_TTS] if row == "speech" else [])]
    if row == "duplex":
        from antiphon.evals.tables.duplex.full_duplex_bench import TASKS as TALKS

        return [*TALKS, *OTHER_TALKS]
    raise ConfigError(f"There is no row {row!r} of the tables. Rows: {', '.join(ROWS)}.")


def said_tasks(row: str) -> Mapping[str, SpeechTask]:
    """The tasks of a row whose questions are said."""
    if row == "text-spoken":
        from antiphon.evals.tables.speech.spoken import TASKS as SPOKEN

        return SPOKEN
    from antiphon.evals.tables.speech.open_answers import TASKS as OPEN_ANSWERS
    from antiphon.evals.tables.speech.voicebench import TASKS as VOICEBENCH

    return {**VOICEBENCH, **OPEN_ANSWERS}


def wanted_of(config: TablesConfig) -> list[tuple[str, str]]:
    """The rows and tasks that are to be measured.

    Raises:
        ConfigError: a row or a task that isn't known, no folder of data.
    """
    named = {row: tasks_of(row) for row in config.rows}
    if unknown := set(config.tasks) - {task for tasks in named.values() for task in tasks}:
        known = ", ".join(task for tasks in named.values() for task in tasks)
        raise ConfigError(f"There is no task {min(unknown)!r} in the rows {', '.join(named)}. Tasks: {known}.")
    if config.data is None:
        raise ConfigError("The sets are public, but not part of this package: --data FOLDER, with a folder a set.")
    return [(row, task) for row, tasks in named.items() for task in tasks if not config.tasks or task in config.tasks]


def run_shard(config: TablesConfig) -> int:
    """Makes a shard's answers, and tells how many tasks it looked at; what can't be measured is told.

    Raises:
        ConfigError: see `wanted_of`.
    """
    system, done, wanted = Measuring(config), 0, wanted_of(config)
    for number, (row, task) in enumerate(wanted, 1):
        tell(f"{task} ({number} of {len(wanted)}, shard {'/'.join(map(str, config.shard or ()))})")
        try:
            system.measure(row, task)
            done += 1
        except Exception as error:  # whatever one task dies of, the others are worth having
            log.debug("task %s", task, exc_info=True)
            tell(f"  not measured: {reason(error)}")
    return done


def run(config: TablesConfig) -> Results:
    """Measures, telling stderr what is going on and how long the rest takes; what can't be measured is told, and the
    others are measured.

    Raises:
        ConfigError: a row or a task that isn't known, no folder of data.
        AntiphonError: not one task could be measured.
    """
    wanted = wanted_of(config)
    system = Measuring(config)
    settings = {
        "weights": system.weights, "n": config.n, "seed": config.seed, "max_tokens": config.max_tokens,
        "judge": config.judge, **({"utmos": str(config.utmos)} if config.utmos else {}),
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
        spread = f"[{shown(figure.low)}, {shown(figure.high)}]"
        tell(f"  {figure.title}: {shown(figure.value)} {spread} {figure.metric}, n={figure.n}")
    if (mean := overall(results.figures)) is not None:  # it has no questions of its own
        write_items(config.output / "items" / f"{OVERALL}.jsonl", [])
        results.figures[OVERALL] = mean
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
        place, others, own = config.output / "answers.jsonl", sorted(config.output.glob(f"{SHARD}-*.jsonl")), None
        if config.shard is not None:
            number, count = config.shard
            others, own = [*others, place], (number - 1, count)
            place = config.output / f"{SHARD}-{number}-of-{count}.jsonl"
        self.cache = ResultCache(place, others, own)
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
        if task == SEED_TTS:
            from antiphon.evals.tables.speech import seed_tts

            seed_tts.texts(config.data)  # before a model is loaded
            if not hasattr(self.system, "say"):
                raise EvalError(f"{self.system.name} reads nothing aloud.")
            return seed_tts.measure_seed_tts(
                task, self.system, config.data, config.n, config.seed, self.cache, self.name, config.utmos,
                config.output / SOUNDS,
            )  # fmt: skip
        if row in ("speech", "text-spoken"):
            from antiphon import hub
            from antiphon.evals.tables.speech.measure import measure_speech

            return measure_speech(
                task, said_tasks(row)[task], self.system, config.data, config.n, config.seed, self.cache,
                config.max_tokens, self.name, self.judge, hub.cache_dir() / "eval", config.output / SOUNDS,
            )  # fmt: skip
        if row == "duplex":
            return self._talks(task, config.data)
        from antiphon.evals.tables.text.measure import measure_text

        return measure_text(task, self.lm, config.data, config.n, config.seed, config.allow_code)

    def _talks(self, task: str, data: Path) -> tuple[Measured, list[Item]]:
        """Of the duplex row: a task's figure and items."""
        from antiphon.evals.tables.duplex import eot_bench, examined, full_duplex_bench, tool_talks
        from antiphon.evals.tables.duplex.measure import measure_duplex

        config, asked = self.config, (data, self.config.n, self.config.seed, self.cache)
        if task == "fdb2_examined":
            return examined.measure_examined(task, *asked, self.judge)
        if task == "fdb3_tools":
            tool_talks.requests(data)  # before a model is loaded
            return tool_talks.measure_tools(task, self.system, *asked, config.max_tokens, self.name, self.judge)
        if task == "eot_bench":
            eot_bench.rows(data)
            note = eot_bench.DETECTOR
            return eot_bench.measure_ends(task, "eot-bench", eot_bench.by_detector(), *asked, "smart-turn", note)
        if task == "eot_bench_session":
            eot_bench.rows(data)
            fire, note = eot_bench.by_session(self.live), eot_bench.SESSION
            return eot_bench.measure_ends(task, "eot-bench, a session", fire, *asked, self.name, note)
        told = full_duplex_bench.TASKS[task]
        if not told.read(data):
            raise DataError(f"{task}: not here ({data / full_duplex_bench.FOLDER}); to be had at {told.source}.")
        return measure_duplex(task, told, self.live, *asked, self.name, self.judge, config.output / "talks")

    @cached_property
    def live(self) -> Any:
        """The model as one that holds live conversations; the first time loads it.

        Raises:
            EvalError: it holds none.
        """
        import antiphon
        from antiphon.evals.tables.systems.system import OurSystem

        if "system" in self.__dict__ or "://" in self.config.model:
            opened = self.system.model if isinstance(self.system, OurSystem) else self.system
        else:
            opened = antiphon.load(self.config.model, **self.config.parts)
        if not hasattr(opened, "session") and not hasattr(opened, "moshi"):
            raise EvalError(f"{self.config.model} holds no live conversations.")
        return opened

    @cached_property
    def system(self) -> Any:
        """The model as one that hears and answers; the first time loads it."""
        from antiphon.evals.tables.systems.opening import open_system

        return open_system(self.config.model, self.config.parts)

    @cached_property
    def judge(self) -> Any:
        """What judges open answers: an endpoint, the model itself ("self"), or nothing."""
        from antiphon.evals.tables.speech.measure import Judge
        from antiphon.evals.tables.systems.opening import open_system

        wanted = self.config.judge
        if wanted is None:
            return None
        return Judge(self.system if wanted == "self" else open_system(wanted, {}))

    @property
    def lm(self) -> Any:
        """The language model behind lm-eval's interface; the first time loads it."""
        if self._lm is None:
            try:
                from antiphon.evals.tables.text.lm import ThinkerLM
            except ImportError as error:
                raise EvalError(f"The text table needs lm-eval: pip install 'antiphon[tables]' ({error})") from error
            if "://" in self.config.model:
                raise EvalError("An endpoint tells no likelihoods: the other rows measure it.")
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
