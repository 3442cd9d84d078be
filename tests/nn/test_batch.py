"""Rows of a batch that join, leave, rest and grow: each keeps its own state, and steps change it in place."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from antiphon.nn.batch import Rows, tensors


@dataclass
class State:
    """`ring` is changed in place by a step, `total` is replaced; both start as one tensor."""

    ring: Tensor
    total: list[Tensor]
    name: str = "x"


def fresh(rows: int, start: float = 0.0) -> State:
    same = torch.full((rows, 2), start)
    return State(same, [same])


def step(x: Tensor, state: State) -> None:
    state.ring += x[:, None]
    state.total = [state.total[0] + 10 * x[:, None]]


def values(rows: Rows) -> list[tuple[float, float]]:
    return [(float(rows.get(row).ring[0, 0]), float(rows.get(row).total[0][0, 0])) for row in range(rows.count)]


def test_steps_change_the_front_and_nothing_else():
    rows = Rows(fresh, capacity=4)
    for start in (1.0, 2.0, 3.0):
        rows.add(fresh(1, start))
    state = rows.front(2)
    step(torch.tensor([5.0, 7.0]), state)
    rows.keep(state)
    assert values(rows) == [(6, 51), (9, 72), (3, 3)]
    assert rows.front(2).name == "x"


def test_rows_move_and_the_batch_grows():
    rows = Rows(fresh)
    assert [rows.add(fresh(1, float(start))) for start in range(5)] == [0, 1, 2, 3, 4] and rows.capacity == 8
    rows.remove(1)
    assert [ring for ring, _ in values(rows)] == [0, 4, 2, 3]
    rows.swap(0, 2)
    assert [ring for ring, _ in values(rows)] == [2, 4, 0, 3]
    rows.remove(3)
    assert [ring for ring, _ in values(rows)] == [2, 4, 0]
    assert rows.add(fresh(1, 9.0)) == 3


def test_what_is_got_and_put_is_copied():
    rows = Rows(fresh, capacity=2)
    given = fresh(1, 1.0)
    rows.add(given)
    given.ring += 1
    got = rows.get(0)
    got.ring += 5
    assert values(rows) == [(1, 1)]
    rows.put(0, got)
    assert values(rows) == [(6, 1)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        Rows(fresh, capacity=0)
    rows = Rows(fresh)
    rows.add(fresh(1))
    for call in (lambda: rows.get(1), lambda: rows.remove(-1), lambda: rows.swap(0, 1)):
        with pytest.raises(ValueError, match="1 are in use"):
            call()
    with pytest.raises(ValueError, match="another"):
        rows.put(0, State(torch.zeros(1, 3), [torch.zeros(1, 2)]))
    with pytest.raises(ValueError, match="different kinds"):
        rows.put(0, State(torch.zeros(1, 2), []))
    state = rows.front(1)
    state.ring = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="can't grow"):
        rows.keep(state)


def test_tensors_of_a_state_in_order():
    nested = {"a": (torch.tensor(1), None), "b": [State(torch.tensor(2), [torch.tensor(3)])]}
    assert [int(tensor) for tensor in tensors(nested)] == [1, 2, 3]
