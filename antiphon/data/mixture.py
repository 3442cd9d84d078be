"""Several sources in one endless row of examples, every one of which can be computed from its number alone.

    mixture = Mixture({"speech": speech, "text": text}, Mix(weights={"speech": 3, "text": 1}), seed=0)
    mixture[1_000_000]              # an item of a source
    mixture.draw(1_000_000)         # which one that is: Draw(source="speech", epoch=2, index=17)

A source is anything that has a length and gives an item by its index: a list of recordings, a store, a dataset of
Hugging Face's `datasets`, the tars of `antiphon.data.tars`. Nothing is kept from draw to draw. So a run goes on with
the very example that comes next, on any number of workers and ranks: whoever computes number n computes the same.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antiphon.errors import DataError

BLOCK = 10_000  # draws in which every source comes exactly as often as its share says


class Source(Protocol):
    """What a mixture draws from: its items by their indices, the same item each time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass
class Mix:
    """How often each source comes, as a recipe says it."""

    weights: dict[str, float] = field(default_factory=dict)
    """Of each source; one that isn't named weighs as much as it has items."""
    temperature: float = 1.0
    """Weights are raised to its inverse: 1 as they are, larger ones bring them nearer to each other."""
    epochs: dict[str, float] = field(default_factory=dict)
    """At most so many passes over a source; then the others share its place. One that isn't named never ends."""


@dataclass(frozen=True)
class Draw:
    """Which item comes: of which source, in which of its passes (from 0), and its index there."""

    source: str
    epoch: int
    index: int


@dataclass(frozen=True)
class _Phase:
    """A stretch of draws in which the same sources come.

    Attributes:
        start: its first draw.
        quotas: draws of each source in a block; 0 of one that has ended.
        before: draws of each source before this phase.
    """

    start: int
    quotas: tuple[int, ...]
    before: tuple[int, ...]


class Mixture:
    """See the module.

    Args:
        sources: by their names, the order of which doesn't matter.
        mix: how often each comes.
        seed: of the order.

    Raises:
        DataError: no source, an empty one, a name in `mix` that is no source's, or numbers that make no sense.
    """

    def __init__(self, sources: Mapping[str, Source], mix: Mix | None = None, seed: int = 0):
        self.names, self.seed = sorted(sources), seed
        self.sources = [sources[name] for name in self.names]
        mix = mix or Mix()
        _check(dict(zip(self.names, map(len, self.sources))), mix)
        self._lengths = [len(source) for source in self.sources]
        weights = [float(mix.weights.get(name, size)) for name, size in zip(self.names, self._lengths)]
        powers = [weight ** (1 / mix.temperature) for weight in weights]
        ends = [mix.epochs.get(name, math.inf) for name in self.names]
        self._ends = [math.inf if end == math.inf else round(end * size) for end, size in zip(ends, self._lengths)]
        self._order = lru_cache(maxsize=8)(self._block)
        self._phases, self._length = self._plan(powers)

    @property
    def length(self) -> float:
        """Draws in all; infinite where a source never ends."""
        return self._length

    def __getitem__(self, number: int) -> Any:
        draw = self.draw(number)
        return self.sources[self.names.index(draw.source)][draw.index]

    def draw(self, number: int) -> Draw:
        """What comes as number `number`, from 0.

        Raises:
            DataError: all sources have ended.
        """
        if number >= self._length:
            raise DataError(
                f"the mixture ends after {int(self._length)} examples, as its epochs say, and number {number} is asked "
                "for: give it more epochs, or take fewer steps"
            )
        at = bisect_right([phase.start for phase in self._phases], number) - 1
        phase = self._phases[at]
        block, place = divmod(number - phase.start, BLOCK)
        order, earlier = self._order(at, block, phase.quotas)
        source = int(order[place])
        count = phase.before[source] + block * phase.quotas[source] + int(earlier[place])
        epoch, nth = divmod(count, self._lengths[source])
        name = self.names[source]
        return Draw(name, epoch, shuffled(nth, self._lengths[source], f"{self.seed}/{name}/{epoch}"))

    def _block(self, phase: int, block: int, quotas: tuple[int, ...]) -> tuple[NDArray, NDArray]:
        """Which source comes at each place of a block, and how often it came earlier in the block."""
        order = np.repeat(np.arange(len(quotas)), quotas)
        np.random.default_rng([self.seed, phase, block]).shuffle(order)
        earlier = np.zeros(len(order), dtype=np.int64)
        for source in range(len(quotas)):
            places = order == source
            earlier[places] = np.arange(places.sum())
        return order, earlier

    def _plan(self, powers: list[float]) -> tuple[list[_Phase], float]:
        """The phases, each of which ends with the last draw of a source; and the draws in all."""
        phases: list[_Phase] = []
        start, before = 0, [0] * len(powers)
        while True:
            alive = [count < end for count, end in zip(before, self._ends)]
            if not any(alive):
                return phases, start
            quotas = tuple(_quotas([power if lives else 0.0 for power, lives in zip(powers, alive)]))
            phases.append(_Phase(start, quotas, tuple(before)))
            left = [end - count for end, count in zip(self._ends, before)]
            # The source that ends first, and the block in which it does.
            blocks = [(n - 1) // quota if quota and n != math.inf else math.inf for n, quota in zip(left, quotas)]
            if (block := min(blocks)) == math.inf:
                return phases, math.inf
            block = int(block)
            order, _ = self._order(len(phases) - 1, block, quotas)
            places = [
                int(np.flatnonzero(order == source)[int(left[source]) - 1 - block * quota])
                for source, quota in enumerate(quotas)
                if blocks[source] == block
            ]
            place = min(places)
            came = np.bincount(order[: place + 1], minlength=len(quotas))
            before = [n + block * quota + int(new) for n, quota, new in zip(before, quotas, came)]
            start += block * BLOCK + place + 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._order = lru_cache(maxsize=8)(self._block)


def _check(lengths: dict[str, int], mix: Mix) -> None:
    if not lengths:
        raise DataError("a mixture needs at least one source")
    for name, length in lengths.items():
        if not length:
            raise DataError(f"the source {name!r} of the mixture is empty: give it something, or leave it out")
    for field_name, values in (("weights", mix.weights), ("epochs", mix.epochs)):
        for name, value in values.items():
            if name not in lengths:
                raise DataError(f"mix.{field_name}: there is no source {name!r}, only {', '.join(lengths)}")
            if not 0 < value < math.inf:
                raise DataError(f"mix.{field_name}: {name} is {value}; it must be above 0 (leave a source out instead)")
    if not mix.temperature > 0:
        raise DataError(f"mix.temperature is {mix.temperature}; it must be above 0")


def _quotas(powers: list[float]) -> list[int]:
    """Whole draws of a block for each source, in proportion (largest remainders), at least one where there is any."""
    total = sum(powers)
    exact = [power / total * BLOCK for power in powers]
    quotas = [max(1, int(share)) if share else 0 for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda source: (int(exact[source]) - exact[source], source))
    for source in by_remainder:
        if sum(quotas) >= BLOCK:
            break
        quotas[source] += 1 if exact[source] else 0
    quotas[quotas.index(max(quotas))] -= sum(quotas) - BLOCK  # what the least frequent were given too much
    return quotas


def shuffled(index: int, length: int, key: str) -> int:
    """Where `index` goes in a permutation of `length` items that `key` names, without writing the permutation down: a
    Feistel network of four rounds over the next power of four, walked until it is inside (Black and Rogaway 2002)."""
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for round_ in range(4):
            digest = hashlib.blake2b(f"{key}/{round_}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        index = left << half | right
        if index < length:
            return index
