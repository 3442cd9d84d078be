"""Semantic distillation: a codec's first codebook learns to say what a speech model hears.

The teacher's features (`antiphon.encoders`), pooled to the codec's frame rate, are compared with a linear
projection of what the first codebook gives (Zhang et al. 2023, section 3.3, for SpeechTokenizer; Defossez et al. 2024,
section 3.3.3, for Mimi).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError

KINDS = ("frames", "dimensions")


def pool(features: Tensor, given: float, asked: float, frames: int, span: float = 1.0) -> Tensor:
    """Features at one frame rate, averaged at another.

    Args:
        features: [batch, n, width].
        given, asked: frames a second, of the input and of the output; the output's may be higher.
        frames: of the output; after the input's end the last feature lasts.
        span: width of the averaged window in output frames, about the frame's middle; Mimi's is 2.

    Returns:
        [batch, frames, width].
    """
    count, ratio = features.shape[1], given / asked
    middle = (torch.arange(frames, dtype=torch.float64) + 0.5) * ratio
    low, high = middle - span * ratio / 2, middle + span * ratio / 2
    start = torch.arange(count, dtype=torch.float64)
    ends = torch.minimum(high[:, None], start + 1) - torch.maximum(low[:, None], start)
    weights = ends.clamp_min(0.0)
    late = weights.sum(1) < 1e-9
    weights[late, -1] = 1.0
    weights = (weights / weights.sum(1, keepdim=True)).to(features)
    return torch.einsum("tn,bnw->btw", weights, features)


class Distillation(nn.Module):
    """The loss.

    Args:
        dim: width of what is compared: of the codec's latents. None: they are in the teacher's space already.
        width: of the teacher's features.
        kind: "frames", Mimi's: one less the cosine of projection and feature, in every frame; "dimensions",
            SpeechTokenizer's: -log sigmoid of the cosine along time, for every dimension of the feature.
        decay: of the running mean and deviation of the features, which are taken out of them: speech models have a few
            large dimensions that hardly change, and a cosine would see little else. 0: features are taken as they are.
    """

    def __init__(self, dim: int | None, width: int, kind: str = "frames", decay: float = 0.99):
        super().__init__()
        if kind not in KINDS:
            raise ModelError(f"distillation by {kind!r}; choose {' or '.join(KINDS)}")
        self.kind, self.decay = kind, decay
        self.project = nn.Identity() if dim is None else nn.Linear(dim, width)
        self.register_buffer("moments", torch.zeros(2, width))
        self.register_buffer("mass", torch.zeros(()))

    def forward(self, first: Tensor, target: Tensor) -> Tensor:
        """Both [batch, frames, ...]: what the first codebook gives, and the pooled features -> scalar, at least 0."""
        made, target = self.project(first).float(), self._standard(target.float())
        if self.kind == "frames":
            return (1 - F.cosine_similarity(made, target, dim=-1)).mean()
        return -F.logsigmoid(F.cosine_similarity(made, target, dim=1)).mean()

    @torch.no_grad()
    def _standard(self, target: Tensor) -> Tensor:
        """The features, standardised by their running mean and deviation."""
        if not self.decay:
            return target
        if self.training:
            flat = target.flatten(0, 1)
            moments = torch.stack([flat.mean(0), flat.square().mean(0)])
            if dist.is_initialized():
                dist.all_reduce(moments)
                moments /= dist.get_world_size()
            self.moments.mul_(self.decay).add_(moments, alpha=1 - self.decay)
            self.mass.mul_(self.decay).add_(1 - self.decay)
        mean, square = self.moments / self.mass.clamp_min(1e-9)
        return (target - mean) / (square - mean.square()).clamp_min(1e-6).sqrt()
