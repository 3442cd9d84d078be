"""`antiphon eval duplex`: does it wait, answer, stop and say "mhm" when it should, and does it keep up?

    report = run(DuplexConfig(texts=Path("texts")), Path("figures.json"))
    figures = quick(duplex, n=8)                                  # a dict, for training to look at now and then

Measured on any model whose session can be driven (full-duplex ones on a simulated clock, half-duplex ones in real
time), or on recordings alone. The definitions are those of `metrics`, the test cases those of `scenarios`, and
`simulate` holds the dialogues.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.data.dialogue.phrases import read_replies
from antiphon.data.text.corpora import normalise
from antiphon.errors import EvalError
from antiphon.evals import harness
from antiphon.evals.duplex import speed
from antiphon.evals.duplex.evaluation import DuplexConfig, DuplexEvaluation, Result, hold
from antiphon.evals.duplex.scenarios import SILENCE_AFTER_SECONDS, TASKS, load_scenarios
from antiphon.evals.harness import Group, rows_of
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure, Report

MAX_TRANSCRIBED = 50  # answers that Whisper hears


def task_figures(task: str, found: Sequence[Result]) -> list[Figure]:
    """The figures of one task. Where no conversation has a latency, it is as long as the user waits: 10 s."""
    outcomes, n = [each.outcome for each in found], len(found)
    if not n:
        raise EvalError(f"There is no {task} to measure.")

    def share(name: str, field_name: str, bar: str | None, published: float | None) -> Figure:
        return Figure(name, statistics.fmean(getattr(o, field_name) for o in outcomes), "share", bar, published, n)

    def seconds(
        name: str, field_name: str, bar: str | None, mean: bool = False, published: float | None = None
    ) -> Figure:
        values = [v for o in outcomes if (v := getattr(o, field_name)) is not None]
        value = (statistics.fmean if mean else statistics.median)(values) if values else SILENCE_AFTER_SECONDS[1]
        return Figure(name, value, "s, mean" if mean else "s, median", bar, published, len(values))

    if task == "pause":
        return [
            share("pause-takeover", "takeover", "<= 0.4", 0.985),
            share("pause-takeover-published", "takeover_published", None, 0.985),
        ]
    if task == "turn":
        return [
            share("turn-takeover", "takeover", ">= 0.9", 0.941),
            share("turn-takeover-published", "takeover_published", None, 0.941),
            seconds("response-latency-s", "latency", "<= 0.8", published=0.265),
            seconds("response-latency-clipped-s", "latency_clipped", None, mean=True, published=0.265),
        ]
    if task == "interruption":
        return [
            share("interruption-takeover", "takeover", ">= 0.9", 1.0),
            share("interruption-takeover-published", "takeover_published", None, 1.0),
            seconds("interruption-latency-s", "latency", None),
            seconds("interruption-latency-clipped-s", "latency_clipped", None, mean=True),
            seconds("stop-latency-s", "stop", "<= 0.8"),
            seconds("stop-latency-published-s", "stop_published", None, mean=True),
        ]
    distances = [o.jsd for o in outcomes if o.jsd is not None]
    figures = [
        share("backchannel-takeover", "takeover", None, None),
        share("backchannel-takeover-published", "takeover_published", None, None),
        Figure("backchannel-frequency", statistics.fmean(o.frequency for o in outcomes), "1/s", None, None, n),
    ]
    if distances:
        figures.append(Figure("backchannel-jsd", statistics.fmean(distances), "distance", None, None, len(distances)))
    return figures


def _task(task: str) -> Callable[[DuplexEvaluation, int], list[Figure]]:
    return lambda evaluation, n: task_figures(task, evaluation.results(task, n))


def fits(one: Result, replies: dict[str, tuple[str, ...]]) -> bool:
    """Whether the model's answer is one of the replies to what was asked; its beginning, where the end was cut off."""
    said = normalise(one.said)
    wanted = [normalise(reply) for reply in replies.get(one.intent, ())]
    return any(said == reply or (one.cut and said and reply.startswith(said)) for reply in wanted)


def intent_accuracy(name: str, results: Sequence[Result]) -> Figure:
    """The share of answers that are replies to what was asked."""
    replies = read_replies().by_intent
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
    "pause": Group(_task("pause"), 100, ("pause-takeover", "pause-takeover-published")),
    "turn": Group(
        _task("turn"), 100,
        ("turn-takeover", "turn-takeover-published", "response-latency-s", "response-latency-clipped-s"),
    ),
    "interruption": Group(
        _task("interruption"), 100,
        ("interruption-takeover", "interruption-takeover-published", "interruption-latency-s",
         "interruption-latency-clipped-s", "stop-latency-s", "stop-latency-published-s"),
    ),
    "backchannel": Group(
        _task("backchannel"), 100,
        ("backchannel-takeover", "backchannel-takeover-published", "backchannel-frequency", "backchannel-jsd"),
    ),
    "fitness": Group(fitness, 100, ("reply-intent-accuracy", "interruption-intent-accuracy")),
    "say": Group(spoken_words, 100, ("say-wer-duplex",)),
    "hour": Group(speed.hour, 60, ("hour-frame-time-ratio", "hour-memory-ratio"), alone=True),
}  # fmt: skip


def run(config: DuplexConfig, json: Path | None = None, resume: bool = False, picture: Path | None = None) -> Report:
    """Measures, telling stderr what is going on; errors as `harness.run` has them.

    Args:
        config: how and what.
        json: where the report is written after each group.
        resume: keep the figures of an earlier report at `json`, if it is of the same weights, and measure the others.
        picture: where a few of the dialogues are drawn (.png).
    """
    evaluation, groups = DuplexEvaluation(config), GROUPS
    if config.recordings is not None:  # all that is in them
        there = {each.task for each in evaluation.recorded}
        groups = {task: replace(GROUPS[task], n=len(evaluation.recorded)) for task in TASKS if task in there}
    report = harness.run(evaluation, groups, evaluation.fingerprints(), json, resume)
    if picture is not None and evaluation.examples:
        from antiphon.evals.plots import draw_dialogues

        order = sorted(evaluation.examples, key=lambda each: (TASKS.index(each.scenario.task), each.scenario.id))
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
            results = [Result.of(each) for each in hold(model, load_scenarios(folder, task, n, texts), n, seed)]
            figures += task_figures(task, results)
            if task == "turn":
                figures.append(intent_accuracy("reply-intent-accuracy", results))
    finally:
        if training:
            moshi.train()
    return {figure.name: figure.value for figure in figures}
