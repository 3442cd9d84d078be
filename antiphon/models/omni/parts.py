"""Parts of an Omni that lie elsewhere: a language model and an encoder that were published by themselves.

A config.json may say `"parts": {"thinker.model": "smollm2-135m-instruct", "thinker.audio_tower": "whisper-base"}`:
names or folders, as `antiphon.hub.folder` takes them. What the folder itself holds goes before what the parts hold, and
adapters that lie in its `lora` are added to the language model.

Parts may stand beside the model, too: a `talker` and its `codec`, which say what the thinker writes where the model has
no talker of its own, and a `recognizer`, which writes down what is said to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from antiphon import hub
from antiphon.errors import ModelError
from antiphon.hub.weights import read_config, read_weights
from antiphon.models.llm.llama import own_key
from antiphon.models.omni.config import OmniConfig

ADAPTERS = "lora"
BESIDE = ("talker", "codec", "recognizer")
_ENCODER = "model.encoder."


def part_weights(parts: Mapping[str, str], config: OmniConfig) -> dict[str, Tensor]:
    """Weights of the parts under the names that `Omni` has for them.

    Args:
        parts: place -> name or folder.
        config: of the whole.

    Raises:
        ModelError: a place that no part can take.
        HubError: a part that can't be had.
    """
    found = {}
    for place, name in parts.items():
        if place in BESIDE:
            continue
        if place not in _READERS:
            known = ", ".join((*_READERS, *BESIDE))
            raise ModelError(f"parts: {place!r} can't be taken from elsewhere, only {known} can")
        ours, reader = _READERS[place]
        found |= {f"{ours}.{key}": value for key, value in reader(name, config).items()}
    return found


def beside(folder: Path, replaced: Mapping[str, str | Path | None] | None = None) -> dict[str, Path]:
    """Folders of the parts that stand beside a model, as far as its config.json names them. One of the part's name in
    the folder itself goes before what is named.

    Args:
        folder: of the model.
        replaced: parts that take their place, names or folders; None leaves one out.

    Raises:
        HubError: a part that can't be had.
    """
    named = {place: name for place, name in read_config(folder).get("parts", {}).items() if place in BESIDE}
    found = {place: folder / place if (folder / place).is_dir() else name for place, name in named.items()}
    wanted = {**found, **(replaced or {})}
    return {place: hub.folder(part) for place, part in wanted.items() if part is not None}


def tokenizer_of(folder: Path) -> Path:
    """The tokenizer.json of a model: its own, or that of the language model that it names."""
    own = folder / "tokenizer.json"
    if own.exists() or not (folder / "config.json").exists():
        return own
    named = read_config(folder).get("parts", {}).get("thinker.model")
    return own if named is None else hub.folder(named) / "tokenizer.json"


def _language_model(name: str, config: OmniConfig) -> dict[str, Tensor]:
    """A Llama's or a Qwen2's; the former has no biases, which are nought then."""
    assert config.thinker is not None
    text, weights = config.thinker.text, read_weights(hub.folder(name))
    kept = {own_key(key): value for key, value in weights.items()}
    if text.tie_word_embeddings:
        kept.pop("lm_head.weight", None)
    if text.qkv_bias:
        for layer in range(text.num_hidden_layers):
            for linear in ("q_proj", "k_proj", "v_proj"):
                kept.setdefault(f"layers.{layer}.{linear}.bias", torch.zeros(text.shapes[linear][0]))
    return kept


def _whisper(name: str, config: OmniConfig) -> dict[str, Tensor]:
    """The layers of Whisper's encoder; what joins them to the language model is no part of it."""
    weights = read_weights(hub.folder(name))
    kept = {key.removeprefix(_ENCODER): value for key, value in weights.items() if key.startswith(_ENCODER)}
    kept.pop("embed_positions.weight", None)
    return {
        key.replace("layer_norm.", "ln_post.") if key.startswith("layer_norm.") else key: v for key, v in kept.items()
    }


_READERS: dict[str, tuple[str, Callable[[str, OmniConfig], dict[str, Tensor]]]] = {
    "thinker.model": ("thinker.language_model", _language_model),
    "thinker.audio_tower": ("thinker.audio_tower", _whisper),
}
