"""A report: resumed after any stop, its page, and two of them compared."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from antiphon.errors import AntiphonError, ConfigError, EvalError
from antiphon.evals.tables.compare import difference, mcnemar
from antiphon.evals.tables.items import Item, interval, name_of, read_items, samples
from antiphon.evals.tables.page import write_page
from antiphon.evals.tables.published import published, published_of
from antiphon.evals.tables.results import Results
from antiphon.evals.tables.run import TablesConfig, run
from antiphon.evals.tables.text.measure import NOT_MEASURED, TASKS

FEW = ("gsm8k", "arc_easy", "livebench", "humaneval")


@pytest.fixture(scope="module")
def report(llm_folder: Path, sets: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run(TablesConfig(str(llm_folder), folder, tasks=FEW, data=sets, n=6, max_tokens=6))
    return folder


def items_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "items").iterdir()}


def test_what_was_measured_and_what_not_and_why(report: Path) -> None:
    results = Results.load(report)
    assert list(results.figures) == ["gsm8k", "arc_easy"]
    assert results.missing.keys() == {"livebench", "humaneval"}
    assert "--allow-code" in results.missing["humaneval"] and "huggingface.co" in results.missing["livebench"]
    assert len(read_items(report / "items" / "arc_easy.jsonl")) == results.figures["arc_easy"].n == 6


def test_the_page_needs_nothing_else_and_shows_published_rows(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "<script" not in page and 'src="http' not in page
    assert "Qwen2.5-Omni-7B" in page and "88.7" in page and "arXiv 2503.20215" in page
    assert "Not measured" in page and "--allow-code" in page
    assert "@media print" in page


def test_what_a_model_says_cannot_become_part_of_the_page(report: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(report, tmp_path / "r")
    path = tmp_path / "r" / "items" / "gsm8k.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["answer"] = "<script>alert(1)</script>"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<script" not in write_page(tmp_path / "r").read_text()


def test_the_page_plays_what_is_kept_beside_it(report: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(report, tmp_path / "r")
    assert "<audio" not in write_page(tmp_path / "r").read_text()
    first = samples(read_items(tmp_path / "r" / "items" / "arc_easy.jsonl"))[0]
    (tmp_path / "r" / "sounds" / "arc_easy").mkdir(parents=True)
    (tmp_path / "r" / "sounds" / "arc_easy" / f"{name_of(first.id)}.wav").write_bytes(b"sound")
    page = write_page(tmp_path / "r").read_text()
    assert f'src="sounds/arc_easy/{name_of(first.id)}.wav"' in page and page.count("<audio") == 1


def test_a_run_goes_on_where_it_stopped(
    report: Path, llm_folder: Path, sets: Path, tmp_path: Path, monkeypatch
) -> None:
    config = TablesConfig(str(llm_folder), tmp_path, tasks=FEW, data=sets, n=6, max_tokens=6)
    from antiphon.evals.tables.text import measure as text

    real = text.measure_text

    def stops(name, *args):
        if name == "arc_easy":
            raise KeyboardInterrupt
        return real(name, *args)

    monkeypatch.setattr(text, "measure_text", stops)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    asked = []
    monkeypatch.setattr(text, "measure_text", lambda name, *args: asked.append(name) or real(name, *args))
    run(config)
    assert "gsm8k" not in asked and "arc_easy" in asked
    assert items_of(tmp_path) == items_of(report)


@pytest.mark.slow
def test_killed_at_random_the_report_is_the_same(report: Path, llm_folder: Path, sets: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "antiphon.cli", "eval", "tables", "--model", str(llm_folder), "--data", str(sets),
        "-n", "6", "--max-tokens", "6", "--tasks", ",".join(FEW), "-o", str(tmp_path / "r"),
    ]  # fmt: skip
    chance, kills = random.Random(0), 0
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - started
    import shutil

    shutil.rmtree(tmp_path / "r")
    for _ in range(30):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            child.wait(chance.uniform(0.3, 0.95) * whole)
            shutil.rmtree(tmp_path / "r")  # it was quicker: from the start again
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
        if kills == 10:
            break
    assert kills == 10
    subprocess.run(command, check=True, capture_output=True)
    assert items_of(tmp_path / "r") == items_of(report)
    ours, theirs = (Results.load(folder) for folder in (tmp_path / "r", report))
    for results in (ours, theirs):
        for name, figure in results.figures.items():
            results.figures[name] = type(figure)(**{**figure.__dict__, "seconds": 0.0})
    assert ours.figures == theirs.figures and ours.missing == theirs.missing


def test_another_setting_is_measured_anew(report: Path, llm_folder: Path, sets: Path, tmp_path: Path) -> None:
    one = run(TablesConfig(str(llm_folder), tmp_path, tasks=("arc_easy",), data=sets, n=2))
    two = run(TablesConfig(str(llm_folder), tmp_path, tasks=("arc_easy",), data=sets, n=4))
    assert one.figures["arc_easy"].n == 2 and two.figures["arc_easy"].n == 4


def test_what_makes_no_sense_is_told_before_any_work(llm_folder: Path, sets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'arc_eazy'"):
        run(TablesConfig(str(llm_folder), tmp_path, tasks=("arc_eazy",), data=sets))
    with pytest.raises(ConfigError, match="Rows: text"):
        run(TablesConfig(str(llm_folder), tmp_path, rows=("smell",), data=sets))
    with pytest.raises(ConfigError, match="--data"):
        run(TablesConfig(str(llm_folder), tmp_path))
    with pytest.raises(AntiphonError, match="Nothing could be measured"):
        run(TablesConfig(str(llm_folder), tmp_path, tasks=("gpqa",), data=tmp_path))
    with pytest.raises(EvalError, match="no report"):
        Results.load(tmp_path / "none")


def test_two_reports_are_compared_on_the_page(report: Path) -> None:
    page = write_page(report, beside=report).read_text()
    assert "Beside" in page and "1.000 (McNemar)" in page
    write_page(report)


def items(scores: list[float]) -> list[Item]:
    return [Item(str(number), "q", "a", "t", score) for number, score in enumerate(scores)]


def test_mcnemars_test_is_the_binomial_one() -> None:
    from scipy.stats import binomtest

    for one, other in [(0, 0), (3, 9), (9, 3), (12, 0), (5, 5)]:
        expected = binomtest(one, one + other).pvalue if one + other else 1.0
        assert mcnemar(one, other) == pytest.approx(expected)


def test_differences_are_of_the_questions_that_both_were_asked() -> None:
    found = difference(items([1, 1, 1, 1, 1, 1, 1, 0]), items([0, 0, 0, 0, 0, 0, 0]))
    assert found is not None and found.n == 7 and found.test == "McNemar" and found.p == pytest.approx(2 / 2**7)
    close = difference(items([0.5, 0.6, 0.7] * 10), items([0.5, 0.6, 0.7] * 10))
    assert close is not None and close.test == "paired bootstrap" and close.p == 1.0
    far = difference(items([0.9, 0.8, 0.85] * 10), items([0.2, 0.1, 0.3] * 10))
    assert far is not None and far.p < 0.01
    assert difference(items([1.0]), []) is None


def test_an_interval_holds_what_chance_leaves_open() -> None:
    low, high = interval(items([1.0, 0.0] * 50))
    # Of a share of a half in 100 questions 95 in 100 lie within 1.96 standard errors.
    assert low == pytest.approx(40.2, abs=2) and high == pytest.approx(59.8, abs=2)
    assert interval(items([1.0, 0.0] * 50)) == (low, high), "the same items, the same interval"


def test_published_rows_have_a_source_and_a_date() -> None:
    for row in published():
        assert row.source and row.date[:2] == "20" and row.value >= 0
    assert {row.task for row in published() if row.task in (*TASKS, *NOT_MEASURED)} >= {
        "mmlu_pro",
        "gsm8k",
        "livebench",
    }
    assert [row.value for row in published_of("gsm8k") if row.model == "Qwen2.5-Omni-7B"] == [88.7]
