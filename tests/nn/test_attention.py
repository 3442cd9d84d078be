"""Attention with a cache equals attention over the whole, with and without a window."""

import math

import pytest
import torch

from antiphon.nn.attention import Attention, Transformer, rotary_frequencies, rotate


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("trial", range(3))
def test_in_pieces_equals_whole(window, trial):
    torch.manual_seed(trial)
    model = Transformer(dim=8, heads=2, inner=12, layers=2, window=window)
    x = torch.randn(2, 11, 8)
    state, done, pieces = model.init_state(), 0, []
    while done < 11:
        size = int(torch.randint(1, 4, ()))
        pieces.append(model.step(x[:, done : done + size], state))
        done += size
    torch.testing.assert_close(torch.cat(pieces, 1), model(x), atol=1e-5, rtol=1e-4)


def test_the_cache_stops_growing_at_the_window():
    attention = Attention(4, 1, window=5)
    state = attention.init_state()
    for _ in range(20):
        attention.step(torch.randn(1, 1, 4), state)
    assert state.keys.shape[2] == 4 and state.position == 20


def test_rotation_by_hand():
    x = torch.tensor([[[[1.0, 0.0]]]])
    out = rotate(x, 2, rotary_frequencies(2))
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([math.cos(2.0), math.sin(2.0)]))


def test_scores_depend_on_distance_alone():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    frequencies = rotary_frequencies(8)
    near = (rotate(q, 5, frequencies) * rotate(k, 3, frequencies)).sum()
    far = (rotate(q, 105, frequencies) * rotate(k, 103, frequencies)).sum()
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
