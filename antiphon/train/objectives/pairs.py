"""What every task that learns from preference pairs does with them: batches, the reference, the losses, a look at them.

A task says how pairs become rows of a batch, and how likely its model finds the answers in them; all else is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING
from torch import Tensor

from antiphon.data.preferences.pairs import PreferencePairs, shuffled
from antiphon.train.config import StageConfig
from antiphon.train.objectives.preference import Preference
from antiphon.train.objectives.reference import reference_log_probabilities
from antiphon.train.prepare import preparing

Rows = Callable[[Sequence[int]], dict[str, Tensor]]
"""Indices of pairs -> both sides of each as rows of a batch, all chosen ones first."""
Answers = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""A batch -> log-probabilities of its rows' answers, and their tokens (or the sum of their weights), [rows] both."""


@dataclass
class PairData:
    """What is preferred."""

    pairs: str = MISSING
    """Folder that `antiphon data preferences` made."""
    preference: Preference = field(default_factory=Preference)
    """Which objective."""
    held_out: int = 16
    """Pairs at the end that are kept for measuring, at most half of them."""


class PairTraining:
    """The pairs of a run.

    Args:
        config: the stage; its `data` is a `PairData`.
        pairs: opened.
        fingerprint: of the reference model and how it is asked.
        rows, answers: the task's own. The model is the reference when this is constructed.
    """

    def __init__(self, config: StageConfig, pairs: PreferencePairs, fingerprint: str, rows: Rows, answers: Answers):
        self.config, self.pairs, self.rows, self.answers = config, pairs, rows, answers
        self.preference: Preference = config.data.preference
        self.count = len(pairs) - min(config.data.held_out, len(pairs) // 2)
        self.reference: NDArray[np.float32] | None = None
        if self.preference.needs_reference:
            with preparing(config.out):
                folder = Path(config.out) / "reference"
                self.reference = reference_log_probabilities(pairs, folder, fingerprint, self._refer)

    @torch.no_grad()
    def _refer(self, indices: Sequence[int]) -> NDArray[np.floating]:
        return self.answers(self.rows(indices))[0].view(2, -1).numpy()

    def batch(self, step: int) -> dict[str, Tensor]:
        """The pairs of a step, and what the reference thinks of them."""
        return self._batch(shuffled(self.count, self.config.batch, step, self.config.seed))

    def _batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        held = {} if self.reference is None else {"reference": torch.from_numpy(self.reference[:, indices])}
        return self.rows(indices) | held

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`preference`; `chosen`, nats a token of the better side (a weight on it keeps that side likely); and,
        detached, `preferred` and `margin` (see `Preference.losses`)."""
        logs, counts = (each.view(2, -1) for each in self.answers(batch))
        found = self.preference.losses(logs, counts, batch.get("reference"))
        return found | {"chosen": -(logs[0] / counts[0]).mean()}

    @torch.no_grad()
    def measure(self, device: torch.device) -> dict[str, float]:
        """The losses on the pairs that are kept out."""
        found: dict[str, list[float]] = {}
        for index in range(self.count, len(self.pairs)):
            batch = {name: tensor.to(device) for name, tensor in self._batch([index]).items()}
            for name, value in self.losses(batch).items():
                found.setdefault(name, []).append(float(value))
        return {name: sum(values) / len(values) for name, values in found.items()}

    @torch.no_grad()
    def sample(self, step: int, folder: Path, device: torch.device) -> None:
        """Writes by how many nats each pair that is kept out is told apart, before and now."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{step:06d}.jsonl").open("w", encoding="utf-8") as file:
            for index in range(self.count, len(self.pairs)):
                rows = {name: each.to(device) for name, each in self.rows([index]).items()}
                better, worse = self.answers(rows)[0].tolist()
                before = None if self.reference is None else float(np.subtract(*self.reference[:, index]))
                line = {"asked": self.pairs[index].asked, "ids": self.pairs.ids(index), "before": before}
                file.write(json.dumps(line | {"now": better - worse}, ensure_ascii=False) + "\n")
