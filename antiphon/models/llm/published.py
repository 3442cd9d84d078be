"""Every other causal language model that `transformers` has, behind the interface `antiphon.models.llm.load.CausalLM`.

Slower than `antiphon.models.llm.llama`, in the dtype in which the weights were published. What it adds is what live
conversations need: embeddings in, rows of a batch out of step, and the cache as a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.lora import Lora
from antiphon.nn.cache import KeyValues, Span


class PublishedLM(nn.Module):
    """A causal language model of `transformers`.

    Args:
        model: it.

    Attributes:
        width: of embeddings and hidden states.
        context: tokens of a conversation, at most.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.whole, self.config = model, model.config.get_text_config()
        self.width: int = self.config.hidden_size
        self.context: int = self.config.max_position_embeddings
        kinds = set(getattr(self.config, "layer_types", None) or ())
        if getattr(model, "_is_stateful", False) or kinds - {"full_attention", "sliding_attention"}:
            raise ModelError(f"{self.config.model_type}: models without a cache of keys and values are not supported")
        window = (
            getattr(self.config, "sliding_window", None) if getattr(self.config, "use_sliding_window", True) else None
        )
        self.window: int | None = window
        self.by_kind = "sliding_attention" in kinds

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> PublishedLM:
        """Opens a folder, in evaluation mode.

        Raises:
            ModelError: `transformers` can't open it.
        """
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        except Exception as error:  # whatever it raises
            raise ModelError(f"transformers can't open {folder}: {error}") from error
        return cls(model).eval().requires_grad_(False)

    @staticmethod
    def published_name(linear: str) -> str:
        """The name that a linear layer has in `transformers`."""
        return linear.removeprefix("whole.")

    def init_cache(self, batch: int = 1, capacity: int = 128) -> KeyValues:
        """A cache that has read nothing, with room for so many tokens at first."""
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        like = self.whole.get_input_embeddings().weight
        return KeyValues.empty(batch, config.num_hidden_layers, heads, width, capacity, like)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids `[B, T]` -> float32 embeddings `[B, T, width]`."""
        return self.whole.get_input_embeddings()(tokens).float()

    def forward(
        self, x: Tensor, cache: KeyValues | None = None, lora: Lora | None = None, counts: Tensor | None = None
    ) -> Tensor:
        """Reads embeddings `[B, T, width]` behind what the cache's rows have; see `CausalLM`.

        Raises:
            ModelError: longer than the model's context.
        """
        cache = self.init_cache(len(x), x.shape[1]) if cache is None else cache
        steps = x.shape[1]
        end = int((cache.length + (steps if counts is None else counts)).max())
        if end > self.context:
            raise ModelError(
                f"{end} tokens are more than the language model reads ({self.context}): start a new conversation"
            )
        span = cache.reserve(steps)
        positions = span.positions.expand(len(x), steps)
        dtype = self.whole.get_input_embeddings().weight.dtype
        with _adapted(self, lora):
            out = self.whole.get_decoder()(
                inputs_embeds=x.to(dtype),
                attention_mask=self._masks(positions, span.end, dtype),
                position_ids=positions,
                past_key_values=_view(cache, span),
                use_cache=True,
            )
        cache.advance(steps if counts is None else counts)
        return out.last_hidden_state.float()

    def _masks(self, positions: Tensor, end: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """What each position may look at, [B, 1, T, end], as numbers that are added; by kind of layer if there are
        several."""
        behind = positions[..., None] - torch.arange(end, device=positions.device)

        def added(seen: Tensor) -> Tensor:
            return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]

        full = behind >= 0
        near = full if self.window is None else full & (behind < self.window)
        if self.by_kind:
            return {"full_attention": added(full), "sliding_attention": added(near)}
        return added(near)

    def logits(self, hidden: Tensor) -> Tensor:
        """Last hidden states `[..., width]` -> logits over the vocabulary `[..., vocabulary]`, float32."""
        head = self.whole.get_output_embeddings()
        logits = head(hidden.to(head.weight.dtype)).float() * getattr(self.config, "logit_scale", 1.0)
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def _view(cache: KeyValues, span: Span) -> Any:
    """A cache as `transformers` wants it, over one of ours."""
    from transformers import DynamicCache

    class View(DynamicCache):
        def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            return cache.put(layer, keys, values, span)

        def get_seq_length(self, *_: Any, **__: Any) -> int:
            return span.end - span.positions.shape[-1]

    return View()


@contextmanager
def _adapted(model: PublishedLM, lora: Lora | None) -> Iterator[None]:
    """Adds the corrections of adapters to what their layers give."""
    hooks = []
    try:
        for name, pair in lora.named_pairs() if lora is not None else ():
            hooks.append(
                model.get_submodule(name).register_forward_hook(
                    lambda _, given, out, pair=pair: out + pair.correction(given[0])
                )
            )
        yield
    finally:
        for hook in hooks:
            hook.remove()
