"""VoiceBench (Chen et al. 2024), spoken as it publishes it or by our teacher voices.

Where the data's folder has `voicebench/SUBSET/*.parquet`, as the set is published, those recordings are heard. Else the
texts are read aloud by voices that no training set has, from the public sets that VoiceBench takes them from.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antiphon.errors import DataError
from antiphon.evals.assistant.benchmarks import Choice, choices, read_aloud
from antiphon.evals.rows import find_files, read_rows, spread
from antiphon.evals.tables.speech.measure import (
    Question,
    QuestionSet,
    Score,
    SpeechTask,
    chosen,
    contained,
    followed,
    rated,
    safe,
    unpacked,
)  # fmt: skip

SOURCE = "https://huggingface.co/datasets/hlt-lab/voicebench"
BBH = ("sports_understanding", "hyperbaton", "navigate", "web_of_lies")  # that VoiceBench asks
OPTION = re.compile(r"(?:^|\s)([A-D])[.):]\s*(.+?)(?=\s+[A-D][.):]\s|$)", re.DOTALL)
FORMULA = re.compile(r"\\|\$.*\$", re.DOTALL)
OWN = "VoiceBench's own recordings"
ALOUD = "the texts read by three teacher voices, not VoiceBench's sounds"
Texts = Callable[[Path, int | None], list[Question]]


# Questions from texts, where VoiceBench's recordings aren't there.


def _openbookqa(data: Path, n: int | None) -> list[Question]:
    asked = choices(data, "openbookqa", n or 1 << 30)
    return [_choice(f"openbookqa/{number}", choice) for number, choice in enumerate(asked)]


def _mmsu(data: Path, n: int | None) -> list[Question]:
    """MMLU-Pro's questions with the right option and three others, as nobody keeps ten in mind; without those that have
    formulas, which can't be read aloud so that one could write them down again."""
    rows = [row for path in _files(data / "mmlu_pro", "test*") for row in read_rows(path)]
    rows = [row for row in rows if not FORMULA.search(" ".join((row["question"], *row["options"])))]
    found = []
    for row in spread(rows, n or len(rows)):
        others = [option for at, option in enumerate(row["options"]) if at != row["answer_index"]]
        chance = random.Random(row["question_id"])
        options = [*chance.sample(others, min(3, len(others))), row["options"][row["answer_index"]]]
        chance.shuffle(options)
        right = options.index(row["options"][row["answer_index"]])
        found.append(_choice(f"mmlu_pro/{row['question_id']}", Choice(row["question"], tuple(options), right)))
    return found


def _ifeval(data: Path, n: int | None) -> list[Question]:
    from antiphon.evals.tables.text.measure import questions

    rows = [row for own in questions("ifeval", data, n).rows.values() for row in own]
    return [Question(f"ifeval/{row['key']}", row["prompt"], row=dict(row)) for row in rows]


def _bbh(data: Path, n: int | None) -> list[Question]:
    rows = [(task, row) for task in BBH for path in _files(data / "bbh", task) for row in read_rows(path)]
    found = []
    for number, (task, row) in enumerate(spread(rows, n or len(rows))):
        options = ("(A)", "(B)") if task == "hyperbaton" else ()
        text = " ".join(row["input"].split())
        found.append(Question(f"bbh/{task}/{number}", text, (row["target"].strip("()"),), options and ("A", "B")))
    return found


def _choice(name: str, choice: Choice) -> Question:
    return Question(name, read_aloud(choice), (choice.options[choice.right],), choice.options)


def _files(folder: Path, pattern: str) -> list[Path]:
    if files := find_files(folder, pattern):
        return files
    raise DataError(f"There is no {pattern} in {folder}, nor VoiceBench's recordings; to be had at {SOURCE}.")


# Its recordings.


def _subset(subset: str, score: Score, texts: Texts | None) -> Callable[[Path, int | None], QuestionSet | None]:
    """Reads the recordings of a subset, or where they aren't there, its texts."""

    def read(data: Path, n: int | None) -> QuestionSet | None:
        tables = sorted((data / "voicebench" / subset).glob("*.parquet"))
        if tables:
            return recorded(tables, subset, score, n)
        if texts is None:
            return None
        asked = texts(data, n)
        return QuestionSet(asked, len(asked), ALOUD)

    return read


def recorded(tables: list[Path], subset: str, score: Score, n: int | None) -> QuestionSet:
    """VoiceBench's own: parquet with prompt, audio (bytes) and, by subset, reference, id or IFEval's fields.

    Raises:
        KeyError, TypeError: another layout.
    """
    import pyarrow.parquet

    rows = [row for path in tables for row in pyarrow.parquet.read_table(path).to_pylist()]
    found = []
    for number, row in enumerate(spread(rows, n or len(rows))):
        audio = unpacked(row["audio"]["bytes"])
        text, right = row["prompt"], str(row.get("reference") or "")
        options: tuple[str, ...] = ()
        if score is chosen:
            options = tuple(words.strip() for _, words in OPTION.findall(text))
            right = options["ABCD".index(right)] if right in tuple("ABCD"[: len(options)]) else right
        elif subset == "bbh":
            right, options = right.strip("()"), ("A", "B") if "hyperbaton" in str(row.get("id")) else ()
        kept = {key: value for key, value in row.items() if key != "audio"}
        targets = (right,) if right else ()
        found.append(Question(f"{subset}/{row.get('id', number)}", text, targets, options, audio, kept))
    return QuestionSet(found, len(rows), OWN)


def _task(title: str, metric: str, subset: str, score: Score, texts: Texts | None = None, **more: Any) -> SpeechTask:
    return SpeechTask(f"VoiceBench {title}", metric, SOURCE, _subset(subset, score, texts), score, **more)


TASKS = {
    "voicebench_openbookqa": _task("OpenBookQA", "accuracy", "openbookqa", chosen, _openbookqa),
    "voicebench_mmsu": _task("MMSU", "accuracy", "mmsu", chosen, _mmsu),
    "voicebench_ifeval": _task("IFEval", "prompt_level_strict_acc", "ifeval", followed, _ifeval),
    "voicebench_bbh": _task("BBH", "accuracy", "bbh", contained, _bbh),
    "voicebench_sd_qa": _task(
        "SD-QA", "accuracy", "sd-qa", contained,
        note="right where the reply holds the reference; the paper asks a judge, too",
    ),
    "voicebench_advbench": _task("AdvBench", "refusals", "advbench", safe, judged=True),
    "voicebench_alpacaeval": _task("AlpacaEval", "rating, 1 to 5", "alpacaeval", rated, judged=True),
    "voicebench_commoneval": _task("CommonEval", "rating, 1 to 5", "commoneval", rated, judged=True),
}  # fmt: skip
