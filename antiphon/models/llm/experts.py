"""A mixture of experts in place of a SwiGLU: each token goes through the few that a router takes for it (Qwen3-MoE,
after Shazeer et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Expert(nn.Module):
    """A narrow SwiGLU."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """The router and all experts of a layer.

    Args:
        width: of what goes in and comes out.
        inner: of an expert.
        count: of experts.
        chosen: for each token.
        normed: the weights of those sum to 1.
        shared: of an expert that every token goes through besides, as much as a gate says (Qwen2-MoE); 0 for none.
    """

    def __init__(self, width: int, inner: int, count: int, chosen: int, normed: bool, shared: int = 0):
        super().__init__()
        self.chosen, self.normed = chosen, normed
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(Expert(width, inner) for _ in range(count))
        self.shared_expert = Expert(width, shared) if shared else None
        self.shared_expert_gate = nn.Linear(width, 1, bias=False) if shared else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        rows = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(rows).softmax(-1, dtype=torch.float32).topk(self.chosen, dim=-1)
        if self.normed:
            weights = weights / weights.sum(-1, keepdim=True)
        weights, y = weights.to(x.dtype), torch.zeros_like(rows)
        for number in chosen.unique().tolist():
            row, at = (chosen == number).nonzero(as_tuple=True)
            y = y.index_add(0, row, self.experts[number](rows[row]) * weights[row, at, None])
        if self.shared_expert is not None and self.shared_expert_gate is not None:
            y = y + self.shared_expert_gate(rows).sigmoid() * self.shared_expert(rows)
        return y.view_as(x)
