"""The bench of the codecs: turns, ratios and what is skipped; and once, with tiny models, for real."""

import mmap
import time

import numpy as np
import pytest
import torch

from antiphon.bench import codec, codec_worker, compare
from antiphon.bench.codec import bench_codec
from antiphon.bench.codec_worker import BenchConfig
from antiphon.errors import EvalError


def test_ratios_and_what_is_skipped(monkeypatch):
    monkeypatch.setattr(compare, "missing", lambda peers: ["rustymimi", "speechtokenizer"])
    found = {"ours": [0.01, 0.02, 0.03], "moshi": [0.04], "transformers": [0.1]}

    def run(work, fields, job, threads):
        if job.startswith("memory"):
            return {"bytes": [6.0]}
        return found | {"ours": [threads * t for t in found["ours"]]}

    monkeypatch.setattr(codec, "in_fresh_process", run)
    said = []
    report = bench_codec(BenchConfig(), said.append)
    assert report.get("mimi-streaming-vs-moshi").value == pytest.approx(1.0)  # the worse of one thread and two
    assert report.get("mimi-streaming-vs-moshi-1-thread").value == pytest.approx(0.5)
    assert report.get("mimi-streaming-vs-rustymimi") is None
    assert report.get("encodec-offline-vs-transformers-2-threads").value == pytest.approx(0.4)
    assert report.get("mimi-offline-memory-vs-transformers").value == 1.0
    assert report.get("speechtokenizer-offline-vs-speechtokenizer") is None
    assert report.environment["skipped"] == ["rustymimi", "speechtokenizer"]
    assert "rustymimi isn't installed: what is measured against it is skipped" in said


def test_codecs_and_groups_are_chosen(monkeypatch):
    done = []

    def run(work, fields, job, threads):
        done.append(job)
        if job.endswith("_1"):
            return {"seconds": [60.0], "bytes": [2.0], "audio": [3600.0]}
        sixth = {"seconds": [8.0 if done.count(job) == 1 else 12.0], "bytes": [1.0]}
        return sixth if job.endswith("_6") else {"ours": [1.0], "transformers": [2.0]}

    monkeypatch.setattr(compare, "missing", lambda peers: ["speechtokenizer"])
    monkeypatch.setattr(codec, "in_fresh_process", run)
    report = bench_codec(BenchConfig(only=("long", "offline"), codecs=("dac", "speechtokenizer"), threads=(1,)))
    long = [f"long_{name}_{part}" for name in ("dac", "speechtokenizer") for part in (6, 1, 6)]
    assert done == ["offline_dac", *long]  # nothing to compare the other with
    assert report.get("dac-offline-vs-transformers").value == 0.5
    assert report.get("dac-long-encode-time").value == 1.0 and report.get("dac-long-encode-memory").value == 2.0
    assert report.get("dac-long-encode-memory").bar and report.get("speechtokenizer-long-encode-memory").bar
    assert report.get("dac-long-encode-steadiness").value == pytest.approx(2 / 3)
    assert report.get("dac-long-encode-speed").value == 60.0
    with pytest.raises(EvalError, match="no codec opus"):
        BenchConfig(codecs=("opus",))


def test_sides_that_differ_are_not_timed():
    codes, sound = torch.zeros(1, 8, 100, dtype=torch.long), torch.zeros(1, 1, 200)
    codec_worker._same("x", (codes, sound), (codes, sound + 1e-5))
    with pytest.raises(RuntimeError, match="sounds differ by 1.0e-03"):
        codec_worker._same("x", (codes, sound), (codes, sound + 1e-3))
    other = codes.clone()
    other[..., 0] = 1
    with pytest.raises(RuntimeError, match="only 0.9900 of the codes agree"):
        codec_worker._same("x", (codes, sound), (other, sound))


def test_the_peak_of_memory_is_seen():
    with codec_worker._Peak() as memory:
        # From the system: the heap may hold as much that earlier tests have freed, which is no more than before.
        fresh = mmap.mmap(-1, 50 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(fresh, np.uint8)[:: mmap.PAGESIZE] = 1
        time.sleep(0.1)
        fresh.close()
    assert 45 * 2**20 < memory.bytes < 120 * 2**20


def test_unknown_groups_and_failing_processes_are_told(monkeypatch):
    with pytest.raises(EvalError, match="no group fast"):
        BenchConfig(only=("fast",))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(EvalError, match="streaming failed"):
        bench_codec(BenchConfig(only=("streaming",), threads=(1,)))


@pytest.mark.slow
def test_every_group_runs():
    short = {"frames": 3, "warmup": 1, "seconds": 0.5, "rounds": 1, "minutes": 0.1, "small": True}
    report = bench_codec(BenchConfig(codec_worker.GROUPS, codec_worker.LONG, threads=(1,), **short))
    names = {figure.name for figure in report.figures}
    assert {"encodec-offline-vs-transformers", "mimi-offline-memory-vs-transformers", "mini-long-encode-time"} <= names
    assert all(figure.value > 0 for figure in report.figures)
