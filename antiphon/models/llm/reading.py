"""Reading with a language model, for conversations on several threads: those that read at about the same time share a
step, whether they read what was said or think the next token.

    shared = SharedReading(model, Batcher())
    hidden = shared(x, cache)                          # [1, tokens, width], on any thread
    logits = shared.logits(hidden[:, -1])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.models.llm.load import Cache, CausalLM, ReadsTogether
from antiphon.models.lora import Lora
from antiphon.nn.batching import Batcher

# Of what is read at once: others' next tokens come in between two such pieces of a long message.
PIECE_TOKENS = 64
RANK = 1  # after the logits, which are cheap: see `Batcher.batched`

Read = tuple[Tensor, Cache, Lora | None]


class SharedReading:
    """See the module.

    Args:
        model: the language model.
        batcher: what else the threads do together.
    """

    def __init__(self, model: CausalLM, batcher: Batcher):
        self.model, self.batcher = model, batcher
        self._read = batcher.batched(self._read_all, RANK)
        self._logits = batcher.batched(self._logits_of_all, RANK - 1)

    def __reduce__(self) -> tuple[type[SharedReading], tuple[CausalLM, Batcher]]:
        return SharedReading, (self.model, self.batcher)  # a copy reads with a copy of the model

    def __call__(self, x: Tensor, cache: Cache, lora: Lora | None = None, counts: Tensor | None = None) -> Tensor:
        """As `CausalLM` is called; one row that is read whole shares its steps with other threads'."""
        if len(x) > 1 or not x.shape[1] or (counts is not None and int(counts) < x.shape[1]):
            return self.model(x, cache, lora, counts)
        return torch.cat([self._read((piece, cache, lora)) for piece in x[0].split(PIECE_TOKENS)])[None]

    def logits(self, hidden: Tensor) -> Tensor:
        """`[rows, width]` -> `[rows, vocabulary]`, float32; one row shares the step with other threads'."""
        return self.model.logits(hidden) if len(hidden) > 1 else self._logits(hidden[0])[None]

    @torch.inference_mode()
    def _read_all(self, asked: Sequence[Read]) -> list[Tensor]:
        if len(asked) == 1 or not isinstance(self.model, ReadsTogether):
            return [self.model(x[None], cache, lora)[0] for x, cache, lora in asked]
        found: dict[int, Tensor] = {}
        for lora in {id(lora): lora for _, _, lora in asked}.values():  # mostly one for all
            rows = [row for row, (_, _, own) in enumerate(asked) if own is lora]
            xs, caches = [asked[row][0] for row in rows], [asked[row][1] for row in rows]
            found.update(zip(rows, self.model.read_together(xs, caches, lora)))
        return [found[row] for row in range(len(asked))]

    @torch.inference_mode()
    def _logits_of_all(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        return list(self.model.logits(torch.stack(list(hidden))))
