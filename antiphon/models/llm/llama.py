"""A lean decoder of the Llama and Qwen families: weights and numbers of `transformers`, the key-value cache a value.

One token at batch 1 is bound by the time to read the weights, so what can be saved is everything else: no per-call mask
building, no cache objects, key-value heads never repeated in memory. A model whose folder holds weights in 8 bits
(`antiphon.hub.pack`) is computed from those, a quarter of the memory and several times as fast on a CPU. The forward
can start or stop at any layer, which lets training keep the frozen lower layers out of autograd, and others read the
hidden states of any layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.llm.experts import Experts
from antiphon.models.llm.rope import plain_frequencies, rope_frequencies, rope_values, rotate
from antiphon.models.llm.rows import Attend, attend_each, attend_own, in_rows, own_tokens
from antiphon.models.lora import Lora, Pair
from antiphon.nn.cache import KeyValues, Span
from antiphon.nn.fused import Between
from antiphon.nn.memory import return_memory
from antiphon.nn.packed import PackedEmbedding, PackedProduct, dequantize
from antiphon.nn.weights import NoInitWeights, fill

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj")  # the others are the MLP's
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")
EMBEDDINGS = "model.embed_tokens"
_ONE_MLP = re.compile(r"\.mlp\.(?=\w+_proj\.)")  # not the router and the experts of several
TOGETHER = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}  # one packed product


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a model; names are those of its config.json, but for those that are explained.

    Attributes:
        qkv_bias, o_bias: whether those products have biases.
        qk_norm: queries and keys are normed head by head before they are turned (Qwen3).
        packed: the weights are kept in 8 or 4 bits, as `bits` says.
        num_experts: 0 for a model without; `mlp_only_layers`, and those between every `decoder_sparse_step`th, have one
            MLP for all tokens; `shared_expert_intermediate_size` is of an expert that all go through, too, 0 for none.
    """

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
    tie_word_embeddings: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    packed: bool = False
    bits: int = 8
    num_experts: int = 0
    num_experts_per_tok: int = 8
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    shared_expert_intermediate_size: int = 0

    @classmethod
    def from_file(cls, path: Path) -> LlamaConfig:
        """Read a `transformers` config.json.

        Raises:
            ModelError: no such file, or a kind of model that this class doesn't compute.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the language model's {path}: {error}") from error
        return cls.from_values(values, path)

    @classmethod
    def from_values(cls, values: dict[str, Any], path: Path | str) -> LlamaConfig:
        """The same from what a config.json says; `path` is named in errors."""
        if why := cls.unfit(values):
            raise ModelError(f"{path}: {why}")
        needed = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
        if missing := [name for name in needed if name not in values]:
            raise ModelError(f"{path} doesn't say {missing[0]}")
        values, kind = dict(values), values["model_type"]
        values.setdefault("rope_theta", rope_values(values).get("rope_theta", 10000.0))
        if values.get("head_dim") is None:
            values["head_dim"] = values["hidden_size"] // values["num_attention_heads"]
        values.setdefault("num_key_value_heads", values["num_attention_heads"])
        values.setdefault("tie_word_embeddings", False)
        values.setdefault("rms_norm_eps", 1e-6)
        bias = bool(values.get("attention_bias"))
        values |= {"qkv_bias": bias or kind == "qwen2", "o_bias": bias, "qk_norm": kind in ("qwen3", "qwen3_moe")}
        if kind == "qwen3_moe":  # the number of experts has two names
            values["num_experts"] = values.get("num_experts", values.get("num_local_experts", 128))
            values["mlp_only_layers"] = tuple(values.get("mlp_only_layers") or ())
        else:
            values["num_experts"] = 0
        values["packed"] = values.get("quantization_config", {}).get("quant_method") == "antiphon"
        values["bits"] = int(values.get("quantization_config", {}).get("bits", 8)) if values["packed"] else 8
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Of a layer's linear layers, (out, in)."""
        width, inner, heads = self.hidden_size, self.intermediate_size, self.num_attention_heads * self.head_dim
        groups = self.num_key_value_heads * self.head_dim
        return {
            "q_proj": (heads, width), "k_proj": (groups, width), "v_proj": (groups, width), "o_proj": (width, heads),
            "gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner),
        }  # fmt: skip

    def is_sparse(self, number: int) -> bool:
        """Whether a layer has experts."""
        return (
            self.num_experts > 0 and number not in self.mlp_only_layers and (number + 1) % self.decoder_sparse_step == 0
        )

    def sizes(self, together: str) -> list[int]:
        """Rows of the linear layers that a packed product stands for."""
        return [self.shapes[name][0] for name in TOGETHER[together]]

    @staticmethod
    def unfit(values: Mapping[str, Any]) -> str:
        """Why this class doesn't compute what a config.json says; "" if it does."""
        kind, quantization = values.get("model_type"), values.get("quantization_config") or {}
        method = quantization.get("quant_method", "antiphon")
        if kind not in MODEL_TYPES:
            return f"it is a {kind!r}; known here are {', '.join(MODEL_TYPES)}"
        if method != "antiphon":
            return f"its weights are quantized by {method!r}"
        if values.get("hidden_act", "silu") != "silu" or values.get("mlp_bias"):
            return "its MLP is another than a SwiGLU without biases"
        sliding = values.get("use_sliding_window", kind == "mistral") and values.get("sliding_window")
        return "it attends over a sliding window" if sliding else ""


def corrected(y: Tensor, x: Tensor, pairs: dict[str, Pair], name: str) -> Tensor:
    """What the layer called `name` gave for `x`, plus the correction of its pair, if there is one."""
    return y + pairs[name].correction(x) if name in pairs else y


class Layer(nn.Module):
    """One decoder layer: attention with grouped keys and values, then a SwiGLU, each after an RMS norm.

    Where the weights are packed, products stand in place of linear layers (`Llama.open_products`); `qkv_proj` and
    `gate_up_proj` are those that read the same rows, one below the other.
    """

    def __init__(self, config: LlamaConfig, number: int = 0):
        super().__init__()
        self.config, width, d = config, config.hidden_size, config.head_dim
        experts = (config.moe_intermediate_size, config.num_experts, config.num_experts_per_tok, config.norm_topk_prob)
        shared = config.shared_expert_intermediate_size
        self.mlp = Experts(width, *experts, shared) if config.is_sparse(number) else None  # else what is in `shapes`
        self.input_layernorm = nn.Parameter(torch.ones(width))
        biased = (TOGETHER["qkv_proj"] if config.qkv_bias else ()) + (("o_proj",) if config.o_bias else ())
        if not config.packed:
            names = [name for name in config.shapes if self.mlp is None or name in ATTENTION]
            for name, (out, size) in ((name, config.shapes[name]) for name in names):
                self.add_module(name, nn.Linear(size, out, bias=name in biased))
        else:
            self.qkv_bias = nn.Parameter(torch.zeros(sum(config.sizes("qkv_proj")))) if config.qkv_bias else None
            self.o_bias = nn.Parameter(torch.zeros(width)) if config.o_bias else None
        self.q_norm = nn.Parameter(torch.ones(d)) if config.qk_norm else None
        self.k_norm = nn.Parameter(torch.ones(d)) if config.qk_norm else None
        self.post_attention_layernorm = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, attend: Attend, lora: dict[str, Pair]) -> Tensor:
        """Args: `x` `[B, T, width]` float32 residual stream; `attend` computes attention from queries, keys and values
        of this layer; `lora` this layer's pairs."""
        config, dtype = self.config, self.input_layernorm.dtype
        normed = F.rms_norm(x, (config.hidden_size,), self.input_layernorm.float(), config.rms_norm_eps).to(dtype)
        attended = attend(*self._parts("qkv_proj", normed, lora))
        y = self.o_proj(attended)
        if config.packed and self.o_bias is not None:
            y = y + self.o_bias
        x = x + corrected(y, attended, lora, "o_proj")
        normed = F.rms_norm(x, (config.hidden_size,), self.post_attention_layernorm.float(), config.rms_norm_eps).to(
            dtype
        )
        if self.mlp is not None:
            return x + self.mlp(normed)
        gate, up = self._parts("gate_up_proj", normed, lora)
        inner = F.silu(gate) * up
        return x + corrected(self.down_proj(inner), inner, lora, "down_proj")

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KeyValues | None,
        number: int,
        span: Span | None,
    ) -> Tensor:
        """Attention of this layer, which is the one called `number`: `q`, `k` and `v` `[B, T, heads x d]` of each, to
        `[B, T, heads x d]`; `mask` `[B, 1, T, positions]` true where a token may look, `span` where these tokens lie in
        the cache."""
        config, (batch, steps, _) = self.config, q.shape
        d, heads, groups = config.head_dim, config.num_attention_heads, config.num_key_value_heads
        q, k, v = (part.view(batch, steps, -1, d).transpose(1, 2) for part in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q = F.rms_norm(q, (d,), self.q_norm, config.rms_norm_eps)
            k = F.rms_norm(k, (d,), self.k_norm, config.rms_norm_eps)
        q, k = rotate(torch.cat((q, k), dim=1), *rope).split((heads, groups), dim=1)
        if cache is not None:
            k, v = cache.put(number, k, v, span)
        if steps == 1:
            # Queries that share a key-value head become rows of one small attention: nothing is repeated.
            mixed = F.scaled_dot_product_attention(q.reshape(batch, groups, heads // groups, d), k, v, attn_mask=mask)
            return mixed.reshape(batch, 1, heads * d)
        k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return mixed.transpose(1, 2).reshape(batch, steps, heads * d)

    def _parts(self, name: str, x: Tensor, lora: dict[str, Pair]) -> list[Tensor]:
        """What the layers that `name` stands for give, each with its correction."""
        parts = TOGETHER[name]
        if not self.config.packed:
            return [corrected(getattr(self, part)(x), x, lora, part) for part in parts]
        whole = getattr(self, name)(x)
        if name == "qkv_proj" and self.qkv_bias is not None:
            whole += self.qkv_bias
        return [corrected(y, x, lora, part) for part, y in zip(parts, whole.split(self.config.sizes(name), dim=-1))]


class Llama(nn.Module):
    """The decoder stack with its embeddings and its head.

    Weights may be float32 or bfloat16, or packed in 8 bits; the residual stream is float32 in any case.
    """

    def __init__(self, config: LlamaConfig, packed: Path | None = None):
        super().__init__()
        self.config, self.folder = config, packed
        self.lm_head: nn.Module | None = None
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.between: nn.ModuleList | None = None
        if packed is None:
            self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
            if not config.tie_word_embeddings:
                self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        else:
            table = _read(packed, lambda key: key.startswith(EMBEDDINGS))
            self.embed_tokens = PackedEmbedding(table["embed_tokens.weight"], table["embed_tokens.scale"], config.bits)
            self.lm_head = PackedProduct(packed, EMBEDDINGS if config.tie_word_embeddings else "lm_head")
            self.between = nn.ModuleList(
                self._opened(Between(packed, number)) for number in range(config.num_hidden_layers + 1)
            )
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        # Not a tensor that is assigned or moved: computed on the CPU, once.
        self.frequencies = plain_frequencies(config.head_dim, config.rope_theta)
        self.rope_scale = 1.0

    def open_products(self) -> None:
        """Computes packed layers product by product from now on, as adapters need it, and single layers."""
        if self.between is None or self.folder is None:
            return
        self.between = None
        for number, layer in enumerate(self.layers):
            for name in (*TOGETHER, "o_proj", "down_proj"):
                product = PackedProduct(self.folder, self.published_name(f"layers.{number}.{name}"))
                layer.add_module(name, self._opened(product))

    @staticmethod
    def _opened(packed: nn.Module) -> nn.Module:
        return_memory()  # what onnxruntime needed to bring the weights into its own order
        return packed

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype | None = None) -> Llama:
        """Load config.json and the safetensors, with `transformers`' key names, in evaluation mode.

        Args:
            folder: of the model, or of a packed one.
            dtype: of the weights; None for packed ones as they are, float32 for others. A packed model's weights become
                plain ones where a dtype is given, as for training.

        Raises:
            ModelError: files missing, unreadable, or not this architecture's.
        """
        folder = Path(folder)
        config = LlamaConfig.from_file(folder / "config.json")
        if config.packed and dtype is None:
            model = cls(config, folder)
            weights = _read(folder, lambda key: key.endswith(("norm.weight", ".bias")))
            weights = {key.replace("_proj.bias", "_bias"): value for key, value in weights.items()}
        else:
            weights = _read(folder, lambda key: True)
            if config.packed:
                weights, config = _unpacked(weights, config), replace(config, packed=False)
            if config.tie_word_embeddings:
                weights.pop("lm_head.weight", None)
            with torch.device("meta"), NoInitWeights():
                model = cls(config)
        weights = {key: value.to(dtype or torch.float32) for key, value in weights.items()}
        try:
            fill(model, weights, assign=True)
        except ValueError as error:
            raise ModelError(f"the weights in {folder} don't fit its config.json: {error}") from error
        model.frequencies, model.rope_scale = rope_frequencies(folder, model.frequencies)
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
        if not path:
            return leaf
        return f"model.{path}.{'self_attn' if leaf in ATTENTION else 'mlp'}.{leaf}"

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """The shapes of the layers' linear layers by their names, also of those that packed products stand for, but for
        experts'."""
        config = self.config
        return {
            f"layers.{number}.{name}": shape
            for number in range(config.num_hidden_layers)
            for name, shape in config.shapes.items()
            if name in ATTENTION or not config.is_sparse(number)
        }

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
        segments: Tensor | None = None,
        angles: Tensor | None = None,
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Run layers `first` to `last` (exclusive; all by default).

        Args:
            x: `[B, T, width]` float32: embeddings, or what layer `first - 1` gave.
            cache: what came before, of each row as much as it has; gets the new keys and values. Without it the
                sequences start at position 0.
            lora: adapters to add, or None for the untouched model.
            counts: `[B]`, how many of the T each row reads, its first ones; 0 for a row that stands still. None: all.
            first, last: the layers to run. With a cache all must be run.
            segments: `[B, T]`, without a cache: the number of the example that a token is of, where a row holds several
                end to end. Each is read as if it stood alone.
            angles: `[B, T, head_dim / 2]`, by how much each pair of channels is turned, where a token's place is more
                than its number in the row (`antiphon.models.omni.positions`). None: by that number.
            between: what the next layer reads instead of what a layer, of which it is told the number, gave.

        Returns:
            `[B, T, width]` float32: the last hidden states, after the final norm when the last layer was run.

        Raises:
            ModelError: longer than the model's context.
        """
        steps = x.shape[1]
        attends = self._attends(steps, x.device, cache, counts, segments, angles)
        own = own_tokens(counts, steps)
        if own is not None:
            attends = [partial(attend_own, attend=attend, own=own) for attend in attends]
            x = x[own][None]
        x = self._run(x, attends, lora, first, last, between)
        if own is not None:
            x = in_rows(x, own)
        if cache is not None:
            cache.advance(steps if counts is None else counts)
        return x

    def read_together(
        self, rows: Sequence[Tensor], caches: Sequence[KeyValues], lora: Lora | None = None
    ) -> list[Tensor]:
        """What `forward` gives of several conversations, each with a cache of its own, of one row.

        The caches aren't joined, which would copy them: each conversation attends to its own, and all that lies between
        two attentions is computed of all tokens together.

        Args:
            rows: embeddings `[T, width]` of each, T of its own.
            caches, lora: as in `forward`.

        Returns:
            The last hidden states `[T, width]` of each.

        Raises:
            ModelError: one of them is longer than the model's context; then nothing was read.
        """
        counts = [len(x) for x in rows]
        for count, cache in zip(counts, caches):
            self._check_length(int(cache.length) + count)
        own = [self._attends(count, rows[0].device, cache) for count, cache in zip(counts, caches)]
        attends = [partial(attend_each, attends=each, counts=counts) for each in zip(*own)]
        x = self._run(torch.cat(list(rows))[None], attends, lora)
        for count, cache in zip(counts, caches):
            cache.advance(count)
        return list(x[0].split(counts))

    def _check_length(self, length: int) -> None:
        if length > self.context:
            raise ModelError(
                f"{length} tokens are more than the language model reads ({self.context}): start a new conversation"
            )

    def _attends(
        self,
        steps: int,
        device: torch.device,
        cache: KeyValues | None,
        counts: Tensor | None = None,
        segments: Tensor | None = None,
        angles: Tensor | None = None,
    ) -> list[Attend]:
        """The attention of each layer, for the next `steps` tokens of each row; see `forward`."""
        self._check_length(
            steps if cache is None else int((cache.length + (steps if counts is None else counts)).max())
        )
        span = Span(0, torch.arange(steps, device=device), steps) if cache is None else cache.reserve(steps)
        rope = self._rope(span.positions if segments is None else positions_within(segments), angles)
        mask = None
        if segments is not None:
            alike = segments[:, None, :, None] == segments[:, None, None, :]
            mask = alike & torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
        elif span.start is None:
            mask = (torch.arange(span.end, device=device) <= span.positions[..., None])[:, None]
        elif span.start and steps > 1:
            mask = torch.ones(steps, span.end, dtype=torch.bool, device=device).tril(diagonal=span.start)
        return [
            partial(layer.attend, rope=rope, mask=mask, cache=cache, number=number, span=span)
            for number, layer in enumerate(self.layers)
        ]

    def _run(
        self,
        x: Tensor,
        attends: Sequence[Attend],
        lora: Lora | None,
        first: int = 0,
        last: int | None = None,
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Layers `first` to `last`, with these attentions; see `forward`."""
        config = self.config
        last = config.num_hidden_layers if last is None else last
        whole = (first, last) == (0, config.num_hidden_layers)
        if lora is not None or between is not None or not whole:
            self.open_products()
        if self.between is not None:
            return self._run_between(x, attends)
        for number in range(first, last):
            pairs = lora.inside(f"layers.{number}") if lora is not None else {}
            x = self.layers[number](x, attends[number], pairs)
            x = x if between is None else between(number, x)
        if last == config.num_hidden_layers:
            x = F.rms_norm(x, (config.hidden_size,), self.norm.float(), config.rms_norm_eps)
        return x

    def _run_between(self, x: Tensor, attends: Sequence[Attend]) -> Tensor:
        """All layers by their attentions and what lies between those; the normed hidden states."""
        (batch, steps, width), sizes = x.shape, self.config.sizes("qkv_proj")
        x = x.reshape(batch * steps, width)
        (qkv,) = self.between[0](x)
        for attend, between in zip(attends, self.between[1:]):
            parts = qkv.view(batch, steps, -1).split(sizes, dim=-1)
            x, *others = between(x, attend(*parts).reshape(batch * steps, -1))
            qkv = others[0] if others else None
        return x.view(batch, steps, width)

    def forget(self, cache: KeyValues, start: int, count: int) -> None:
        """Takes tokens out of a cache of one row: see `antiphon.models.llm.load.Forgets`. The keys of those behind them
        are turned back by as many positions (as StreamingLLM does, Xiao et al. 2023, section 3.2)."""
        held = int(cache.length)
        behind = cache.buffer[..., start + count : held, :].clone()
        angles = -count * self.frequencies.to(behind.device)
        cos, sin = angles.cos().repeat(2), torch.cat((-angles.sin(), angles.sin()))
        keys = rotate(behind[:, :, 0].float(), cos, sin).to(behind.dtype)
        cache.buffer[:, :, 0, :, start : held - count] = keys
        cache.buffer[:, :, 1, :, start : held - count] = behind[:, :, 1]
        cache.length = cache.length - count

    def _rope(self, positions: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cosines and sines at positions `[T]` or `[B, T]`, or of angles `[B, T, d / 2]`: `[T, d]` or `[B, 1, T, d]`,
        halves repeated, the first of the sines negative."""
        if angles is None:
            angles = positions.float()[..., None] * self.frequencies.to(positions.device)
        if angles.ndim == 3:
            angles = angles[:, None]
        cos, sin = angles.cos() * self.rope_scale, angles.sin() * self.rope_scale
        dtype = self.norm.dtype
        return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Last hidden states `[..., width]` -> logits over the vocabulary `[..., vocabulary]`, float32."""
        if self.lm_head is not None:
            return self.lm_head(hidden.to(self.norm.dtype)).float()
        return F.linear(hidden.to(self.norm.dtype), self.embed_tokens.weight).float()


def positions_within(segments: Tensor) -> Tensor:
    """Segments `[B, T]`, each a run of equal numbers, to the position of each token in its own `[B, T]`."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - torch.where(starts, places, 0).cummax(dim=1).values


def published_key(key: str) -> str:
    """Our name of a weight to `transformers`': the inverse of `own_key`."""
    if key.startswith("lm_head"):
        return key
    if ".mlp." in key:  # of experts
        return f"model.{key}"
    path, _, leaf = key.rpartition(".")
    if key.startswith("layers."):
        pieces = key.split(".")
        if pieces[-1] in ("weight", "bias") and pieces[-2].endswith("_proj"):
            return f"{Llama.published_name('.'.join(pieces[:-1]))}.{leaf}"
        inner = f"self_attn.{leaf}" if leaf in ("q_norm", "k_norm") else leaf
        return f"model.{path}.{inner}.weight"
    return "model.norm.weight" if key == "norm" else f"model.{key}"


def own_key(key: str) -> str:
    """`transformers`' name of a weight -> ours: ``model.layers.3.self_attn.q_proj.weight`` ->
    ``layers.3.q_proj.weight``.
    """
    key = _ONE_MLP.sub(".", key.removeprefix("model.").replace(".self_attn.", "."))
    return key.removesuffix(".weight") if "norm" in key else key


def _read(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors of a folder's safetensors, whole or in shards, whose names are `wanted`, under our names."""
    files = [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    try:
        if not files[0].is_file() and index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = [folder / name for name in sorted({name for key, name in shards.items() if wanted(key)})]
        weights = {}
        for file in files:
            with safe_open(file, "pt") as opened:
                weights |= {own_key(key): opened.get_tensor(key) for key in opened.keys() if wanted(key)}
        return weights
    except Exception as error:  # safetensors raises its own class, OSError or ValueError
        raise ModelError(f"cannot read the weights in {folder} ({files[0].name}): {error}") from error


def _unpacked(weights: dict[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """A packed model's weights as those of its linear layers."""
    plain = dict(weights)
    for key in [key for key in weights if key.endswith(".scale")]:
        name = key.removesuffix(".scale")
        plain[f"{name}.weight"] = dequantize(weights[f"{name}.weight"], plain.pop(key), config.bits)
    for name, parts in TOGETHER.items():
        for key in [key for key in plain if f".{name}." in key]:
            pieces = plain.pop(key).split(config.sizes(name), dim=0)
            plain |= {key.replace(name, part): piece.clone() for part, piece in zip(parts, pieces)}
    return plain
