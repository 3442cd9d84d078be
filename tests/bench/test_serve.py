"""The bench of the server: what its clients see, and the arithmetic of its figures."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from antiphon.bench import serve, serve_clients
from antiphon.bench.serve import ServeBenchConfig, part_means, percentiles, slope
from antiphon.bench.serve_clients import Plan, Seen, clients
from antiphon.dialogue.duplex.batched import BatchedEngine
from antiphon.errors import ConfigError
from antiphon.evals.report import Report
from antiphon.serve.metrics import Metrics
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import LiveOnly
from antiphon.serve.work.admission import Admission
from tests.dialogue.duplex.tiny_duplex import tiny_duplex
from tests.serve.scripted import Scripted, serving, silence, speech

QUESTION = silence(0.1) + speech(0.3)


def test_clients_see_waits_lateness_and_refusals():
    backend = Scripted(pace=0.01, frames=3)
    with serving(backend, ServeConfig(port=0, sessions=2)) as (address, _):
        plan = Plan(f"ws://{address}/v1/realtime", QUESTION, turns=2)
        seen = clients(plan, 3)
        assert (seen.conversations, seen.refused, seen.failed, seen.problems) == (2, 1, 0, [])
        assert len(seen.waits) == seen.turns == 4 and seen.frames == 2 * 2 * 6 * 3
        backend.pace, backend.frames = 0.4, 1  # 80 ms of sound every 400
        slow = clients(Plan(plan.url, QUESTION, turns=1), 1)
        assert slow.late >= 3 and min(slow.waits) > 0.39


def test_what_fails_is_told():
    with serving(Scripted(words=["BREAK"]), ServeConfig(port=0)) as (address, _):
        seen = clients(Plan(f"ws://{address}/v1/realtime", QUESTION, turns=2), 1)
    assert seen.failed == 1 and "failed" in seen.problems[0] and not seen.waits


def test_clients_of_a_duplex_model_send_all_the_time(monkeypatch):
    monkeypatch.setattr(serve_clients, "LISTENING_SECONDS", 0.4)
    engine = BatchedEngine(tiny_duplex())
    with serving(LiveOnly("tiny"), ServeConfig(port=0), engine=engine) as (address, served):
        seen = clients(Plan(f"ws://{address}/v1/realtime", QUESTION, live=True, turns=2), 1)
        assert (seen.turns, seen.conversations, seen.failed) == (2, 1, 0), seen.problems
        assert len(seen.waits) + seen.unanswered == 2
        assert served.metrics.frames._value.get() >= 2 * (5 + 5) - 3


def test_a_soak_reads_memory_after_it_has_settled(monkeypatch):
    """Memory that grows by 3 MB a minute once it has settled, and was wild before."""
    clock = iter(range(10**6))
    minutes = []

    class Pool:
        def __init__(self, _):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def apply_async(self, function, args):
            return self

        def ready(self):
            return False

        def wait(self, seconds):
            pass

        def get(self):
            return Seen(waits=[0.1, 0.2], frames=10, turns=2, conversations=1)

    def grown() -> float:
        minutes.append(next(clock) / 60)
        return 100.0 + (3 * minutes[-1] if minutes[-1] >= 2 else 50 * math.sin(len(minutes)))

    monkeypatch.setattr(serve.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=Pool))
    now = SimpleNamespace(monotonic=lambda: minutes[-1] * 60 + 1 if minutes else 0.0)
    monkeypatch.setattr(serve, "time", now)
    monkeypatch.setattr(serve, "memory", grown)
    report, said = Report(), []
    served = SimpleNamespace(admission=Admission(2, 1), metrics=Metrics(), engine=None, config=ServeConfig())
    serve._soak(report, Plan("", b""), served, ServeBenchConfig(soak=10, settle=2), said.append)
    assert report.get("serve-soak-memory-slope").value == pytest.approx(3.0, rel=1e-6)
    assert report.get("serve-soak-memory-slope-error").value == pytest.approx(0.0, abs=1e-6)
    assert report.get("serve-soak-clients").value == 2  # no more than are let in
    assert report.get("serve-soak-memory-slope").met is False
    assert [row["minute"] for row in report.environment["soak"]["memory"]] == list(range(13))
    assert len(said) == 14


def test_a_slope_and_its_error_are_those_of_least_squares():
    found, error = slope([0, 1, 2, 3], [1, 3, 2, 6])
    assert found == pytest.approx(1.4) and error == pytest.approx(math.sqrt(4.2 / 2 / 5))
    assert all(map(math.isnan, slope([0, 1], [0, 1])))
    times, sizes = part_means(range(100), [5.0 * n for n in range(100)], 20)
    assert len(times) == 20 and slope(times, sizes) == pytest.approx((5.0, 0.0))
    assert part_means([], [], 20) == ([], []) and part_means([1, 2], [3, 4], 20) == ([1, 2], [3, 4])


def test_percentiles():
    assert percentiles([float(n) for n in range(101)]) == (50.0, 95.0, 99.0)
    assert percentiles([2.0]) == (2.0, 2.0, 2.0) and all(map(math.isnan, percentiles([])))


@pytest.mark.parametrize("fields", [{"clients": ()}, {"turns": 0}, {"soak": -1}, {"soak_clients": 0}])
def test_a_bench_that_cannot_be(fields):
    with pytest.raises(ConfigError):
        ServeBenchConfig(**fields)
