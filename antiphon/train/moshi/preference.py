"""Preference optimisation of a duplex model's timing: of two ways to sit through a user's turns, the better one.

When it speaks is decided by the text stream, where PAD is silence; its codes follow. So an answer's log-probability
counts the text above all, and what is said less than when: the weights say how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from antiphon.codecs.base import fingerprint
from antiphon.data.dialogue.grid import NOTHING, weights
from antiphon.data.preferences.pairs import PreferencePairs
from antiphon.errors import ConfigError
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.nn.delays import delay
from antiphon.train.config import Measures, StageConfig
from antiphon.train.objectives.pairs import PairData, PairTraining
from antiphon.train.objectives.preference import answer_log_probabilities


@dataclass
class DuplexStart:
    """What is trained."""

    duplex: str = MISSING
    """Folder of the duplex model that training starts from, and that is the reference."""


@dataclass
class TimingPairs(PairData):
    """What is preferred: pairs of `antiphon data preferences timing`."""

    padding: float = 1.0
    """Weight of PAD and EPAD: when it is silent, and when it is about to speak."""
    words: float = 0.25
    """Weight of the pieces of words."""
    semantic: float = 0.0
    """Weight of a frame's semantic code; 0 leaves the depth transformer out."""
    acoustic: float = 0.0
    """The same of each acoustic one."""


class DuplexPreferenceTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = DuplexStart, TimingPairs

    def __init__(self, config: StageConfig):
        self.data: TimingPairs = config.data
        self.folder = Path(config.model.duplex)
        self.duplex = Duplex.from_pretrained(self.folder)
        self.model = self.duplex.moshi
        self.pairs = PreferencePairs(self.data.pairs)
        if len(self.pairs[0].chosen) != self.model.config.streams:
            raise ConfigError(
                f"data.pairs: {self.data.pairs} has grids of {len(self.pairs[0].chosen)} streams, the model "
                f"{self.model.config.streams}: mine `preferences timing` with this model"
            )
        self.weights = (self.data.padding, self.data.words, self.data.semantic, self.data.acoustic)
        about = f"{fingerprint(self.model)}, weights {self.weights}"
        self.training = PairTraining(config, self.pairs, about, self.rows, self.answers)

    def rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """See `antiphon.train.objectives.pairs.Rows`: delayed grids [rows, streams, frames], and the weight of each
        target."""
        config, some = self.model.config, [self.pairs[index] for index in indices]
        sides = [*(pair.chosen for pair in some), *(pair.rejected for pair in some)]
        grids = pad_sequence([torch.from_numpy(side.T) for side in sides], batch_first=True, padding_value=NOTHING)
        delayed = delay(grids.mT, list(config.delays), fill=NOTHING)
        padding, words, semantic, acoustic = self.weights
        weight = weights(
            delayed, config.codebooks, config.predicted, config.pad, config.end_pad, semantic, acoustic, words, padding
        )
        return {"delayed": delayed, "weight": weight}

    def answers(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `antiphon.train.objectives.pairs.Answers`."""
        delayed, weight = batch["delayed"], batch["weight"]
        keep = (weight[:, 1:] > 0).any(1)
        output = self.model(delayed, keep)
        rows = torch.arange(len(delayed), device=delayed.device)[:, None].expand(keep.shape)
        text = (output.text.flatten(0, 1), delayed[:, 0].flatten(), weight[:, 0].flatten(), rows.flatten())
        logs, counts = answer_log_probabilities(*text, len(delayed))
        for level in range(weight.shape[1] - 1) if bool(keep.any()) else ():
            codes = output.codes[:, level], delayed[:, 1 + level][keep], weight[:, 1 + level][keep], rows[keep]
            more, number = answer_log_probabilities(*codes, len(delayed))
            logs, counts = logs + more, counts + number
        return logs, counts

    def batch(self, step: int) -> dict[str, Tensor]:
        return self.training.batch(step)

    def losses(self, batch: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        return self.training.losses(batch)

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        return self.training.measure(self.duplex.device)

    def sample(self, step: int, folder: Path) -> None:
        self.training.sample(step, folder, self.duplex.device)

    def export(self, folder: Path) -> None:
        self.duplex.save_pretrained(folder, codec_name(self.folder))
