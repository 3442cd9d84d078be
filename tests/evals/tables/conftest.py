"""A tiny random language model, and the public sets in their official layouts, ten rows each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import TEMPLATE, make_llm

CHOICES = {"text": ["a star", "a stone", "a fish", "a song"], "label": ["A", "B", "C", "D"]}


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tables-llm")
    make_llm(path, TEMPLATE)
    return path


@pytest.fixture(scope="session")
def thinker(llm_folder: Path) -> Thinker:
    return Thinker.from_pretrained(llm_folder)


# Of each set of the text table: the file, and a row by its number.
SETS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "mmlu_pro": (
        "test",
        lambda i: {
            "question_id": i, "question": f"What is {i} + 1?", "options": [str(i + k) for k in range(10)],
            "answer": "B", "answer_index": 1, "cot_content": "", "src": "made",
            "category": ["math", "computer science"][i % 2],
        },
    ),
    "mmlu_redux": (
        "mmlu_anatomy",
        lambda i: {
            "question": f"Bone {i}?", "choices": ["w", "x", "y", "z"], "answer": i % 4,
            "error_type": "Bad Question Clarity" if i == 9 else "OK", "source": "", "correct_answer": None,
            "potential_reason": "",
        },
    ),
    "mmlu": (
        "anatomy",
        lambda i: {"question": f"Bone {i}?", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": i % 4},
    ),
    "gpqa": (
        "gpqa_diamond",
        lambda i: {
            "Question": f"Why {i}?", "Correct Answer": "so", "Incorrect Answer 1": "no", "Incorrect Answer 2": "yes",
            "Incorrect Answer 3": "maybe", "Record ID": str(i),
        },
    ),
    "math": (
        "test",
        lambda i: {
            "problem": f"What is ${i}+{i}$?", "solution": f"It is $\\boxed{{{2 * i}}}$.", "answer": str(2 * i),
            "subject": "Algebra", "level": 1, "unique_id": str(i),
        },
    ),
    "gsm8k": ("test", lambda i: {"question": f"{i} and {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"}),
    "humaneval": (
        "HumanEval",
        lambda i: {
            "task_id": f"HumanEval/{i}", "prompt": f"def add{i}(x):\n", "entry_point": f"add{i}",
            "canonical_solution": f"    return x + {i}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {i + 1}\n",
        },
    ),
    "mbpp": (
        "mbpp",
        lambda i: {
            "text": f"Add {i}.", "code": f"def f(x):\r\n    return x + {i}", "task_id": i + 2, "test_setup_code": "",
            "test_list": [f"assert f({k}) == {k + i}" for k in range(3)], "challenge_test_list": [],
        },
    ),
    "multipl_e": (
        "humaneval-sh",
        lambda i: {
            "name": f"HumanEval_{i}", "language": "sh", "prompt": f"#!/bin/bash\nf{i}() {{\n", "doctests": "transform",
            "original": "", "prompt_terminology": "reworded", "tests": f"}}\n[[ $(f{i}) = {i} ]]\n",
            "stop_tokens": ["\n}"],
        },
    ),
    "livecodebench": (
        "test",
        lambda i: {
            "question_title": str(i), "question_content": f"Add {i}.", "starter_code": "", "metadata": "{}",
            "public_test_cases": json.dumps([{"input": "1", "output": str(i + 1), "testtype": "stdin"}]),
            "private_test_cases": "[]",
        },
    ),
    "arc_easy": (
        "test", lambda i: {"id": str(i), "question": f"What shines {i}?", "choices": CHOICES, "answerKey": "A"}
    ),
    "arc_challenge": (
        "test", lambda i: {"id": str(i), "question": f"What shines {i}?", "choices": CHOICES, "answerKey": "B"}
    ),
    "openbookqa": (
        "test", lambda i: {"id": str(i), "question_stem": f"The sun {i} is", "choices": CHOICES, "answerKey": "C"}
    ),
    "piqa": (
        "validation", lambda i: {"goal": f"Eat {i}.", "sol1": "with a fork", "sol2": "with an ear", "label": i % 2}
    ),
    "hellaswag": (
        "validation",
        lambda i: {
            "ind": i, "activity_label": "Cooking", "ctx_a": "A man cooks.", "ctx_b": f"he {i}", "label": "2",
            "endings": ["eats [title]", "sings", "sleeps", "runs"],
        },
    ),
    "winogrande": (
        "validation",
        lambda i: {"sentence": f"{i} cats fear dogs as _ bark.", "option1": "cats", "option2": "dogs", "answer": "2"},
    ),
    "boolq": ("validation", lambda i: {"question": f"is {i} even", "answer": i % 2 == 0, "passage": "Numbers."}),
    "bbh": ("boolean_expressions", lambda i: {"input": "not ( True ) is", "target": "False"}),
    "ifeval": (
        "input_data",
        lambda i: {
            "key": i, "prompt": f"Say {i} without commas.", "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [{}],
        },
    ),
    "truthfulqa": (
        "TruthfulQA",
        lambda i: {
            "Type": "Adversarial", "Category": "Made", "Question": f"Is {i} a fish?", "Best Answer": "No",
            "Correct Answers": "No; It is a number", "Incorrect Answers": "Yes; It is", "Source": "",
        },
    ),
}  # fmt: skip


def write_set(data: Path, name: str, count: int = 10) -> None:
    """A set in its official layout."""
    file, row = SETS[name]
    (data / name).mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row(number)) + "\n" for number in range(count))
    (data / name / f"{file}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("sets")
    for name in SETS:
        write_set(data, name, 20 if name == "mbpp" else 10)  # of MBPP's rows only those from 11 on are the test's
    return data
