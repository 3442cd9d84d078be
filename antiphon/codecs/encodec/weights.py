"""EnCodec's published settings and names: `facebook/encodec_24khz` and `_48khz`, in the format of `transformers`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from antiphon.errors import HubError
from antiphon.hub.weights import load_ours, publish, read_config, read_weights

SETTINGS = {  # ours: published, and what the published default is where older files leave it out
    "sample_rate": ("sampling_rate", 24000),
    "channels": ("audio_channels", 1),
    "latent": ("hidden_size", 128),
    "filters": ("num_filters", 32),
    "residual_layers": ("num_residual_layers", 1),
    "ratios": ("upsampling_ratios", (8, 5, 4, 2)),
    "kernel": ("kernel_size", 7),
    "last_kernel": ("last_kernel_size", 7),
    "residual_kernel": ("residual_kernel_size", 3),
    "dilation_growth": ("dilation_growth_rate", 2),
    "compress": ("compress", 2),
    "causal": ("use_causal_conv", True),
    "padding": ("pad_mode", "reflect"),
    "shortcut": ("use_conv_shortcut", True),
    "norm": ("norm_type", "weight_norm"),
    "lstm": ("num_lstm_layers", 2),
    "codebook_size": ("codebook_size", 1024),
    "normalize": ("normalize", False),
    "chunk_seconds": ("chunk_length_s", None),
    "overlap": ("overlap", None),
}

BUFFERS = {"codes": "embed", "usage": "cluster_size"}


def published_name(key: str) -> str:
    """Our name of a weight -> the published one."""
    if key.startswith("quantizer."):
        _, _, level, buffer = key.split(".")
        return f"quantizer.layers.{level}.codebook.{BUFFERS[buffer]}"
    if ".lstm." in key or ".norm." in key:
        return key
    module, _, last = key.rpartition(".")
    return f"{module}.conv.{last}"


def published_settings(fields: dict[str, Any], folder: Path | str) -> dict[str, Any]:
    """Fields of `EncodecConfig` from a published config.json."""
    ours = {name: fields.get(theirs, default) for name, (theirs, default) in SETTINGS.items()}
    if fields.get("trim_right_ratio", 1.0) != 1.0 or (fields.get("codebook_dim") or ours["latent"]) != ours["latent"]:
        raise HubError(
            f"{folder}: this EnCodec trims its upsampling on both sides, or its codes are not as wide as its latents; "
            "no published one is like that, and neither is supported."
        )
    ours["norm"] = None if ours["norm"] == "weight_norm" else ours["norm"]
    rate = math.ceil(ours["sample_rate"] / math.prod(ours["ratios"]))
    most = fields.get("target_bandwidths", (24.0,))[-1]  # kbit/s
    ours["codebooks"] = int(1000 * most // (rate * math.ceil(math.log2(ours["codebook_size"]))))
    return ours


def read(folder: Path | str, family: str) -> tuple[dict[str, Any], tuple[bool, dict[str, Tensor]]]:
    """Settings and weights of a folder.

    Returns:
        Fields of `EncodecConfig`; whether the weights are published ones, and the weights.

    Raises:
        HubError: it holds no EnCodec.
    """
    fields = read_config(folder)
    if fields.get("model_type") == "encodec":
        return published_settings(fields, folder), (True, read_weights(folder, "pytorch_model.bin"))
    if fields.get("family") == family:
        return fields, (False, read_weights(folder))
    raise HubError(
        f"{folder} holds no EnCodec: its config.json should say 'model_type': 'encodec' (published) or 'family': "
        f"{family!r} (ours)."
    )


def fill(codec: nn.Module, weights: tuple[bool, dict[str, Tensor]], folder: Path | str) -> None:
    """Fills a codec of the settings that `read` gave, or of fewer codebooks."""
    published, tensors = weights
    if published:
        publish(codec, tensors, published_name, folder)
    else:
        load_ours(codec, tensors, folder)
