"""The harness: groups are chosen, fail alone, and are resumed; references are measured once."""

from __future__ import annotations

import json

import pytest

from antiphon.errors import AntiphonError, ConfigError
from antiphon.evals.assistant.figures import GROUPS
from antiphon.evals.harness import EvalConfig, Evaluation, Group, chosen, rows_of, run
from antiphon.evals.report import Figure, Report


def figure(name, n):
    return Figure(name, 0.1, "WER", "<= 0.12", 0.03, n)


def test_figures_are_chosen_by_name_or_group():
    assert chosen((), GROUPS) == list(GROUPS)
    assert chosen(("say-wer", "hear"), GROUPS) == ["say", "hear"]
    with pytest.raises(ConfigError, match="tell-wer"):
        chosen(("tell-wer",), GROUPS)


def test_every_figure_has_one_group():
    names = [name for group in GROUPS.values() for name in group.figures]
    assert len(names) == len(set(names))


class Counting:
    """Two groups; the second can be made to fail."""

    def __init__(self):
        self.calls = []
        self.broken = False
        self.groups = {"one": Group(self.one, 10, ("a",)), "two": Group(self.two, 300, ("b", "c"))}

    def one(self, evaluation, n):
        self.calls.append(("one", n))
        return [figure("a", n)]

    def two(self, evaluation, n):
        self.calls.append(("two", n))
        if self.broken:
            raise AntiphonError("no sound")
        return [figure("b", n), figure("c", n)]


def test_run_keeps_what_was_measured_when_a_group_fails_and_resumes(tmp_path):
    path, counting = tmp_path / "f.json", Counting()
    counting.broken = True
    report = run(Evaluation(EvalConfig()), counting.groups, {"talker": "x"}, path)
    assert [f.name for f in Report.load(path).figures] == ["a"]
    assert report.environment["not-measured"] == {"two": "no sound"}

    counting.broken, counting.calls = False, []
    report = run(Evaluation(EvalConfig(n=20)), counting.groups, {"talker": "x"}, path, resume=True)
    assert counting.calls == [("two", 20)]
    assert [(f.name, f.n) for f in report.figures] == [("a", 10), ("b", 20), ("c", 20)]
    assert "not-measured" not in report.environment

    counting.calls = []
    run(Evaluation(EvalConfig()), counting.groups, {"talker": "other"}, path, resume=True)
    assert counting.calls == [("one", 10), ("two", 300)]  # other weights: nothing of the old report counts


def test_run_that_measures_nothing_is_an_error():
    counting = Counting()
    counting.broken = True
    with pytest.raises(AntiphonError, match="no sound"):
        run(Evaluation(EvalConfig(only=("b",))), counting.groups, {})


def count(evaluation, n):
    """Stands for a measure; at the top of a module, as processes need it."""
    return [figure("a", n), figure("b", len(evaluation.config.only))]


def test_groups_are_shared_out_to_processes():
    groups = {"x": Group(count, 3, ("a", "b")), "y": Group(Counting().one, 5, ("a",), alone=True)}
    report = run(Evaluation(EvalConfig(only=("x",))), groups, {}, jobs=2)
    assert [(f.name, f.n) for f in report.figures] == [("a", 3), ("b", 1)]


def test_references_are_measured_once_and_items_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluation, "cached", lambda self, name: tmp_path / name)
    done = []

    def measure(rows, told):
        told(len(rows))
        done.append(rows)
        return [10 * row for row in rows]

    evaluation = Evaluation(EvalConfig(keep=tmp_path / "kept"))
    assert evaluation.measured("x", 3, measure, ["a", "b", "c"], chunk=2) == [0, 10, 20]
    assert Evaluation(EvalConfig()).measured("x", 2, measure, ["c", "d"]) == [20, 10]
    assert evaluation.measured("x", 2, measure) == [0, 10]
    assert done == [[0, 1], [2], [1], [0, 1]]
    evaluation.save_items("group", rows_of({"id": ["a", "b"], "score": [1 / 3, None]}))
    lines = (tmp_path / "kept" / "group.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"id": "a", "score": 0.333}, {"id": "b", "score": None}]
    with pytest.raises(ValueError):
        rows_of({"id": ["a", "b"], "score": [1.0]})
