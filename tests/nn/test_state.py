"""States as values: forks are independent, rows leave and join, and what can't share a batch is refused."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from antiphon.nn.state import fork, in_groups, join, select


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
