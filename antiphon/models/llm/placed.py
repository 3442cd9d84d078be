"""A language model on another device than the conversations that it thinks for.

    model = Placed(load_causal_lm(folder, dtype=torch.bfloat16), "cuda")
    hidden = model(model.embed(tokens), model.init_cache())     # tokens and hidden states on the CPU

Hearing, speaking and turn taking keep up on a CPU; the language model is what a GPU is for. So it alone is moved, with
its caches: embeddings, hidden states and logits, a few kilobytes a token, go back and forth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from antiphon.models.llm.load import Cache, CausalLM, Forgets, ReadsTogether, load_causal_lm
from antiphon.models.lora import Lora
from antiphon.nn.placement import placement


def open_placed(
    folder: Path | str, lora: Path | str | None, device: torch.device | str, dtype: torch.dtype | None
) -> tuple[CausalLM, Lora | None]:
    """A language model, and adapters for it, computing on a device.

    Args:
        folder, lora: theirs; None for no adapters.
        device: where they compute; what they are given and give stays on the CPU.
        dtype: of the model's weights, see `load_causal_lm`; None on another device than the CPU: bfloat16.

    Raises:
        ConfigError: no such device.
        ModelError: a part is missing or unreadable.
    """
    place, kind = placement(device, dtype)
    model = load_causal_lm(folder, kind)
    adapters = Lora.from_pretrained(lora, model) if lora else None
    if place.type == "cpu":
        return model, adapters
    return cast("CausalLM", Placed(model, place)), adapters.to(place) if adapters is not None else None


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
