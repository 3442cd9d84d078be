"""A mixture of experts in place of a SwiGLU: each token goes through the few that a router takes for it (Qwen3-MoE,
after Shazeer et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from antiphon.models.llm.llama import LlamaConfig


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
    """The router and all experts of a layer."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.chosen, self.normed = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            Expert(config.hidden_size, config.moe_intermediate_size) for _ in range(config.num_experts)
        )

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
        return y.view_as(x)
