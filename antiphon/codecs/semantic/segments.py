"""Codes that last: frame by frame the nearest centre flickers, and each change of code costs a language model a token.

Of all sequences of codes the one is taken whose squared distances and changes together cost least, after Viterbi
(Kamper and van Niekerk 2021, "Towards Unsupervised Phone and Word Segmentation using Self-Supervised Vector-Quantized
Neural Networks", section 2.2: duration-penalised dynamic programming, with a penalty that is the same for all lengths).
"""

from __future__ import annotations

import torch
from torch import Tensor

FRAMES = 512  # whose distances are held at once


def lasting_codes(values: Tensor, centroids: Tensor, penalty: float, frames: Tensor | None = None) -> Tensor:
    """The cheapest codes of each row.

    Args:
        values: what is compared, [batch, frames, width].
        centroids: [codes, width].
        penalty: what a change of code costs, in squared distance; 0 takes each frame's nearest centre.
        frames: how many of each row are there, [batch]; None for all.

    Returns:
        [batch, frames]; behind a row's end its last code goes on.
    """
    batch, length, _ = values.shape
    there = torch.full((batch,), length) if frames is None else frames.cpu()
    total = values.new_zeros(batch, len(centroids))
    kept = torch.empty(length, batch, len(centroids), dtype=torch.bool, device=values.device)
    before = torch.empty(length, batch, dtype=torch.long, device=values.device)
    lengths = centroids.square().sum(-1)
    for start in range(0, length, FRAMES):
        part = values[:, start : start + FRAMES]
        distances = lengths - 2 * part @ centroids.T  # but for the frame's own length, which all codes share
        inside = torch.arange(start, start + part.shape[1]) < there[:, None]
        distances = distances * inside.to(distances)[..., None]  # no frame behind the end asks for another code
        for place in range(part.shape[1]):
            cheapest, before[start + place] = total.min(-1)
            changed = (cheapest + penalty)[:, None]
            torch.le(total, changed, out=kept[start + place])
            total = torch.minimum(total, changed) + distances[:, place]
        total = total - total.amin(-1, keepdim=True)  # so that hours of frames add up in float32
    codes = torch.empty(length, batch, dtype=torch.long, device=values.device)
    code = total.argmin(-1)
    for place in range(length - 1, -1, -1):
        codes[place] = code
        code = torch.where(kept[place].gather(-1, code[:, None])[:, 0], code, before[place])
    return codes.T
