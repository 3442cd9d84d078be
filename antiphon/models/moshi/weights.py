"""Moshi's folders: ours, and the two formats in which weights are published, Kyutai's own and that of `transformers`.

model = load("kyutai/moshiko-pytorch-bf16")         # any of them; adapters that lie beside the weights are merged
lora = load_lora(folder, model)                      # adapters of Kyutai's `moshi-finetune`
save_lora(lora, model.config, folder)                # as the `moshi` package loads them
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from antiphon.errors import ConfigError, HubError
from antiphon.hub.weights import from_int8, read_config
from antiphon.models.lora import Lora, LoraConfig, linears_of
from antiphon.models.moshi.config import DepthConfig, MoshiConfig, moshi_7b
from antiphon.models.moshi.model import Moshi
from antiphon.nn.transformer import halves, neighbours, renamed
from antiphon.nn.weights import NoInitWeights, fill

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
LORA_FILE, KYUTAI_SCALING = "lora.safetensors", 2.0


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


def load(folder: Path | str, dtype: torch.dtype = torch.float32) -> Moshi:
    """Opens a folder in evaluation mode: what `Moshi.save_pretrained` wrote, or a published one.

    Args:
        folder: the model's.
        dtype: of the weights; float32 is quickest on most CPUs, bfloat16 halves the memory.

    Raises:
        HubError: no such model, or weights that don't fit its config.json.
    """
    config, weights = read(Path(folder))
    with torch.device("meta"), NoInitWeights():
        model = Moshi(config)
    try:
        fill(model, {key: value.to(dtype) for key, value in weights.items()}, assign=True)
    except ValueError as error:
        raise HubError(f"{folder}: the weights do not fit its config.json ({error}).") from error
    model.reset()
    return model.eval()


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
        for key, (a, b) in read_lora(folder / fields.get("lora_name", LORA_FILE), config).items():
            corrected = weights[key].float() + fields.get("lora_scaling", KYUTAI_SCALING) * (b @ a)
            weights[key] = corrected.to(weights[key].dtype)
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


# Sizes

_EPS = {"rms_norm_f32": 1e-8, "rms_norm": 1e-5}

# Settings of Kyutai's that change the architecture, and the one value of each that is ours.
_GIVEN: dict[str, Any] = {
    "causal": True, "layer_scale": None, "gating": "silu", "positional_embedding": "rope", "norm_emb": False,
    "bias_proj": False, "depformer_layer_scale": None, "depformer_gating": "silu", "depformer_pos_emb": "none",
    "depformer_weights_per_step": True, "depformer_low_rank_embeddings": None, "depformer_norm": None,
    "demux_second_text_stream": False, "demux_second_stream": False, "extra_heads_num_heads": 0, "quantize": False,
    "cross_attention": False, "kv_repeat": 1, "depformer_kv_repeat": 1,
}  # fmt: skip
# What they take where a config.json says nothing.
_UNSAID: dict[str, Any] = {
    "gating": "none", "positional_embedding": "sin", "depformer_gating": "none", "depformer_pos_emb": "sin",
    "depformer_weights_per_step": False, "norm": "layer_norm", "hidden_scale": 4, "max_period": 10000, "context": None,
}  # fmt: skip


def _swiglu(feedforward: int, dim: int) -> int:
    """Width of Kyutai's SwiGLU: two thirds of what is named, as it has three matrices."""
    return 21 * dim // 8 if feedforward == 4 * dim else 2 * feedforward // 3


def from_kyutai(fields: dict[str, Any], path: Path | str) -> MoshiConfig:
    """Our sizes from Kyutai's config.json (the arguments of its `LMModel`).

    Raises:
        HubError: a model of a kind that isn't supported (conditioned, quantized, without a depth transformer).
    """

    def get(name: str) -> Any:
        return fields.get(name, _UNSAID.get(name))

    for name, value in _GIVEN.items():
        found = fields.get(name, _UNSAID.get(name, value))
        if found != value and not (value is None and found is False):
            raise HubError(f"{path}: {name} {found!r} is not supported, only {value!r} (as in the published Moshi).")
    if get("norm") not in _EPS or get("context") is None or not fields["dep_q"]:
        raise HubError(f"{path}: RMS norms, a context and a depth transformer are needed (as in the published Moshi).")
    for name in ("conditioners", "fuser"):
        if any((fields.get(name) or {}).values()):
            raise HubError(f"{path}: {name} are not supported.")
    if fields.get("text_card_out") not in (None, fields["text_card"]):
        raise HubError(f"{path}: another vocabulary for the output text is not supported.")
    dim, width, scale = fields["dim"], fields["depformer_dim"], get("hidden_scale")
    inner = fields.get("depformer_dim_feedforward") or int(scale * width)
    if isinstance(inner, list):
        if len(set(inner)) > 1:
            raise HubError(f"{path}: depth layers of several widths are not supported.")
        inner = inner[0]
    try:
        depth = DepthConfig(
            dim=width, heads=fields.get("depformer_num_heads", fields["num_heads"]),
            layers=fields.get("depformer_num_layers", fields["num_layers"]), inner=_swiglu(inner, width),
            codebooks=fields["dep_q"], schedule=fields.get("depformer_weights_per_step_schedule"),
        )  # fmt: skip
        return MoshiConfig(
            dim=dim, heads=fields["num_heads"], layers=fields["num_layers"], inner=_swiglu(int(scale * dim), dim),
            context=get("context"), text_card=fields["text_card"], pad=fields.get("existing_text_padding_id", 3),
            end_pad=fields.get("existing_text_end_padding_id", 0), codebooks=fields["dep_q"],
            user_codebooks=fields["n_q"] - fields["dep_q"], card=fields["card"], delays=fields["delays"],
            eps=_EPS[get("norm")], rope_base=float(get("max_period")), depth=depth,
        )  # fmt: skip
    except (KeyError, ConfigError) as error:
        raise HubError(f"{path}: config.json is incomplete or makes no sense ({error}).") from error


def from_transformers(fields: dict[str, Any], path: Path | str) -> MoshiConfig:
    """Our sizes from a config.json of `transformers`' MoshiForConditionalGeneration, which may leave defaults out.

    Raises:
        HubError: a model of a kind that isn't supported.
    """
    below = fields.get("depth_decoder_config") or {}
    dim, heads = fields["hidden_size"], fields.get("num_attention_heads", 32)
    width, depth_heads = below.get("hidden_size", 1024), below.get("num_attention_heads", 16)
    for of, size, count in ((fields, dim, heads), (below, width, depth_heads)):
        if of.get("hidden_act", "silu") != "silu" or (of.get("head_dim") or size // count) != size // count:
            raise HubError(f"{path}: another activation than silu, or heads of another width, is not supported.")
    if (below.get("num_key_value_heads") or depth_heads) != depth_heads:
        raise HubError(f"{path}: shared keys and values in the depth transformer are not supported.")
    codebooks = fields.get("num_codebooks", 8)
    rope = fields.get("rope_parameters") or {}
    try:
        depth = DepthConfig(
            dim=width, heads=depth_heads, layers=below.get("num_hidden_layers", 6),
            inner=below.get("ffn_dim", 5632) // 2, codebooks=codebooks,
        )  # fmt: skip
        return MoshiConfig(
            dim=dim, heads=heads, layers=fields.get("num_hidden_layers", 32),
            inner=fields.get("ffn_dim", 22528) // 2, kv_heads=fields.get("num_key_value_heads"),
            context=fields.get("sliding_window", 3000), text_card=fields.get("vocab_size", 32000),
            codebooks=codebooks, user_codebooks=codebooks, card=fields.get("audio_vocab_size") or 2048,
            eps=fields.get("rms_norm_eps", 1e-8), rope_base=rope.get("rope_theta", fields.get("rope_theta", 10000.0)),
            depth=depth,
        )  # fmt: skip
    except ConfigError as error:
        raise HubError(f"{path}: config.json makes no sense ({error}).") from error


def to_kyutai(config: MoshiConfig) -> dict[str, Any]:
    """Our sizes as the arguments of Kyutai's `LMModel`, as its config.json holds them.

    Raises:
        ConfigError: a size that it can't have.
    """
    depth = config.depth
    norm = next((name for name, eps in _EPS.items() if eps == config.eps), None)
    if norm is None or config.kv_heads != config.heads:
        raise ConfigError(
            f"Kyutai's format knows only eps {sorted(_EPS.values())} and as many kv_heads as heads, not "
            f"{config.eps} and {config.kv_heads}."
        )
    own = config.predicted
    scale = _named(config.inner, config.dim) / config.dim
    if _swiglu(int(scale * config.dim), config.dim) != config.inner:
        scale = (_named(config.inner, config.dim) + 0.5) / config.dim
    return {
        "dim": config.dim, "text_card": config.text_card, "existing_text_padding_id": config.pad,
        "existing_text_end_padding_id": config.end_pad, "n_q": config.streams - 1, "dep_q": own, "card": config.card,
        "num_heads": config.heads, "num_layers": config.layers, "hidden_scale": scale, "causal": True,
        "layer_scale": None, "context": config.context, "max_period": config.rope_base, "gating": "silu", "norm": norm,
        "positional_embedding": "rope", "depformer_dim": depth.dim,
        "depformer_dim_feedforward": _named(depth.inner, depth.dim), "depformer_num_heads": depth.heads,
        "depformer_num_layers": depth.layers, "depformer_layer_scale": None, "depformer_multi_linear": True,
        "depformer_context": depth.codebooks, "depformer_max_period": config.rope_base, "depformer_gating": "silu",
        "depformer_pos_emb": "none", "depformer_weights_per_step": True,
        "depformer_weights_per_step_schedule": depth.schedule, "delays": config.delays,
    }  # fmt: skip


def _named(inner: int, dim: int) -> int:
    """The width that Kyutai would name for a SwiGLU of `inner`."""
    return next(width for width in range(3 * inner // 2, 4 * dim + 3 * inner) if _swiglu(width, dim) == inner)


# Adapters in the format of Kyutai's `moshi-finetune`: a pair a matrix, where ours is one of all codebooks


def _weight_key(linear: str) -> str:
    """Of a linear layer, as `linears_of` names it."""
    bare = linear.startswith("depth")
    return linear if bare else f"{linear}.weight"


def read_lora(file: Path, config: MoshiConfig) -> dict[str, tuple[Tensor, Tensor]]:
    """The pairs A and B of a checkpoint under our weights' names, float32; where a codebook has none, they are zeros.

    Raises:
        HubError: it can't be read, or holds what we have no place for.
    """
    try:
        weights = split({key: value.float() for key, value in load_file(file).items()})
    except (SafetensorError, OSError) as error:
        raise HubError(f"{file} cannot be read ({error}).") from error
    with torch.device("meta"), NoInitWeights():
        keys = [_weight_key(name) for name in linears_of(Moshi(config))]
    known, out = set(), {}
    for key in keys:
        stems = [name.removesuffix("weight") for name in published(key, config, 1)]
        names = [[f"{stem}lora_{part}.weight" for stem in stems] for part in "AB"]
        known.update(*names)
        parts = [[weights.get(name) for name in row] for row in names]
        if all(each is None for each in parts[0]):
            continue
        if any((a is None) != (b is None) for a, b in zip(*parts)):
            raise HubError(f"{file}: {stems[0]}lora_A or lora_B is missing.")
        for row in parts:
            blank = torch.zeros_like(next(each for each in row if each is not None))
            row[:] = [blank if each is None else each for each in row]
        stacked = [torch.stack(row) if key.startswith("depth") else row[0] for row in parts]
        out[key] = (stacked[0], stacked[1])
    unknown = sorted(re.sub(r"\d+", "*", name) for name in set(weights) - known)
    if unknown or not out:
        raise HubError(
            f"{file} was made for another model (unknown: {', '.join(unknown[:3]) or 'none'}; found: {len(out)})."
        )
    return out


def load_lora(path: Path | str, model: Moshi, scaling: float | None = None) -> Lora:
    """Reads adapters: a folder, or its lora.safetensors.

    Args:
        path: what to read.
        model: the base model.
        scaling: None takes what config.json beside the weights says (2 if there is none).

    Raises:
        HubError: they can't be read, or were made for another model.
    """
    path = Path(path)
    folder, file = (path, path / LORA_FILE) if path.is_dir() else (path.parent, path)
    fields = read_config(folder) if (folder / "config.json").is_file() else {}
    found = read_lora(file, model.config)
    rank = next(iter(found.values()))[0].shape[-2]
    scaling = fields.get("lora_scaling", KYUTAI_SCALING) if scaling is None else scaling
    linears = tuple(name for name in linears_of(model) if _weight_key(name) in found)
    lora = Lora(model, LoraConfig(rank, scaling * rank, linears))
    for name, pair in lora.named_pairs():
        for parameter, value in zip((pair.lora_A, pair.lora_B), found[_weight_key(name)]):
            if parameter.shape != value.shape:
                raise HubError(f"{file}: {name} was made for another model ({list(value.shape)} is its shape).")
            parameter.data.copy_(value)
    return lora


def save_lora(
    lora: Lora, config: MoshiConfig, folder: Path | str, dtype: torch.dtype = torch.bfloat16, base: str | None = None
) -> None:
    """Writes lora.safetensors and a config.json, as moshi-finetune does.

    Args:
        lora, config: adapters of a `Moshi`, and its sizes.
        folder: is made.
        dtype: of the weights.
        base: where the `moshi` package finds the base model's weights ("hf://..."); None for its default.

    Raises:
        ConfigError: the model has sizes that Kyutai's format can't express.
    """
    folder, rank = Path(folder), lora.config.rank
    fields = to_kyutai(config) | {"model_type": "moshi", "lora": True, "lora_rank": rank}
    fields |= {"lora_scaling": lora.config.alpha / rank, "lora_name": LORA_FILE}
    fields |= {"moshi_name": base} if base else {}
    out = {}
    for name, pair in lora.named_pairs():
        names = published(_weight_key(name), config, 1)
        for part in ("lora_A", "lora_B"):
            value = getattr(pair, part).detach().to(dtype).cpu()
            for key, each in zip(names, value if value.dim() == 3 else [value], strict=True):
                out[f"{key.removesuffix('weight')}{part}.weight"] = each.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    save_file(dict(sorted(out.items())), folder / LORA_FILE)
