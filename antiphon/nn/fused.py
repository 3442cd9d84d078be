"""What a packed transformer does between one attention and the next, as one call.

Nothing there depends on other tokens: the output projection, the MLP, both norms, and the next layer's queries, keys
and values are a function of each row alone. One graph of onnxruntime for all of it takes less time than a call for each
product and PyTorch's small operations around them, which for one row at a time are a quarter of the work.

    write_between(folder, number=3, layers=28, eps=1e-6)
    between = Between(folder, 3)
    x, qkv = between(attended, x)      # out of layer 2's attention, into layer 3's
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from antiphon.nn.packed import Graph, open_graph

INDEX = "model.safetensors.index.json"


def write_between(folder: Path, number: int, layers: int, eps: float, bits: int = 8) -> None:
    """Writes `between.NUMBER.onnx`, of a folder with the tensors' names of `antiphon.hub.pack`.

    Args:
        folder: with safetensors and their index.
        number: of the layer that comes next; 0 is before the first attention, `layers` after the last one.
        layers: of the model.
        eps: of the RMS norms.
        bits: of the weights.
    """
    before, after = f"model.layers.{number - 1}", f"model.layers.{number}"
    norm = "model.norm.weight" if number == layers else f"{after}.input_layernorm.weight"
    shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    wanted = (norm, f"{before}.self_attn.o_proj.weight", f"{after}.self_attn.qkv_proj.weight")
    graph = Graph(folder, sorted({shards[key] for key in wanted if key in shards}), bits)
    (width,) = graph.shape(norm)
    inputs, outputs = {"x": width}, {}
    if not number:
        norms = {"axis": -1, "epsilon": eps}
        normed = graph.add("SimplifiedLayerNormalization", ["x", graph.stored(norm)], ["normed"], **norms)
    else:
        inputs["attended"] = graph.shape(f"{before}.self_attn.o_proj.weight")[1]
        inner = graph.shape(f"{before}.mlp.down_proj.weight")[1]
        y = graph.product(f"{before}.self_attn.o_proj", "attended")
        middle = f"{before}.post_attention_layernorm.weight"
        y, x = graph.add_and_norm(y, "x", middle, eps)
        both = graph.product(f"{before}.mlp.gate_up_proj", y)
        gate, up = graph.split(both, [inner, inner])
        gate = graph.add("QuickGelu", [gate], ["silu"], "com.microsoft", alpha=1.0)
        y = graph.product(f"{before}.mlp.down_proj", graph.add("Mul", [gate, up], ["inner"]))
        normed, x = graph.add_and_norm(y, x, norm, eps)
        if number < layers:
            outputs[x] = width
    if number < layers:
        qkv = f"{after}.self_attn.qkv_proj"
        outputs[graph.product(qkv, normed)] = graph.shape(f"{qkv}.weight")[0]
    else:
        outputs[normed] = width
    graph.save(f"between.{number}", inputs, outputs)


class Between(nn.Module):
    """A graph that `write_between` wrote; it computes and isn't trained.

    Raises:
        ModelError: it isn't there, or can't be read.
    """

    def __init__(self, folder: Path, number: int):
        super().__init__()
        self._session = open_graph(folder, f"between.{number}")

    def __deepcopy__(self, _: object) -> Between:
        return self  # nothing in it ever changes

    def forward(self, x: Tensor, attended: Tensor | None = None) -> list[Tensor]:
        """Rows float32 [n, sizes].

        Args:
            x: what went around the attention.
            attended: what came out of it, heads side by side; None before the first.

        Returns:
            Before the first attention: queries, keys and values side by side. Between two: what goes around the next
            one, and those. After the last: the normed hidden states.
        """
        rows = {"x": x.numpy()} if attended is None else {"x": x.numpy(), "attended": attended.numpy()}
        return [torch.from_numpy(y) for y in self._session.run(None, rows)]
