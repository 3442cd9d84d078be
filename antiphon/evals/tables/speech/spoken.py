"""The text table's questions, spoken: read aloud by teacher voices, heard, and answered freely; and typed in the same
words, so that what is lost from text to speech is a number.

A question with options is read out with their letters ("Option A: ..."), whichever way the text table scores it, since
whoever hears a question answers it. The questions are those that the text table asks with the same `n`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from antiphon.errors import DataError
from antiphon.evals.assistant.benchmarks import STEPS, Choice, read_aloud
from antiphon.evals.tables.speech.measure import Question, QuestionSet, Score, SpeechTask, agrees, chosen, ends_on
from antiphon.evals.tables.text import measure as text

Row = Mapping[str, Any]
# Of what the text table has, what is not read aloud, and why.
NOT_SPOKEN = {
    **dict.fromkeys(("math", "gpqa"), "its formulas can't be read aloud so that one could write them down again"),
    **dict.fromkeys(("humaneval", "mbpp", "multipl_e", "livecodebench"), "code is not read aloud"),
    **{name: f"the row speech has it as voicebench_{name}" for name in ("bbh", "ifeval")},
    "truthfulqa": "nobody keeps a dozen options in mind",
    **text.NOT_MEASURED,
}


def _labelled(question: str) -> Callable[[Row], Choice]:
    def make(row: Row) -> Choice:
        options = row["choices"]
        return Choice(row[question], tuple(options["text"]), options["label"].index(row["answerKey"]))

    return make


def _mmlu(row: Row) -> Choice:
    return Choice(row["question"], tuple(map(str, row["choices"])), int(row["answer"]))


def _mmlu_pro(row: Row) -> Choice:
    return Choice(row["question"], tuple(row["options"]), int(row["answer_index"]))


def _piqa(row: Row) -> Choice:
    return Choice(row["goal"], (row["sol1"], row["sol2"]), int(row["label"]))


def _hellaswag(row: Row) -> Choice:
    return Choice(f"How does this go on? {row['query'].strip()} ...", tuple(row["choices"]), int(row["label"]))


def _winogrande(row: Row) -> Choice:
    asked = f"What belongs in the blank? {row['sentence']}"
    return Choice(asked, (row["option1"], row["option2"]), int(row["answer"]) - 1)


def _options(make: Callable[[Row], Choice]) -> Callable[[str, Row], Question]:
    def question(name: str, row: Row) -> Question:
        made = make(row)
        options = tuple(map(sayable, made.options))
        asked = read_aloud(Choice(sayable(made.question), options, made.right))
        return Question(name, asked, (options[made.right],), options)

    return question


def _gsm8k(name: str, row: Row) -> Question:
    number = row["answer"].rpartition("####")[2].strip().replace(",", "")
    return Question(name, f"{sayable(row['question'])} {STEPS}", (number,))


def _boolq(name: str, row: Row) -> Question:
    asked = sayable(f"{row['passage']} {row['question'].rstrip('?').capitalize()}? Answer yes or no.")
    return Question(name, asked, ("yes" if row["label"] else "no",))


def sayable(words: str) -> str:
    """A text on one line, with blanks named.

    >>> sayable("The sky is ____ at  noon.")
    'The sky is blank at noon.'
    """
    return " ".join(re.sub(r"(?<!\w)_+(?!\w)", " blank ", words.replace("’", "'")).split()).replace("blank .", "blank.")


def _read(name: str, make: Callable[[str, Row], Question]) -> Callable[[Path, int | None], QuestionSet]:
    def read(data: Path, n: int | None) -> QuestionSet:
        asked = text.questions(name, data, n)
        found = [make(f"{sub}/{at}", row) for sub, rows in asked.rows.items() for at, row in enumerate(rows)]
        return QuestionSet(found, asked.size)

    return read


def _task(name: str, make: Callable[[str, Row], Question], score: Score = chosen, note: str = "") -> SpeechTask:
    told = text.TASKS[name]
    return SpeechTask(
        f"{told.title}, spoken", "accuracy", told.source, _read(name, make), score, "text-spoken", note=note
    )


def _absent(why: str) -> Callable[[Path, int | None], QuestionSet]:
    def read(data: Path, n: int | None) -> QuestionSet:
        raise DataError(f"Not spoken: {why}.")

    return read


TASKS: dict[str, SpeechTask] = {
    "mmlu_pro_spoken": _task("mmlu_pro", _options(_mmlu_pro)),
    "mmlu_redux_spoken": _task("mmlu_redux", _options(_mmlu)),
    "mmlu_spoken": _task("mmlu", _options(_mmlu)),
    "gsm8k_spoken": _task("gsm8k", _gsm8k, ends_on, "asked without examples"),
    "arc_easy_spoken": _task("arc_easy", _options(_labelled("question"))),
    "arc_challenge_spoken": _task("arc_challenge", _options(_labelled("question"))),
    "openbookqa_spoken": _task("openbookqa", _options(_labelled("question_stem"))),
    "piqa_spoken": _task("piqa", _options(_piqa)),
    "hellaswag_spoken": _task("hellaswag", _options(_hellaswag)),
    "winogrande_spoken": _task("winogrande", _options(_winogrande)),
    "boolq_spoken": _task("boolq", _boolq, agrees),
    **{
        f"{name}_spoken": SpeechTask(name, "", "", _absent(why), chosen, "text-spoken")
        for name, why in NOT_SPOKEN.items()
    },
}
