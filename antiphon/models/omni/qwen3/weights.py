"""Folders of Qwen3-Omni as they are published: config.json and safetensors under the published names.

model = load(folder)              # whole, or a thinker alone
save(model, folder)               # which `transformers` loads
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from antiphon.errors import HubError
from antiphon.hub.weights import read_config, read_weights
from antiphon.models.llm.llama import own_key, published_key
from antiphon.models.omni.qwen3.config import FAMILY, Qwen3OmniConfig
from antiphon.models.omni.qwen3.model import Qwen3Omni
from antiphon.nn.weights import NoInitWeights, fill

# Published names and ours; those of transformers go on as `llama.own_key` knows them.
NAMES = (
    ("thinker.audio_tower.conv_out.", "thinker.audio_tower.conv_out."),
    ("thinker.audio_tower.conv2d", "thinker.audio_tower.conv"),
    ("thinker.audio_tower.", "thinker.audio_tower."),
    ("thinker.visual.", "thinker.visual."),
    ("thinker.lm_head.", "thinker.language_model.lm_head."),
    ("thinker.model.", "thinker.language_model."),
    ("talker.code_predictor.model.codec_embedding.", "talker.predictor.embeddings."),
    ("talker.code_predictor.lm_head.", "talker.predictor.heads."),
    ("talker.code_predictor.model.", "talker.predictor.lm."),
    ("talker.codec_head.", "talker.lm.lm_head."),
    ("talker.model.codec_embedding.", "talker.lm.embed_tokens."),
    ("talker.model.", "talker.lm."),
    ("talker.", "talker."),
    ("code2wav.", "token2wav."),
)
# Of the part that makes sound: what is one tensor here and several there, and those of its layers and its blocks.
_TOGETHER = {
    "project.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}
_LAYERS = {
    "self_attn.o_proj.weight": "out.weight", "mlp.down_proj.weight": "down.weight",
    "input_layernorm.weight": "norm_attention.weight", "post_attention_layernorm.weight": "norm_mlp.weight",
    "self_attn_layer_scale.scale": "scale_attention", "mlp_layer_scale.scale": "scale_mlp",
}  # fmt: skip
_BLOCKS = {
    f"{theirs}.{kind}": f"{own}.{kind}"
    for theirs, own in (("dwconv.conv", "depthwise.conv"), ("pwconv1", "up"), ("pwconv2", "down"))
    for kind in ("weight", "bias")
} | {"gamma": "scale"}
_SOUND = (
    (re.compile(r"(pre_transformer\.layers\.\d+\.)(.+)"), _LAYERS),
    (re.compile(r"(upsample\.\d+\.1\.)(.+)"), _BLOCKS),
)
_LAYER = re.compile(r"(token2wav\.pre_transformer\.layers\.\d+\.)(.+)")


def ours(key: str) -> str:
    """Our name of a published weight; an unknown one is kept, so that loading complains of it."""
    for theirs, own in NAMES:
        if key.startswith(theirs):
            rest = key.removeprefix(theirs)
            key = own + (own_key(f"model.{rest}") if theirs.endswith(".model.") else rest)
            return own + _of_sound(rest) if own == "token2wav." else key
    return key


def published(key: str) -> str:
    """The published name of a weight of `Qwen3Omni`: the inverse of `ours`."""
    for theirs, own in NAMES:
        if key.startswith(own):
            rest = key.removeprefix(own)
            if own == "token2wav.":
                return theirs + _of_sound(rest, back=True)
            return theirs + (published_key(rest).removeprefix("model.") if theirs.endswith(".model.") else rest)
    return key


def _of_sound(key: str, back: bool = False) -> str:
    for pattern, names in _SOUND:
        if match := pattern.fullmatch(key):
            table = {own: theirs for theirs, own in names.items()} if back else names
            return match[1] + table.get(match[2], match[2])
    return key


def joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The products of the part that makes sound, each in one tensor instead of several."""
    kept = dict(weights)
    for key in weights:
        if match := _LAYER.fullmatch(key):
            for own, parts in _TOGETHER.items():
                names = [match[1] + part for part in parts]
                if match[2] == parts[0] and all(name in kept for name in names):
                    kept[match[1] + own] = torch.cat([kept.pop(name) for name in names])
    return kept


def parted(weights: dict[str, Tensor], config: Qwen3OmniConfig) -> dict[str, Tensor]:
    """The inverse of `joined`."""
    kept = {}
    for key, value in weights.items():
        match = _LAYER.fullmatch(key)
        parts = _TOGETHER.get(match[2]) if match else None
        if not match or not parts or config.code2wav is None:
            kept[key] = value
            continue
        sound = config.code2wav
        groups = sound.hidden_size // sound.num_attention_heads * sound.num_key_value_heads
        rows = [sound.hidden_size, groups, groups] if len(parts) == 3 else [sound.intermediate_size] * 2
        kept |= {match[1] + part: piece for part, piece in zip(parts, value.split(rows))}
    return kept


def load(folder: Path | str, dtype: torch.dtype | None = None) -> Qwen3Omni:
    """Opens a folder in evaluation mode.

    Args:
        folder: as published, or as `save` writes it.
        dtype: of the thinker's and the talker's weights; what makes the sound is float32 in any case. None: float32.

    Raises:
        ModelError: another model, a quantized one, or one with settings that aren't computed here.
        HubError: weights that can't be read or don't fit.
    """
    folder = Path(folder)
    values = read_config(folder)
    config = Qwen3OmniConfig.from_dict(values, str(folder / "config.json"))
    with torch.device("meta"), NoInitWeights():
        model = Qwen3Omni(config, values)
    prefix = "thinker." if values.get("model_type") == f"{FAMILY}_thinker" else ""
    kept = {ours(prefix + key): value for key, value in read_weights(folder, float32=False).items()}
    if config.talker is None:
        kept = {key: value for key, value in kept.items() if key.startswith("thinker.")}
    if config.thinker.text.tie_word_embeddings:
        kept.pop("thinker.language_model.lm_head.weight", None)
    kept = {
        key: value.float() if key.startswith("token2wav.") else value.to(dtype or torch.float32)
        for key, value in joined(kept).items()
    }
    try:
        fill(model, kept, assign=True)
    except ValueError as error:
        raise HubError(f"{folder}: the weights do not fit its config.json ({error}).") from error
    model.reset()
    return model.eval().requires_grad_(False)


def save(model: Qwen3Omni, folder: Path | str) -> None:
    """Writes a folder that `load` and `transformers` read."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.published, indent=2) + "\n", encoding="utf-8")
    prefix = "thinker." if model.published.get("model_type") == f"{FAMILY}_thinker" else ""
    weights = parted(model.state_dict(), model.config)
    kept = {published(key).removeprefix(prefix): value.cpu().contiguous() for key, value in weights.items()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
