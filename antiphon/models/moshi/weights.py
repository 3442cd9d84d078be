"""Moshi's published weights: names, layouts and sizes of the two formats, Kyutai's own and that of `transformers`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from antiphon.errors import HubError
from antiphon.hub.weights import from_int8, read_config
from antiphon.models.moshi.config import MoshiConfig, moshi_7b
from antiphon.models.moshi.published import from_kyutai, from_transformers
from antiphon.nn.transformer import halves, neighbours, renamed
from antiphon.nn.weights import NoInitWeights

# Ours (a regular expression), Kyutai's, that of `transformers`. "{}" stands for many tensors that are one of ours:
# tables of embeddings one below the other, or weights of the codebooks one behind the other; "{qkv}" for three.
_TEMPORAL, _DEPTH = "transformer.layers.{1}.", "depformer.layers.{1}."
_TEMPORAL_HF, _DEPTH_HF = "decoder.model.layers.{1}.", "depth_decoder.layers.{1}."
NAMES = (
    (r"text_embedding\.weight", "text_emb.weight", "decoder.model.embed_tokens.weight"),
    (r"code_embedding\.weight", "emb.{}.weight", "embed_tokens.{}.weight"),
    (r"text_head\.weight", "text_linear.weight", "decoder.lm_head.weight"),
    (r"temporal\.norm\.weight", "out_norm.alpha", "decoder.model.norm.weight"),
    (r"temporal\.layers\.(\d+)\.norm_attention\.weight", _TEMPORAL + "norm1.alpha",
     _TEMPORAL_HF + "input_layernorm.weight"),
    (r"temporal\.layers\.(\d+)\.norm_mlp\.weight", _TEMPORAL + "norm2.alpha",
     _TEMPORAL_HF + "post_attention_layernorm.weight"),
    (r"temporal\.layers\.(\d+)\.project\.weight", _TEMPORAL + "self_attn.in_projs.0.weight",
     _TEMPORAL_HF + "self_attn.{qkv}_proj.linear.weight"),
    (r"temporal\.layers\.(\d+)\.out\.weight", _TEMPORAL + "self_attn.out_projs.0.weight",
     _TEMPORAL_HF + "self_attn.o_proj.linear.weight"),
    (r"temporal\.layers\.(\d+)\.gate_up\.weight", _TEMPORAL + "gating.linear_in.weight",
     _TEMPORAL_HF + "mlp.fc1.weight"),
    (r"temporal\.layers\.(\d+)\.down\.weight", _TEMPORAL + "gating.linear_out.weight",
     _TEMPORAL_HF + "mlp.fc2.weight"),
    (r"depth\.state_in", "depformer_in.{}.weight", "depth_decoder.input_projections.weight"),
    (r"depth\.text_embedding\.weight", "depformer_text_emb.weight", "depth_decoder.text_embed_tokens.weight"),
    (r"depth\.code_embedding\.weight", "depformer_emb.{}.weight", "depth_decoder.embed_tokens.{}.weight"),
    (r"depth\.heads", "linears.{}.weight", "depth_decoder.lm_heads.weight"),
    (r"depth\.layers\.(\d+)\.norm_attention", _DEPTH + "norm1.alpha", _DEPTH_HF + "input_layernorm.weight"),
    (r"depth\.layers\.(\d+)\.norm_mlp", _DEPTH + "norm2.alpha", _DEPTH_HF + "post_attention_layernorm.weight"),
    (r"depth\.layers\.(\d+)\.project", _DEPTH + "self_attn.in_projs.{}.weight",
     _DEPTH_HF + "self_attn.{qkv}_proj.linear.weight"),
    (r"depth\.layers\.(\d+)\.out", _DEPTH + "self_attn.out_projs.{}.weight",
     _DEPTH_HF + "self_attn.o_proj.linear.weight"),
    (r"depth\.layers\.(\d+)\.gate_up", _DEPTH + "gating.{}.linear_in.weight", _DEPTH_HF + "mlp.fc1.weight"),
    (r"depth\.layers\.(\d+)\.down", _DEPTH + "gating.{}.linear_out.weight", _DEPTH_HF + "mlp.fc2.weight"),
)  # fmt: skip

_FILES = ("model.safetensors", "consolidated.safetensors")


def published(key: str, config: MoshiConfig, style: int) -> list[str]:
    """The published tensors that make up one of ours.

    Args:
        key: of a `Moshi`'s state dict.
        config: its sizes.
        style: 1 for Kyutai's names, 2 for those of `transformers`.

    Raises:
        KeyError: there is no such weight.
    """
    for row in NAMES:
        if match := re.fullmatch(row[0], key):
            name = row[style].replace("{1}", match[1] if match.re.groups else "")
            if "{qkv}" in name:
                return [name.replace("{qkv}", letter) for letter in "qkv"]
            counts = {"code_embedding.weight": config.streams - 1, "depth.code_embedding.weight": config.predicted - 1,
                      "depth.heads": config.predicted}  # fmt: skip
            return [
                name.replace("{}", str(k)) for k in range(counts.get(key, config.depth.sets) if "{}" in name else 1)
            ]
    raise KeyError(key)


def read(folder: Path) -> tuple[MoshiConfig, dict[str, Tensor]]:
    """Sizes and weights of a folder, under our names. A LoRA checkpoint that lies beside them is merged.

    Raises:
        HubError: it holds no Moshi, or one of a kind that isn't supported.
    """
    if not (folder / "config.json").is_file() and (folder / _FILES[0]).is_file():
        fields: dict[str, Any] = {"dim": moshi_7b().dim}  # Kyutai's first repositories came without: all were the 7B
        config, style = moshi_7b(), 1
    else:
        fields = read_config(folder)
        if fields.get("family") == "moshi":
            return MoshiConfig.from_dict(fields), renamed(from_int8(_files(folder, fields)))
        if "hidden_size" in fields and fields.get("model_type") == "moshi":
            config, style = from_transformers(fields, folder), 2
        elif "dim" in fields and "dep_q" in fields:
            config, style = from_kyutai(fields, folder), 1
        else:
            raise HubError(
                f"{folder} holds no Moshi: its config.json should say 'family': 'moshi' (ours), 'model_type': 'moshi' "
                "with 'hidden_size' (transformers), or have 'dim' and 'dep_q' (Kyutai's)."
            )
    weights = ours(_files(folder, fields), config, style, folder)
    if fields.get("lora"):
        from antiphon.models.moshi.lora import add, read_lora

        add(weights, read_lora(folder / fields.get("lora_name", "lora.safetensors"), config),
            fields.get("lora_scaling", 2.0))  # fmt: skip
    return config, weights


def _files(folder: Path, fields: dict[str, Any]) -> dict[str, Tensor]:
    """All tensors of a folder, whether in one file or in several."""
    names = [Path(str(fields.get("moshi_name", _FILES[0]))).name, *_FILES]
    files = [folder / name for name in names if (folder / name).is_file()][:1]
    index = folder / "model.safetensors.index.json"
    try:
        if not files and index.is_file():
            files = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        if not files:
            lora = " (a LoRA checkpoint alone; put the base model's weights beside it)" * bool(fields.get("lora"))
            raise HubError(f"{folder} has no weights: {names[0]} is expected there{lora}.")
        return {key: value for file in files for key, value in load_file(file).items()}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise HubError(f"the weights in {folder} cannot be read ({error}). Download them again.") from error


def ours(
    weights: dict[str, Tensor], config: MoshiConfig, style: int, path: Path | str = "the weights"
) -> dict[str, Tensor]:
    """Published weights under our names and in our layout.

    Args:
        weights: published.
        config: sizes.
        style: 1 for Kyutai's, 2 for those of `transformers`.
        path: named in errors.

    Raises:
        HubError: one is missing.
    """
    from antiphon.models.moshi.model import Moshi

    if style == 1:
        weights = split(weights)
        if "depformer_in.1.weight" not in weights and "depformer_in.0.weight" in weights:  # one for all codebooks
            weights |= {f"depformer_in.{k}.weight": weights["depformer_in.0.weight"] for k in range(config.depth.sets)}
    with torch.device("meta"), NoInitWeights():
        keys = list(Moshi(config).state_dict())
    out = {}
    for key in keys:
        try:
            parts = [weights[name] for name in published(key, config, style)]
        except KeyError as error:
            raise HubError(f"{path}: the weights lack {error}.") from error
        out[key] = _joined(key, parts, config, style)
    return out


def _joined(key: str, parts: list[Tensor], config: MoshiConfig, style: int) -> Tensor:
    if "embedding" in key:
        return torch.cat(
            [*parts, parts[0].new_zeros(1, parts[0].shape[1])] if parts else [torch.zeros(1, config.depth.dim)]
        )
    if "norm" in key:
        return parts[0].flatten()
    if style == 2:
        if len(parts) == 3:
            if key.startswith("temporal"):
                parts[0], parts[1] = neighbours(parts[0], config.heads), neighbours(parts[1], config.kv_heads)
            return torch.cat(parts, dim=-2)
        return parts[0]
    return torch.stack(parts) if key.startswith("depth") else parts[0]


def split(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kyutai's weights with one tensor a codebook; older files have those of all codebooks one below the other."""
    out = {}
    for key, value in weights.items():
        match = re.fullmatch(r"(.*\.self_attn\.)(in|out)_proj(?:_weight|\.weight|\.(lora_[AB])\.weight)", key)
        if match is None:
            out[key] = value
            continue
        stem, kind, lora = match.groups()
        count = 1
        if stem.startswith("depformer."):  # as many sets as there are MLPs
            mlp = stem.replace("self_attn.", "gating.")
            count = len({k.split(".")[4] for k in weights if k.startswith(mlp) and k.split(".")[4].isdigit()}) or 1
        for k, part in enumerate(value.view(count, -1, value.shape[-1])):
            out[f"{stem}{kind}_projs.{k}.{f'{lora}.' if lora else ''}weight"] = part
    return out


def for_kyutai(weights: dict[str, Tensor], config: MoshiConfig) -> dict[str, Tensor]:
    """A `Moshi`'s state dict under Kyutai's names, as the `moshi` package loads it."""
    out: dict[str, Tensor] = {}
    for key, value in weights.items():
        names = published(key, config, 1)
        if "embedding" in key:
            parts = list(value[:-1].chunk(len(names))) if names else []
        elif "norm" in key:
            parts = [value.view(1, 1, -1)]
        else:
            parts = list(value) if key.startswith("depth") else [value]
        out |= {name: part.contiguous() for name, part in zip(names, parts, strict=True)}
    return out


def for_transformers(weights: dict[str, Tensor], config: MoshiConfig) -> dict[str, Tensor]:
    """A `Moshi`'s state dict under the names of `transformers`, without its codec; the inverse of `ours`."""
    out: dict[str, Tensor] = {}
    width = config.dim // config.heads
    for key, value in weights.items():
        names = published(key, config, 2)
        if "embedding" in key:
            parts = list(value[:-1].chunk(len(names))) if names else []
        elif len(names) == 3 and key.startswith("temporal"):
            q, k, v = value.split([config.dim, config.kv_heads * width, config.kv_heads * width])
            parts = [halves(q, config.heads), halves(k, config.kv_heads), v]
        else:
            parts = list(value.chunk(3, dim=-2)) if len(names) == 3 else [value]
        out |= {name: part.contiguous() for name, part in zip(names, parts, strict=True)}
    return out
