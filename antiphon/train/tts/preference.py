"""Preference optimisation of the talker: of two ways to say a text, the clearer one is to become likelier.

The answer's log-probability is that of all its codes, temporal and depth transformer, given the text on the clock on
which it was said: how long phonemes last isn't drawn, so both sides have the same, and it isn't trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING
from torch import Tensor

from antiphon import hub
from antiphon.data.codes import fingerprint
from antiphon.data.preferences.pairs import Pair, PreferencePairs, shuffled
from antiphon.data.speech.timed_codes import TimedCodes
from antiphon.errors import ConfigError, DataError
from antiphon.models.tts.phonemes import SILENCE, alphabet
from antiphon.models.tts.talker import Talker
from antiphon.train.config import Measures, StageConfig
from antiphon.train.objectives.preference import Preference, answer_log_probabilities
from antiphon.train.objectives.reference import reference_log_probabilities
from antiphon.train.prepare import preparing
from antiphon.train.tts.talker import collate


@dataclass
class TalkerStart:
    """What is trained."""

    talker: str = "talker"
    """Part or folder of the talker that training starts from, and that is the reference."""


@dataclass
class TalkerPairs:
    """What is preferred."""

    pairs: str = MISSING
    """Folder that `antiphon data preferences speech` made."""
    preference: Preference = field(default_factory=Preference)
    """Which objective."""
    semantic: float = 1.0
    """Weight of a frame's semantic code in the log-probability of an answer."""
    acoustic: float = 1.0
    """The same of each acoustic one; 0 leaves them out."""
    held_out: int = 16
    """Pairs at the end that are kept for measuring, at most half of them."""


def timed(pair: Pair) -> tuple[TimedCodes, TimedCodes]:
    """Both sides on the frame clock, the chosen one first.

    Raises:
        DataError: the pair doesn't say when its phones sound.
    """
    phones, known = pair.about.get("phones"), alphabet()
    if not phones:
        raise DataError(f"pair {pair.prompt} has no phones: it isn't of a talker; mine `preferences speech`.")
    symbols = np.array([SILENCE, *(known[phone] for phone, _, _ in phones[:-1]), SILENCE], np.int64)
    ends = np.array([phones[0][1], *(end for _, _, end in phones)])
    chosen, rejected = (TimedCodes(symbols, ends, codes, pair.asked) for codes in (pair.chosen, pair.rejected))
    return chosen, rejected


class TalkerPreferenceTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = TalkerStart, TalkerPairs

    def __init__(self, config: StageConfig):
        self.config, self.data = config, config.data
        self.model = Talker.from_pretrained(hub.folder(config.model.talker))
        self.pairs = PreferencePairs(self.data.pairs)
        self.count = len(self.pairs) - min(self.data.held_out, len(self.pairs) // 2)
        levels = self.model.config.codebooks
        if self.pairs[0].chosen.shape[0] < levels:
            raise ConfigError(
                f"data.pairs: {self.data.pairs} has codes of {self.pairs[0].chosen.shape[0]} codebooks, the talker "
                f"speaks {levels}: mine pairs with this talker"
            )
        self.weights = torch.tensor([self.data.semantic] + [self.data.acoustic] * (levels - 1))
        self.reference: NDArray[np.float32] | None = None
        if self.data.preference.needs_reference:
            about = f"{fingerprint(self.model)}, semantic {self.data.semantic}, acoustic {self.data.acoustic}"
            with preparing(config.out):
                folder = Path(config.out) / "reference"
                self.reference = reference_log_probabilities(self.pairs, folder, about, self._refer)

    @torch.no_grad()
    def _refer(self, indices: Sequence[int]) -> NDArray[np.floating]:
        return self.answers(self._rows(indices))[0].view(2, -1).numpy()

    def _rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The sides of pairs as rows of a batch, all chosen ones first."""
        sides = [timed(self.pairs[index]) for index in indices]
        rows = collate([side for each in zip(*sides) for side in each], self.model.config)
        return rows | {"keep": (rows["grid"] >= 0).any(1)}

    def batch(self, step: int) -> dict[str, Tensor]:
        return self._batch(shuffled(self.count, self.config.batch, step, self.config.seed))

    def _batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        held = {} if self.reference is None else {"reference": torch.from_numpy(self.reference[:, indices])}
        return self._rows(indices) | held

    def answers(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the rows' codes, and the sum of the codes' weights, [rows] both."""
        keep, grid = batch["keep"], batch["grid"]
        logits, _ = self.model(batch["symbols"], batch["mask"], batch["ends"], grid, keep)
        targets, rows = grid.transpose(1, 2)[keep], keep.nonzero()[:, 0]
        totals = [
            answer_log_probabilities(scores, targets[:, level], weight.expand(len(rows)), rows, len(grid))
            for level, (scores, weight) in enumerate(zip(logits, self.weights.to(grid.device)))
            if weight
        ]
        logs, counts = zip(*totals)
        return torch.stack(logs).sum(0), torch.stack(counts).sum(0)

    def losses(self, batch: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        """`preference`; `chosen`, nats a code of the better side (a weight on it keeps the model near what it should
        say); and, detached, `preferred` and `margin` (see `Preference.losses`)."""
        logs, counts = (each.view(2, -1) for each in self.answers(batch))
        found = self.data.preference.losses(logs, counts, batch.get("reference"))
        return found | {"chosen": -(logs[0] / counts[0]).mean()}

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """The losses on the pairs that are kept out."""
        found: dict[str, list[float]] = {}
        device = self.model.bias.device
        for index in range(self.count, len(self.pairs)):
            batch = {name: tensor.to(device) for name, tensor in self._batch([index]).items()}
            for name, value in self.losses(batch, "model").items():
                found.setdefault(name, []).append(float(value))
        return {name: sum(values) / len(values) for name, values in found.items()}

    def sample(self, step: int, folder: Path) -> None:
        """Writes by how many nats each pair that is kept out is told apart, beside its text and sounds."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{step:06d}.jsonl").open("w", encoding="utf-8") as file:
            for index in range(self.count, len(self.pairs)):
                rows = {name: each.to(self.model.bias.device) for name, each in self._rows([index]).items()}
                better, worse = self.answers(rows)[0].tolist()
                before = None if self.reference is None else float(self.reference[0, index] - self.reference[1, index])
                line = {"asked": self.pairs[index].asked, "ids": self.pairs.ids(index), "before": before}
                file.write(json.dumps(line | {"now": better - worse}, ensure_ascii=False) + "\n")

    def export(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
