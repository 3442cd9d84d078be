"""Spoken questions with short answers, and URO-Bench's conversation.

- Llama Questions (Nachmani et al. 2023), Web Questions (Berant et al. 2013) and TriviaQA (Joshi et al. 2017), spoken as
  OpenAudioBench publishes them: `openaudiobench/eval_datas/SET/SET.csv` and `audios/`. Where Web Questions' recordings
  aren't there, its texts are read aloud.
- URO-Bench's English basic track (Yan et al. 2025): `uro_bench/SET/test.jsonl` with source_wav, source_text and
  target_text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.evals.metrics import hearing
from antiphon.evals.rows import find_files, read_rows, spread
from antiphon.evals.tables.speech.measure import Judge, Question, QuestionSet, Score, SpeechTask, contained

OPEN_AUDIO = "https://huggingface.co/datasets/baichuan-inc/OpenAudioBench"
URO = "https://huggingface.co/datasets/Honggao/URO-Bench"
ALIKE = 0.5  # word error rate up to which something counts as repeated


# Spoken questions.


def _named(row: dict[str, Any], *columns: str) -> str:
    """The first of these columns that a row has."""
    return next(str(row[column]) for column in columns if column in row)


def _answers(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    """What is right, in the order of the table."""
    if name == "trivia_qa":
        told = [row["answer_normalized_value"], *str(row.get("answer_normalized_aliases") or "").split(",")]
    else:
        told = _named(row, "Answer", "answers", "answer").split(";" if name == "web_questions" else "\0")
    return tuple(dict.fromkeys(one.strip() for one in told if one.strip()))


def _spoken(name: str) -> Callable[[Path, int | None], QuestionSet | None]:
    def read(data: Path, n: int | None) -> QuestionSet | None:
        folders = [
            data / top / middle / name for top in ("openaudiobench", "OpenAudioBench") for middle in ("eval_datas", "")
        ]
        table = next((files[0] for folder in folders if (files := find_files(folder, name))), None)
        if table is None:
            return _texts(data, n) if name == "web_questions" else None
        rows = read_rows(table)
        found = []
        for number, row in spread(list(enumerate(rows)), n or len(rows)):
            sound = table.parent / "audios" / row["audio_filename"]
            question = _named(row, "Questions", "question", "Question")
            found.append(Question(f"{name}/{number}", question, _answers(name, row), audio=sound))
        return QuestionSet(found, len(rows), "OpenAudioBench's recordings")

    return read


def _texts(data: Path, n: int | None) -> QuestionSet | None:
    """Web Questions as they are written: qText and answers."""
    files = find_files(data / "webquestions", "test")
    rows = [row for path in files for row in read_rows(path)]
    found = [Question(f"web_questions/{row['qId']}", row["qText"], tuple(row["answers"]))
             for row in spread(rows, n or len(rows))]  # fmt: skip
    return QuestionSet(found, len(rows)) if files else None


# URO-Bench.


def _repeated(question: Question, reply: str, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    """How much of what is to be said again was said: nothing where more than half of the words are wrong."""
    edits, words = hearing.word_edits(question.target, reply)
    errors = edits / words if words else 1.0
    return (1 - errors if errors <= ALIKE else 0.0), {"wer": errors}


def _rated(question: Question, reply: str, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    """A judge's rating, a fifth a point, as it reports them."""
    assert judge is not None
    rating = judge.rating(question.text, reply, question.target) if reply.strip() else 0
    return rating / 5, {"rating": rating, "judge": judge.system.name}


def _judged(question: Question, reply: str, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    """Whether a judge finds it right."""
    assert judge is not None
    right = bool(reply.strip()) and judge.agrees(question.text, reply, question.target)
    return float(right), {"judge": judge.system.name}


def _uro(*names: str) -> Callable[[Path, int | None], QuestionSet | None]:
    def read(data: Path, n: int | None) -> QuestionSet | None:
        tops = [data / top / track for top in ("uro_bench", "URO-Bench", "URO-Bench-data") for track in ("", "basic")]
        table = next(
            (top / name / "test.jsonl" for top in tops for name in names if (top / name / "test.jsonl").is_file()), None
        )
        if table is None:
            return None
        rows = read_rows(table)
        found = []
        for number, row in spread(list(enumerate(rows)), n or len(rows)):
            right = row.get("target_text", row["source_text"])
            right = tuple(map(str, right)) if isinstance(right, list) else (str(right),)
            found.append(
                Question(f"{names[0]}/{number}", row["source_text"], right, audio=table.parent / row["source_wav"])
            )
        return QuestionSet(found, len(rows), "URO-Bench's recordings; what is written is rated, not what is spoken")

    return read


def _uro_task(title: str, old: str, score: Score, metric: str) -> SpeechTask:
    return SpeechTask(f"URO-Bench {title}", metric, URO, _uro(title, old), score, judged=score is not _repeated)


_open = partial(_uro_task, score=_rated, metric="rating, % of 5")
_right = partial(_uro_task, score=_judged, metric="accuracy")
_HOLDS = "right where the reply holds one of the answers"
TASKS: dict[str, SpeechTask] = {
    **{
        name: SpeechTask(title, "accuracy", OPEN_AUDIO, _spoken(name), contained, note=_HOLDS)
        for name, title in (("llama_questions", "Llama Questions"), ("web_questions", "Web Questions"),
                            ("trivia_qa", "TriviaQA"))
    },
    "uro_repeat": _uro_task("Repeat", "repeat_test", _repeated, "1 - WER, where that is at least a half"),
    "uro_summary": _open("Summary", "summary_test"),
    "uro_gaokao": _right("GaokaoEval", "gaokao_test"),
    "uro_storal": _open("StoralEval", "storal_test"),
    "uro_truthful": _open("TruthfulEval", "truthful_test"),
    "uro_gsm8k": _right("Gsm8kEval", "gsm8k_test"),
    "uro_mlc": _right("MLC", "mlc_test"),
    "uro_alpaca": _open("AlpacaEval", "alpacaeval_test"),
    "uro_common": _open("CommonEval", "commoneval_test"),
    "uro_wildchat": _open("WildchatEval", "wildchat_test"),
}  # fmt: skip
