"""When a turn asks about what is to be heard: one linear unit on the language model's state behind the turn's words.

The language model stays as it is, so its states are computed once. What asks, and what only sounds like it, is in
`antiphon/data/text/asks.yaml`; facts and small talk are what else people say. One wording in five is kept for measures.
`export` writes the unit beside a scene network, for language models of its width (`models.scene.reading`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.data.text.corpora import text_id
from antiphon.data.text.facts import read_chat, read_facts
from antiphon.hub.folders import folder
from antiphon.models.llm.thinker import Thinker
from antiphon.models.scene.reading import SceneReading
from antiphon.train.config import Measures, StageConfig

WORDINGS = Path(__file__).parents[2] / "data" / "text" / "asks.yaml"
KEPT_ONE_IN = 5  # wordings, for measuring


@dataclass
class AsksModel:
    """Whose states are looked at."""

    llm: str = MISSING
    """Name or folder of the language model."""


@dataclass
class AsksTexts:
    """What else people say."""

    ordinary: int = 240
    """Questions about the world and small talk."""
    caution: float = 3.0
    """Logits by which a turn has to ask: who is told what wasn't asked for answers something else."""


class AsksTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = AsksModel, AsksTexts
    optimizer_groups = {"asks": ["*"]}

    def __init__(self, config: StageConfig):
        self.config = config
        thinker = Thinker.from_pretrained(folder(config.model.llm))
        self.texts = wordings(config.data.ordinary, config.seed)
        states = states_behind(thinker, [text for text, _ in self.texts])
        asks = torch.tensor([float(asked) for _, asked in self.texts])
        kept = torch.tensor([int(text_id(text), 16) % KEPT_ONE_IN == 0 for text, _ in self.texts])
        self.train, self.kept = (states[~kept], asks[~kept]), (states[kept], asks[kept])
        # The unit sees each feature against its mean and deviation; `export` puts those into its weights.
        self.mean, self.deviation = self.train[0].mean(0), self.train[0].std(0).clamp_min(1e-3)
        self.model = nn.Linear(states.shape[1], 1)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """States [B, width], and which of them ask [B]."""
        states, asks = self.train
        chosen = torch.randperm(len(asks), generator=torch.Generator().manual_seed(step))[: self.config.batch]
        return states[chosen], asks[chosen]

    def losses(self, batch: tuple[Tensor, Tensor], group: str) -> dict[str, Tensor]:
        """Of the unit's answer, `asks`."""
        return {"asks": F.binary_cross_entropy_with_logits(self._scores(batch[0]), batch[1])}

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Shares of kept wordings that are told rightly: of those that ask and of those that don't."""
        with torch.no_grad():
            scores, asks = self._scores(self.kept[0]) > self.config.data.caution, self.kept[1] > 0
        return {"asks": float(scores[asks].float().mean()), "others": float((~scores[~asks]).float().mean())}

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is told wrongly of all wordings to `folder`/<step>.txt."""
        folder.mkdir(parents=True, exist_ok=True)
        states = torch.cat([self.train[0], self.kept[0]])
        asks = torch.cat([self.train[1], self.kept[1]]) > 0
        with torch.no_grad():
            wrong = int(((self._scores(states) > self.config.data.caution) != asks).sum())
        (folder / f"{step:06d}.txt").write_text(f"{wrong} of {len(asks)} are told wrongly\n", encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes the unit as a reading of scenes, for the network's folder."""
        width = self.model.in_features
        reading = SceneReading(lambda ids: torch.zeros(len(ids), width), None, width, asks=True)
        assert reading.asks is not None
        with torch.no_grad():
            reading.asks.weight.copy_(self.model.weight / self.deviation)
            reading.asks.bias.copy_(self.model.bias - (reading.asks.weight @ self.mean) - self.config.data.caution)
        folder.mkdir(parents=True, exist_ok=True)
        reading.save(folder)

    def describe(self) -> dict[str, Any]:
        """How many wordings there are, for a model card."""
        return {"wordings": len(self.texts), "that ask": sum(asked for _, asked in self.texts)}

    def _scores(self, states: Tensor) -> Tensor:
        return self.model((states - self.mean) / self.deviation)[:, 0]


def wordings(ordinary: int, seed: int = 0) -> list[tuple[str, bool]]:
    """What people say, and whether it asks about what is to be heard.

    Args:
        ordinary: of the facts' questions and the small talk, how many.
        seed: by which those are chosen.
    """
    told = yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))
    draw = random.Random(seed)
    facts = [draw.choice(fact.questions) for fact in (*read_facts(), *read_chat())]
    others = [*told["others"], *draw.sample(facts, min(ordinary, len(facts)))]
    return [*((text, True) for text in told["asks"]), *((text, False) for text in others)]


def states_behind(thinker: Thinker, texts: Sequence[str]) -> Tensor:
    """The language model's last hidden state behind each text, said first in a conversation: [texts, width]."""

    def states() -> Iterator[Tensor]:
        for text in texts:
            state = thinker.init_state(voice=True)
            hidden = thinker.draft_state(state, text)
            assert hidden is not None
            yield hidden.float().clone()

    return torch.stack(list(states()))
