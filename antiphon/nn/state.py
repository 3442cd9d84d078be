"""States of streams as values: keep, fork, batch and part them.

A state is a tensor, None, or a dataclass, list, tuple or dict of states. The first dimension of every tensor is the
batch: row b is all that is remembered of conversation b. So conversations may join a batch and leave it between any two
steps, whatever they are made of. What differs between rows is a tensor (a position is `[batch]`, not an int); anything
else in a state (an int, a float, a string) is the same for every row that can share a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

State = TypeVar("State")


def _map(function: Callable[..., Any], states: Sequence[Any], where: str = "state") -> Any:
    """Applies a function to the tensors that stand at the same place in several states."""
    first = states[0]
    if any(type(state) is not type(first) for state in states):
        kinds = ", ".join(type(state).__name__ for state in states)
        raise ValueError(f"{where}: these states are of different kinds ({kinds})")
    if isinstance(first, Tensor):
        shapes = [list(shape) for shape in dict.fromkeys(state.shape[1:] for state in states if len(state))]
        if len(shapes) > 1:
            raise ValueError(
                f"{where}: rows of {' and '.join(map(str, shapes))} can't share a batch: they are of different models, "
                "or not equally much input waits in them"
            )
        return function(*states)
    if dataclasses.is_dataclass(first):
        parts = {
            field.name: _map(function, [getattr(s, field.name) for s in states], f"{where}.{field.name}")
            for field in dataclasses.fields(first)
        }
        return type(cast(Any, first))(**parts)
    if isinstance(first, dict):
        return {key: _map(function, [s[key] for s in states], f"{where}[{key!r}]") for key in first}
    if isinstance(first, (list, tuple)):
        if len({len(state) for state in states}) > 1:
            raise ValueError(f"{where}: these states have different lengths")
        return type(first)(_map(function, parts, f"{where}[{n}]") for n, parts in enumerate(zip(*states)))
    if any(state != first for state in states):
        raise ValueError(f"{where}: rows with {', '.join(map(str, states))} can't share a batch")
    return first


def fork(state: State) -> State:
    """A copy that goes its own way: a snapshot to come back to, or a second future of the same stream."""
    return _map(Tensor.clone, [state])


def select(state: State, rows: Sequence[int] | Tensor) -> State:
    """The state of some rows alone, in the order given; a row may be named twice. The rest leaves the batch."""

    def pick(tensor: Tensor) -> Tensor:
        return tensor[torch.as_tensor(rows, device=tensor.device, dtype=torch.long)]

    return _map(pick, [state])


def join(states: Sequence[State]) -> State:
    """One batch of the rows of several states, in the order given.

    Raises:
        ValueError: no states, or states that can't share a batch.
    """
    if not states:
        raise ValueError("join needs at least one state")

    def batch(*tensors: Tensor) -> Tensor:
        return torch.cat([tensor for tensor in tensors if len(tensor)] or tensors[:1])

    return _map(batch, list(states))


def rows_of(state: State) -> list[State]:
    """The state of each row, as views: to be joined again by `together`, or changed alone, which changes the batch."""
    return [_map(lambda tensor, row=row: tensor[row : row + 1], [state]) for row in range(len(next(tensors(state))))]


def together(states: Sequence[State]) -> State:
    """`join` for states that aren't used after it, which costs nothing where they lie one after the other in memory, as
    the rows of a batch do: so streams that go on together are joined once."""
    return _map(_together, list(states))


def _together(*parts: Tensor) -> Tensor:
    first, place = parts[0], parts[0].storage_offset()
    for part in parts:
        if (
            part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
            or (part.storage_offset(), part.stride()) != (place, first.stride())
            or not part.numel()
        ):
            return torch.cat(parts)
        place += len(part) * part.stride(0)
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())


def in_groups(
    state: State, keys: Sequence[Any], run: Callable[[list[int], State], Tensor]
) -> tuple[list[Tensor], State]:
    """Steps a batch in groups: the rows of one key together.

    Args:
        state: of at least one row.
        keys: one a row; they can be sorted.
        run: rows and their state, which it may change -> what they get, [rows, ...].

    Returns:
        What each row gets, [1, ...]; the state of all rows, in their order.
    """
    outputs: dict[int, Tensor] = {}
    groups = []
    for key in sorted(set(keys)):
        rows = [row for row, own in enumerate(keys) if own == key]
        groups.append(select(state, rows))
        outputs.update(zip(rows, run(rows, groups[-1]).split(1)))
    order = list(outputs)
    places = sorted(range(len(order)), key=order.__getitem__)
    return [outputs[row] for row in range(len(keys))], select(join(groups), places)


class StateBatch(Generic[State]):
    """One batch with room for more: states of streams whose rows join, rest and leave between any two steps.

    The states lie in buffers of a fixed capacity, and their tensors keep their shape from step to step. The rows that
    take part in a step stand at the front, and a step works on views of them, so that a stream which stays costs no
    copy, however large its state. Joining, leaving and resting move single rows. What a module replaces rather than
    changes in place (a position, the tail of a convolution) is small and is copied back.

        batch = StateBatch(lambda n: model.init_state(n), capacity=8)
        row = batch.add(model.init_state(1))
        state = batch.front(batch.count)
        y = model.step(x, state)              # x has batch.count rows
        batch.keep(state)

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
        return type(cast(Any, state))(**parts)
    if isinstance(state, dict):
        return {key: _narrowed(part, rows) for key, part in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_narrowed(part, rows) for part in state)
    return state
