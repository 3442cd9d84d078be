"""A language model on another device than the conversations that it thinks for.

    model = Placed(load_causal_lm(folder, dtype=torch.bfloat16), "cuda")
    hidden = model(model.embed(tokens), model.init_cache())     # tokens and hidden states on the CPU

Hearing, speaking and turn taking keep up on a CPU; the language model is what a GPU is for. So it alone is moved, with
its caches: embeddings, hidden states and logits, a few kilobytes a token, go back and forth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.models.llm.load import Cache, CausalLM, Forgets, ReadsTogether
from antiphon.models.lora import Lora


class Placed(nn.Module):
    """A `CausalLM` whose weights and caches are on a device, while what goes in and comes out is on the CPU.

    It can what the model can: forget, read for several conversations together.

    Args:
        model: is moved. Packed ones can't be: they are for the CPU.
        device: where to.
    """

    forget: Callable[[Any, int, int], None]
    read_together: Callable[..., list[Tensor]]

    def __init__(self, model: CausalLM, device: torch.device | str):
        super().__init__()
        assert isinstance(model, nn.Module)
        self.model, self.device = model.to(device), torch.device(device)
        if isinstance(model, Forgets):
            self.forget = model.forget
        if isinstance(model, ReadsTogether):
            self.read_together = self._read_together

    @property
    def width(self) -> int:
        """Of embeddings and hidden states."""
        return self.model.width

    @property
    def context(self) -> int:
        """Tokens of a conversation, at most."""
        return self.model.context

    def published_name(self, linear: str) -> str:
        """See `CausalLM.published_name`."""
        return self.model.published_name(linear)

    def init_cache(self, batch: int = 1) -> Cache:
        """A cache that has read nothing, on the device."""
        return self.model.init_cache(batch)

    def embed(self, tokens: Tensor) -> Tensor:
        """Ids [..., tokens] -> float32 [..., tokens, width]."""
        return self.model.embed(tokens.to(self.device)).cpu()

    def forward(
        self, x: Tensor, cache: Cache | None = None, lora: Lora | None = None, counts: Tensor | None = None
    ) -> Tensor:
        """See `CausalLM.__call__`."""
        counts = None if counts is None else counts.to(self.device)
        return self.model(x.to(self.device), cache, lora, counts).cpu()

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary], float32."""
        return self.model.logits(hidden.to(self.device)).cpu()

    def _read_together(self, rows: Sequence[Tensor], caches: Sequence[Any], lora: Lora | None = None) -> list[Tensor]:
        read = self.model.read_together([row.to(self.device) for row in rows], caches, lora)
        return list(torch.cat(read).cpu().split([len(row) for row in rows]))
