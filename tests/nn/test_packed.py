"""Weights in 8 and 4 bits: what is lost is known, products are those of the weights, rows are looked up."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from antiphon.errors import ModelError
from antiphon.nn.packed import PackedEmbedding, PackedProduct, dequantize, quantize, write_product


@pytest.mark.parametrize("bits", [8, 4])
def test_no_number_is_off_by_more_than_half_a_step(bits: int) -> None:
    weight = torch.randn(5, 64)
    packed, scale = quantize(weight, 32, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (5, 2, 4 * bits) and scale.shape == (5, 2)
    off = (dequantize(packed, scale, bits) - weight).abs().unflatten(1, (2, 32))
    assert (off <= scale[..., None] / 2 + 1e-6).all()
    torch.testing.assert_close(scale, weight.abs().unflatten(1, (2, 32)).amax(-1) / (127 if bits == 8 else 7))


def test_what_eight_bits_can_express_is_kept() -> None:
    weight = torch.randint(-127, 128, (3, 32)).float()
    weight[:, 0] = 127
    assert torch.equal(dequantize(*quantize(weight, 32)), weight)
    assert torch.equal(dequantize(*quantize(torch.zeros(2, 32), 32)), torch.zeros(2, 32))


def test_rows_that_do_not_come_in_blocks_are_refused() -> None:
    with pytest.raises(ModelError, match="blocks of 32"):
        quantize(torch.zeros(2, 40), 32)


@pytest.mark.parametrize(("block", "bits"), [(16, 8), (128, 8), (16, 4), (32, 4)])
def test_a_product_is_that_of_its_weight(tmp_path: Path, block: int, bits: int) -> None:
    torch.manual_seed(0)
    weights = {name: torch.randn(24, 256) for name in ("first", "second")}
    tensors = {}
    for name, weight in weights.items():
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = quantize(weight, block, bits)
        weights[name] = dequantize(tensors[f"{name}.weight"], tensors[f"{name}.scale"], bits)
    save_file(tensors, tmp_path / "some.safetensors")
    for name, weight in weights.items():
        write_product(tmp_path, name, "some.safetensors", bits)
        product = PackedProduct(tmp_path, name)
        assert product.shape == (24, 256)
        for shape in ((1, 256), (2, 7, 256), (0, 256)):
            x = torch.randn(shape)
            want = x @ weight.T
            assert product(x).shape == want.shape
            assert (product(x) - want).norm() <= 0.02 * want.norm()


def test_a_product_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="make it anew"):
        PackedProduct(tmp_path, "none")


@pytest.mark.parametrize(("bits", "near"), [(8, 0.02), (4, 0.3)])
def test_rows_of_a_table(bits: int, near: float) -> None:
    weight = torch.randn(9, 32)
    table = PackedEmbedding(*quantize(weight, 16, bits), bits)
    tokens = torch.tensor([[3, 0], [8, 3]])
    torch.testing.assert_close(table(tokens), weight[tokens], atol=near, rtol=0)
