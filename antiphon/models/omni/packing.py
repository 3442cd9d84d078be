"""A folder of Qwen2.5-Omni that a laptop can hold: both of its transformers packed, the rest in half precision.

    pack("Qwen2.5-Omni-3B", "Qwen2.5-Omni-3B-packed")       # once; a piece of a tensor at a time is in float32
    model = weights.load("Qwen2.5-Omni-3B-packed")

The folder is as the published one, without the weights of the thinker's language model and of the talker's transformer,
which lie packed (`antiphon.hub.pack`) in folders of their own in it. What makes the sound stays in float32.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from antiphon.errors import ModelError
from antiphon.hub import pack as packing
from antiphon.hub.weights import read_config, read_weights
from antiphon.models.llm.llama import LlamaConfig
from antiphon.models.omni.config import OmniConfig

# Each transformer's folder, and its published names beside those of a language model's.
TRANSFORMERS = {
    "language_model": {"thinker.model.": "model.", "thinker.lm_head.": "lm_head."},
    "talker_model": {"talker.model.": "model.", "talker.codec_head.": "lm_head."},
}
# Of `LlamaConfig`, what a Qwen2 has none of.
EXPERTS = (
    "num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step",
    "mlp_only_layers", "shared_expert_intermediate_size",
)  # fmt: skip
BITS = {"language_model": 4, "talker_model": 8}
COPIED = ("config.json", "tokenizer.json", "spk_dict.pt")


def pack(folder: Path | str, target: Path | str, bits: Mapping[str, int] | None = None) -> Path:
    """Packs a published folder into another one.

    Args:
        folder: of the whole model.
        target: is made.
        bits: 8 or 4, of each of `TRANSFORMERS`; `BITS` unless told.

    Raises:
        ModelError: another model, a part of it alone, or one that was packed already.
        HubError: weights that can't be read or packed.
    """
    folder, target = Path(folder), Path(target)
    if is_packed(folder):
        raise ModelError(f"{folder} is packed already")
    config = OmniConfig.from_dict(read_config(folder), str(folder / "config.json"))
    if config.thinker is None or config.talker is None:
        raise ModelError(f"{folder} holds a part of the model alone: pack the folder of the whole one")
    source = packing.SafetensorsSource(folder)
    for name, text in (("language_model", config.thinker.text), ("talker_model", config.talker.text)):
        renamed = _Renamed(source, TRANSFORMERS[name])
        packing.pack(renamed, described(text), target / name, bits=(bits or BITS)[name])
    save_file(
        {
            key: value if key.startswith("token2wav.") else value.to(torch.bfloat16).contiguous()
            for key, value in read_weights(folder, float32=False).items()
            if not key.startswith(tuple(prefix for names in TRANSFORMERS.values() for prefix in names))
        },
        target / "model.safetensors",
        metadata={"format": "pt"},
    )
    for name in COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    return target


def is_packed(folder: Path) -> bool:
    """Whether `pack` has made a folder."""
    return any((folder / name).is_dir() for name in TRANSFORMERS)


def described(text: LlamaConfig) -> dict[str, Any]:
    """The config.json of a Qwen2 of these sizes. Places are those of text."""
    sizes = {field.name: getattr(text, field.name) for field in dataclasses.fields(text)}
    ours_alone = ("qkv_bias", "o_bias", "qk_norm", "packed", "bits", *EXPERTS)
    told = {key: value for key, value in sizes.items() if key not in ours_alone}
    return told | {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "dtype": "float32",
    }  # fmt: skip


class _Renamed:
    """A `Source` under other names; tensors of other parts aren't in it."""

    def __init__(self, source: packing.Source, names: Mapping[str, str]):
        self.source, self.shapes, self._published = source, {}, {}
        for key, shape in source.shapes.items():
            for prefix, own in names.items():
                if key.startswith(prefix):
                    name = own + key.removeprefix(prefix)
                    self.shapes[name], self._published[name] = shape, key

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `antiphon.hub.pack.Source`."""
        return self.source.rows(self._published[name], first, last)
