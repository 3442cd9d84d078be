"""Preference optimisation of the talker: of two ways to say a text, the clearer one is to become likelier.

The answer's log-probability is that of all its codes, temporal and depth transformer, given the text on the clock on
which it was said: how long phonemes last isn't drawn, so both sides have the same, and it isn't trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from antiphon import hub
from antiphon.codecs.base import fingerprint
from antiphon.data.preferences.pairs import Pair, PreferencePairs
from antiphon.data.speech.timed_codes import TimedCodes
from antiphon.errors import ConfigError, DataError
from antiphon.models.tts.phonemes import SILENCE, alphabet
from antiphon.models.tts.talker import Talker
from antiphon.train.config import Measures, StageConfig
from antiphon.train.objectives.pairs import PairData, PairTraining
from antiphon.train.objectives.preference import answer_log_probabilities
from antiphon.train.tts.talker import collate


@dataclass
class TalkerStart:
    """What is trained."""

    talker: str = "talker"
    """Part or folder of the talker that training starts from, and that is the reference."""


@dataclass
class TalkerPairs(PairData):
    """What is preferred: pairs of `antiphon data preferences speech`."""

    semantic: float = 1.0
    """Weight of a frame's semantic code in the log-probability of an answer."""
    acoustic: float = 1.0
    """The same of each acoustic one; 0 leaves them out."""


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
        data: TalkerPairs = config.data
        self.model = Talker.from_pretrained(hub.folder(config.model.talker))
        self.pairs, levels = PreferencePairs(data.pairs), self.model.config.codebooks
        if len(self.pairs[0].chosen) < levels:
            raise ConfigError(
                f"data.pairs: {data.pairs} has codes of {len(self.pairs[0].chosen)} codebooks, the talker speaks "
                f"{levels}: mine pairs with this talker"
            )
        self.weights = torch.tensor([data.semantic] + [data.acoustic] * (levels - 1))
        about = f"{fingerprint(self.model)}, semantic {data.semantic}, acoustic {data.acoustic}"
        self.training = PairTraining(config, self.pairs, about, self.rows, self.answers)

    def rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """See `antiphon.train.objectives.pairs.Rows`."""
        sides = [timed(self.pairs[index]) for index in indices]
        rows = collate([side for each in zip(*sides) for side in each], self.model.config)
        return rows | {"keep": (rows["grid"] >= 0).any(1)}

    def answers(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `antiphon.train.objectives.pairs.Answers`."""
        keep, grid = batch["keep"], batch["grid"]
        logits, _ = self.model(batch["symbols"], batch["mask"], batch["ends"], grid, keep, speaker=batch.get("speaker"))
        targets, rows = grid.transpose(1, 2)[keep], keep.nonzero()[:, 0]
        totals = [
            answer_log_probabilities(scores, targets[:, level], weight.expand(len(rows)), rows, len(grid))
            for level, (scores, weight) in enumerate(zip(logits, self.weights.to(grid.device)))
            if weight
        ]
        logs, counts = zip(*totals)
        return torch.stack(logs).sum(0), torch.stack(counts).sum(0)

    def batch(self, step: int) -> dict[str, Tensor]:
        return self.training.batch(step)

    def losses(self, batch: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        return self.training.losses(batch)

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        return self.training.measure(self.model.bias.device)

    def sample(self, step: int, folder: Path) -> None:
        self.training.sample(step, folder, self.model.bias.device)

    def export(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
