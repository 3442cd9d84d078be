"""Products of a few rows are products, however many rows there are, packed or not."""

import copy
import pickle
import threading

import pytest
import torch

import antiphon.nn.cpu as module
from antiphon.nn.cpu import PackedLinear, PackedWeights, in_bfloat16, one_thread, product

pack = pytest.mark.skipif(
    torch.backends.quantized.engine not in ("x86", "fbgemm"), reason="needs FBGEMM, which is for x86"
)


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=pack)])
@pytest.mark.parametrize("shape", [(24, 16), (900, 700)])
def test_any_number_of_rows(shape, packed):
    torch.manual_seed(0)
    weight = torch.randn(3, *shape).half().float()[1]  # a weight may be one of several in a tensor
    kept = PackedWeights([weight]) if packed else None
    for n in (1, 2, 3, 4, 5, 8, 9, 20):
        for rows in (torch.randn(n, shape[1]), torch.randn(shape[1], n).T, torch.randn(n, 2 * shape[1])[:, ::2]):
            for bias in (None, torch.randn(shape[0])):
                expected = torch.nn.functional.linear(rows, weight, bias)
                with torch.no_grad():
                    torch.testing.assert_close(product(rows, weight, bias, kept), expected, atol=2e-4, rtol=1e-4)


@pack
@pytest.mark.parametrize("direct", [True, False])
def test_copies_are_of_half_precision_and_used_only_while_the_weight_is_as_it_was(direct, monkeypatch):
    monkeypatch.setattr(module, "_DIRECT", direct and module._DIRECT)
    torch.manual_seed(0)
    weight, rows = torch.nn.Parameter(torch.randn(2, 24, 16)), torch.randn(8, 16)
    kept = PackedWeights(weight)
    assert len(kept) == 2 and kept.find(weight[0]) is not None
    with torch.no_grad():
        rounded = rows @ weight[1].half().float().T
        torch.testing.assert_close(product(rows, weight[1], packed=kept), rounded, atol=1e-5, rtol=0)
        weight.mul_(2.0)
        assert kept.find(weight[0]) is None
        torch.testing.assert_close(product(rows, weight[1], packed=kept), rows @ weight[1].T, atol=1e-4, rtol=0)
    kept = PackedWeights(weight)
    assert kept.find(weight[1][:, :8]) is None
    assert len(copy.deepcopy(kept)) == len(pickle.loads(pickle.dumps(kept))) == 0


def test_weights_made_in_inference_mode_have_no_copies():
    with torch.inference_mode():
        weight, rows = torch.randn(6, 4), torch.randn(2, 4)
        kept = PackedWeights([weight])
        assert len(kept) == 0
        torch.testing.assert_close(product(rows, weight, packed=kept), rows @ weight.T)


@pack
def test_a_packed_layer_is_the_layer():
    torch.manual_seed(0)
    layer, x = PackedLinear(16, 24), torch.randn(2, 3, 16)
    with torch.no_grad():
        before = layer(x)
        layer.packed = PackedWeights([layer.weight])
        torch.testing.assert_close(layer(x), before, atol=5e-3, rtol=1e-2)


def test_gradients_and_other_dtypes_go_the_usual_way():
    weight = torch.nn.Parameter(torch.randn(6, 4))
    product(torch.randn(1, 4), weight).sum().backward()
    assert weight.grad.abs().max() > 0
    with torch.no_grad():
        half = product(torch.ones(1, 4, dtype=torch.bfloat16), weight.bfloat16())
    assert half.dtype == torch.bfloat16 and len(PackedWeights([weight.bfloat16()])) == 0


@pack
@pytest.mark.parametrize("direct", [True, False])
def test_a_weight_that_is_packed_in_pieces_gives_the_same(direct, monkeypatch):
    monkeypatch.setattr(module, "_DIRECT", direct and module._DIRECT)
    torch.manual_seed(0)
    weight, rows = torch.randn(83, 24), torch.randn(3, 24)
    with torch.no_grad():
        whole = product(rows, weight, packed=PackedWeights([weight]))
        monkeypatch.setattr(module, "MAX_PIECE_ROWS", 32)
        kept = PackedWeights([weight])
        assert len(kept.find(weight)[1]) == 3
        assert torch.equal(product(rows, weight, packed=kept), whole)


@pytest.mark.parametrize("supported", [True, False])
def test_a_module_in_bfloat16_is_nearly_the_same_and_leaves_the_other_alone(supported, monkeypatch):
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: supported)
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.LayerNorm(24), torch.nn.Linear(24, 8, bias=False))
    x = torch.randn(2, 30, 16)
    with torch.no_grad():
        before = plain(x)
        quick = in_bfloat16(plain)
        near = quick(x)
        assert torch.equal(plain(x), before) and near.dtype == torch.float32
    assert quick[1].weight is plain[1].weight and isinstance(plain[0], torch.nn.Linear)
    assert torch.equal(near, before) is not supported
    torch.testing.assert_close(near, before, atol=0.05, rtol=0.05)


def test_one_thread_is_for_what_is_inside_and_for_this_thread():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        ready, inside, outside = threading.Event(), threading.Event(), threading.Event()

        def beside():
            assert torch.get_num_threads() == 2
            ready.set()
            assert inside.wait(10)
            seen.append(torch.get_num_threads())
            outside.set()

        other = threading.Thread(target=beside)
        other.start()
        assert ready.wait(10)
        with pytest.raises(KeyError), one_thread():
            inside.set()
            assert outside.wait(10)
            seen.append(torch.get_num_threads())
            raise KeyError
        other.join()
        assert seen == [2, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
