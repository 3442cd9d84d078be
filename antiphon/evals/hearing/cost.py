"""What hearing more than words costs: time to the first sound of an answer, memory; and that text stays as it was."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antiphon.errors import EvalError
from antiphon.evals.assistant.speed import answer_aloud, time_to_first_audio, trim_end
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.metrics.answers import KNOWLEDGE_QUESTIONS, read_questions
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread


def first_audio(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Live questions with and without hearing more than words, in turns: what it adds to the wait, median of pairs."""
    clips, model = evaluation.questions(n), evaluation.model
    _check(model)
    time_to_first_audio(model, trim_end(clips[0].audio))  # the first answer of a process pays for lazy set-up

    def both(item: tuple[int, Any]) -> tuple[float, float]:
        number, clip = item
        question, waits = trim_end(clip.audio), {}
        for deaf in (False, True) if number % 2 else (True, False):
            with words_alone(model, deaf):
                waits[deaf] = time_to_first_audio(model, question)
        return waits[False], waits[True]

    pairs = evaluation.each("live questions", list(enumerate(clips)), both)
    added = 1000 * statistics.median(a - b for a, b in pairs)
    evaluation.save_items("first-audio-added", rows_of({"question": [c.text for c in clips], "seconds": pairs}))
    without = 1000 * statistics.median(b for _, b in pairs)
    return [Figure("first-audio-added-ms", added, "ms, median", "<= 50", without, len(pairs))]


def memory(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Peak memory of a fresh process that answers a question aloud, with and without: what it adds, in MB."""
    config = evaluation.config
    _check(evaluation.model)
    with tempfile.TemporaryDirectory() as folder:
        question = evaluation.questions(1)[0].audio.save(Path(folder) / "question.wav")

        def peak(parts: dict[str, Any]) -> int:
            fields = {"model": config.model, "parts": parts, "question": str(question)}
            return in_fresh_process(answer_aloud, fields, "Answering a question")

        peaks = [(peak(config.parts), peak(config.parts | {"scene": None})) for _ in range(n)]
    added = statistics.median((a - b) / 1e6 for a, b in peaks)
    without = statistics.median(b / 1e6 for _, b in peaks)
    return [Figure("memory-added-mb", added, "MB", "<= 100", without, n)]


def text(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Typed questions: the same answer, to the letter, as by the model that hears words alone."""
    model, asked = evaluation.model, [row.question for row in spread(read_questions(KNOWLEDGE_QUESTIONS), n)]

    def same(question: str) -> bool:
        with words_alone(model, True):
            deaf = model.reply_text(question)
        return model.reply_text(question) == deaf

    right = evaluation.each("typed questions", asked, same)
    return [Figure("text-unchanged", sum(right) / len(right), "share", ">= 1", None, len(right))]


@contextmanager
def words_alone(model: Any, deaf: bool = True) -> Iterator[None]:
    """Has a model hear nothing but words for a while."""
    scenes = model.backend.scenes
    model.backend.scenes = None if deaf else scenes
    try:
        yield
    finally:
        model.backend.scenes = scenes


def _check(model: Any) -> None:
    if getattr(model.backend, "scenes", None) is None:
        raise EvalError("This model hears nothing but words: there is nothing to compare.")
