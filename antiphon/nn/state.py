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
    return _map(lambda *tensors: torch.cat(tensors), list(states))
