"""Rotary positions of language models: the angles, plain or stretched for long contexts, and the turning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.errors import ModelError


def rope_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of rotary positions, under its newer or older name."""
    return values.get("rope_parameters") or values.get("rope_scaling") or {}


def rope_frequencies(folder: Path, plain: Tensor) -> tuple[Tensor, float]:
    """The angles by which one position turns, [head_dim / 2], and what cosines and sines are multiplied by.

    The `plain` ones (RoFormer, Su et al. 2021), and those stretched for long contexts: "linear", "llama3", "yarn" and
    others, as `transformers` computes them; or divided by `factors`, as GGUF files keep Llama 3's.

    Raises:
        ModelError: an unknown kind, or one that isn't settled before the length of the text is known.
    """
    rope = rope_values(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if "factors" in rope:
        return plain / torch.tensor(rope["factors"]), 1.0
    if kind == "default":
        return plain, 1.0
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if kind not in ROPE_INIT_FUNCTIONS or kind in ("dynamic", "longrope"):
        raise ModelError(f"{folder}: rotary positions of the kind {kind!r} are not supported")
    turned, scale = ROPE_INIT_FUNCTIONS[kind](AutoConfig.from_pretrained(folder), "cpu")
    return turned.float(), float(scale)


def plain_frequencies(width: int, theta: float) -> Tensor:
    """The angles by which one position turns in heads of that width, [width / 2]."""
    powers = torch.arange(0, width, 2, device="cpu").float() / width
    return 1.0 / theta**powers


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to `[..., T, d]`; the first half of the sines is negative."""
    swapped = x.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)
