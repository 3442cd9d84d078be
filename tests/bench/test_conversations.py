"""The bench of many conversations: its clock, and what is late."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from antiphon.bench import conversations
from antiphon.bench.conversations import ComputingClock, ConversationsBenchConfig, bench_conversations
from antiphon.errors import ConfigError
from tests.nn.test_batching import on_threads
from tests.serve.scripted import Scripted


def test_time_jumps_where_everybody_waits_and_is_computing_else():
    clock = ComputingClock(2)
    began, real = clock.now(), time.monotonic()

    def busy() -> float:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        clock.sleep_until(began + 100)
        return clock.now() - began

    def idle() -> float:
        clock.sleep_until(began + 0.05)
        woke = clock.now() - began
        clock.sleep_until(began + 50)
        clock.leave()
        return woke

    last, woke = on_threads(busy, idle)
    assert 0.05 <= woke < 0.2 and 100 <= last < 101 and time.monotonic() - real < 5


def bench(monkeypatch, backend: Scripted, **how) -> dict[str, float]:
    model = SimpleNamespace(backend=backend, say=lambda text: SimpleNamespace(samples=0.1 * torch.ones(9600)))
    monkeypatch.setattr("antiphon.load", lambda *_, **__: model)
    config = ConversationsBenchConfig(**how)
    return {figure.name: figure.value for figure in bench_conversations(config, lambda _: None).figures}


def test_the_most_conversations_in_time_are_told(monkeypatch):
    monkeypatch.setattr(conversations, "SPEAKING_SHARE", 0.9)
    found = bench(monkeypatch, Scripted(pace=0.01), only=("late",), at_once=(1, 2), seconds=2.0)
    assert found["conversations-in-time"] == 2 and found["conversations-2-at-once-late-frames"] == 0
    assert 0 < found["conversations-1-at-once-first-audio"] < 0.5
    slow = bench(monkeypatch, Scripted(pace=0.4, frames=1), only=("late",), at_once=(1, 2), seconds=2.0)
    assert slow["conversations-in-time"] == 0 and "conversations-2-at-once-late-frames" not in slow


def test_replies_at_once_and_a_long_conversation_are_measured(monkeypatch):
    found = bench(monkeypatch, Scripted(pace=0.01), only=("batch", "long"), batch=2, rounds=1, turns=8)
    assert found["conversations-batch-of-2-over-one-at-a-time"] > 1.2  # it sleeps, which many can do at once
    assert found["conversations-long-frame-end-over-beginning"] > 0
    assert 0.9 < found["conversations-long-memory-end-over-beginning"] < 1.1


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="no measure 'speed'"):
        ConversationsBenchConfig(only=("speed",))
    with pytest.raises(ConfigError, match="no clock"):
        ConversationsBenchConfig(clock="sun")
