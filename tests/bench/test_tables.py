"""The bench of the tables: both sides are asked the same, and their answers compared."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("peft")

from antiphon.bench import tables
from antiphon.bench.tables import TablesBenchConfig, bench_tables
from antiphon.errors import EvalError
from tests.evals.tables.conftest import write_set
from tests.models.llm.test_thinker import TEMPLATE, make_llm


def test_answers_are_lm_evals_own(tmp_path: Path) -> None:
    make_llm(tmp_path, TEMPLATE)
    for name in ("arc_easy", "ifeval"):
        write_set(tmp_path / "sets", name)
    told: list[str] = []
    config = TablesBenchConfig(tmp_path, tmp_path / "sets", ("arc_easy", "ifeval"), 5, max_tokens=8)
    report = bench_tables(config, told.append)
    for name in ("arc-easy", "ifeval"):
        assert report.get(f"{name}-answers-equal").value == 1 and report.get(f"{name}-answers-equal").n == 5
        assert report.get(f"{name}-vs-lm-eval").value > 0
    assert len(told) == 4


def test_without_lm_eval_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "missing", lambda peers: ["lm_eval"])
    with pytest.raises(EvalError, match=r"antiphon\[tables,parity\]"):
        bench_tables(TablesBenchConfig(tmp_path, tmp_path))
