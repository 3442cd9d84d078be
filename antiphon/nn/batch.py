"""One batch with room for more: states of many streams whose rows join, rest and leave between any two steps.

The states lie in buffers of a fixed capacity. The rows that take part in a step stand at its front, and a step works on
views of them, so that a stream which stays costs no copy, however large its state. Joining, leaving and resting move
single rows. What a module replaces rather than changes in place (a position, the tail of a convolution) is small and is
copied back.

    rows = Rows(lambda n: model.init_state(n), capacity=8)
    row = rows.add(model.init_state(1))
    state = rows.front(rows.count)
    y = model.step(x, state)              # x has rows.count rows
    rows.keep(state)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from torch import Tensor

from antiphon.nn.state import fork, select

State = TypeVar("State")


class Rows(Generic[State]):
    """States (see `antiphon.nn.state`) whose tensors keep their shape from step to step.

    Args:
        make: gives the state of so many fresh rows.
        capacity: rows there is room for at first; more are made when needed, twice as many each time.

    Attributes:
        count: rows in use; they are rows 0 to count - 1.
    """

    def __init__(self, make: Callable[[int], State], capacity: int = 1):
        if capacity < 1:
            raise ValueError(f"a batch has room for at least one row, not {capacity}")
        self.make, self.capacity, self.count = make, capacity, 0
        self._all = fork(make(capacity))  # fresh states may share memory between their tensors: buffers must not

    def add(self, state: State) -> int:
        """Takes in a stream by its state of one row, which is copied. Returns its row."""
        if self.count == self.capacity:
            self._grow()
        self.count += 1
        self.put(self.count - 1, state)
        return self.count - 1

    def remove(self, row: int) -> None:
        """Drops a row; the last one takes its place."""
        self._check(row)
        self.count -= 1
        for tensor in tensors(self._all) if row != self.count else ():
            tensor[row].copy_(tensor[self.count])

    def swap(self, one: int, other: int) -> None:
        """Exchanges two rows."""
        self._check(one)
        self._check(other)
        for tensor in tensors(self._all) if one != other else ():
            held = tensor[one].clone()
            tensor[one].copy_(tensor[other])
            tensor[other].copy_(held)

    def get(self, row: int) -> State:
        """A copy of one row's state."""
        self._check(row)
        return select(self._all, [row])

    def put(self, row: int, state: State) -> None:
        """Writes the state of one row.

        Raises:
            ValueError: the state isn't of this batch's kind.
        """
        self._check(row)
        for held, given in _pairs(self._all, state):
            if given.shape[1:] != held.shape[1:] or len(given) != 1:
                raise ValueError(
                    f"a row of {list(held.shape[1:])} can't take a state of {list(given.shape)}: it is another "
                    "model's, or a tensor of it grows"
                )
            held[row].copy_(given[0])

    def front(self, rows: int) -> State:
        """The state of the first `rows` rows, as views: a step changes them, and `keep` must follow."""
        return _narrowed(self._all, rows)

    def keep(self, state: State) -> None:
        """Takes back what `front` gave, after a step.

        Raises:
            ValueError: a tensor of it has grown.
        """
        for held, given in _pairs(self._all, state):
            if given.shape[1:] != held.shape[1:]:
                raise ValueError(f"a state of {list(held.shape)} became {list(given.shape)} in a step: it can't grow")
            if given.data_ptr() != held.data_ptr():  # else it was changed in place
                held[: len(given)].copy_(given)

    def _grow(self) -> None:
        old, used = self._all, self.count
        self.capacity *= 2
        self._all = fork(self.make(self.capacity))
        for new, held in _pairs(self._all, old):
            new[:used].copy_(held[:used])

    def _check(self, row: int) -> None:
        if not 0 <= row < self.count:
            raise ValueError(f"there is no row {row}; {self.count} are in use")


def tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, always in the same order."""
    if isinstance(state, Tensor):
        yield state
    elif dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield from tensors(getattr(state, field.name))
    elif isinstance(state, dict):
        for part in state.values():
            yield from tensors(part)
    elif isinstance(state, (list, tuple)):
        for part in state:
            yield from tensors(part)


def _pairs(one: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    mine, theirs = list(tensors(one)), list(tensors(other))
    if len(mine) != len(theirs):
        raise ValueError(f"a state of {len(mine)} tensors and one of {len(theirs)} are of different kinds")
    return zip(mine, theirs)


def _narrowed(state: Any, rows: int) -> Any:
    if isinstance(state, Tensor):
        return state[:rows]
    if dataclasses.is_dataclass(state):
        parts = {field.name: _narrowed(getattr(state, field.name), rows) for field in dataclasses.fields(state)}
        return type(state)(**parts)
    if isinstance(state, dict):
        return {key: _narrowed(part, rows) for key, part in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_narrowed(part, rows) for part in state)
    return state
