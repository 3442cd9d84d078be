"""Products of rows with large weights on a CPU, as live models need them: bound by how fast the weights are read.

Found on CPUs with AVX-512, in float32: MKL's product with one row (a matrix times a vector) reads memory at half the
speed of that with two, and three rows cost more than four; so rows are padded. The weight must come first, and the rows
be contiguous. For more rows oneDNN is quicker. Twice as quick as any of them is FBGEMM's product with weights that are
kept in float16 and computed with in float32: half as much is read. `PackedWeights` keeps them.

This is the only file that calls operators of PyTorch which aren't public.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_PACKED_ROWS = 16  # up to which reading the weight is what takes the time
MAX_MKL_ROWS = 3  # up to which MKL's product is quicker than oneDNN's
MIN_SHARED_NUMBERS = 500_000  # in a weight, from which on two threads are quicker than one

# FBGEMM packs column by column. Of a weight with many rows that is one cache miss a number, three times as slow as in
# pieces of so many rows, each of which a product reads by itself; a multiple of the 16 that it computes together.
MAX_PIECE_ROWS = 8192

# FBGEMM's product by way of `torch.ops.quantized` takes 8 us before it begins, that of `torch` itself 1 us; but that
# one has one thread only, and is to be removed some day.
_DIRECT = hasattr(torch, "fbgemm_linear_fp16_weight_fp32_activation")


Packed = tuple[bool, list[Any]]  # whether the direct product reads it, and FBGEMM's copies of its pieces


class PackedWeights:
    """Second copies of weights, in float16. Of weights that float16 can express, as those of a model that was saved in
    it, nothing is lost.

    A weight that was changed since (trained, replaced) is no longer found, and its product is computed from itself. So
    is that of one which was made in inference mode: nothing tells when it changes.

    Args:
        weights: [out, in], float32 on a CPU with FBGEMM (x86); others are left out.
    """

    def __init__(self, weights: Iterable[Tensor]):
        # By address; the weight is held too, so that no other can come to lie there.
        self._kept: dict[int, tuple[int, Tensor, Packed]] = {}
        threads, warned = torch.get_num_threads(), set()
        if torch.backends.quantized.engine not in ("x86", "fbgemm"):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each warns once that it is to be removed
            for weight in weights:
                if weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference():
                    direct = _DIRECT and (threads == 1 or weight.numel() < MIN_SHARED_NUMBERS)
                    packed = (direct, _pack(weight.detach(), direct))
                    self._kept[weight.data_ptr()] = (weight._version, weight.detach(), packed)
                    if direct not in warned:
                        warned.add(direct)
                        _packed_product(weight.new_zeros(1, weight.shape[1]), packed)

    def __reduce__(self):
        return PackedWeights, ((),)  # a copy of a model has other weights, which may be packed anew

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, weight: Tensor) -> Packed | None:
        """The copy of a weight, if there is one and it is up to date."""
        kept = self._kept.get(weight.data_ptr())
        if kept is None or kept[0] != weight._version or kept[1].shape != weight.shape:
            return None
        return kept[2]


def _pack(weight: Tensor, direct: bool) -> list[Any]:
    pieces = [piece.contiguous() for piece in weight.split(MAX_PIECE_ROWS)]
    if direct:
        return [torch.fbgemm_pack_gemm_matrix_fp16(piece) for piece in pieces]
    return [torch.ops.quantized.linear_prepack_fp16(piece, None) for piece in pieces]


def _packed_product(rows: Tensor, packed: Packed) -> Tensor:
    direct, pieces = packed
    if direct:
        products = [torch.fbgemm_linear_fp16_weight_fp32_activation(rows, piece, None) for piece in pieces]
    else:
        products = [torch.ops.quantized.linear_dynamic_fp16(rows, piece) for piece in pieces]
    return products[0] if len(products) == 1 else torch.cat(products, dim=-1)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, packed: PackedWeights | None = None) -> Tensor:
    """rows [n, in] times weight [out, in], plus bias [out] -> [n, out]; as `F.linear`, but quicker on a CPU.

    Args:
        rows, weight, bias: as said.
        packed: copies of weights, which are used for a few rows.
    """
    n = rows.shape[0]
    few = packed is not None and n <= MAX_PACKED_ROWS and not torch.is_grad_enabled()
    if few and (copy := packed.find(weight)) is not None:
        y = _packed_product(rows, copy)
        return y if bias is None else y + bias
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(rows, weight, bias)
    if n > MAX_MKL_ROWS and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, bias, "none", [], "")
    if n in (1, 3):
        rows = torch.cat((rows, rows[:1]))
    rows = rows.contiguous().T
    y = weight @ rows if bias is None else torch.addmm(bias[:, None], weight, rows)
    return y[:, 0].contiguous()[None] if n == 1 else y[:, :n].T


class BfloatLinear(nn.Module):
    """A linear layer that multiplies in bfloat16, from float32 to float32; nothing is trained through it.

    Args:
        linear: the layer, which stays as it is.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.bfloat16(), self.weight, self.bias).float()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operators that are called inside, on this thread, use one core: where many small ones follow each
    other, two cores wait for each other longer than they compute, and the second is free for another conversation. A
    thread whose first operator falls into this time keeps one core, as PyTorch tells new threads the last number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16, which then takes half the time where hundreds of rows come at once."""
    told = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(supported is not None and supported() for supported in told)


def in_bfloat16(module: nn.Module) -> nn.Module:
    """The same module with linear layers that multiply in bfloat16, where this CPU does; everything else is shared with
    the one that is given, which stays as it is.

    Of Whisper's encoder 2 % is lost; in bytes, which take two thirds of the time, it was 8 %, and words with it.
    """
    if not multiplies_bfloat16():
        return module
    if isinstance(module, nn.Linear):
        return BfloatLinear(module)
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else in_bfloat16(child) for name, child in module._modules.items()}
    return twin


class PackedLinear(nn.Linear):
    """A linear layer whose product reads a packed copy of its weight, once there is one.

    Attributes:
        packed: the copies of a whole model; None until it makes them.
    """

    packed: PackedWeights | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return super().forward(x)
        return product(x.flatten(0, -2), self.weight, self.bias, self.packed).unflatten(0, x.shape[:-1])
