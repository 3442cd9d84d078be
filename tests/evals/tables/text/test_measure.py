"""Every task of the text table runs end to end on rows in the set's official layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from antiphon.errors import ConfigError, DataError
from antiphon.evals.tables.text import measure as text
from antiphon.evals.tables.text.lm import ThinkerLM
from antiphon.evals.tables.text.measure import TASKS, measure_text, questions
from tests.evals.tables.conftest import SETS, write_set

ASKED = {"mmlu_redux": 9, "mbpp": 11}  # one is faulty; the others are of another split


@pytest.fixture(scope="module")
def lm(thinker) -> ThinkerLM:
    return ThinkerLM(thinker, "tiny", max_tokens=4)


def test_each_task_has_a_set_here() -> None:
    assert set(SETS) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_end_to_end(name: str, lm, sets: Path, monkeypatch) -> None:
    figure, items = measure_text(name, lm, sets, allow_code=True)
    assert figure.task == name and figure.n == len(items) == ASKED.get(name, 10)
    assert 0 <= figure.low <= figure.value <= figure.high <= 100
    assert figure.value == pytest.approx(100 * sum(item.score for item in items) / len(items))
    assert all(item.prompt and item.target for item in items), "what was asked is kept"
    assert len({item.id for item in items}) == len(items)


class Knowing(ThinkerLM):
    """It writes what it is given to say."""

    def generate_until(self, requests, disable_tqdm=False):
        return [self.says[number % len(self.says)] for number in range(len(requests))]


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("gsm8k", "So the answer is 0.", "I don't know."),
        ("math", "It is $\\boxed{0}$.", "It is $\\boxed{7}$."),
        ("mmlu_pro", "The answer is (B).", "The answer is (C)."),
        ("mmlu_redux", "A", "B"),
        ("humaneval", "    return x + 0\n```", "    return None\n```"),
        ("livecodebench", "```python\nprint(1 + int(input()) - 1)\n```", "print(7)"),
        ("multipl_e", "  echo 0\n}", "  echo 9\n}"),
        ("bbh", "not True is False. So the answer is False.", "So the answer is True."),
        ("ifeval", "Zero", "Zero, one"),
    ],
)
def test_what_is_right_and_what_is_wrong(name: str, right: str, wrong: str, thinker, sets: Path) -> None:
    lm = Knowing(thinker, "tiny")
    for lm.says, score in (([right], 1.0), ([wrong], 0.0), ([""], 0.0)):
        figure, items = measure_text(name, lm, sets, n=1, allow_code=True)
        assert items[0].score == score, items[0]
        assert figure.empty == (lm.says == [""])


def test_questions_are_spread_over_the_whole_set(tmp_path: Path) -> None:
    write_set(tmp_path, "gsm8k", 100)
    asked = questions("gsm8k", tmp_path, 4).rows["gsm8k_cot"]
    assert [row["question"].split()[0] for row in asked] == ["0", "25", "50", "75"]


def test_packed_files_and_tables_are_read(tmp_path: Path) -> None:
    write_set(tmp_path, "gsm8k")
    plain = tmp_path / "gsm8k" / "test.jsonl"
    (tmp_path / "gsm8k" / "test.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert questions("gsm8k", tmp_path, None).size == 10
    (tmp_path / "gpqa").mkdir()
    head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    (tmp_path / "gpqa" / "gpqa_diamond.csv").write_text(head + '"Why, then?",so,no,yes,maybe\n')
    row = questions("gpqa", tmp_path, None).rows["gpqa_diamond_cot_zeroshot"][0]
    assert row["Question"] == "Why, then?"


def test_a_set_that_is_missing_is_told_with_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gpqa: not here .*huggingface.co/datasets/Idavidrein/gpqa"):
        questions("gpqa", tmp_path, None)
    with pytest.raises(DataError, match="judges of each kind"):
        questions("livebench", tmp_path, None)
    with pytest.raises(ConfigError, match="Tasks: mmlu_pro"):
        questions("mmlu_ultra", tmp_path, None)


def test_another_layout_is_told_by_its_line(tmp_path: Path) -> None:
    write_set(tmp_path, "boolq", 2)
    with (tmp_path / "boolq" / "validation.jsonl").open("a") as file:
        file.write(json.dumps({"q": "is it"}) + "\n")
    with pytest.raises(DataError, match=r"validation.jsonl, line 3 isn't in the official layout"):
        questions("boolq", tmp_path, None)


def test_code_is_run_only_where_that_was_allowed(lm, sets: Path, monkeypatch) -> None:
    monkeypatch.setattr(text.code, "run_confined", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ConfigError, match="--allow-code"):
        measure_text("humaneval", lm, sets)
