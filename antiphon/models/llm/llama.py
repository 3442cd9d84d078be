"""A lean Llama decoder: the same weights and numbers as `transformers`, with the key-value cache as a value.

One token at batch 1 is bound by the time to read the weights, so what can be saved is everything else: no per-call mask
building, no cache objects, key-value heads never repeated in memory. The forward can start or stop at any layer,
which lets training keep the frozen lower layers out of autograd.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.lora import Lora, Pair
from antiphon.nn.cache import KeyValues, Span
from antiphon.nn.weights import NoInitWeights, fill

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # the others are the MLP's


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama model; names are those of its config.json."""

    hidden_size: int = 576
    intermediate_size: int = 1536
    num_hidden_layers: int = 30
    num_attention_heads: int = 9
    num_key_value_heads: int = 3
    head_dim: int = 64
    vocab_size: int = 49152
    rms_norm_eps: float = 1e-5
    rope_theta: float = 100000.0
    max_position_embeddings: int = 8192

    @classmethod
    def from_file(cls, path: Path) -> LlamaConfig:
        """Read a `transformers` config.json.

        Raises:
            ModelError: no such file, or a kind of Llama that this class doesn't compute.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the language model's {path}: {error}") from error
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}  # newer and older name
        values.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
        if (
            values.get("model_type") != "llama"
            or values.get("attention_bias")
            or rope.get("rope_type", "default") != "default"
        ):
            raise ModelError(
                f"{path} is not a plain Llama model (no biases, no RoPE scaling); only those are supported"
            )
        if not values.get("tie_word_embeddings"):
            raise ModelError(f"{path}: only models whose output shares the input embeddings are supported")
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


def rope_table(config: LlamaConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[..., d]` of the rotary embedding (RoFormer, Su et al. 2021), halves repeated, at positions
    `[...]`."""
    powers = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
    angles = positions.float()[..., None] * (1.0 / config.rope_theta**powers)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to `[..., T, d]`."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def apply(linear: nn.Linear, x: Tensor, pairs: dict[str, Pair], name: str) -> Tensor:
    """`linear(x)` plus the correction of the pair called `name`, if there is one."""
    y = linear(x)
    return y + pairs[name].correction(x) if name in pairs else y


class Layer(nn.Module):
    """One decoder layer: attention with grouped keys and values, then a SwiGLU, each after an RMS norm."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        width, inner, d = config.hidden_size, config.intermediate_size, config.head_dim
        self.config = config
        self.input_layernorm = nn.Parameter(torch.ones(width))
        self.q_proj = nn.Linear(width, config.num_attention_heads * d, bias=False)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * d, bias=False)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * d, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * d, width, bias=False)
        self.post_attention_layernorm = nn.Parameter(torch.ones(width))
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KeyValues | None,
        number: int,
        span: Span | None,
        lora: dict[str, Pair],
    ) -> Tensor:
        """Args as in :meth:`Llama.forward`; `x` `[B, T, width]` float32 residual stream, `mask` `[B, 1, T, positions]`
        true where a token may look, `span` where these tokens lie in the cache, `lora` this layer's pairs."""
        config, dtype = self.config, self.input_layernorm.dtype
        batch, steps, width = x.shape
        d, heads, groups = config.head_dim, config.num_attention_heads, config.num_key_value_heads
        normed = F.rms_norm(x, (width,), self.input_layernorm, config.rms_norm_eps).to(dtype)
        q = apply(self.q_proj, normed, lora, "q_proj").view(batch, steps, heads, d).transpose(1, 2)
        k = apply(self.k_proj, normed, lora, "k_proj").view(batch, steps, groups, d).transpose(1, 2)
        v = apply(self.v_proj, normed, lora, "v_proj").view(batch, steps, groups, d).transpose(1, 2)
        q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            k, v = cache.put(number, k, v, span)
        if steps == 1:
            # Queries that share a key-value head become rows of one small attention: nothing is repeated.
            mixed = F.scaled_dot_product_attention(q.reshape(batch, groups, heads // groups, d), k, v, attn_mask=mask)
            mixed = mixed.reshape(batch, 1, heads * d)
        else:
            k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            mixed = mixed.transpose(1, 2).reshape(batch, steps, heads * d)
        x = x + apply(self.o_proj, mixed, lora, "o_proj")
        normed = F.rms_norm(x, (width,), self.post_attention_layernorm, config.rms_norm_eps).to(dtype)
        inner = F.silu(apply(self.gate_proj, normed, lora, "gate_proj")) * apply(self.up_proj, normed, lora, "up_proj")
        return x + apply(self.down_proj, inner, lora, "down_proj")


class Llama(nn.Module):
    """The decoder stack with tied embeddings.

    Weights may be float32 or bfloat16; the residual stream is float32 either way.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(config.hidden_size))

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype = torch.float32) -> Llama:
        """Load config.json and model.safetensors, with `transformers`' key names, in evaluation mode.

        Raises:
            ModelError: files missing, unreadable, or not this architecture's.
        """
        folder = Path(folder)
        config = LlamaConfig.from_file(folder / "config.json")
        try:
            weights = load_file(folder / "model.safetensors")
        except Exception as error:  # safetensors raises its own class, OSError or ValueError
            raise ModelError(f"cannot read {folder / 'model.safetensors'}: {error}") from error
        with torch.device("meta"), NoInitWeights():
            model = cls(config)
        try:
            fill(model, {own_key(key): value.to(dtype) for key, value in weights.items()}, assign=True)
        except ValueError as error:
            raise ModelError(f"the weights in {folder} don't fit its config.json: {error}") from error
        return model.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Of embeddings and hidden states."""
        return self.config.hidden_size

    @property
    def context(self) -> int:
        """Tokens of a conversation, at most."""
        return self.config.max_position_embeddings

    def init_cache(self, batch: int = 1, capacity: int = 128) -> KeyValues:
        """A cache that has read nothing, with room for so many tokens at first."""
        config = self.config
        sizes = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        return KeyValues.empty(batch, *sizes, capacity, self.norm)

    @staticmethod
    def published_name(linear: str) -> str:
        """`transformers`' name of a linear layer: ``layers.3.q_proj`` -> ``model.layers.3.self_attn.q_proj``."""
        path, _, leaf = linear.rpartition(".")
        return f"model.{path}.{'self_attn' if leaf in ATTENTION else 'mlp'}.{leaf}"

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids `[B, T]` -> float32 embeddings `[B, T, width]`."""
        return self.embed_tokens(tokens).float()

    def forward(
        self,
        x: Tensor,
        cache: KeyValues | None = None,
        lora: Lora | None = None,
        counts: Tensor | None = None,
        first: int = 0,
        last: int | None = None,
    ) -> Tensor:
        """Run layers `first` to `last` (exclusive; all by default).

        Args:
            x: `[B, T, width]` float32: embeddings, or what layer `first - 1` gave.
            cache: what came before, of each row as much as it has; gets the new keys and values. Without it the
                sequences start at position 0.
            lora: adapters to add, or None for the untouched model.
            counts: `[B]`, how many of the T each row reads, its first ones; 0 for a row that stands still. None: all.
            first, last: the layers to run. With a cache all must be run.

        Returns:
            `[B, T, width]` float32: the last hidden states, after the final norm when the last layer was run.

        Raises:
            ModelError: longer than the model's context.
        """
        config, steps = self.config, x.shape[1]
        end = steps if cache is None else int((cache.length + (steps if counts is None else counts)).max())
        if end > self.context:
            raise ModelError(
                f"{end} tokens are more than the language model reads ({self.context}): start a new conversation"
            )
        span = Span(0, torch.arange(steps, device=x.device), steps) if cache is None else cache.reserve(steps)
        last = config.num_hidden_layers if last is None else last
        rope = tuple(part.to(self.norm.dtype) for part in rope_table(config, span.positions))
        mask = None
        if span.start is None:
            rope = tuple(part[:, None] for part in rope)
            mask = (torch.arange(span.end, device=x.device) <= span.positions[..., None])[:, None]
        elif span.start and steps > 1:
            mask = torch.ones(steps, span.end, dtype=torch.bool, device=x.device).tril(diagonal=span.start)
        for number in range(first, last):
            pairs = lora.inside(f"layers.{number}") if lora is not None else {}
            x = self.layers[number](x, rope, mask, cache, number, span, pairs)
        if cache is not None:
            cache.advance(steps if counts is None else counts)
        if last == config.num_hidden_layers:
            x = F.rms_norm(x, (config.hidden_size,), self.norm, config.rms_norm_eps)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Last hidden states `[..., width]` -> logits over the vocabulary `[..., vocabulary]`, float32."""
        return F.linear(hidden.to(self.embed_tokens.weight.dtype), self.embed_tokens.weight).float()


def own_key(key: str) -> str:
    """`transformers`' name of a weight -> ours: ``model.layers.3.self_attn.q_proj.weight`` ->
    ``layers.3.q_proj.weight``.
    """
    key = key.removeprefix("model.").replace(".self_attn.", ".").replace(".mlp.", ".")
    return key.removesuffix(".weight") if "norm" in key else key
