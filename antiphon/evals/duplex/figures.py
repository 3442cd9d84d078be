"""`antiphon eval duplex`: does it wait, answer, stop and say "mhm" when it should, and does it keep up?

    report = run(DuplexConfig(texts=Path("texts")), Path("figures.json"))
    figures = quick(duplex, n=8)                                  # a dict, for training to look at now and then

Measured on any model whose session can be driven (in full duplex on a simulated clock, in half duplex in real time), or
on recordings alone. The definitions are those of `metrics`, the test cases those of `scenarios`, and
`simulate` holds the dialogues.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from antiphon.data.dialogue.replies import read_phrases
from antiphon.data.text.corpora import normalise
from antiphon.errors import EvalError
from antiphon.evals import harness
from antiphon.evals.duplex import answers, ends, speed
from antiphon.evals.duplex.addressed import FIGURES as ADDRESSED_FIGURES
from antiphon.evals.duplex.addressed import addressed
from antiphon.evals.duplex.evaluation import DuplexConfig, DuplexEvaluation, Result, hold
from antiphon.evals.duplex.scenarios import ALL_TASKS, NOISY, SILENCE_AFTER_SECONDS, TASKS, load_scenarios
from antiphon.evals.harness import Group, rows_of
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure, Report

MAX_TRANSCRIBED = 50  # answers that Whisper hears


@dataclass(frozen=True)
class TaskFigure:
    """A figure over the outcomes of a task.

    Attributes:
        name: of the figure.
        field: of `Outcome`.
        unit: of the figure; one with "median" in it is the median of those outcomes that have a value, else the mean.
        bar: what it must reach.
        published: what Moshi has in Full-Duplex-Bench's paper.
    """

    name: str
    field: str
    unit: str
    bar: str | None = None
    published: float | None = None


TASK_FIGURES: dict[str, tuple[TaskFigure, ...]] = {
    "pause": (
        TaskFigure("pause-takeover", "takeover", "share", "<= 0.4", 0.985),
        TaskFigure("pause-takeover-published", "takeover_published", "share", None, 0.985),
    ),
    "turn": (
        TaskFigure("turn-takeover", "takeover", "share", ">= 0.9", 0.941),
        TaskFigure("turn-takeover-published", "takeover_published", "share", None, 0.941),
        TaskFigure("response-latency-s", "latency", "s, median", "<= 0.8", 0.265),
        TaskFigure("response-latency-clipped-s", "latency_clipped", "s, mean", None, 0.265),
    ),
    "interruption": (
        TaskFigure("interruption-takeover", "takeover", "share", ">= 0.9", 1.0),
        TaskFigure("interruption-takeover-published", "takeover_published", "share", None, 1.0),
        TaskFigure("interruption-latency-s", "latency", "s, median"),
        TaskFigure("interruption-latency-clipped-s", "latency_clipped", "s, mean"),
        TaskFigure("stop-latency-s", "stop", "s, median", "<= 0.8"),
        TaskFigure("stop-latency-published-s", "stop_published", "s, mean"),
    ),
    "backchannel": (
        TaskFigure("backchannel-takeover", "takeover", "share"),
        TaskFigure("backchannel-takeover-published", "takeover_published", "share"),
        TaskFigure("backchannel-frequency", "frequency", "1/s"),
        TaskFigure("backchannel-jsd", "jsd", "distance"),
    ),
    "mhm": (TaskFigure("mhm-takeover", "takeover", "share", "<= 0.2"),),
    "noise": (TaskFigure("noise-interruption", "takeover", "share", "<= 0.1"),),
    "sound": (TaskFigure("noise-takeover", "takeover", "share", "<= 0.1"),),
}


def task_figures(task: str, found: Sequence[Result]) -> list[Figure]:
    """The figures of one task that have a value. Where no dialogue has a latency, it is what the user waits, 10 s."""
    if not found:
        raise EvalError(f"There is no {task} to measure.")
    figures = []
    for of in TASK_FIGURES[task]:
        values = [value for each in found if (value := getattr(each.outcome, of.field)) is not None]
        if values or of.unit.startswith("s, "):
            statistic = statistics.median if "median" in of.unit else statistics.fmean
            value = statistic(values) if values else SILENCE_AFTER_SECONDS[1]
            figures.append(Figure(of.name, value, of.unit, of.bar, of.published, len(values)))
    return figures


def _group(task: str) -> Group:
    def measure(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
        return task_figures(task, evaluation.results(task, n))

    return Group(measure, 100, tuple(figure.name for figure in TASK_FIGURES[task]))


def fits(one: Result, replies: dict[str, tuple[str, ...]]) -> bool:
    """Whether the model's answer is one of the replies to what was asked; its beginning, where the end was cut off."""
    said = normalise(one.said)
    wanted = [normalise(reply) for reply in replies.get(one.intent, ())]
    return any(said == reply or (one.cut and said and reply.startswith(said)) for reply in wanted)


def intent_accuracy(name: str, results: Sequence[Result]) -> Figure:
    """The share of answers that are replies to what was asked."""
    replies = read_phrases().by_intent
    answers = [fits(each, replies) for each in results if each.outcome.takeover]
    return Figure(name, statistics.fmean(answers) if answers else 0.0, "share", None, None, len(answers))


def fitness(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """The share of fitting answers, after turns and after interruptions."""
    return [
        intent_accuracy("reply-intent-accuracy", evaluation.results("turn", n)),
        intent_accuracy("interruption-intent-accuracy", evaluation.results("interruption", n)),
    ]


def spoken_words(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """Word error rate of the model's answers against its own inner monologue, as Whisper hears them."""
    answers = [each for each in evaluation.results("turn", n) if each.said and each.answer is not None]
    answers = answers[:MAX_TRANSCRIBED]
    if not answers:
        raise EvalError("The model gave no answer in words.")
    said, heard = [a.said for a in answers], evaluation.transcribed("its answers", [a.answer for a in answers])
    evaluation.save_items("say-wer-duplex", rows_of({"id": [a.id for a in answers], "said": said, "heard": heard}))
    return [Figure("say-wer-duplex", word_error_rate(said, heard), "WER", None, None, len(answers))]


GROUPS: dict[str, Group] = {
    "frame": Group(speed.frames, 5, ("frame-p50-ms", "frame-p95-ms"), alone=True),
    "batch": Group(speed.batch, 8, ("batch-8-speedup",), alone=True),
    **{task: _group(task) for task in ALL_TASKS},
    "ends": Group(ends.turn_ends, 100, ends.FIGURES),
    "addressed": Group(addressed, 24, ADDRESSED_FIGURES),
    "easy": Group(answers.easy, 60, answers.FIGURES),
    "meetings": Group(ends.meetings, 1000, ends.MEETING_FIGURES),
    "fitness": Group(fitness, 100, ("reply-intent-accuracy", "interruption-intent-accuracy")),
    "say": Group(spoken_words, 100, ("say-wer-duplex",)),
    "hour": Group(speed.hour, 60, ("hour-frame-time-ratio", "hour-memory-ratio"), alone=True),
}


def run(config: DuplexConfig, json: Path | None = None, resume: bool = False, picture: Path | None = None) -> Report:
    """Measures, telling stderr what is going on; errors as `harness.run` has them.

    Args:
        config: how and what.
        json: where the report is written after each group.
        resume: keep the figures of an earlier report at `json`, if it is of the same weights, and measure the others.
        picture: where a few of the dialogues are drawn (.png).
    """
    evaluation, groups = DuplexEvaluation(config), dict(GROUPS)
    for name in (*(NOISY if config.sounds is None else ()), *(["meetings"] if config.meetings is None else ())):
        if name not in config.only:  # asked for, it says what is missing
            del groups[name]
    if config.recordings is not None:  # all that is in them
        there = {each.task for each in evaluation.recorded}
        groups = {task: replace(GROUPS[task], n=len(evaluation.recorded)) for task in TASKS if task in there}
    report = harness.run(evaluation, groups, evaluation.fingerprints(), json, resume)
    if picture is not None and evaluation.examples:
        from antiphon.evals.plots import draw_dialogues

        order = sorted(evaluation.examples, key=lambda each: (ALL_TASKS.index(each.scenario.task), each.scenario.id))
        draw_dialogues(order, picture)
    return report


def quick(
    model: Any,
    n: int = 8,
    folder: Path | None = None,
    texts: Path | None = None,
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
) -> dict[str, float]:
    """The figures of a few dialogues of each task: for a look during training, a minute or so on two cores.

    Args:
        model: as `antiphon.evals.duplex.systems.system_under_test` takes it.
        n: dialogues of each task, all in one batch.
        folder: the scenarios; None is the folder in the cache.
        texts: to make those that are missing from.
        tasks: some of `TASKS`.
        seed: of what the model draws.

    Returns:
        Figure name -> value; with "turn", "reply-intent-accuracy" too.

    Raises:
        DataError: scenarios are missing and there are no texts.
    """
    folder = folder or DuplexEvaluation(DuplexConfig()).cached("duplex")
    figures: list[Figure] = []
    moshi = getattr(model, "moshi", None)
    training = moshi is not None and moshi.training
    if training:
        moshi.eval()
    try:
        for task in tasks:
            config = DuplexConfig(batch=n, seed=seed)
            results = [Result.of(each) for each in hold(model, load_scenarios(folder, task, n, texts), config)]
            figures += task_figures(task, results)
            if task == "turn":
                figures.append(intent_accuracy("reply-intent-accuracy", results))
    finally:
        if training:
            moshi.train()
    return {figure.name: figure.value for figure in figures}
