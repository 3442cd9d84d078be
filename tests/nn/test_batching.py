"""Calls of several threads: the same results as alone, in as few runs as there can be, whatever happens to one."""

import copy
import threading
import time

import pytest

from antiphon.nn.batching import MAX_ROWS, Batcher


def on_threads(*calls):
    """Results of functions that run at once, each on a thread."""
    found = [None] * len(calls)

    def run(number):
        try:
            found[number] = calls[number]()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return found


class Doubling:
    """Takes its time, and remembers what came together."""

    def __init__(self, seconds=0.02):
        self.batches, self.seconds = [], seconds

    def __call__(self, numbers):
        self.batches.append(list(numbers))
        time.sleep(self.seconds)
        if -1 in numbers:
            raise ValueError("minus one")
        return [2 * number for number in numbers]


def test_a_thread_alone_waits_for_nobody():
    run = Doubling(0.0)
    double = Batcher().batched(run)
    began = time.monotonic()
    assert [double(number) for number in range(200)] == [2 * number for number in range(200)]
    assert time.monotonic() - began < 0.5 and run.batches == [[number] for number in range(200)]


def test_what_waits_runs_together_and_who_comes_back_is_waited_for():
    run, count = Doubling(0.05), 16
    double = Batcher().batched(run)

    def several(first):
        return [double(number) for number in range(first, first + count)]

    assert on_threads(*(lambda first=first: several(first) for first in (0, 100, 200))) == [
        [2 * number for number in range(first, first + count)] for first in (0, 100, 200)
    ]
    assert sum(len(batch) == 3 for batch in run.batches) >= 8, run.batches


def test_who_goes_away_for_long_is_waited_for_by_nobody():
    """As a conversation in which somebody talks, and now and then what was said is read ahead."""
    run = Doubling(0.1)
    double = Batcher().batched(run)
    waited, over = [], threading.Event()

    def rarely():
        while not over.is_set():
            double(1), double(2)
            time.sleep(0.4)

    def steadily():
        for number in range(20):
            began = time.monotonic()
            double(number)
            waited.append(time.monotonic() - began)
        over.set()

    on_threads(rarely, steadily)
    assert sorted(waited)[10] < 0.12  # a step, and no patience


def test_what_is_cheap_goes_first():
    batcher, order, gate = Batcher(), [], threading.Event()

    def noted(name):
        def run(requests):
            order.append(name)
            assert requests != ["wait"] or gate.wait(10)
            return requests

        return run

    dear, cheap = batcher.batched(noted("dear"), rank=1), batcher.batched(noted("cheap"), rank=0)

    def later(function):
        time.sleep(0.05)
        return function(1)

    threading.Timer(0.2, gate.set).start()
    on_threads(lambda: dear("wait"), lambda: later(dear), lambda: later(cheap))
    assert order == ["dear", "cheap", "dear"]


def test_no_batch_is_larger_than_it_may_be():
    run = Doubling(0.01)
    double = Batcher().batched(run)
    count = MAX_ROWS + 5
    assert on_threads(*(lambda n=n: double(n) for n in range(count))) == [2 * n for n in range(count)]
    assert max(map(len, run.batches)) <= MAX_ROWS


def test_an_error_is_told_to_whom_it_concerns():
    run = Doubling()
    double = Batcher().batched(run)
    found = on_threads(*(lambda number=number: double(number) for number in (3, -1, 5)))
    assert found[0] == 6 and found[2] == 10 and isinstance(found[1], ValueError)
    with pytest.raises(ValueError, match="minus one"):
        double(-1)
    assert double(1) == 2


def test_an_interrupt_stops_nobody_else():
    batcher = Batcher()

    def run(requests):
        if requests == ["stop"]:
            raise KeyboardInterrupt
        return requests

    same = batcher.batched(run)
    with pytest.raises(KeyboardInterrupt):
        same("stop")
    assert on_threads(lambda: same(1), lambda: same(2)) == [1, 2]


def test_a_copy_is_another():
    batcher = Batcher()
    assert copy.deepcopy(batcher) is not batcher
