"""The batched engine: many conversations with one duplex model in one batch, each as if it were alone."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from antiphon.dialogue.duplex.batched import BatchedEngine
from antiphon.dialogue.duplex.stream import DuplexStream
from antiphon.dialogue.events import AudioEvent, LostEvent
from antiphon.errors import SessionError
from tests.dialogue.duplex.tiny_duplex import SAMPLES, noise, tiny_duplex


@pytest.fixture(scope="module")
def duplex():
    return tiny_duplex()


@pytest.fixture
def engine(duplex):
    made = BatchedEngine(duplex)
    yield made
    made.close()


class Taker:
    """Gathers what a slot gives."""

    def __init__(self):
        self.found, self.ready = [], threading.Condition()

    def __call__(self, events):
        with self.ready:
            self.found.append(events)
            self.ready.notify()

    def wait(self, count):
        with self.ready:
            assert self.ready.wait_for(lambda: len(self.found) >= count, 20)
            return self.found[:count]


def sounds(found):
    return torch.cat([event.audio.samples for events in found for event in events if isinstance(event, AudioEvent)])


def test_each_in_the_batch_hears_what_it_would_hear_alone(duplex, engine):
    takers = [Taker() for _ in range(3)]
    slots = [engine.join(taker, seed=n) for n, taker in enumerate(takers)]
    for step in range(8):
        for n, slot in enumerate(slots):
            if n < 2 or step >= 3:  # the third comes later
                slot.push(noise(8, n)[step])
        time.sleep(0.002)
    for n, taker in enumerate(takers):
        frames = noise(8, n)[0 if n < 2 else 3 :]
        alone = DuplexStream(duplex, seed=n)
        wanted = torch.cat(
            [event.audio.samples for f in frames for event in alone.step(f) if isinstance(event, AudioEvent)]
        )
        torch.testing.assert_close(sounds(taker.wait(len(frames))), wanted, atol=1e-4, rtol=1e-3)


def test_who_leaves_hears_no_more_and_the_others_go_on(engine):
    one, other = Taker(), Taker()
    slots = [engine.join(one), engine.join(other)]
    for slot in slots:
        slot.push(torch.zeros(SAMPLES))
    one.wait(1), other.wait(1)
    slots[0].leave()
    for slot in slots:
        slot.push(torch.zeros(SAMPLES))
    other.wait(2)
    assert len(one.found) == 1
    assert len(engine.engine.conversations) == 1


def test_who_sends_too_fast_loses_the_oldest(duplex):
    engine = BatchedEngine(duplex, max_waiting=3)
    try:
        taker, gate = Taker(), threading.Event()
        slot = engine.join(lambda events: (gate.wait(10), taker(events)))
        for _ in range(20):
            slot.push(torch.zeros(SAMPLES))
        gate.set()
        lost = [event for events in taker.wait(2) for event in events if isinstance(event, LostEvent)]
        assert sum(event.frames for event in lost) >= 10  # told in one piece or in several
    finally:
        engine.close()


def test_a_frame_of_another_size_is_refused_before_it_disturbs_anyone(engine):
    taker = Taker()
    slot = engine.join(taker)
    with pytest.raises(SessionError, match=r"a frame is \[\d+\] samples, got \[3\]"):
        slot.push(torch.zeros(3))
    slot.push(torch.zeros(SAMPLES))
    assert not isinstance(taker.wait(1)[0], Exception)


def test_an_error_of_the_model_ends_who_was_in_that_step_alone(engine, monkeypatch):
    bad, good = Taker(), Taker()
    wrong, right = engine.join(bad), engine.join(good)
    step = engine.engine.step

    def failing(frames):
        monkeypatch.setattr(engine.engine, "step", step)
        raise RuntimeError("broken")

    monkeypatch.setattr(engine.engine, "step", failing)
    wrong.push(torch.zeros(SAMPLES))
    assert isinstance(bad.wait(1)[0], RuntimeError)
    right.push(torch.zeros(SAMPLES))
    assert not isinstance(good.wait(1)[0], Exception)


def test_nobody_joins_an_engine_that_is_closed(duplex):
    engine = BatchedEngine(duplex)
    engine.close()
    with pytest.raises(SessionError, match="closed"):
        engine.join(Taker())


def test_the_pace_is_at_least_one(engine):
    assert engine.pace(max_conversations=2, steps=1) in (1, 2)
