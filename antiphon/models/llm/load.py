"""Opening a causal language model by what its folder's config.json says.

    model = load_causal_lm(folder)
    cache = model.init_cache(batch=1)
    hidden = model(model.embed(tokens), cache)       # [batch, tokens, width]
    logits = model.logits(hidden[:, -1])

The Llama and Qwen families are computed by our own code, packed ones too (`llama`); every other causal model that
`transformers` has by that, more slowly (`published`). Another package adds a family without a line here: by an entry
point in the group `antiphon.causal_lm`, named like the `model_type` of its config.json and naming a class; or, for one
folder, by `"family": "package.module:Class"` in its config.json. The class keeps to `CausalLM` and has
`from_pretrained(folder)`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.lora import Lora

GROUP = "antiphon.causal_lm"
log = logging.getLogger(__name__)


class Cache(Protocol):
    """What rows of a batch have read, as a value of `antiphon.nn.state`; see `antiphon.nn.cache.KeyValues`.

    Attributes:
        length: tokens of each row, [batch].
    """

    length: Tensor

    def fork(self, rows: Any = None) -> Cache:
        """A copy that goes its own way, of all rows or of these."""

    def cut(self, length: int) -> None:
        """Forgets what is behind the first `length` tokens."""


class CausalLM(Protocol):
    """A language model: embeddings in, hidden states and logits out, the cache a value.

    Attributes:
        width: of embeddings and hidden states.
        context: tokens of a conversation, at most.
    """

    width: int
    context: int

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> CausalLM:
        """Opens a folder, in evaluation mode."""

    @staticmethod
    def published_name(linear: str) -> str:
        """The name that a linear layer of this module has in `transformers`, under which adapters name it."""

    def init_cache(self, batch: int = 1) -> Cache:
        """A cache that has read nothing."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Ids [..., tokens] -> float32 [..., tokens, width]."""

    def __call__(
        self, x: Tensor, cache: Cache | None = None, lora: Lora | None = None, counts: Tensor | None = None
    ) -> Tensor:
        """Reads embeddings [batch, tokens, width] behind what the cache's rows have, of each row the first `counts`
        (None: all); gives the last hidden states [batch, tokens, width]."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary], float32."""


@runtime_checkable
class Forgets(Protocol):
    """A language model that can forget what isn't the end of what it read."""

    def forget(self, cache: Cache, start: int, count: int) -> None:
        """Takes tokens out of a cache of one row: what came after them moves up. It was read with them, so that a trace
        of them is left, but nothing has to be read again."""


@runtime_checkable
class ReadsTogether(Protocol):
    """A language model that reads for several conversations in one step, each with a cache of its own."""

    def read_together(self, rows: Sequence[Tensor], caches: Sequence[Any], lora: Lora | None = None) -> list[Tensor]:
        """Embeddings `[T, width]` of each, T of its own, behind what its cache of one row has; gives the last hidden
        states `[T, width]` of each."""


def causal_lm_class(folder: Path | str) -> type[CausalLM]:
    """The class that opens a folder.

    Raises:
        ModelError: config.json can't be read, or names a family that isn't there.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        family, kind = str(config.get("family", "")), str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read the language model's {path}: {error}") from error
    if ":" in family:
        module, _, name = family.partition(":")
        try:
            return cast("type[CausalLM]", getattr(import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise ModelError(f"{path}: the family {family!r} can't be opened ({error}): install its package") from error
    if found := entry_points(group=GROUP, name=kind):
        return cast("type[CausalLM]", next(iter(found)).load())
    if not (why := LlamaConfig.unfit(config)):
        return Llama
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{path} holds a {kind or 'model without a model_type'}, which is no causal language model")
    log.warning("%s goes through transformers, which is slower: %s", path.parent, why)
    from antiphon.models.llm.published import PublishedLM

    return PublishedLM


def load_causal_lm(folder: Path | str, dtype: torch.dtype | None = None) -> CausalLM:
    """Opens a folder, in evaluation mode.

    Args:
        folder: the model's.
        dtype: of the weights; None as the family has them. Packed ones become plain ones.

    Raises:
        ModelError: there is no such family, or the folder can't be read.
    """
    family = causal_lm_class(folder)
    if dtype is None:
        return family.from_pretrained(folder)
    if issubclass(family, Llama):
        return family.from_pretrained(folder, dtype)
    model = family.from_pretrained(folder)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{folder}: {family.__name__} has no weights of another dtype; leave dtype out")
    return cast("CausalLM", model.to(dtype))
