"""Weights in int8: small, near, and what isn't a matrix is kept."""

import torch

from antiphon.hub.weights import from_int8, to_int8


def test_each_number_is_near_and_the_file_is_small():
    torch.manual_seed(0)
    weights = {"a.weight": torch.randn(7, 33), "stack": torch.randn(3, 5, 16) * 1e-3, "norm": torch.randn(9)}
    small = to_int8(weights)
    assert small["a.weight"].dtype == small["stack"].dtype == torch.int8
    assert {key: tuple(small[key].shape) for key in ("a.weight.scale", "stack.scale")} == {
        "a.weight.scale": (7,),
        "stack.scale": (3, 5),
    }
    back = from_int8(small)
    assert set(back) == set(weights)
    for key in ("a.weight", "stack"):
        off = (back[key] - weights[key]).abs()
        assert (off <= weights[key].abs().amax(-1, keepdim=True) / 200).all() and off.max() > 0
    assert torch.equal(back["norm"], weights["norm"].half())


def test_rows_of_zeros_stay_zeros_and_floats_pass():
    back = from_int8(to_int8({"w": torch.zeros(2, 4)}))
    assert torch.equal(back["w"], torch.zeros(2, 4))
    plain = {"w": torch.randn(2, 4), "w.bias": torch.randn(2)}
    assert all(torch.equal(value, plain[key]) for key, value in from_int8(plain).items())
