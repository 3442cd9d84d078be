"""The scheduler: what is due first goes first, what was stopped gives nothing more, no failure takes a thread along."""

import gc
import threading
import time
import weakref
from functools import partial

import pytest

from antiphon.serve.work.scheduler import SPREAD_SECONDS, Scheduler, SerialQueue, Stopped


@pytest.fixture
def scheduler():
    made = Scheduler(1)
    yield made
    made.close()


class Outcome:
    """Gathers what a piece of work gives, and its end."""

    def __init__(self):
        self.given, self.error, self.over = [], None, threading.Event()

    def end(self, error):
        self.error = error
        self.over.set()

    def wait(self):
        assert self.over.wait(10)
        return self.given


def test_two_pieces_of_work_take_turns_and_the_more_urgent_goes_first(scheduler):
    order, gate, outcomes = [], threading.Event(), [Outcome() for _ in range(3)]

    def steps(name, number):
        for _ in range(number):
            order.append(name)
            yield None

    def blocked():
        gate.wait(10)
        yield None

    scheduler.start(blocked, 0.0, print, outcomes[0].end)
    scheduler.start(partial(steps, "later", 3), 2.0, print, outcomes[1].end)
    scheduler.start(partial(steps, "sooner", 3), 1.0, print, outcomes[2].end)
    gate.set()
    for outcome in outcomes:
        outcome.wait()
    assert order == ["sooner"] * 3 + ["later"] * 3


def test_work_of_the_same_urgency_is_shared_fairly(scheduler):
    order, gate, outcomes = [], threading.Event(), [Outcome() for _ in range(3)]

    def steps(name):
        if name == "a":
            gate.wait(10)
        for _ in range(3):
            order.append(name)
            yield None

    for name, outcome in zip("abc", outcomes):
        scheduler.start(partial(steps, name), 1.0, print, outcome.end)
    gate.set()
    for outcome in outcomes:
        outcome.wait()
    assert order == list("abcabcabc")


def test_nothing_is_given_after_a_stop_and_the_work_is_closed(scheduler):
    outcome, closed = Outcome(), threading.Event()

    def steps():
        try:
            while True:
                time.sleep(0.001)
                yield 1
        finally:
            closed.set()

    work = scheduler.start(steps, 0.0, outcome.given.append, outcome.end)
    while not outcome.given:
        time.sleep(0.001)
    work.stop()
    count = len(outcome.given)
    outcome.wait()
    assert closed.is_set() and isinstance(outcome.error, Stopped) and len(outcome.given) == count


def test_a_failure_is_handed_on_and_the_thread_lives(scheduler):
    def broken():
        yield 1
        raise ZeroDivisionError

    first, second = Outcome(), Outcome()
    scheduler.start(broken, 0.0, first.given.append, first.end)
    first.wait()
    scheduler.start(lambda: iter([2]), 0.0, second.given.append, second.end)
    assert isinstance(first.error, ZeroDivisionError) and first.given == [1] and second.wait() == [2]


def test_a_lane_keeps_its_order_whatever_is_due(scheduler):
    queue, order, outcomes = SerialQueue(scheduler), [], [Outcome() for _ in range(3)]

    def steps(number):
        order.append(number)
        yield None
        order.append(number)

    for number, outcome in enumerate(outcomes):
        queue.start(partial(steps, number), -float(number), print, outcome.end)
    for outcome in outcomes:
        outcome.wait()
    assert order == [0, 0, 1, 1, 2, 2]


def test_what_is_stopped_before_it_began_never_begins(scheduler):
    queue, gate, began, first, second = SerialQueue(scheduler), threading.Event(), [], Outcome(), Outcome()

    def blocked():
        gate.wait(10)
        yield None

    def never():
        began.append(True)
        yield None

    queue.start(blocked, 0.0, print, first.end)
    queue.start(never, 0.0, print, second.end).stop()
    gate.set()
    second.wait()
    assert not began and isinstance(second.error, Stopped)


def test_work_that_has_ended_holds_on_to_nobody(scheduler):
    class Asker:
        """As a server's conversation does, it knows its work, and the work knows it."""

        def __init__(self):
            self.ended, self.handle = threading.Event(), None
            self.handle = SerialQueue(scheduler).start(lambda: iter([1]), 0.0, self.take, self.end)

        def take(self, found):
            assert found == 1

        def end(self, error):
            self.ended.set()

    gc.disable()  # nothing may wait for it
    try:
        asker = Asker()
        assert asker.ended.wait(10)
        gone, before = weakref.ref(asker), time.monotonic()
        del asker
        while gone() is not None and time.monotonic() < before + 10:  # the worker is about to let go of it
            time.sleep(0.001)
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_far_ahead_rests_while_another_is_urgent():
    scheduler, order, outcomes, gate = Scheduler(2), [], [Outcome() for _ in range(2)], threading.Event()

    def steps(name, number):
        for _ in range(number):
            assert gate.wait(10)
            order.append(name)
            time.sleep(0.002)
            yield None

    scheduler.start(partial(steps, "urgent", 5), 0.0, print, outcomes[0].end)
    scheduler.start(partial(steps, "ahead", 2), SPREAD_SECONDS + 0.1, print, outcomes[1].end)
    gate.set()
    for outcome in outcomes:
        outcome.wait()
    scheduler.close()
    assert order == ["urgent"] * 5 + ["ahead"] * 2


def test_what_is_about_as_urgent_is_done_at_once():
    scheduler, together, outcomes = Scheduler(2), threading.Barrier(2), [Outcome() for _ in range(2)]

    def steps():
        together.wait(10)
        yield 1

    for number, outcome in enumerate(outcomes):
        scheduler.start(steps, SPREAD_SECONDS * number / 2, outcome.given.append, outcome.end)
    assert [outcome.wait() for outcome in outcomes] == [[1], [1]]
    assert 0 < scheduler.load() < 1
    scheduler.close()
