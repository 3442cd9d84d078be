"""Training the aligner of phones: which phone sounds in each frame of speech whose phones' times are known."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon.data.speech.utterances import SpeechSet
from antiphon.encoders import load_features
from antiphon.errors import ConfigError
from antiphon.models.asr.phone_times import AlignerConfig, PhoneAligner
from antiphon.train.codec.directions import phone_frames
from antiphon.train.config import Measures, StageConfig


@dataclass
class PhonesModel:
    """Sizes; see `AlignerConfig`."""

    features: str = "whisper-base"
    """A speech encoder."""
    layer: int = 4
    """Of it, that is read."""
    around: int = 1
    """Frames before and after the one that is judged."""
    hidden: int = 192
    """Between the two layers."""


@dataclass
class PhonesData:
    """What is heard."""

    speech: list[str] = MISSING
    """Speech sets whose phonemes' times are known (`antiphon data speak --voice hibari`)."""
    utterances: int = 1200
    """Of them, drawn in even shares."""
    held_out: int = 100
    """Of these, so many are measured alone."""
    fewest: int = 50
    """Frames of a phone, of which fewer aren't learnt."""


class PhonesTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = PhonesModel, PhonesData

    def __init__(self, config: StageConfig):
        model, data = config.model, config.data
        if not 0 < data.held_out < data.utterances:
            raise ConfigError(f"data.held_out is {data.held_out} of {data.utterances} utterances: leave some of each")
        self.config, features = config, load_features(model.features, model.layer)
        sets = [SpeechSet(place) for place in data.speech]
        device = torch.device("cpu")
        values, phones = phone_frames(features, sets, data.utterances, config.seed, device)
        heard = np.bincount(phones)
        known = tuple(int(phone) for phone in np.flatnonzero(heard >= data.fewest))
        columns = np.full(len(heard), -1)
        columns[list(known)] = np.arange(len(known))
        sizes = AlignerConfig(model.features, model.layer, features.width, model.around, model.hidden, known)
        self.model = PhoneAligner(sizes, features)
        split = len(values) * (data.utterances - data.held_out) // data.utterances  # those drawn last
        self.values = torch.from_numpy(values)
        self.columns = torch.from_numpy(columns[phones])
        self.places = self._usable(0, split)
        self.held = self._usable(split, len(values))
        shares = np.bincount(columns[phones][self.places.numpy()], minlength=len(known)) / len(self.places)
        self.model.usual.copy_(torch.from_numpy(np.log(shares + 1e-9)))

    def _usable(self, start: int, end: int) -> Tensor:
        """Frames that have all around them and a phone that is learnt."""
        around = self.config.model.around
        places = torch.arange(start + around, end - around)
        return places[self.columns[places] >= 0]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Frames with what is around them [batch, width * frames], and their phones' columns [batch]."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        return self._frames(self.places[torch.randint(len(self.places), (self.config.batch,), generator=generator)])

    def _frames(self, places: Tensor) -> tuple[Tensor, Tensor]:
        around = self.config.model.around
        x = torch.cat([self.values[places + shift] for shift in range(-around, around + 1)], -1)
        return x, self.columns[places]

    def losses(self, batch: tuple[Tensor, Tensor], group: str = "model") -> dict[str, Tensor]:
        """phones: cross-entropy, nats a frame."""
        x, columns = batch
        return {"phones": F.cross_entropy(self.model.logits(x).float(), columns)}

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Nats a frame of what was held out, and the share of frames whose phone is the likeliest."""
        x, columns = self._frames(self.held[:20_000])
        logits = self.model.logits(x).float()
        right = (logits.argmax(-1) == columns).float().mean()
        return {"held-nats": float(F.cross_entropy(logits, columns)), "held-right": float(right)}

    def sample(self, step: int, folder: Path) -> None:
        """Says how often the phone is right."""
        right = self.measure(step, {})["held-right"]
        print(f"step {step}: {100 * right:.1f} % of frames right", file=sys.stderr, flush=True)

    def export(self, folder: Path) -> None:
        """Writes the aligner's folder."""
        self.model.save_pretrained(folder)
