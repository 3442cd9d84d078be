"""The bench of the thinker: speeds and ratios, what peers can read; and once, tiny, for real."""

from pathlib import Path

import pytest
import torch

from antiphon.bench import thinker
from antiphon.bench.thinker import Ours, ThinkerBenchConfig, Transformers, bench_thinker, can_read
from antiphon.errors import EvalError
from antiphon.evals.report import Report
from tests.models.llm.test_thinker import TEMPLATE, make_llm


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    make_llm(path, TEMPLATE)
    return path


def test_speeds_are_those_of_medians_and_the_worst_ratio_stands_for_all(folder, tmp_path, monkeypatch):
    def run(work, fields, title, threads):
        slow = 0.1 / threads
        if fields["group"] == "load":
            return [1.5, 0.9] if fields["side"] == "ours" else [30.0, 8.9]
        times = {"ours": [slow, slow, 9.0], "transformers": [0.5, 0.5, 0.5]}
        return {"64": times, "256": times} if fields["group"] == "prompt" else times

    monkeypatch.setattr(thinker, "in_fresh_process", run)
    monkeypatch.setattr(thinker, "_places", lambda config: (folder, folder))
    report = bench_thinker(ThinkerBenchConfig("base"))
    found = {figure.name: figure for figure in report.figures}
    one, two = (found[f"thinker-tokens-per-s-{label}"] for label in ("1-thread", "2-threads"))
    assert (one.value, one.reference, one.bar) == (pytest.approx(10.0), 2.0, None)
    assert (two.value, two.bar, two.met) == (pytest.approx(20.0), ">= 18", True)
    assert found["thinker-tokens-per-s-4-rows-2-threads"].value == pytest.approx(80.0)
    assert found["thinker-prompt-64-s-2-threads"].bar == "<= 0.6"
    assert found["thinker-step-vs-transformers"].value == pytest.approx(5.0)
    assert found["thinker-step-vs-transformers-2-threads"].value == pytest.approx(10.0)
    assert (found["thinker-memory-gb-1-thread"].value, found["thinker-memory-gb-1-thread"].reference) == (0.9, 8.9)
    assert not any("llama" in name for name in found)  # it wasn't measured


def test_who_can_read_what(folder, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "config.json").write_text('{"quantization_config": {"bits": 8}}')
    assert can_read("llama_cpp", Path("x.gguf")) and can_read("transformers", Path("x.gguf"))
    assert can_read("transformers", folder) and not can_read("llama_cpp", folder)
    assert not can_read("transformers", packed)
    with pytest.raises(EvalError, match="no group all"):
        ThinkerBenchConfig(only=("all",))


@torch.no_grad()
def test_both_sides_read_the_same_tokens(folder):
    fields = {"folder": str(folder), "reference": str(folder)}
    ours, theirs = Ours(fields), Transformers(fields)
    for rows in (1, 3):
        mine, their = ours.step(rows), theirs.step(rows)
        for i in range(3):  # the steps go on from each other
            torch.testing.assert_close(mine(i), their(i)[:, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.prompt(20)(5), theirs.prompt(20)(5)[:, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_it_measures(folder, tmp_path):
    told = []  # what the file holds when something new is begun

    def progress(line):
        told.append(len(Report.load(path).figures) if (path := tmp_path / "f.json").is_file() else 0)

    config = ThinkerBenchConfig(str(folder), only=("step", "load"), threads=(1,), steps=2, rounds=1)
    report = bench_thinker(config, progress, tmp_path / "f.json")
    assert 0 < told[-1] < len(Report.load(tmp_path / "f.json").figures) == len(report.figures)
    values = {figure.name: figure.value for figure in report.figures}
    assert {"thinker-step-vs-transformers", "thinker-load-s-1-thread"} <= set(values)
    assert all(value > 0 for value in values.values())
