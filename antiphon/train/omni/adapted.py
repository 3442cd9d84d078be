"""A stage of the thinker that learns by low-rank adapters of its language model, given to it call by call.

The language model's own weights get no gradients at all, which a recipe's `lora` computes on its way to the pairs: a
third less work. What is exported has the adapters beside the model, in its `lora`, where `weights.load` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.omni import weights
from antiphon.models.omni.parts import ADAPTERS
from antiphon.models.omni.thinker import OmniThinker
from antiphon.train.config import StageConfig
from antiphon.train.omni.start import Example, OmniStart, TrainableOmni
from antiphon.train.omni.thinker import OmniThinkerData, OmniThinkerTask, reply_loss


@dataclass
class AdaptedStart(OmniStart):
    """The model, and its adapters."""

    adapters: LoraConfig = field(default_factory=LoraConfig)
    """Their sizes."""
    together: int = 4
    """Conversations that are read at once; those of like lengths."""


class Adapted(nn.Module):
    """A model and adapters of its language model."""

    def __init__(self, omni: TrainableOmni, config: LoraConfig):
        super().__init__()
        self.omni = omni
        self.adapters = Lora(omni.thinker.language_model, config)

    @property
    def thinker(self) -> OmniThinker:
        """The part that learns."""
        assert self.omni.thinker is not None
        return self.omni.thinker

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """See `antiphon.train.task.ReadsFolders`: what an earlier stage wrote, its adapters too."""
        found = {f"omni.{name}": value for name, value in self.omni.read_weights(folder).items()}
        if (lora := Path(folder) / ADAPTERS).is_dir():
            found |= {f"adapters.{name}": value for name, value in self.adapters.read_weights(lora).items()}
        return found


class OmniAdaptersTask(OmniThinkerTask):
    """See the module."""

    Model, Data = AdaptedStart, OmniThinkerData

    def __init__(self, config: StageConfig):
        super().__init__(config)
        self.model: Adapted = Adapted(self.model, config.model.adapters)

    def losses(self, batch: list[Example], group: str = "model") -> dict[str, Tensor]:
        """`lm`: nats a token of the replies."""
        return {"lm": self._loss(batch)}

    def _loss(self, batch: list[Example]) -> Tensor:
        return reply_loss(self.model.thinker, batch, self.model.adapters, self.config.model.together)

    @torch.no_grad()
    def measure(self, step: int, measures: object) -> dict[str, float]:
        """Nats a token of the replies that are kept apart, by source."""
        return {name: float(self._loss([self._example(line) for line in lines])) for name, lines in self.held.items()}

    def export(self, folder: Path) -> None:
        """Writes the model with the adapters beside it."""
        weights.save(self.model.omni, folder)
        self.model.adapters.save(folder / ADAPTERS)
