"""Packing a language model of the Llama or Qwen families into 8 or 4 bits: a folder that is a quarter or a seventh as
large, for a CPU.

Tensors are taken one after the other and in pieces, so that the model is never in memory as a whole. The folder has
the config.json of `transformers` with a `quantization_config` of its own, and a shard a layer; products that read the
same rows lie below one another (`qkv_proj`, `gate_up_proj`); beside each product, and what lies between two
attentions, lies the little file by which onnxruntime finds it (`antiphon.nn.packed`, `antiphon.nn.fused`).

    pack(SafetensorsSource(folder), json.loads(...), target)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from antiphon.errors import HubError
from antiphon.nn.fused import INDEX, write_between
from antiphon.nn.packed import BLOCKS, quantize, write_product

PIECE_ROWS = 8192  # of a weight that are in float32 at once
PRODUCTS = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}
NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
EMBEDDINGS, HEAD, LAST_NORM = "model.embed_tokens", "lm_head", "model.norm.weight"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
    "special_tokens_map.json",
)  # fmt: skip


class Source(Protocol):
    """Where tensors come from.

    Attributes:
        shapes: of all of them by their names, which are those of `transformers`.
    """

    shapes: dict[str, tuple[int, ...]]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Those rows of a tensor (of a vector: numbers), float32."""
        ...


class SafetensorsSource:
    """The tensors of a folder's safetensors, whole or in shards.

    Raises:
        HubError: there are none, or they can't be read.
    """

    def __init__(self, folder: Path):
        self._files, self.shapes = {}, {}
        try:
            for path in sorted(folder.glob("model*.safetensors")):
                file = safe_open(path, "pt")
                for name in file.keys():
                    self._files[name], self.shapes[name] = file, tuple(file.get_slice(name).get_shape())
        except Exception as error:  # safetensors raises its own class
            raise HubError(f"the weights in {folder} can't be read ({error}): download them again") from error
        if not self.shapes:
            raise HubError(f"{folder} has no weights: model.safetensors, or its shards, are expected there")

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `Source`."""
        return self._files[name].get_slice(name)[first:last].float()


def pack(source: Source, config: dict[str, Any], folder: Path, block: int | None = None, bits: int = 8) -> None:
    """Writes the packed weights and config.json.

    Args:
        source: of the weights.
        config: the model's config.json, as `transformers` has it.
        folder: is made.
        block: weights that share a scale, `BLOCKS` unless told; smaller where the model's sizes ask for it.
        bits: of a weight, 8 or 4.

    Raises:
        HubError: a tensor is missing, or the sizes can't be packed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers = int(config["num_hidden_layers"])
    widths = {source.shapes[name][1] for name in _of_layer(source, 0, PRODUCTS)}
    wanted = block or BLOCKS[bits]
    fits = [size for size in (wanted, 64, 32, 16) if size <= wanted and not any(width % size for width in widths)]
    block = next(iter(fits), 0)
    if not block:
        raise HubError(f"weights with rows of {sorted(widths)} numbers can't be packed in blocks of 16 or more")
    shards: dict[str, str] = {}
    for number in range(-1, layers):
        tensors, products = _outside(source, block, bits) if number < 0 else _layer(source, number, block, bits)
        file = f"model-{number + 2:05d}-of-{layers + 1:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        for name in products:
            write_product(folder, name, file, bits)
        shards |= dict.fromkeys(tensors, file)
    written = {**config, "quantization_config": {"quant_method": "antiphon", "bits": bits, "block_size": block}}
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    index = {"metadata": {}, "weight_map": shards}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for number in range(layers + 1):
        write_between(folder, number, layers, float(config.get("rms_norm_eps", 1e-6)), bits)


def pack_folder(folder: Path, target: Path, bits: int = 8) -> None:
    """Packs a folder of `transformers`; its tokenizer and chat template are copied."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pack(SafetensorsSource(folder), config, target, bits=bits)
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _of_layer(source: Source, number: int, names: Iterable[str]) -> list[str]:
    """The weights of a layer's products, which must be there."""
    wanted = [f"model.layers.{number}.{part}.weight" for name in names for part in PRODUCTS[name]]
    if missing := [name for name in wanted if name not in source.shapes]:
        raise HubError(f"the model has no tensor {missing[0]}: only Llama and Qwen models without experts are packed")
    return wanted


def _layer(source: Source, number: int, block: int, bits: int) -> tuple[dict[str, Tensor], list[str]]:
    """A layer's tensors, and the names of its products."""
    place = f"model.layers.{number}"
    tensors: dict[str, Tensor] = {}
    for name, parts in PRODUCTS.items():
        tensors |= _packed(source, f"{place}.{name}", _of_layer(source, number, [name]), block, bits)
        biases = [f"{place}.{part}.bias" for part in parts if f"{place}.{part}.bias" in source.shapes]
        if biases:
            tensors[f"{place}.{name}.bias"] = torch.cat([_whole(source, bias) for bias in biases])
    for norm in NORMS:
        if (key := f"{place}.{norm}.weight") in source.shapes:
            tensors[key] = _whole(source, key)
    return tensors, [f"{place}.{name}" for name in PRODUCTS]


def _outside(source: Source, block: int, bits: int) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors outside of the layers, and the names of the products."""
    for name in (f"{EMBEDDINGS}.weight", LAST_NORM):
        if name not in source.shapes:
            raise HubError(f"the model has no tensor {name}: only Llama and Qwen models are packed")
    tensors = _packed(source, EMBEDDINGS, [f"{EMBEDDINGS}.weight"], block, bits)
    tensors[LAST_NORM] = _whole(source, LAST_NORM)
    if f"{HEAD}.weight" not in source.shapes:  # the head is the embeddings
        return tensors, [EMBEDDINGS]
    return tensors | _packed(source, HEAD, [f"{HEAD}.weight"], block, bits), [HEAD]


def _packed(source: Source, name: str, parts: Iterable[str], block: int, bits: int) -> dict[str, Tensor]:
    """One product of several weights, one below the other."""
    pieces = []
    for part in parts:
        rows = source.shapes[part][0]
        for first in range(0, rows, PIECE_ROWS):
            pieces.append(quantize(source.rows(part, first, min(first + PIECE_ROWS, rows)), block, bits))
    weights, scales = zip(*pieces)
    return {f"{name}.weight": torch.cat(weights), f"{name}.scale": torch.cat(scales)}


def _whole(source: Source, name: str) -> Tensor:
    return source.rows(name, 0, source.shapes[name][0]).contiguous()
