"""The bench of the codecs: turns, ratios and what is skipped; and once, with tiny models, for real."""

import pytest

from antiphon.evals import codec_bench
from antiphon.evals.codec_bench import BenchConfig, BenchError, bench_codec, in_turns


def test_sides_take_turns_and_the_warm_up_is_not_counted():
    order = []
    times = in_turns({"a": lambda i: order.append(f"a{i}"), "b": lambda i: order.append(f"b{i}")}, rounds=2, warmup=1)
    assert order == ["b0", "a0", "a1", "b1", "b2", "a2"]
    assert {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}


def test_ratios_and_what_is_skipped(monkeypatch):
    monkeypatch.setattr(codec_bench, "missing_peers", lambda: ["rustymimi", "moshi", "transformers"])
    found = {"ours": [0.01, 0.02, 0.03], "moshi": [0.04], "transformers": [0.1]}
    monkeypatch.setattr(
        codec_bench._Runs, "__call__",
        lambda self, work, threads: {"bytes": [6.0], "seconds": [1.0]} if work.startswith("memory")
        else {key: [threads * t if key == "ours" else t for t in value] for key, value in found.items()},
    )  # fmt: skip
    said = []
    report = bench_codec(BenchConfig(), said.append)
    assert report.get("mimi-streaming-vs-moshi").value == pytest.approx(1.0)  # the worse of one thread and two
    assert report.get("mimi-streaming-vs-moshi-1-thread").value == pytest.approx(0.5)
    assert report.get("mimi-streaming-vs-rustymimi") is None
    assert report.get("encodec-offline-vs-transformers-2-threads").value == pytest.approx(0.4)
    assert report.get("mimi-offline-memory-vs-transformers").value == 1.0
    assert report.environment["skipped"] == ["rustymimi", "moshi", "transformers"]
    assert "rustymimi isn't installed: what is measured against it is skipped" in said


def test_unknown_groups_and_failing_processes_are_told(monkeypatch):
    with pytest.raises(BenchError, match="no group fast"):
        BenchConfig(only=("fast",))
    monkeypatch.setattr(codec_bench.sys, "executable", "/bin/false")
    with pytest.raises(BenchError, match="streaming failed"):
        bench_codec(BenchConfig(only=("streaming",), threads=(1,)))


@pytest.mark.slow
def test_every_group_runs():
    config = BenchConfig(
        only=codec_bench.GROUPS, threads=(1,), frames=3, warmup=1, seconds=0.5, rounds=1, minutes=0.1, small=True
    )
    report = bench_codec(config)
    names = {figure.name for figure in report.figures}
    assert {"encodec-offline-vs-transformers", "mimi-offline-memory-vs-transformers", "mimi-long-encode-time"} <= names
    assert all(figure.value > 0 for figure in report.figures)
