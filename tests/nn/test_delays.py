"""Delays undo themselves, and do what they say in a case written out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antiphon.nn.delays import delay, undelay


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(1, 6))
def test_undelay_undoes_delay(delays, frames):
    grid = torch.arange(2 * len(delays) * frames).view(2, len(delays), frames)
    assert torch.equal(undelay(delay(grid, delays, fill=-1), delays), grid)


def test_by_hand():
    grid = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    assert delay(grid, [0, 1], fill=-1).tolist() == [[[1, 2, 3, -1], [-1, 4, 5, 6]]]


def test_wrong_number_of_delays_is_refused():
    with pytest.raises(ValueError, match="as many delays"):
        delay(torch.zeros(1, 2, 3), [1], fill=0)
