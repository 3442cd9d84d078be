"""Public question sets, spoken beside typed: how much of what the model knows is lost on the way through the ear.

The sets are not part of this project: a folder has them as `SET/FILE.jsonl.gz` or `.jsonl`, each line with the set's
official fields.

| set | file | fields |
|---|---|---|
| gsm8k (Cobbe et al. 2021) | test | question, answer ("... #### 18") |
| openbookqa (Mihaylov et al. 2018) | test | question_stem, choices {text, label}, answerKey |
| arc_easy (Clark et al. 2018) | test | question, choices {text, label}, answerKey |
| piqa (Bisk et al. 2020) | validation | goal, sol1, sol2, label |
| xquad_en (Artetxe et al. 2020) | xquad.en | context |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from antiphon.dialogue.tool_calls import Message
from antiphon.errors import DataError
from antiphon.evals.assistant import material
from antiphon.evals.assistant.answers import share, written
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.answers import chosen_option, last_number
from antiphon.evals.report import Figure
from antiphon.evals.rows import find_files, read_rows, spread

FILES = {
    "gsm8k": "test", "openbookqa": "test", "arc_easy": "test", "piqa": "validation", "xquad_en": "xquad.en",
}  # fmt: skip
ANSWER_TOKENS = 256  # of a worked answer
STEPS = "Work it out step by step, and end with the number."


@dataclass(frozen=True)
class Choice:
    """A question with options, one of which is right.

    Attributes:
        question: without them.
        options: their texts.
        right: the number of the right one.
    """

    question: str
    options: tuple[str, ...]
    right: int


def read_set(folder: Path | None, name: str) -> list[dict[str, Any]]:
    """The lines of a set.

    Raises:
        DataError: no folder, no such set in it, or it can't be read.
    """
    if folder is None:
        raise DataError(f"The questions of {name} are public, but not part of this package: --benchmarks FOLDER.")
    files = find_files(folder / name, FILES[name])
    if not files:
        raise DataError(f"{folder / name} has no {FILES[name]}.jsonl (or .gz): get the set, or name another folder.")
    return read_rows(files[0])


def problems(folder: Path | None, n: int) -> list[tuple[str, float]]:
    """Word problems of GSM8K, each with its number."""
    rows = spread(read_set(folder, "gsm8k"), n)
    return [(row["question"], float(row["answer"].rpartition("####")[2].replace(",", ""))) for row in rows]


def choices(folder: Path | None, name: str, n: int) -> list[Choice]:
    """Questions of openbookqa, arc_easy or piqa."""
    rows = spread(read_set(folder, name), n)
    if name == "piqa":
        return [Choice(row["goal"], (row["sol1"], row["sol2"]), int(row["label"])) for row in rows]
    stem = "question_stem" if name == "openbookqa" else "question"
    return [
        Choice(row[stem], tuple(row["choices"]["text"]), row["choices"]["label"].index(row["answerKey"]))
        for row in rows
    ]


def read_aloud(choice: Choice) -> str:
    """A question with options, as one reads it out.

    >>> read_aloud(Choice("The sun is", ("a star", "a planet."), 0))
    'The sun is? Option A: a star. Option B: a planet. Which option is right, A or B?'
    """
    question = choice.question.strip()
    question = question if question.endswith((".", "?", "!")) else f"{question}?"
    letters = ascii_uppercase[: len(choice.options)]
    options = " ".join(f"Option {letter}: {text.strip().rstrip('.')}." for letter, text in zip(letters, choice.options))
    return f"{question} {options} Which option is right, {', '.join(letters[:-1])} or {letters[-1]}?"


def gsm8k(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Word problems, spoken; right where the reply ends on the number. Reference: typed."""
    asked = problems(evaluation.config.benchmarks, n)
    texts = [f"{_plain(question)} {STEPS}" for question, _ in asked]
    grades = [lambda reply, number=number: last_number(reply) == number for _, number in asked]
    return _spoken_beside_typed(evaluation, "gsm8k", texts, grades)


def openbookqa(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Questions with four choices, read aloud; right where the reply takes the right one. Reference: typed."""
    asked = choices(evaluation.config.benchmarks, "openbookqa", n)
    grades = [lambda reply, c=choice: chosen_option(reply, c.options) == c.right for choice in asked]
    return _spoken_beside_typed(evaluation, "openbookqa", [read_aloud(choice) for choice in asked], grades)


def _spoken_beside_typed(
    evaluation: AssistantEvaluation, name: str, texts: Sequence[str], grades: Sequence[Callable[[str], bool]]
) -> list[Figure]:
    """Shares of right answers to questions by voices never trained on, and to the same ones typed; and what is lost."""
    clips = material.spoken(texts, evaluation.cached(name))
    model = evaluation.model

    def answer(message: Message) -> str:
        return written(model.backend.chat(), [message], ANSWER_TOKENS) if message.text.strip() else ""

    def spoken(clip: material.Clip) -> tuple[str, str]:
        heard = model.hear(clip.audio)
        return heard.text, answer(Message("user", heard.text, heard.embeddings))

    heard, aloud = zip(*evaluation.each(f"{name}, spoken", clips, spoken))
    typed = evaluation.each(f"{name}, typed", texts, lambda text: answer(Message("user", text)))
    right, typed_right = ([g(text) for g, text in zip(grades, them, strict=True)] for them in (aloud, typed))
    columns = {"question": texts, "heard": heard, "reply": aloud, "right": right}
    evaluation.save_items(f"{name}-spoken", rows_of(columns | {"typed": typed, "typed_right": typed_right}))
    lost = share(typed_right) - share(right)
    return [
        Figure(f"{name}-spoken", share(right), "share", None, share(typed_right), len(texts)),
        Figure(f"{name}-spoken-lost", lost, "share", evaluation.bar(base="<= 0.05", small="<= 0.05"), 0.0, len(texts)),
    ]


def _plain(text: str) -> str:
    """A text on one line, with plain apostrophes."""
    return re.sub(r"\s+", " ", text.replace("’", "'")).strip()
