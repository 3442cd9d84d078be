"""Rows of public sets: some of them, from everywhere."""

from antiphon.evals.rows import spread


def test_spread_takes_from_everywhere():
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert len(set(spread(range(300), 200))) == 200
