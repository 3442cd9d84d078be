"""Preference optimisation of written replies, by low-rank adapters; the language model itself is frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from antiphon import hub
from antiphon.codecs.base import fingerprint
from antiphon.data.preferences.pairs import PreferencePairs
from antiphon.errors import DataError
from antiphon.models.llm.llama import Llama
from antiphon.models.lora import Lora, LoraConfig
from antiphon.train.config import Measures, StageConfig
from antiphon.train.llm.instruct import IGNORED, collate, reply_scores
from antiphon.train.objectives.pairs import PairData, PairTraining
from antiphon.train.objectives.preference import answer_log_probabilities


@dataclass(frozen=True)
class ReplyStart(LoraConfig):
    """What is trained; the sizes are those of fresh adapters."""

    llm: str = "llm"
    """Name or folder of the language model."""
    lora: str | None = None
    """Part or folder of the adapters that training starts from, and that are the reference; None for fresh ones, whose
    reference is the language model itself."""


class ReplyPreferenceTask:
    """The stage's task; see the Task protocol of the engine. Its model is the adapters alone."""

    Model, Data = ReplyStart, PairData

    def __init__(self, config: StageConfig):
        start = dataclasses.asdict(config.model)
        llm, lora = hub.folder(start.pop("llm")), start.pop("lora")
        self.base = Llama.from_pretrained(llm, torch.float32)  # packed weights can't be trained through
        self.base.requires_grad_(False)
        self.model = Lora.from_pretrained(hub.folder(lora), self.base) if lora else Lora(self.base, LoraConfig(**start))
        self.pairs = PreferencePairs(config.data.pairs)
        about = f"{fingerprint(self.base)}, {fingerprint(self.model) if lora else 'no adapters'}"
        self.training = PairTraining(config, self.pairs, about, self.rows, self.answers)

    def rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """See `antiphon.train.objectives.pairs.Rows`: tokens and labels, [rows, length]."""
        encoded = []
        for side in ("chosen", "rejected"):
            for pair in (self.pairs[index] for index in indices):
                if not (prompt := pair.about.get("tokens")):
                    raise DataError(f"pair {pair.prompt} has no tokens of its prompt: mine `preferences replies`.")
                reply = getattr(pair, side)[0].tolist()
                encoded.append(([*prompt, *reply], [IGNORED] * len(prompt) + reply))
        tokens, labels = collate(encoded)
        return {"tokens": tokens, "labels": labels}

    def answers(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `antiphon.train.objectives.pairs.Answers`."""
        tokens, labels = batch["tokens"], batch["labels"]
        if self.base.norm.device != tokens.device:
            self.base.to(tokens.device)
        scores, learnt = reply_scores(self.base, self.model, tokens, labels)
        targets, rows = labels[:, 1:][learnt], learnt.nonzero()[:, 0]
        return answer_log_probabilities(scores, targets, torch.ones_like(rows, dtype=torch.float32), rows, len(tokens))

    def batch(self, step: int) -> dict[str, Tensor]:
        return self.training.batch(step)

    def losses(self, batch: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        return self.training.losses(batch)

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        return self.training.measure(self.base.norm.device)

    def sample(self, step: int, folder: Path) -> None:
        self.training.sample(step, folder, self.base.norm.device)

    def export(self, folder: Path) -> None:
        """Writes the adapters in the format of peft."""
        self.model.save(folder)
