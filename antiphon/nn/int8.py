"""Weights in files at a quarter of float32: int8 with one scale a row. They are computed with in float again."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = ".scale"  # behind a tensor's name: the scales of its rows


def shrink(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every matrix (and stack of them) in int8, its rows' scales beside it in float16; vectors in float16.

    A row's largest number becomes 127, so each number is off by at most 1/254 of that.
    """
    out: dict[str, Tensor] = {}
    for key, weight in weights.items():
        weight = weight.detach().float().cpu()
        if weight.ndim < 2:
            out[key] = weight.half().contiguous()
            continue
        scale = (weight.abs().amax(-1) / 127).clamp_min(1e-7).half()  # 1e-7: the least that float16 tells from 0
        out[key + SCALE] = scale
        out[key] = (weight / scale.float()[..., None]).round().clamp(-127, 127).to(torch.int8)
    return out


def restore(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `shrink`, in float32; tensors that were not shrunk stay as they are."""
    out = {}
    for key, weight in weights.items():
        if key.endswith(SCALE) and key.removesuffix(SCALE) in weights:
            continue
        scale = weights.get(key + SCALE)
        out[key] = weight if scale is None else weight.float() * scale.float()[..., None]
    return out
