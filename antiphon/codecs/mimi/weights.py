"""Mimi's published weights: names, layouts, and sizes read off them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.errors import HubError
from antiphon.hub.weights import fits, read_config, read_file, read_weights, unknown_to
from antiphon.nn.seanet import SeanetConv, pack, unpack
from antiphon.nn.transformer import neighbours

# Ours (a regular expression), that of `transformers`, Kyutai's.
NAMES = (
    (r"(encoder|decoder)\.layers\.(.+)\.(weight|bias)", r"\1.layers.\2.conv.\3", r"\1.model.\2.conv.conv.\3"),
    (r"(\w+)_transformer\.layers\.(\d+)\.norm_attention\.(\w+)", r"\1_transformer.layers.\2.input_layernorm.\3",
     r"\1_transformer.transformer.layers.\2.norm1.\3"),
    (r"(\w+)_transformer\.layers\.(\d+)\.norm_mlp\.(\w+)", r"\1_transformer.layers.\2.post_attention_layernorm.\3",
     r"\1_transformer.transformer.layers.\2.norm2.\3"),
    (r"(\w+)_transformer\.layers\.(\d+)\.project\.weight", r"\1_transformer.layers.\2.self_attn.{}_proj.weight",
     r"\1_transformer.transformer.layers.\2.self_attn.in_proj_weight"),
    (r"(\w+)_transformer\.layers\.(\d+)\.out\.weight", r"\1_transformer.layers.\2.self_attn.o_proj.weight",
     r"\1_transformer.transformer.layers.\2.self_attn.out_proj.weight"),
    (r"(\w+)_transformer\.layers\.(\d+)\.up\.weight", r"\1_transformer.layers.\2.mlp.fc1.weight",
     r"\1_transformer.transformer.layers.\2.linear1.weight"),
    (r"(\w+)_transformer\.layers\.(\d+)\.down\.weight", r"\1_transformer.layers.\2.mlp.fc2.weight",
     r"\1_transformer.transformer.layers.\2.linear2.weight"),
    (r"(\w+)_transformer\.layers\.(\d+)\.scale_attention", r"\1_transformer.layers.\2.self_attn_layer_scale.scale",
     r"\1_transformer.transformer.layers.\2.layer_scale_1.scale"),
    (r"(\w+)_transformer\.layers\.(\d+)\.scale_mlp", r"\1_transformer.layers.\2.mlp_layer_scale.scale",
     r"\1_transformer.transformer.layers.\2.layer_scale_2.scale"),
    (r"downsample\.weight", r"downsample.conv.weight", r"downsample.conv.conv.conv.weight"),
    (r"upsample\.weight", r"upsample.conv.weight", r"upsample.convtr.convtr.convtr.weight"),
    (r"quantizer\.(semantic|acoustic)\.inward\.weight",
     r"quantizer.\1_residual_vector_quantizer.input_proj.weight", r"quantizer.rvq_\1.input_proj.weight"),
    (r"quantizer\.(semantic|acoustic)\.outward\.weight",
     r"quantizer.\1_residual_vector_quantizer.output_proj.weight", r"quantizer.rvq_\1.output_proj.weight"),
    (r"quantizer\.(semantic|acoustic)\.codebooks\.(\d+)\.total",
     r"quantizer.\1_residual_vector_quantizer.layers.\2.codebook.embed_sum",
     r"quantizer.rvq_\1.vq.layers.\2._codebook.embedding_sum"),
    (r"quantizer\.(semantic|acoustic)\.codebooks\.(\d+)\.usage",
     r"quantizer.\1_residual_vector_quantizer.layers.\2.codebook.cluster_usage",
     r"quantizer.rvq_\1.vq.layers.\2._codebook.cluster_usage"),
)  # fmt: skip

# Kyutai's code has spelled some names otherwise at other times.
_OLDER = (
    (".in_projs.0.weight", ".in_proj_weight"), (".in_proj.weight", ".in_proj_weight"),
    (".out_projs.0.weight", ".out_proj.weight"), ("._codebook.cluster_size", "._codebook.cluster_usage"),
    ("._codebook.embed_avg", "._codebook.embedding_sum"), ("._codebook.embed_sum", "._codebook.embedding_sum"),
)  # fmt: skip


def read(folder: Path | str, family: str) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Sizes and weights of a folder or of Kyutai's file.

    Returns:
        fields of `MimiConfig`; weights under the names of the format; the format: "ours", "transformers" or "kyutai".

    Raises:
        HubError: it holds no Mimi.
    """
    path = Path(folder)
    file = path if path.is_file() else next(iter(sorted(path.glob("tokenizer-*.safetensors"))), None)
    if file is not None:
        weights = read_file(file)
        for old, new in _OLDER:
            weights = {key.replace(old, new): value for key, value in weights.items()}
        weights = {key.replace("rvq_first", "rvq_semantic").replace("rvq_rest", "rvq_acoustic"): value
                   for key, value in weights.items()}  # fmt: skip
        return sizes(weights, file), weights, "kyutai"
    fields = read_config(path)
    if fields.get("model_type") == "mimi":
        return published_config(fields, path), read_weights(path), "transformers"
    if fields.get("family") == family:
        return fields, read_weights(path), "ours"
    raise HubError(
        f"{path} holds no Mimi: its config.json should say 'model_type': 'mimi' (transformers) or 'family': {family!r} "
        "(ours), or there should be Kyutai's tokenizer-*.safetensors."
    )


def published_config(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """Our fields from a config.json of `transformers`, which may leave defaults out."""
    given = {
        "use_causal_conv": True, "pad_mode": "constant", "use_conv_shortcut": False, "trim_right_ratio": 1.0,
        "hidden_act": "gelu", "attention_bias": False,
    }  # fmt: skip
    for name, value in given.items():
        if fields.get(name, value) != value:
            raise HubError(f"{path}: {name} {fields[name]!r} is not supported, only {value!r} (as published).")
    dim, heads = fields.get("hidden_size", 512), fields.get("num_attention_heads", 8)
    rope = fields.get("rope_parameters") or {}
    if fields.get("upsample_groups", 512) != dim or fields.get("num_key_value_heads", heads) != heads:
        raise HubError(f"{path}: only depthwise upsampling and as many key-value heads as heads are supported.")
    table = {
        "sample_rate": ("sampling_rate", 24000), "channels": ("audio_channels", 1), "filters": ("num_filters", 64),
        "residual_layers": ("num_residual_layers", 1), "kernel": ("kernel_size", 7),
        "last_kernel": ("last_kernel_size", 3), "residual_kernel": ("residual_kernel_size", 3),
        "dilation_growth": ("dilation_growth_rate", 2), "compress": ("compress", 2),
        "inner": ("intermediate_size", 2048), "layers": ("num_hidden_layers", 8), "window": ("sliding_window", 250),
        "layer_scale": ("layer_scale_initial_scale", 0.01), "eps": ("norm_eps", 1e-5),
        "codebooks": ("num_quantizers", 32), "semantic": ("num_semantic_quantizers", 1),
        "codebook_size": ("codebook_size", 2048),
        "codebook_dim": ("vector_quantization_hidden_dimension", 256),
    }  # fmt: skip
    ours = {name: fields.get(theirs, default) for name, (theirs, default) in table.items()}
    ratios = tuple(fields.get("upsampling_ratios") or (8, 6, 5, 4))
    base = rope.get("rope_theta", fields.get("rope_theta", 10000.0))
    return {**ours, "dim": dim, "heads": heads, "ratios": ratios, "rope_base": base, "pad_audio": False}


def sizes(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Our fields from the shapes in Kyutai's file, which comes without a config."""
    try:
        first = weights["encoder.model.0.conv.conv.weight"]
        up = [key for key in weights if re.fullmatch(r"decoder\.model\.\d+\.convtr\.convtr\.weight", key)]
        up.sort(key=lambda key: int(key.split(".")[2]))
        layer = "encoder_transformer.transformer.layers.0."
        books = [f"quantizer.rvq_{part}.vq.layers." for part in ("semantic", "acoustic")]
        count = [len({key.split(".")[4] for key in weights if key.startswith(book)}) for book in books]
        size, width = weights[f"{books[0]}0._codebook.embedding_sum"].shape
        last = max((key for key in weights if key.startswith("decoder.model.") and key.endswith(".conv.conv.weight")),
                   key=lambda key: int(key.split(".")[2]))  # fmt: skip
        return {
            "channels": first.shape[1], "filters": first.shape[0], "kernel": first.shape[2],
            "last_kernel": weights[last].shape[2], "ratios": tuple(weights[key].shape[2] // 2 for key in up),
            "residual_layers": (int(up[1].split(".")[2]) - int(up[0].split(".")[2])) - 2,
            "residual_kernel": weights["encoder.model.1.block.1.conv.conv.weight"].shape[2],
            "compress": first.shape[0] // weights["encoder.model.1.block.1.conv.conv.weight"].shape[0],
            "dim": weights[f"{layer}linear1.weight"].shape[1], "inner": weights[f"{layer}linear1.weight"].shape[0],
            "layers": len({key.split(".")[3] for key in weights if key.startswith("encoder_transformer.")}),
            "stride": weights["downsample.conv.conv.conv.weight"].shape[2] // 2, "codebooks": sum(count),
            "semantic": count[0], "codebook_size": size, "codebook_dim": width, "pad_audio": True,
        }  # fmt: skip
    except (KeyError, IndexError, ValueError) as error:
        raise HubError(f"{path} holds no Mimi of Kyutai's: {error} is missing.") from error


def _published(key: str, style: int) -> str:
    for row in NAMES:
        if re.fullmatch(row[0], key):
            return re.sub(row[0], row[style], key)
    raise KeyError(key)


def fitted(codec: nn.Module, weights: dict[str, Tensor], layout: str, path: Path | str) -> dict[str, Tensor]:
    """Weights under our names and in our layout.

    Args:
        codec: the module to be filled; only its shapes matter.
        weights, layout: as `read` gave them.
        path: named in errors.

    Raises:
        HubError: one is missing, unknown or of another shape.
    """
    modules = dict(codec.named_modules())
    heads = codec.config.heads
    out: dict[str, Tensor] = {}
    used: set[str] = set()

    def take(name: str) -> Tensor:
        used.add(name)
        return weights[name]

    for key in codec.state_dict():
        module = modules[key.rpartition(".")[0]]
        try:
            if key.endswith(".ready"):
                out[key] = torch.tensor(True)
            elif layout == "ours" and key.endswith(".total"):
                stem = key.removesuffix("total")
                out[key] = take(f"{stem}codes") * take(f"{stem}usage")[:, None]
            elif layout == "ours":
                out[key] = take(key)
            elif key.endswith(".codes"):
                stem, style = key.removesuffix("codes"), 1 + (layout == "kyutai")
                usage = take(_published(f"{stem}usage", style)).clamp(min=1e-5)
                out[key] = take(_published(f"{stem}total", style)) / usage[:, None]
            else:
                out[key] = _fitted(key, module, take, layout, heads)
        except KeyError as error:
            raise HubError(f"{path}: the weights lack {error}.") from error
        except (RuntimeError, IndexError) as error:
            raise HubError(f"{path}: the weights do not fit its sizes ({key}: {error}).") from error
    fits([], unknown_to(used, weights), path)
    return out


def _fitted(key: str, module: nn.Module, take: Callable[[str], Tensor], layout: str, heads: int) -> Tensor:
    if layout == "kyutai":
        name = _published(key, 2)
        transposed = isinstance(module, SeanetConv) and module.upsample > 1
        value = take(name.replace(".conv.conv.", ".convtr.convtr.") if transposed else name)
    else:
        name = _published(key, 1)
        if "{}" in name:
            q, k, v = (take(name.format(letter)) for letter in "qkv")
            return torch.cat([neighbours(q, heads), neighbours(k, heads), v])
        value = take(name)
    if isinstance(module, SeanetConv) and key.endswith(".weight"):
        return pack(value, module)
    if key == "upsample.weight":  # [width, 1, 2 * stride] -> [present or previous, stride, width]
        return value[:, 0].T.reshape(2, -1, len(value)).contiguous()
    if key.endswith(("inward.weight", "outward.weight")):
        return value.flatten(1)  # a convolution over one frame is a linear map
    return value


def for_kyutai(codec: nn.Module) -> dict[str, Tensor]:
    """A codec's weights as Kyutai's code names and shapes them (`moshi` and `rustymimi` read them)."""
    modules, out = dict(codec.named_modules()), {}
    for key, value in codec.state_dict().items():
        module = modules[key.rpartition(".")[0]]
        if key.endswith(".ready"):
            name, value = _published(key.replace(".ready", ".usage"), 2), torch.ones(1)
            name = name.replace("cluster_usage", "_initialized")
        elif key.endswith(".codes"):
            continue
        else:
            name = _published(key, 2)
        if key.endswith(".total"):
            value = (
                codec.get_buffer(key.replace(".total", ".codes"))
                * codec.get_buffer(key.replace(".total", ".usage")).clamp(min=1e-5)[:, None]
            )
        elif isinstance(module, SeanetConv) and key.endswith(".weight"):
            value = unpack(value, module)
        elif key == "upsample.weight":
            value = value.flatten(0, 1).T[:, None]
        elif key.endswith(("inward.weight", "outward.weight")):
            value = value[..., None]
        if isinstance(module, SeanetConv) and module.upsample > 1:
            name = name.replace(".conv.conv.", ".convtr.convtr.")
        out[name.replace("rvq_semantic", "rvq_first").replace("rvq_acoustic", "rvq_rest")] = value.contiguous()
    return out
