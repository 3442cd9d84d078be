"""A cache of keys and values: rows of any length in one buffer, joined whatever room they have."""

import torch

from antiphon.nn.cache import KeyValues, join
from antiphon.nn.state import select


def put(cache: KeyValues, rows: list[list[float]], counts: list[int] | None = None) -> torch.Tensor:
    """Writes a number a position; gives the keys that are seen, [batch, end]."""
    new = torch.tensor(rows)[:, None, :, None].expand(-1, 2, -1, 3)
    span = cache.reserve(new.shape[2])
    keys, values = cache.put(0, new, -new, span)
    assert torch.equal(keys, -values)
    cache.advance(new.shape[2] if counts is None else torch.tensor(counts))
    return keys[:, 1, :, 2]


def empty(batch: int, capacity: int) -> KeyValues:
    return KeyValues.empty(batch, 1, 2, 3, capacity, torch.zeros(0))


def test_rows_in_step_and_out_of_step() -> None:
    cache = empty(2, 2)
    assert put(cache, [[1.0, 2.0], [5.0, 6.0]], [2, 1]).tolist() == [[1, 2], [5, 6]]
    assert cache.capacity == 2 and cache.reserve(1).start is None
    seen = put(cache, [[3.0], [7.0]])
    assert seen[0].tolist() == [1, 2, 3] and seen[1, :2].tolist() == [5, 7]  # what wasn't kept is written over
    assert cache.length.tolist() == [3, 2] and cache.capacity >= 3
    cache.cut(1)
    assert cache.length.tolist() == [1, 1] and cache.reserve(2).start == 1
    assert put(cache, [[8.0], [9.0]]).tolist() == [[1, 8], [5, 9]]


def test_forks_go_their_own_way_and_caches_of_unequal_room_are_joined() -> None:
    one, other = empty(1, 1), empty(1, 40)
    put(one, [[1.0]])
    put(other, [[2.0, 3.0]])
    twins = one.fork([0, 0])
    put(twins, [[4.0], [5.0]])
    assert one.length.tolist() == [1] and twins.length.tolist() == [2, 2]
    both = join([[other, "same"], [twins, "same"]])[0]
    assert both.length.tolist() == [2, 2, 2]
    assert put(both, [[6.0], [7.0], [8.0]]).tolist() == [[2, 3, 6], [1, 4, 7], [1, 5, 8]]
    assert put(select(both, [2, 0]), [[0.0], [0.0]]).tolist() == [[1, 5, 8, 0], [2, 3, 6, 0]]
    assert other.length.tolist() == [2] and not other.buffer[0, 0, 0, 0, 2:].any()
