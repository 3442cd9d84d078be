"""States as values: forks are independent, rows leave, join, rest and grow; what can't share a batch is refused."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from antiphon.nn.state import StateBatch, fork, in_groups, join, select, tensors


@dataclass
class Inner:
    ring: Tensor
    name: str


@dataclass
class Outer:
    layers: list
    pair: tuple
    table: dict
    nothing: None


def state(rows: int, start: float = 0.0) -> Outer:
    ring = start + torch.arange(rows * 2.0).view(rows, 2)
    return Outer([Inner(ring, "a"), None], (ring + 10, 3), {"x": ring[:, 0]}, None)


def test_a_fork_shares_no_memory():
    one = state(2)
    other = fork(one)
    one.layers[0].ring.zero_()
    assert torch.equal(other.layers[0].ring, torch.tensor([[0.0, 1.0], [2.0, 3.0]])) and other.layers[0].name == "a"
    assert isinstance(other, Outer) and isinstance(other.pair, tuple) and other.nothing is None


def test_rows_leave_and_join_in_the_order_given():
    whole = join([state(2), state(1, 100.0)])
    assert whole.layers[0].ring.shape == (3, 2) and whole.pair[1] == 3
    part = select(whole, [2, 0])
    assert part.table["x"].tolist() == [100.0, 0.0] and part.pair[0][0].tolist() == [110.0, 111.0]
    assert select(whole, []).table["x"].shape == (0,)
    assert select(whole, torch.tensor([1, 1])).table["x"].tolist() == [2.0, 2.0]


def test_what_cannot_share_a_batch_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        join([])
    one, other = state(1), state(1)
    other.layers[0].name = "b"
    with pytest.raises(ValueError, match=r"state.layers\[0\].name"):
        join([one, other])
    other = state(1)
    other.layers.append(None)
    with pytest.raises(ValueError, match="lengths"):
        join([one, other])
    with pytest.raises(ValueError, match="kinds"):
        join([one, one.layers[0]])
    other = state(1)
    other.layers[0].ring = torch.zeros(1, 5)
    with pytest.raises(ValueError, match=r"state.layers\[0\].ring: rows of \[2\] and \[5\]"):
        join([one, other])
    assert join([select(other, []), one]).layers[0].ring.shape == (1, 2)  # no rows, nothing to fit


def test_rows_are_stepped_in_groups():
    keys, seen = [2, 1, 2, 1, 3], []

    def run(rows, part):
        seen.append(rows)
        part.layers[0].ring += 100.0 * len(seen)
        return part.layers[0].ring

    outputs, after = in_groups(state(5), keys, run)
    assert seen == [[1, 3], [0, 2], [4]] and torch.equal(torch.cat(outputs), after.layers[0].ring)
    assert after.layers[0].ring[:, 0].tolist() == [200.0, 102.0, 204.0, 106.0, 308.0]
    assert after.pair[0][:, 0].tolist() == [10.0, 12.0, 14.0, 16.0, 18.0]


@dataclass
class Moved:
    """`ring` is changed in place by a step, `total` is replaced; both start as one tensor."""

    ring: Tensor
    total: list[Tensor]
    name: str = "x"


def fresh(rows: int, start: float = 0.0) -> Moved:
    same = torch.full((rows, 2), start)
    return Moved(same, [same])


def step(x: Tensor, state: Moved) -> None:
    state.ring += x[:, None]
    state.total = [state.total[0] + 10 * x[:, None]]


def values(rows: StateBatch) -> list[tuple[float, float]]:
    return [(float(rows.get(row).ring[0, 0]), float(rows.get(row).total[0][0, 0])) for row in range(rows.count)]


def test_steps_change_the_front_and_nothing_else():
    rows = StateBatch(fresh, capacity=4)
    for start in (1.0, 2.0, 3.0):
        rows.add(fresh(1, start))
    state = rows.front(2)
    step(torch.tensor([5.0, 7.0]), state)
    rows.keep(state)
    assert values(rows) == [(6, 51), (9, 72), (3, 3)]
    assert rows.front(2).name == "x"


def test_rows_move_and_the_batch_grows():
    rows = StateBatch(fresh)
    assert [rows.add(fresh(1, float(start))) for start in range(5)] == [0, 1, 2, 3, 4] and rows.capacity == 8
    rows.remove(1)
    assert [ring for ring, _ in values(rows)] == [0, 4, 2, 3]
    rows.swap(0, 2)
    assert [ring for ring, _ in values(rows)] == [2, 4, 0, 3]
    rows.remove(3)
    assert [ring for ring, _ in values(rows)] == [2, 4, 0]
    assert rows.add(fresh(1, 9.0)) == 3


def test_what_is_got_and_put_is_copied():
    rows = StateBatch(fresh, capacity=2)
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
        StateBatch(fresh, capacity=0)
    rows = StateBatch(fresh)
    rows.add(fresh(1))
    for call in (lambda: rows.get(1), lambda: rows.remove(-1), lambda: rows.swap(0, 1)):
        with pytest.raises(ValueError, match="1 are in use"):
            call()
    with pytest.raises(ValueError, match="another"):
        rows.put(0, Moved(torch.zeros(1, 3), [torch.zeros(1, 2)]))
    with pytest.raises(ValueError, match="different kinds"):
        rows.put(0, Moved(torch.zeros(1, 2), []))
    state = rows.front(1)
    state.ring = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="can't grow"):
        rows.keep(state)


def test_tensors_of_a_state_in_order():
    nested = {"a": (torch.tensor(1), None), "b": [Moved(torch.tensor(2), [torch.tensor(3)])]}
    assert [int(tensor) for tensor in tensors(nested)] == [1, 2, 3]
