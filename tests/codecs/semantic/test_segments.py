"""Codes that last: the cheapest path, against all paths there are."""

from __future__ import annotations

import itertools

import pytest
import torch

from antiphon.codecs.semantic.segments import lasting_codes
from antiphon.nn.quantize import nearest


def cost(values: torch.Tensor, centroids: torch.Tensor, codes: list[int], penalty: float) -> float:
    """Of a path, written out."""
    distance = sum(float((value - centroids[code]).square().sum()) for value, code in zip(values, codes))
    return distance + penalty * sum(a != b for a, b in zip(codes, codes[1:]))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 3.0, 100.0])
def test_no_other_path_is_cheaper(penalty: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        values, centroids = torch.randn(6, 2, generator=generator), torch.randn(3, 2, generator=generator)
        found = lasting_codes(values[None], centroids, penalty)[0].tolist()
        best = min(itertools.product(range(3), repeat=6), key=lambda path: cost(values, centroids, list(path), penalty))
        assert cost(values, centroids, found, penalty) == pytest.approx(
            cost(values, centroids, list(best), penalty), abs=1e-5
        )


def test_without_a_penalty_each_frame_has_its_nearest_centre() -> None:
    values, centroids = torch.randn(1, 50, 4), torch.randn(9, 4)
    assert torch.equal(lasting_codes(values, centroids, 0.0)[0], nearest(values[0], centroids))


def test_rows_are_what_each_is_alone_and_long_ones_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.codecs.semantic.segments.FRAMES", 7)
    generator = torch.Generator().manual_seed(1)
    values, centroids = torch.randn(3, 40, 4, generator=generator), torch.randn(9, 4, generator=generator)
    frames = torch.tensor([40, 13, 1])
    codes = lasting_codes(values, centroids, 2.0, frames)
    monkeypatch.undo()
    for row, count in enumerate(frames.tolist()):
        assert torch.equal(codes[row, :count], lasting_codes(values[row : row + 1, :count], centroids, 2.0)[0])
    changes = int((codes[0, 1:] != codes[0, :-1]).sum())
    plain = nearest(values[0], centroids)
    assert changes < int((plain[1:] != plain[:-1]).sum())
