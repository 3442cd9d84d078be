"""Sizes of published Moshi models: the config.json of Kyutai's and of `transformers`' folders, and ours as Kyutai's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antiphon.errors import ConfigError, HubError
from antiphon.models.moshi.config import DepthConfig, MoshiConfig

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
