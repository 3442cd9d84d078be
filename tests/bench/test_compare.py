"""How a bench compares: sides take turns, and the worst of several ratios stands for all."""

import pytest

from antiphon.bench.compare import add_ratios, check_known, in_turns
from antiphon.errors import EvalError
from antiphon.evals.report import Report


def test_sides_take_turns_and_the_warm_up_is_not_counted():
    order = []
    times = in_turns({"a": lambda i: order.append(f"a{i}"), "b": lambda i: order.append(f"b{i}")}, rounds=2, warmup=1)
    assert order == ["b0", "a0", "a1", "b1", "b2", "a2"]
    assert {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}


def test_ratios_of_medians_and_the_worst_of_them():
    report = Report()
    found = {"1 thread": {"a": [1.0, 2.0, 90.0], "b": [4.0]}, "2 threads": {"a": [3.0], "b": [4.0]}, "x": {"a": [1.0]}}
    add_ratios(report, "a-vs-b", found, "a", "b", "<= 1.0")
    add_ratios(report, "a-vs-c", found, "a", "c", None)  # it wasn't measured
    assert [(f.name, f.value, f.n, f.met) for f in report.figures] == [
        ("a-vs-b", 0.75, 1, True), ("a-vs-b-1-thread", 0.5, 3, True), ("a-vs-b-2-threads", 0.75, 1, True),
    ]  # fmt: skip
    assert report.figures[1].unit == "2000.0 / 4000.0 ms"


def test_unknown_names_are_told():
    check_known(("a",), ("a", "b"), "group")
    with pytest.raises(EvalError, match="no group c, d. There are: a, b"):
        check_known(("d", "a", "c"), ("a", "b"), "group")
