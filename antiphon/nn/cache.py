"""Keys and values of everything read so far, as a value: rows of any number, each as long as it is.

    cache = KeyValues.empty(1, layers, heads, width, capacity=128, like=weight)
    span = cache.reserve(steps)                       # where the next positions of each row lie
    keys, values = cache.put(layer, keys, values, span)
    cache.advance(steps)                              # or a number a row: what a row doesn't keep is overwritten later

`nn.state` forks and selects such caches; `join` here also joins caches that have unequal room.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.nn import state as states

State = TypeVar("State")
SPARE = 64  # positions of room that a copy has


@dataclass(frozen=True)
class Span:
    """Where the next positions of a cache's rows lie.

    Attributes:
        start: position of the first where the rows are in step, else None.
        positions: [steps] where the rows are in step, else [batch, steps].
        end: positions that any row has, the new ones included.
    """

    start: int | None
    positions: Tensor
    end: int


@dataclass
class KeyValues:
    """Keys and values of every layer. Room doubles when it runs out.

    Attributes:
        buffer: [batch, layers, 2, heads, capacity, width].
        length: positions that each row has, [batch].
    """

    buffer: Tensor
    length: Tensor

    @classmethod
    def empty(cls, batch: int, layers: int, heads: int, width: int, capacity: int, like: Tensor) -> KeyValues:
        """A cache of nothing, of the dtype of `like` and where it is."""
        buffer = like.new_zeros(batch, layers, 2, heads, capacity, width)  # what nobody looks at must be no NaN
        return cls(buffer, torch.zeros(batch, dtype=torch.long, device=like.device))

    @property
    def capacity(self) -> int:
        """Positions that there is room for."""
        return self.buffer.shape[4]

    def resize(self, capacity: int) -> None:
        """Moves into a buffer with room for so many positions, which must hold what is there."""
        shape, held = list(self.buffer.shape), min(capacity, self.capacity)
        shape[4] = capacity
        larger = self.buffer.new_empty(shape)
        larger[..., :held, :] = self.buffer[..., :held, :]
        larger[..., held:, :] = 0  # what nobody looks at must be no NaN
        self.buffer = larger

    def reserve(self, steps: int) -> Span:
        """Makes room for so many more positions of each row."""
        lengths = self.length.tolist()
        end = max(lengths, default=0) + steps
        if end > self.capacity:
            self.resize(max(2 * self.capacity, end))
        new = torch.arange(steps, device=self.length.device)
        if len(set(lengths)) <= 1:
            return Span(end - steps, new + (end - steps), end)
        return Span(None, self.length[:, None] + new, end)

    def put(self, layer: int, keys: Tensor, values: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """Writes [batch, heads, steps, width] behind what each row has; gives all of the layer's, [batch, heads, end,
        width]: of a row that is shorter, what is behind its own means nothing."""
        own = self.buffer[:, layer]
        for part, new in ((own[:, 0], keys), (own[:, 1], values)):
            if span.start is not None:
                part[:, :, span.start : span.end] = new
            else:
                rows = torch.arange(len(part), device=part.device)[:, None]
                part[rows, :, span.positions] = new.transpose(1, 2)
        return own[:, 0, :, : span.end], own[:, 1, :, : span.end]

    def advance(self, steps: int | Tensor) -> None:
        """Keeps so many of the positions that were written, of all rows or of each [batch]."""
        self.length = self.length + steps

    def cut(self, length: int) -> None:
        """Forgets what is behind the first `length` positions."""
        self.length = self.length.clamp_max(length)

    def fork(self, rows: Sequence[int] | None = None) -> KeyValues:
        """A copy that goes its own way, of all rows or of these (one may be named twice), with a little room."""
        held = min(int(self.length.max()) if len(self.length) else 0, self.capacity)
        copy = KeyValues(self.buffer[..., :held, :], self.length)
        copy = copy if rows is None else states.select(copy, rows)
        copy.resize(held + SPARE)
        return KeyValues(copy.buffer, copy.length.clone())


def join(parts: Sequence[State]) -> State:
    """`nn.state.join` for states that hold caches: those with less room are given more first."""
    for caches in zip(*(_caches(part) for part in parts)):
        capacity = max(cache.capacity for cache in caches)
        for cache in caches:
            if cache.capacity < capacity:
                cache.resize(capacity)
    return states.join(parts)


def _caches(state: Any) -> Iterator[KeyValues]:
    if isinstance(state, KeyValues):
        yield state
    elif dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield from _caches(getattr(state, field.name))
    elif isinstance(state, (list, tuple)):
        for part in state:
            yield from _caches(part)
