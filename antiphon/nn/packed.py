"""Linear layers whose weights are kept in 8 or 4 bits, in blocks with a scale each, as large live models need them.

A token of a large model takes as long as its weights take to read; in 8 bits that is a quarter of float32, in 4 bits a
seventh. The product is onnxruntime's `MatMulNBits`, which multiplies bytes with bytes (the rows are rounded to 8 bits
in blocks, too) and has kernels for AVX2, AVX-512 and ARM. In blocks of 128 it was the quickest of those tried on two
cores; in smaller ones less is lost and it takes longer. Four bits need smaller ones.

    weight, scale = quantize(linear.weight, block=128)
    save_file({"a.weight": weight, "a.scale": scale}, folder / "model.safetensors")
    write_product(folder, "a", "model.safetensors")    # how onnxruntime finds them there
    product = PackedProduct(folder, "a")               # a callable layer
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.errors import ModelError

BLOCKS = {8: 128, 4: 32}  # weights that share a scale, by their bits
BLOCK = BLOCKS[8]


def quantize(weight: Tensor, block: int = BLOCK, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Rounds a weight to 8 or 4 bits, in blocks along its rows.

    Args:
        weight: float [out, in]; in is a multiple of the block.
        block: weights that share a scale; the largest of them becomes 127, or 7.
        bits: of a weight.

    Returns:
        uint8 [out, in / block, block], where 128 stands for 0, or [out, in / block, block / 2] with two weights a byte,
        the first one in its lower half, where 8 stands for 0; and float32 [out, in / block].
    """
    if weight.shape[1] % block:
        raise ModelError(f"rows of {weight.shape[1]} weights don't come in blocks of {block}")
    parts = weight.float().unflatten(1, (-1, block))
    zero = 1 << (bits - 1)
    scale = (parts.abs().amax(-1) / (zero - 1)).clamp_min(1e-12)
    rounded = (parts / scale[..., None]).round_().add_(zero).to(torch.uint8)
    return rounded if bits == 8 else rounded[..., ::2] | rounded[..., 1::2] << 4, scale


def dequantize(weight: Tensor, scale: Tensor, bits: int = 8) -> Tensor:
    """The inverse of `quantize`, of all rows or some: float32 [..., out, in]."""
    if bits == 4:
        weight = torch.stack([weight & 15, weight >> 4], dim=-1).flatten(-2)
    return ((weight.float() - (1 << (bits - 1))) * scale[..., None]).flatten(-2)


class Graph:
    """An onnxruntime graph that is being put together, whose weights lie in a file of safetensors beside it.

    Args:
        folder: of both.
        files: names of the safetensors files in it.
        bits: of the packed weights.
    """

    def __init__(self, folder: Path, files: Sequence[str], bits: int = 8):
        self.bits = bits
        self.folder, self._nodes, self._constants = folder, [], {}
        self._places: dict[str, tuple[str, int, dict[str, Any]]] = {}
        for file in files:
            with (folder / file).open("rb") as opened:
                (size,) = struct.unpack("<Q", opened.read(8))
                header = json.loads(opened.read(size))
            self._places |= {key: (file, 8 + size, place) for key, place in header.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def shape(self, key: str) -> tuple[int, ...]:
        """Of a tensor; of a packed weight (out, in)."""
        shape = self._places[key][2]["shape"]
        return (shape[0], shape[1] * shape[2] * 8 // self.bits) if len(shape) == 3 else tuple(shape)

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """An operation; gives the name of its last output."""
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[-1]

    def stored(self, key: str, shape: Sequence[int] | None = None) -> str:
        """A tensor of the files as a constant, under its own name."""
        from onnx import TensorProto

        file, begin, place = self._places[key]
        kind = {"U8": TensorProto.UINT8, "F32": TensorProto.FLOAT}[place["dtype"]]
        first, last = place["data_offsets"]
        tensor = TensorProto(name=key, data_type=kind, dims=shape or place["shape"], data_location=TensorProto.EXTERNAL)
        for field, value in (("location", file), ("offset", begin + first), ("length", last - first)):
            tensor.external_data.add(key=field, value=str(value))
        self._constants[key] = tensor
        return key

    def product(self, name: str, x: str, bias: bool = True) -> str:
        """`x` times the packed weight called `name`, plus its `bias` if it has one; gives the name of the result."""
        rows, blocks, size = self._places[f"{name}.weight"][2]["shape"]
        block = size * 8 // self.bits
        inputs = [x, self.stored(f"{name}.weight"), self.stored(f"{name}.scale", [rows * blocks])]
        if bias and f"{name}.bias" in self:
            inputs += ["", "", self.stored(f"{name}.bias")]
        return self.add(
            "MatMulNBits", inputs, [f"{name}.y"], "com.microsoft",
            K=blocks * block, N=rows, bits=self.bits, block_size=block, accuracy_level=4,
        )  # fmt: skip

    def add_and_norm(self, y: str, x: str, norm: str, eps: float) -> tuple[str, str]:
        """x + y, and before it its RMS norm with the weight called `norm`."""
        outputs = [f"{norm}.normed", "", "", f"{norm}.sum"]
        norms = {"domain": "com.microsoft", "epsilon": eps}
        self.add("SkipSimplifiedLayerNormalization", [y, x, self.stored(norm)], outputs, **norms)
        return outputs[0], outputs[3]

    def split(self, x: str, sizes: Sequence[int]) -> list[str]:
        """Parts of rows, side by side."""
        from onnx import TensorProto, helper

        given, parts = f"{x}.sizes", [f"{x}.{at}" for at in range(len(sizes))]
        self._constants[given] = helper.make_tensor(given, TensorProto.INT64, [len(sizes)], sizes)
        self.add("Split", [x, given], parts, axis=-1)
        return parts

    def save(self, name: str, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Writes `NAME.onnx`: what goes in and comes out are float32 [n, sizes]."""
        from onnx import TensorProto, helper

        ends = [
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", size]) for end, size in side.items()]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *ends, list(self._constants.values()))
        versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=10)
        (self.folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def write_product(folder: Path, name: str, file: str, bits: int = 8) -> None:
    """Writes `NAME.onnx`: one product without a bias, whose weight lies in a file of safetensors in the same folder.

    Args:
        folder: of both.
        name: of the layer; the file has `NAME.weight` and `NAME.scale`, as `quantize` gives them.
        file: the name of that file.
        bits: of the weight.
    """
    graph = Graph(folder, [file], bits)
    rows, width = graph.shape(f"{name}.weight")
    graph.save(name, {"x": width}, {graph.product(name, "x", bias=False): rows})


def open_graph(folder: Path, name: str) -> Any:
    """The onnxruntime session of `NAME.onnx`, with as many threads as PyTorch has.

    Raises:
        ModelError: it isn't there, or can't be read.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    # Threads that spin while they wait take the core of whoever else works.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(folder / f"{name}.onnx", options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes
        raise ModelError(f"{folder / name}.onnx can't be read ({error}): delete the folder and make it anew") from error


class PackedProduct(nn.Module):
    """The product of a layer that `write_product` wrote; it computes and isn't trained.

    Args:
        folder, name: as in `write_product`.

    Attributes:
        shape: of the weight, (out, in).

    Raises:
        ModelError: it isn't there, or can't be read.
    """

    def __init__(self, folder: Path, name: str):
        super().__init__()
        self._session = open_graph(folder, name)
        (put,), (out,) = self._session.get_inputs(), self._session.get_outputs()
        self.shape = (int(out.shape[1]), int(put.shape[1]))

    def __deepcopy__(self, _: object) -> PackedProduct:
        return self  # nothing in it ever changes

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> [..., out]."""
        rows = x.reshape(-1, self.shape[1])
        if not len(rows):
            return x.new_zeros(*x.shape[:-1], self.shape[0])
        (y,) = self._session.run(None, {"x": rows.contiguous().numpy()})
        return torch.from_numpy(y).view(*x.shape[:-1], self.shape[0])


class PackedEmbedding(nn.Module):
    """A table of packed vectors, of which only the rows that are asked for become float32.

    Args:
        weight, scale: as `quantize` gives them; they may lie in a mapped file.
        bits: of a weight.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bits: int = 8):
        super().__init__()
        self.table, self.scale, self.bits = weight, scale, bits  # plain attributes: nothing here is trained or saved

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids [...] -> float32 [..., width]."""
        return dequantize(self.table[tokens], self.scale[tokens], self.bits)
