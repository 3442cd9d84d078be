"""A causal transformer over a sliding window that streams with a cache that never grows, each row at its own position.

The transformer of Mimi (Defossez et al. 2024, section 3.3.1), of Moshi over time (section 3.4.1) and of the talker:
pre-norm layers with rotary positions (Su et al. 2021). `forward` is for training, over everything at once and
differentiable; `step` takes pieces of any size and gives what the whole gives. Keys and values of the last inputs lie
in a ring of fixed size. Each product reads its weight once (`antiphon.nn.cpu`): queries, keys and values are one
product, and so are the two halves of a SwiGLU.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.cpu import PackedWeights, product


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and habits of a transformer.

    Attributes:
        dim, heads, inner, layers: width, heads, width of the MLP, number of layers.
        window: how many of the latest inputs are seen, the present one included.
        kv_heads: heads of keys and values; None for as many as `heads`.
        norm, eps: "rms" or "layer", and its epsilon.
        gated: whether the MLP is a SwiGLU; else it is a GELU.
        layer_scale: initial LayerScale; None for none.
        last_norm: whether a norm follows the last layer.
        rope_base: of the rotary positions.
        rope_halves: channel i of a head is turned with channel i + width / 2, as in Llama; else with its neighbour.
        max_piece: inputs at once that go into the ring before they are attended to. More of them at once will do, too,
            and cost a copy of the ring.
    """

    dim: int
    heads: int
    inner: int
    layers: int
    window: int
    kv_heads: int | None = None
    norm: str = "rms"
    eps: float = 1e-6
    gated: bool = True
    layer_scale: float | None = None
    last_norm: bool = True
    rope_base: float = 10000.0
    rope_halves: bool = False
    max_piece: int = 1


@dataclass
class TransformerState:
    """Where streams stand.

    Attributes:
        rings: keys and values of the last inputs, one tensor a layer: [batch, 2, kv_heads, size, width] with size =
            window + max_piece - 1; position p lies at p modulo size.
        position: of the next input, [batch].
    """

    rings: list[Tensor]
    position: Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last dimension, computed in float32."""
    if x.dtype == torch.float32:
        return F.rms_norm(x, weight.shape, weight, eps)
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a weight.

    Args:
        dim, eps: width and epsilon.
    """

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rotations(position: Tensor, frequencies: Tensor) -> Tensor:
    """Complex unit numbers by which channel pairs are turned. [...], [pairs] -> [..., pairs]."""
    angle = position.float()[..., None] * frequencies
    return torch.complex(angle.cos(), angle.sin())


def rotate(x: Tensor, turn: Tensor, halves: bool) -> Tensor:
    """Turns channel pairs: [..., width], rotations [..., width / 2]; see `TransformerConfig.rope_halves`."""
    if halves:
        turned = torch.complex(*x.float().chunk(2, dim=-1)) * turn
        return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * turn
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in which queries that share a head of keys and values are rows of one product: nothing is repeated.

    Args:
        q: [batch, time, heads, width].
        keys, values: [batch, kv_heads, length, width].
        mask: [batch, 1, time, length], true where a key may be seen; None for all.

    Returns:
        [batch, time, heads * width].
    """
    batch, time, heads, width = q.shape
    groups = heads // keys.shape[1]
    if groups == 1:
        return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, mask).transpose(1, 2).flatten(2)
    rows = q.view(batch, time, -1, groups, width).permute(0, 2, 3, 1, 4).reshape(batch, -1, groups * time, width)
    y = F.scaled_dot_product_attention(rows, keys, values, None if mask is None else mask.repeat(1, 1, groups, 1))
    return y.view(batch, -1, groups, time, width).permute(0, 3, 1, 2, 4).reshape(batch, time, -1)


class TransformerLayer(nn.Module):
    """Pre-norm attention, then a SwiGLU or a GELU.

    Args:
        config: of the transformer.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim, inner, eps = config.dim, config.inner, config.eps
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.width, self.halves, self.gated = dim // config.heads, config.rope_halves, config.gated
        norm = {"rms": RMSNorm, "layer": nn.LayerNorm}[config.norm]
        self.norm_attention, self.norm_mlp = norm(dim, eps=eps), norm(dim, eps=eps)
        self.project = nn.Linear(dim, (self.heads + 2 * self.kv_heads) * self.width, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        if config.gated:
            self.gate_up = nn.Linear(dim, 2 * inner, bias=False)
        else:
            self.up = nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)
        self.scaled = config.layer_scale is not None
        if config.layer_scale is not None:
            self.scale_attention = nn.Parameter(torch.full((dim,), config.layer_scale))
            self.scale_mlp = nn.Parameter(torch.full((dim,), config.layer_scale))

    def project_heads(self, x: Tensor, turn: Tensor, packed: PackedWeights | None) -> tuple[Tensor, Tensor]:
        """What is attended with and to.

        Args:
            x: the residual stream [batch, time, dim].
            turn: rotations [batch, time, 1, width / 2].
            packed: copies of weights, or None.

        Returns:
            queries [batch, time, heads, width]; keys and values [batch, 2, kv_heads, time, width].
        """
        batch, time, dim = x.shape
        y = product(self.norm_attention(x).view(-1, dim), self.project.weight, packed=packed)
        y = y.contiguous().view(batch, time, -1, self.width)
        turned = rotate(y[:, :, : -self.kv_heads], turn, self.halves)
        pair = torch.cat([turned[:, :, self.heads :], y[:, :, -self.kv_heads :]], dim=2)
        return turned[:, :, : self.heads], pair.view(batch, time, 2, self.kv_heads, -1).permute(0, 2, 3, 1, 4)

    def finish(self, x: Tensor, seen: Tensor, packed: PackedWeights | None) -> Tensor:
        """Output of the attention [batch, time, dim] into the residual stream, then the MLP."""
        shape = x.shape
        x, seen = x.reshape(-1, shape[-1]), seen.reshape(-1, shape[-1])
        mixed = product(seen, self.out.weight, packed=packed)
        x = torch.addcmul(x, mixed, self.scale_attention) if self.scaled else x + mixed
        hidden = self.norm_mlp(x)
        if self.gated:
            gate, up = product(hidden, self.gate_up.weight, packed=packed).chunk(2, dim=-1)
            hidden = F.silu(gate) * up
        else:
            hidden = F.gelu(product(hidden, self.up.weight, packed=packed))
        made = product(hidden, self.down.weight, packed=packed)
        return (torch.addcmul(x, made, self.scale_mlp) if self.scaled else x + made).view(shape)


class Transformer(nn.Module):
    """Layers in a row.

    Args:
        config: sizes.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config, self.size = config, config.window + config.max_piece - 1
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.Identity()
        if config.last_norm:
            self.norm = {"rms": RMSNorm, "layer": nn.LayerNorm}[config.norm](config.dim, eps=config.eps)
        self.register_buffer("frequencies", torch.empty(config.dim // config.heads // 2), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Computes what is no weight; needed where a module was made without memory (`torch.device("meta")`)."""
        width = self.config.dim // self.config.heads
        pairs = torch.arange(width // 2, dtype=torch.float32, device=self.layers[0].project.weight.device)
        self.frequencies = torch.exp(pairs * (-2 * math.log(self.config.rope_base) / width))

    def init_state(self, batch: int = 1) -> TransformerState:
        """The state before the first input of `batch` streams."""
        layer = self.layers[0]
        shape = (batch, 2, layer.kv_heads, self.size, layer.width)
        rings = [layer.project.weight.new_zeros(shape) for _ in self.layers]
        return TransformerState(rings, torch.zeros(batch, dtype=torch.long, device=rings[0].device))

    def _seen(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may see a key, by their positions: [batch, queries], [batch, keys] -> [batch, 1, q, k]."""
        age = query[:, :, None] - key[:, None]
        return ((age >= 0) & (age < self.config.window) & (key >= 0)[:, None])[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, dim] -> [batch, time, dim]; differentiable."""
        time = x.shape[1]
        position = torch.arange(time, device=x.device)[None]
        turn = rotations(position, self.frequencies)[:, :, None]
        mask = self._seen(position, position) if time > self.config.window else None
        for layer in self.layers:
            q, pair = layer.project_heads(x, turn, None)
            q, (keys, values) = q.transpose(1, 2), pair.unbind(1)
            if layer.heads > layer.kv_heads:
                groups = layer.heads // layer.kv_heads
                keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
            seen = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=mask is None)
            x = layer.finish(x, seen.transpose(1, 2).flatten(2), None)
        return self.norm(x)

    def step(self, x: Tensor, state: TransformerState, packed: PackedWeights | None = None) -> Tensor:
        """More input [batch, time, dim] -> [batch, time, dim].

        Args:
            x: any number of inputs.
            state: of as many rows, each at a position of its own; changed in place.
            packed: copies of weights, or None.
        """
        batch, time, _ = x.shape
        if not time or not batch:
            return x
        if not torch.is_inference_mode_enabled():  # what was made in it may be changed there only
            state.rings = [ring.clone() if ring.is_inference() else ring for ring in state.rings]
        position = state.position[:, None] + torch.arange(time, device=x.device)
        turn = rotations(position, self.frequencies)[:, :, None]
        at = state.position.tolist()
        direct = time <= self.config.max_piece
        # The slots that are looked at, as they are when the inputs that fit have been stored.
        length = min(self.size, max(at) + (time if direct else 0))
        mask = None
        if not (time == 1 and direct and min(at) + 1 >= length <= self.config.window):
            newest = position[:, -1:] if direct else position[:, :1] - 1
            held = newest - (newest - torch.arange(length, device=x.device)) % self.size  # position in each slot
            mask = self._seen(position, held if direct else torch.cat([held, position], dim=1))
        fits = min(time, self.size)
        slots = (position[:, -fits:] % self.size)[:, None, None, :, None].expand(-1, *state.rings[0].shape[1:3], -1, -1)
        slots = slots.expand(*slots.shape[:4], state.rings[0].shape[-1])
        for layer, ring in zip(self.layers, state.rings):
            q, pair = layer.project_heads(x, turn, packed)
            if direct:
                ring.scatter_(3, slots, pair)
                seen = attend(q, *ring[:, :, :, :length].unbind(1), mask)
            else:
                seen = attend(q, *torch.cat([ring[:, :, :, :length], pair], dim=3).unbind(1), mask)
                ring.scatter_(3, slots, pair[:, :, :, -fits:])
            x = layer.finish(x, seen, packed)
        state.position = state.position + time
        return self.norm(x)


_EARLIER = (
    (re.compile(r"((?:^|.*\.)(?:temporal|depth)\.layers\.\d+)\.attention\.(project|out)\.weight"), r"\1.\2.weight"),
    (re.compile(r"((?:^|.*\.)temporal\.(?:layers\.\d+\.norm_\w+|norm))"), r"\1.weight"),
)


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a talker or a Moshi that were saved under earlier names under today's."""
    out = {}
    for key, value in weights.items():
        for pattern, name in _EARLIER:
            if match := pattern.fullmatch(key):
                key = match.expand(name)
        out[key] = value
    return out


def neighbours(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys for rotation in pairs of neighbours, from those for rotation of a head's halves."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def halves(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `neighbours`."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
