"""Moshi's depth transformer, over the codes of one frame (Defossez et al. 2024, section 3.4.1).

It is written twice: `forward` for training, over everything at once and differentiable, and `step` for a live
conversation, one codebook at a time. At one row a step is bound by the reading of the weights, so each product reads
its weight once (`antiphon.nn.cpu`), queries, keys and values are one product, and so are the SwiGLU's two halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.models.moshi.config import DepthConfig, MoshiConfig
from antiphon.nn.cpu import PackedWeights, product
from antiphon.nn.transformer import rms_norm


def _normal(*shape: int, std: float) -> nn.Parameter:
    return nn.Parameter(std * torch.randn(shape))


class DepthLayer(nn.Module):
    """Pre-norm attention over the codes of a frame, then a SwiGLU; each codebook has products of its own.

    Args:
        config: of the depth transformer.
        eps: of the norms.
    """

    def __init__(self, config: DepthConfig, eps: float):
        super().__init__()
        dim, inner, sets = config.dim, config.inner, config.sets
        self.heads, self.eps = config.heads, eps
        self.norm_attention, self.norm_mlp = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        self.project = _normal(sets, 3 * dim, dim, std=dim**-0.5)
        self.out = _normal(sets, dim, dim, std=(2 * config.layers * dim) ** -0.5)
        self.gate_up = _normal(sets, 2 * inner, dim, std=dim**-0.5)
        self.down = _normal(sets, dim, inner, std=(2 * config.layers * inner) ** -0.5)

    def forward(self, x: Tensor, sets: Tensor | None) -> Tensor:
        """[codebooks, n, dim] -> [codebooks, n, dim].

        Args:
            x: the residual stream.
            sets: which set of weights each codebook uses [codebooks]; None if each has its own.
        """

        def each(y: Tensor, weight: Tensor) -> Tensor:
            return torch.bmm(y, (weight if sets is None else weight[sets]).transpose(1, 2))

        y = each(rms_norm(x, self.norm_attention, self.eps), self.project)
        q, k, v = y.unflatten(-1, (3, self.heads, x.shape[-1] // self.heads)).permute(
            2, 1, 3, 0, 4
        )  # [n, heads, codebooks, width]
        # So few keys that written out it is twice as quick, both ways, as the fused attention.
        later = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(later, -math.inf)
        seen = scores.softmax(-1).to(v.dtype) @ v
        x = x + each(seen.permute(2, 0, 1, 3).flatten(2), self.out)
        gate, up = each(rms_norm(x, self.norm_mlp, self.eps), self.gate_up).chunk(2, dim=-1)
        return x + each(F.silu(gate) * up, self.down)

    def parts(self) -> list[tuple[Tensor, ...]]:
        """The products of each set of weights: queries, keys and values; output; gate and up; down."""
        return list(zip(self.project.unbind(), self.out.unbind(), self.gate_up.unbind(), self.down.unbind()))

    def step(
        self, x: Tensor, parts: tuple[Tensor, ...], cache: Tensor, level: int, packed: PackedWeights | None
    ) -> Tensor:
        """One codebook [batch, dim] -> [batch, dim].

        Args:
            x: the residual stream.
            parts: the codebook's set of weights.
            cache: keys and values of this frame [batch, 2, heads, codebooks, width]; the new ones are stored in it.
            level: the codebook.
            packed: copies of weights, or None.
        """
        project, out, gate_up, down = parts
        batch = x.shape[0]
        y = product(rms_norm(x, self.norm_attention, self.eps), project, packed=packed).reshape(
            batch, 3, self.heads, -1
        )
        if level:
            cache[:, :, :, level] = y[:, 1:]
            keys, values = cache[:, :, :, : level + 1].unbind(1)
            seen = F.scaled_dot_product_attention(y[:, 0].unsqueeze(2), keys, values).reshape(batch, -1)
        else:
            cache[:, :, :, 0] = y[:, 1:]
            seen = y[:, 2].reshape(batch, -1)
        x = x + product(seen, out, packed=packed)
        gate, up = product(rms_norm(x, self.norm_mlp, self.eps), gate_up, packed=packed).chunk(2, dim=-1)
        return x + product(F.silu(gate).mul_(up), down, packed=packed)


@dataclass
class DepthFrame:
    """One frame that the depth transformer goes through.

    Attributes:
        read: what each set of weights reads of the temporal state, [batch, dim] each.
        cache: keys and values, [batch, 2, heads, codebooks, width] a layer.
        parts, heads: the weights, taken apart.
        packed: copies of weights, or None.
    """

    read: tuple[Tensor, ...]
    cache: list[Tensor]
    parts: list[list[tuple[Tensor, ...]]]
    heads: tuple[Tensor, ...]
    packed: PackedWeights | None


class Depth(nn.Module):
    """Codes of a frame, one after the other. No positions: each codebook has weights of its own.

    Args:
        config: of the model.
    """

    def __init__(self, config: MoshiConfig):
        super().__init__()
        depth = config.depth
        self.config, self.card, self.order, dim = depth, config.card, depth.order, depth.dim
        self.state_in = _normal(depth.sets, dim, config.dim, std=config.dim**-0.5)
        self.text_embedding = nn.Embedding(config.text_card + 2, dim, padding_idx=config.text_card + 1)
        self.code_embedding = nn.Embedding((depth.codebooks - 1) * (config.card + 1) + 1, dim, padding_idx=-1)
        self.layers = nn.ModuleList(DepthLayer(depth, config.eps) for _ in range(depth.layers))
        self.heads = _normal(depth.codebooks, config.card, dim, std=0.1 * dim**-0.5)
        for table in (self.text_embedding, self.code_embedding):
            start_embedding(table)
        self.register_buffer("sets", torch.tensor(depth.order), persistent=False)

    def reset(self) -> None:
        """As `Transformer.reset`."""
        self.sets = torch.tensor(self.config.order, device=self.heads.device)

    def forward(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Logits of every codebook, the earlier ones given.

        Args:
            states: of the temporal transformer [n, dim].
            tokens: the text's piece and all codes but the last, [n, codebooks]; -1 adds nothing.

        Returns:
            [n, codebooks, card].
        """
        n, count = tokens.shape
        shared = self.config.schedule is not None
        x = F.linear(states, self.state_in.flatten(0, 1)).view(n, self.config.sets, self.config.dim).transpose(0, 1)
        x = x[self.sets] if shared else x
        text = torch.where(tokens[:, 0] < 0, self.text_embedding.padding_idx, tokens[:, 0])
        known = [self.text_embedding(text)[None]]
        if count > 1:
            first = torch.arange(count - 1, device=tokens.device) * (self.card + 1)
            codes = torch.where(tokens[:, 1:] < 0, self.code_embedding.padding_idx, tokens[:, 1:] + first)
            known.append(self.code_embedding(codes.T))
        x = x + torch.cat(known)
        for layer in self.layers:
            x = layer(x, self.sets if shared else None)
        return torch.bmm(x, self.heads.transpose(1, 2)).transpose(0, 1)

    def start(self, state: Tensor, packed: PackedWeights | None = None) -> DepthFrame:
        """A frame, of the temporal state [batch, dim]."""
        depth, batch = self.config, state.shape[0]
        read = product(state, self.state_in.flatten(0, 1), packed=packed).reshape(batch, depth.sets, depth.dim)
        shape = (batch, 2, depth.heads, depth.codebooks, depth.dim // depth.heads)
        cache = [state.new_empty(shape) for _ in self.layers]
        return DepthFrame(read.unbind(1), cache, [layer.parts() for layer in self.layers], self.heads.unbind(), packed)

    def step(self, level: int, token: Tensor, frame: DepthFrame) -> Tensor:
        """Logits of one codebook [batch, card].

        Args:
            level: the codebook; they must come in order.
            token: the text's piece (level 0) or the code of the codebook before, [batch].
            frame: as `start` gave it.
        """
        which = self.order[level]
        if level:
            known = F.embedding(token + (level - 1) * (self.card + 1), self.code_embedding.weight)
        else:
            known = F.embedding(token, self.text_embedding.weight)
        x = known + frame.read[which]
        for layer, parts, cache in zip(self.layers, frame.parts, frame.cache):
            x = layer.step(x, parts[which], cache, level, frame.packed)
        return product(x, frame.heads[level], packed=frame.packed)


@torch.no_grad()
def start_embedding(table: nn.Embedding) -> None:
    """N(0, 1 / width), and zeros where nothing is to be added."""
    nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
    table.weight[table.padding_idx] = 0
