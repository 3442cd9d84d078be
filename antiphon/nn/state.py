"""States of streams as values: keep, fork, batch and part them.

A state is a tensor, None, or a dataclass, list, tuple or dict of states. The first dimension of every tensor is the
batch: row b is all that is remembered of conversation b. So conversations may join a batch and leave it between any two
steps, whatever they are made of. What differs between rows is a tensor (a position is `[batch]`, not an int); anything
else in a state (an int, a float, a string) is the same for every row that can share a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

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
        return type(first)(**parts)
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

    def together(*tensors: Tensor) -> Tensor:
        return torch.cat([tensor for tensor in tensors if len(tensor)] or tensors[:1])

    return _map(together, list(states))


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
