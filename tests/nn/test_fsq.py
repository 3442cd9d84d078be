"""Finite scalar quantization: the grid, its indices and its gradient."""

import itertools

import pytest
import torch

from antiphon.nn.fsq import FSQ


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3,) * 8, (2, 4), (7,)])
def test_every_code_has_its_own_point_and_gives_it_back(levels):
    fsq = FSQ(levels)
    index = torch.arange(fsq.size)
    points = fsq.vectors(index)
    assert points.shape == (fsq.size, len(levels)) and len(points.unique(dim=0)) == fsq.size
    assert points.abs().max() <= 1
    for dimension, count in enumerate(levels):
        assert len(points[:, dimension].unique()) == count
    # what is bounded to a grid point is that point again
    half = fsq.levels // 2
    offset = 0.5 * (fsq.levels % 2 == 0)
    inner = torch.atanh((points * half + offset) / ((fsq.levels - 1) * (1 + 1e-3) / 2)) - torch.atanh(
        offset / ((fsq.levels - 1) * (1 + 1e-3) / 2)
    )
    again, found = fsq(inner)
    assert torch.equal(found, index) and torch.allclose(again, points, atol=1e-6)


def test_rounding_is_that_of_a_slow_obvious_version():
    fsq, x = FSQ((3, 5)), torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 2
    quantized, index = fsq(x)
    grid = list(itertools.product((-1.0, 0.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0)))
    for row in range(50):
        bounded = [torch.tanh(x[row, d]) * (n - 1) * (1 + 1e-3) / 2 for d, n in enumerate((3, 5))]
        best = min(grid, key=lambda point: sum((float(b) - p) ** 2 for b, p in zip(bounded, point)))
        assert quantized[row].tolist() == [best[0], best[1] / 2]
        assert index[row] == (best[0] + 1) + 3 * (best[1] + 2)


def test_the_gradient_is_that_of_the_bound():
    fsq, x = FSQ((4, 5)), torch.randn(6, 2, requires_grad=True)
    fsq(x)[0].sum().backward()
    got, x.grad = x.grad.clone(), None
    (fsq.bound(x) / (fsq.levels // 2)).sum().backward()
    assert torch.allclose(got, x.grad) and (got > 0).all()


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        FSQ((3, 1))
    with pytest.raises(ValueError, match="at least 2"):
        FSQ(())
