"""Stages of the thinker: adapters, towers, everything, by the next token of replies in conversations of any kind.

A stage differs from another by its recipe alone: what is `trainable`, and which conversations come how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon.data.mixture import Mix, Mixture
from antiphon.models.lora import Lora
from antiphon.models.omni import weights
from antiphon.models.omni.positions import tokens_in
from antiphon.models.omni.thinker import OmniThinker, Read, batched
from antiphon.train.config import StageConfig
from antiphon.train.omni.start import Conversations, Example, OmniStart, build, example, processor_of


@dataclass
class OmniThinkerData:
    """What is talked about."""

    sources: dict[str, str] = MISSING
    """Name -> file of conversations; see `antiphon.train.omni.start`."""
    mix: Mix = field(default_factory=Mix)
    """How often each comes."""
    own_sound: bool = False
    """Whether videos are heard, too."""
    held_out: int = 0
    """Conversations at the end of each file that are kept apart, and measured."""


class OmniThinkerTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = OmniStart, OmniThinkerData

    def __init__(self, config: StageConfig):
        self.config, data = config, config.data
        self.model = build(config.model)
        self.processor = processor_of(config.model, self.model)
        whole = {name: Conversations(path) for name, path in dict(data.sources).items()}
        self.held = {name: _slice(each, -data.held_out, None) for name, each in whole.items() if data.held_out}
        self.mixture = Mixture(
            {name: _slice(each, 0, len(each) - data.held_out) for name, each in whole.items()}, data.mix, config.seed
        )

    def batch(self, step: int) -> list[Example]:
        first = step * self.config.batch
        return [self._example(self.mixture[first + number]) for number in range(self.config.batch)]

    def _example(self, line: dict) -> Example:
        return example(self.processor, line["messages"], self.config.data.own_sound)

    def losses(self, batch: list[Example], group: str = "model") -> dict[str, Tensor]:
        """`lm`: nats a token of the replies."""
        return {"lm": reply_loss(self.model.thinker, batch)}

    def tokens(self, batch: list[Example]) -> int:
        """Tokens that are read."""
        return sum(tokens_in(self.model.thinker.place(part)) for each in batch for part in each.parts)

    def weights(self, batch: list[Example]) -> dict[str, float]:
        """What `lm` is the mean over."""
        learnt = [part for each in batch for part, own in zip(each.parts, each.learnt) if own]
        return {"lm": float(sum(len(part.tokens) for part in learnt))}

    @torch.no_grad()
    def measure(self, step: int, measures: object) -> dict[str, float]:
        """Nats a token of the replies that are kept apart, by source."""
        return {
            name: float(reply_loss(self.model.thinker, [self._example(line) for line in lines]))
            for name, lines in self.held.items()
        }

    def sample(self, step: int, folder: Path) -> None:
        """There is nothing to look at that `measure` doesn't tell."""

    def export(self, folder: Path) -> None:
        """Writes the whole model, as it is published."""
        weights.save(self.model, folder)


def _slice(lines: Conversations, first: int, end: int | None) -> list[dict]:
    return [lines[index] for index in range(*slice(first, end).indices(len(lines)))]


def reply_loss(
    thinker: OmniThinker, batch: Sequence[Example], lora: Lora | None = None, together: int | None = None
) -> Tensor:
    """Mean cross-entropy of the tokens that are learnt from, nats.

    Args:
        thinker: the model.
        batch: conversations.
        lora: adapters of its language model.
        together: rows that are read at once, those of like lengths; None for all.
    """
    reads = [thinker.read(each.parts) for each in batch]
    order = sorted(range(len(batch)), key=lambda row: len(reads[row].x))
    states, targets = [], []
    for first in range(0, len(order), together or len(order)):
        rows = order[first : first + (together or len(order))]
        hidden = thinker(*batched([reads[row] for row in rows]), lora=lora)
        for place, row in enumerate(rows):
            read, learnt = reads[row], _learnt(thinker, batch[row], reads[row])
            states.append(hidden[place, : len(read.x) - 1][learnt[1:]])
            targets.append(read.tokens[1:][learnt[1:]])
    return F.cross_entropy(thinker.logits(torch.cat(states)), torch.cat(targets))


def _learnt(thinker: OmniThinker, each: Example, read: Read) -> Tensor:
    """Which tokens are learnt from, [tokens]."""
    counts = torch.tensor([tokens_in(thinker.place(part)) for part in each.parts])
    return torch.tensor(each.learnt).repeat_interleave(counts).to(read.x.device)
