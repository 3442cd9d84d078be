"""What is made ahead: in order, no further than it may, ended and broken off cleanly, and not where time is counted."""

from __future__ import annotations

import threading
import time

import pytest

from antiphon.dialogue.ahead import Ahead, unthreaded


class Counted:
    """A generator of numbers that knows how many it has given, and who closed it."""

    def __init__(self, count: int, fails: bool = False):
        self.given, self.threads, self.closed = 0, set(), False
        self.source = self._numbers(count, fails)

    def _numbers(self, count, fails):
        try:
            for number in range(count):
                self.threads.add(threading.current_thread())
                self.given += 1
                yield number
            if fails:
                raise ValueError("no more")
        finally:
            self.closed = True


def settled(counted: Counted, given: int) -> bool:
    until = time.monotonic() + 5
    while counted.given < given and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.05)
    return counted.given == given


def test_everything_comes_in_order():
    counted = Counted(50)
    ahead = Ahead(counted.source, 4)
    assert list(ahead) == list(range(50)) and list(ahead) == []
    assert ahead.close() == 0 and counted.closed and counted.threads != {threading.current_thread()}


def test_no_more_is_made_than_may_wait():
    counted = Counted(50)
    ahead = Ahead(counted.source, 3)
    assert settled(counted, 3)
    assert next(ahead) == 0 and settled(counted, 4)
    assert ahead.close() == 3 and ahead.close() == 0
    assert next(counted.source) == 4  # it is left open, and its own again
    with pytest.raises(StopIteration):
        next(ahead)


def test_what_fails_fails_in_its_place():
    ahead = Ahead(Counted(2, fails=True).source, 5)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
    assert list(ahead) == [] and ahead.close() == 0


def test_what_fails_before_anybody_has_read_so_far_is_logged(caplog):
    counted = Counted(2, fails=True)
    ahead = Ahead(counted.source, 5)
    settled(counted, 2)
    assert ahead.close() == 2 and "no more" in caplog.text


def test_who_closes_on_the_thread_that_works_is_told_to_leave_things_alone():
    found, known = [], threading.Event()

    def closes():
        yield 0
        known.wait(5)
        found.append(ahead.close())  # as a garbage collector may
        yield 1

    ahead = Ahead(closes(), 5)
    assert next(ahead) == 0
    known.set()
    ahead._thread.join(5)
    assert found == [None] and list(ahead) == [1]


def test_where_time_is_counted_nothing_is_made_ahead():
    counted = Counted(5)
    with unthreaded():
        ahead = Ahead(counted.source, 3)
    assert counted.given == 0 and next(ahead) == 0 and counted.given == 1
    assert counted.threads == {threading.current_thread()}
    assert ahead.close() == 0 and not counted.closed
