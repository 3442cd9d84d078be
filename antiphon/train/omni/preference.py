"""Preference optimisation of the talker (DPO; Qwen2.5-Omni, Xu et al. 2025, section 3.3).

Of two ways to say a reply, the better one is to become likelier. A line is as the talker's (`train.omni.talker`), with
the better way's `codes`, and the worse one's as `rejected`: of several samples of a reply, those with the fewest and
with the most errors of words and pauses.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor

from antiphon.models.omni import weights
from antiphon.train.config import StageConfig
from antiphon.train.objectives.preference import Preference, answer_log_probabilities
from antiphon.train.omni.start import OmniStart
from antiphon.train.omni.talker import IGNORED, SpokenReply, lay_out, opened, spoken


@dataclass
class OmniPreferenceData:
    """What is preferred."""

    speech: str = MISSING
    """File of conversations with the codes of both ways."""
    preference: Preference = field(default_factory=Preference)
    """Which objective."""
    own_sound: bool = False
    """Whether videos are heard, too."""


class OmniPreferenceTask:
    """See the module, and the Task protocol of the engine. The talker of `model.folder` is the reference."""

    Model, Data = OmniStart, OmniPreferenceData

    def __init__(self, config: StageConfig):
        self.config = config
        self.model, self.processor, self.lines = opened(config)
        self.reference = copy.deepcopy(self.model.talker).requires_grad_(False).eval()

    def batch(self, step: int) -> list[SpokenReply]:
        """The better ways of `config.batch` replies, then the worse ones."""
        first = step * self.config.batch
        lines = [self.lines[first + number] for number in range(self.config.batch)]
        sides, own_sound = ("codes", "rejected"), self.config.data.own_sound
        return [spoken(line, self.model, self.processor, own_sound, side) for side in sides for line in lines]

    def losses(self, batch: list[SpokenReply], group: str = "model") -> dict[str, Tensor]:
        """See `Preference.losses`; and `chosen`, nats a code of the better ways."""
        x, places, target = lay_out(self.model, batch, through_thinker=False)
        learnt = target != IGNORED
        rows = learnt.nonzero()[:, 0]
        ones = torch.ones(len(rows), device=x.device)

        def answers(talker: torch.nn.Module) -> tuple[Tensor, Tensor]:
            scores = talker.logits(talker(x, places)[learnt])
            logs, counts = answer_log_probabilities(scores, target[learnt], ones, rows, len(batch))
            return logs.view(2, -1), counts.view(2, -1)

        preference, reference = self.config.data.preference, None
        if preference.needs_reference:
            with torch.no_grad():
                reference = answers(self.reference.to(x.device))[0]
        logs, counts = answers(self.model.talker)
        return preference.losses(logs, counts, reference) | {"chosen": -(logs[0] / counts[0]).mean()}

    def sample(self, step: int, folder: Path) -> None:
        """There is nothing to look at before codes are sounded, which costs more than a step."""

    def export(self, folder: Path) -> None:
        """Writes the whole model, as it is published."""
        weights.save(self.model, folder)
