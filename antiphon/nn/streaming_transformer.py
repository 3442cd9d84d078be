"""Transformer over a sliding window with an explicit cache that never grows, each row at its own position.

Pre-norm layers with LayerNorm, rotary positions (pairs of neighbouring channels are rotated), GELU and LayerScale: the
transformer of Mimi (Defossez et al. 2024, section 3.3.1). Keys and values of the last inputs lie in a ring of fixed
size; the window slides exactly, so pieces of any size give what the whole gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.timeconv import product

SLACK = 8  # inputs that a ring takes beside the window; more at once are attended to before they are stored


@dataclass
class StreamingTransformerState:
    """Where a stream stands.

    Attributes:
        rings: one a layer, [batch, size, 2 (keys, values), heads, width] with size = window - 1 + SLACK; position p
            lies at p modulo size.
        position: of the next input, [batch].
    """

    rings: list[Tensor]
    position: Tensor


def rotations(position: Tensor, frequencies: Tensor) -> Tensor:
    """Complex unit numbers by which channel pairs are turned. [...], [pairs] -> [..., pairs]."""
    angle = position.float()[..., None] * frequencies
    return torch.complex(angle.cos(), angle.sin())


class WindowLayer(nn.Module):
    """One layer.

    Args:
        dim, heads, inner: width, heads, width of the MLP.
        scale: initial LayerScale.
        eps: of the norms.
    """

    def __init__(self, dim: int, heads: int, inner: int, scale: float = 0.01, eps: float = 1e-5):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)
        self.scale_attention = nn.Parameter(torch.full((dim,), scale))
        self.scale_mlp = nn.Parameter(torch.full((dim,), scale))

    def queries_keys_values(self, x: Tensor, turn: Tensor) -> Tensor:
        """[batch, time, dim], rotations [batch, time, pairs] -> [batch, time, 3, heads, width]."""
        batch, time, dim = x.shape
        y = product(self.norm_attention(x).view(-1, dim), self.project.weight)
        y = y.contiguous().view(batch, time, 3, self.heads, -1)
        turned = torch.view_as_real(torch.view_as_complex(y[:, :, :2].unflatten(-1, (-1, 2))) * turn[:, :, None, None])
        return torch.cat([turned.flatten(-2), y[:, :, 2:]], dim=2)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """Output of the attention [batch, time, dim] into the residual stream, then the MLP."""
        shape = x.shape
        x, seen = x.reshape(-1, shape[-1]), seen.reshape(-1, shape[-1])
        x = torch.addcmul(x, product(seen, self.out.weight), self.scale_attention)
        hidden = F.gelu(product(self.norm_mlp(x), self.up.weight))
        return torch.addcmul(x, product(hidden, self.down.weight), self.scale_mlp).view(shape)


class StreamingTransformer(nn.Module):
    """Layers in a row.

    Args:
        dim, heads, inner, layers: widths, heads, how many.
        window: how many of the latest inputs are seen, the present one included.
        scale, eps: see `WindowLayer`.
        base: of the rotary positions.
    """

    def __init__(
        self, dim: int, heads: int, inner: int, layers: int, window: int, scale: float = 0.01, eps: float = 1e-5,
        base: float = 10000.0,
    ):  # fmt: skip
        super().__init__()
        self.heads, self.window, self.size = heads, window, window - 1 + SLACK
        self.layers = nn.ModuleList(WindowLayer(dim, heads, inner, scale, eps) for _ in range(layers))
        self.width, self.base = dim // heads, base
        self.register_buffer("frequencies", torch.empty(self.width // 2), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Computes what is no weight; needed where a module was made without memory (`torch.device("meta")`)."""
        device = self.layers[0].project.weight.device
        pairs = torch.arange(0, self.width, 2, dtype=torch.float32, device=device)
        self.frequencies = 1.0 / self.base ** (pairs / self.width)

    def init_state(self, batch: int) -> StreamingTransformerState:
        weight = self.layers[0].project.weight
        shape = (batch, self.size, 2, self.heads, weight.shape[1] // self.heads)
        rings = [weight.new_zeros(shape) for _ in self.layers]
        return StreamingTransformerState(rings, torch.zeros(batch, dtype=torch.long, device=weight.device))

    def _seen(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may see a key, by their positions: [batch, queries], [batch, keys] -> [batch, 1, q, k]."""
        age = query[:, :, None] - key[:, None]
        return ((age >= 0) & (age < self.window) & (key >= 0)[:, None])[:, None]

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q [batch, queries, heads, width], k and v [batch, keys, heads, width] -> [batch, queries, dim]."""
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return y.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, dim] -> [batch, time, dim]; differentiable."""
        position = torch.arange(x.shape[1], device=x.device)[None]
        turn, mask = rotations(position, self.frequencies), self._seen(position, position)
        for layer in self.layers:
            q, k, v = layer.queries_keys_values(x, turn).unbind(2)
            x = layer.finish(x, self._attend(q, k, v, mask))
        return x

    def step(self, x: Tensor, state: StreamingTransformerState) -> Tensor:
        """More input [batch, time, dim] -> [batch, time, dim]; the state is changed in place."""
        batch, time, _ = x.shape
        if not time or not batch:
            return x
        if not torch.is_inference_mode_enabled():  # what was made in it may be changed there only
            state.rings = [ring.clone() if ring.is_inference() else ring for ring in state.rings]
        size = self.size
        position = state.position[:, None] + torch.arange(time, device=x.device)
        turn = rotations(position, self.frequencies)
        # The ring as it is when the inputs that fit have been stored: which position lies in each slot?
        direct = time <= SLACK
        newest = position[:, -1:] if direct else position[:, :1] - 1
        held = newest - (newest - torch.arange(size, device=x.device)) % size
        mask = self._seen(position, held if direct else torch.cat([held, position], dim=1))
        kept = position[:, -size:]
        slots = (kept % size + size * torch.arange(batch, device=x.device)[:, None]).view(-1)
        for layer, ring in zip(self.layers, state.rings):
            y = layer.queries_keys_values(x, turn)
            fresh = y[:, -size:, 1:]
            if direct:
                ring.view(batch * size, -1).index_copy_(0, slots, fresh.reshape(len(slots), -1))
                seen = self._attend(y[:, :, 0], ring[:, :, 0], ring[:, :, 1], mask)
            else:
                both = torch.cat([ring, y[:, :, 1:]], dim=1)
                seen = self._attend(y[:, :, 0], both[:, :, 0], both[:, :, 1], mask)
                ring.view(batch * size, -1).index_copy_(0, slots, fresh.reshape(len(slots), -1))
            x = layer.finish(x, seen)
        state.position = state.position + time
        return x
