"""Causal self-attention with rotary positions and an explicit cache, and the transformer layer around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rotary_frequencies(width: int, base: float = 10000.0) -> Tensor:
    """Radians a position of each pair of a head's `width` channels, [width / 2]."""
    half = width // 2
    return base ** (-torch.arange(half, dtype=torch.float32) / half)


def rotate(x: Tensor, first: int, frequencies: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), halves rotated as in Llama.

    Args:
        x: [batch, heads, time, width], width even.
        first: position of the first of `time`.
        frequencies: see `rotary_frequencies`.
    """
    half = x.shape[-1] // 2
    angle = torch.arange(first, first + x.shape[2], device=x.device)[:, None] * frequencies
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


@dataclass
class AttentionState:
    """Keys and values so far, [batch, heads, time, width]; `position` is that of the next input."""

    keys: Tensor | None = None
    values: Tensor | None = None
    position: int = 0


class Attention(nn.Module):
    """Multi-head attention over the past.

    Args:
        dim, heads: width, and heads that share it.
        window: how many of the latest inputs are seen, the present one included; None for all.
    """

    def __init__(self, dim: int, heads: int, window: int | None = None):
        super().__init__()
        self.heads, self.window = heads, window
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.register_buffer("frequencies", rotary_frequencies(dim // heads), persistent=False)

    def _project(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        batch, time, _ = x.shape
        q, k, v = self.project(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return rotate(q, first, self.frequencies), rotate(k, first, self.frequencies), v

    def _mask(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """[queries, keys], true where a key may be seen (the last query stands at the last key); None if all may."""
        if queries == 1 and (self.window is None or keys <= self.window):
            return None
        age = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
        return (age >= 0) if self.window is None else (age >= 0) & (age < self.window)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(q.shape[2], k.shape[2], q.device))
        return self.out(y.transpose(1, 2).flatten(2))

    def init_state(self) -> AttentionState:
        return AttentionState()

    def step(self, x: Tensor, state: AttentionState) -> Tensor:
        """[batch, n, dim] -> [batch, n, dim]; the cache never holds more than the window needs."""
        q, k, v = self._project(x, state.position)
        if state.keys is not None:
            k, v = torch.cat([state.keys, k], dim=2), torch.cat([state.values, v], dim=2)
        y = self._attend(q, k, v)
        keep = k.shape[2] if self.window is None else min(k.shape[2], self.window - 1)
        state.keys, state.values = k[:, :, k.shape[2] - keep :], v[:, :, v.shape[2] - keep :]
        state.position += x.shape[1]
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self._attend(*self._project(x, 0))


class TransformerLayer(nn.Module):
    """Pre-norm layer: attention, then a SwiGLU of `inner` units.

    Args:
        dim, heads, inner, window: widths, heads, attention window.
    """

    def __init__(self, dim: int, heads: int, inner: int, window: int | None = None):
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, window)
        self.gate_up = nn.Linear(dim, 2 * inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def _mlp(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def init_state(self) -> AttentionState:
        return self.attention.init_state()

    def step(self, x: Tensor, state: AttentionState) -> Tensor:
        return self._mlp(x + self.attention.step(self.norm_attention(x), state))

    def forward(self, x: Tensor) -> Tensor:
        return self._mlp(x + self.attention(self.norm_attention(x)))


class Transformer(nn.Module):
    """Layers and a last norm.

    Args:
        dim, heads, inner, layers, window: as in `TransformerLayer`, and how many.
    """

    def __init__(self, dim: int, heads: int, inner: int, layers: int, window: int | None = None):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, inner, window) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=1e-6)

    def init_state(self) -> list[AttentionState]:
        return [layer.init_state() for layer in self.layers]

    def step(self, x: Tensor, state: list[AttentionState]) -> Tensor:
        """[batch, n, dim] -> [batch, n, dim]."""
        for layer, part in zip(self.layers, state):
            x = layer.step(x, part)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
