"""Stages of token2wav: the DiT by flow matching, the vocoder against discriminators.

A line has the `codes` of a recording, 50 a second, its file as `audio`, and for the DiT the `speaker` whose vector is
in spk_dict.pt; without one, the recording's own spectrogram tells who speaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn

from antiphon.audio.given import as_audio
from antiphon.errors import ConfigError, DataError
from antiphon.models.omni import weights
from antiphon.models.omni.dit import DiT
from antiphon.models.omni.vocoder import spectrogram
from antiphon.train.codec.discriminators import Discriminators
from antiphon.train.codec.losses import MultiScaleMel, adversarial_losses, discriminator_loss
from antiphon.train.config import StageConfig
from antiphon.train.objectives.flow import between, velocity_loss
from antiphon.train.omni.start import Conversations, OmniStart, build


@dataclass
class WaveData:
    """What is sounded."""

    speech: str = MISSING
    """File with a line a recording."""
    codes: int = 120
    """Length of a crop."""
    reference: int = 300
    """Spectrogram frames of the same recording that tell who speaks."""
    dropped: float = 0.2
    """Share of rows whose speaker is left out, and of those whose codes are: what guidance leads away from."""


class Recordings:
    """Crops of recordings with their codes."""

    def __init__(self, config: StageConfig, sample_rate: int):
        self.config, self.rate, self.lines = config, sample_rate, Conversations(config.data.speech)
        self._samples = lru_cache(maxsize=64)(self._read)

    def _read(self, path: str) -> Tensor:
        return as_audio(path).mono().resample(self.rate).samples

    def crop(self, rng: np.random.Generator, count: int) -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
        """A line, `count` of its codes, their samples, and all of its samples; the last ones are repeated where there
        are fewer."""
        line = self.lines[int(rng.integers(len(self.lines)))]
        if "audio" not in line or not line.get("codes"):
            raise DataError(f"{self.config.data.speech}: a line lacks audio or codes")
        codes, samples, hop = torch.tensor(line["codes"]), self._samples(line["audio"]), self.rate // 50
        usable = min(len(codes), len(samples) // hop)
        if usable < 1:
            raise DataError(f"{line['audio']} is shorter than a code")
        start = int(rng.integers(max(1, usable - count + 1)))
        at = torch.arange(start, start + count).clamp_max(usable - 1)
        return line, codes[at], samples[: usable * hop].view(usable, hop)[at].flatten(), samples[: usable * hop]


class FlowTask:
    """Trains the DiT; see the Task protocol of the engine."""

    Model, Data = OmniStart, WaveData

    def __init__(self, config: StageConfig):
        self.config = config
        self.model = build(config.model)
        if self.model.token2wav is None:
            raise ConfigError("model: it has no part that makes sound")
        self.recordings = Recordings(config, self.model.sample_rate)

    def batch(self, step: int) -> dict[str, Tensor]:
        """codes [batch, C], mel [batch, frames, mel], reference, speaker, and what chance says: noise, time, drops."""
        rng, data, vocoder = (
            np.random.default_rng((self.config.seed, step)),
            self.config.data,
            self.model.config.vocoder,
        )
        rows = []
        for _ in range(self.config.batch):
            line, codes, samples, whole = self.recordings.crop(rng, data.codes)
            mel = spectrogram(samples[None], vocoder, self.recordings.rate)[0].T
            own = spectrogram(whole[None], vocoder, self.recordings.rate)[0].T
            start = int(rng.integers(max(1, len(own) - data.reference + 1)))
            at = torch.arange(start, start + data.reference) % len(own)
            width = self.model.config.dit.enc_emb_dim
            known = line.get("speaker") in self.model.voices
            speaker = self.model.voices[line["speaker"]].vector[0] if known else torch.zeros(width)
            rows.append({"codes": codes, "mel": mel, "reference": own[at], "speaker": speaker})
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        chance = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        count = self.config.batch
        return stacked | {
            "noise": torch.randn(stacked["mel"].shape, generator=chance),
            "time": torch.rand(count, generator=chance),
            "no_voice": torch.rand(count, generator=chance) < data.dropped,
            "no_codes": torch.rand(count, generator=chance) < data.dropped,
        }

    def losses(self, batch: dict[str, Tensor], group: str = "model") -> dict[str, Tensor]:
        """`flow`: squared error of the velocity."""
        return {"flow": flow_loss(self.model.token2wav.dit, batch)}

    def sample(self, step: int, folder: Path) -> None:
        """Sounds are made by the model that is exported."""

    def export(self, folder: Path) -> None:
        """Writes the whole model, as it is published."""
        weights.save(self.model, folder)


def flow_loss(dit: DiT, batch: dict[str, Tensor]) -> Tensor:
    """Squared error of the velocity at a time of each row; see `FlowTask.batch`."""
    voice = dit.voice(batch["speaker"], batch["reference"], batch["no_voice"])
    condition = dit.condition(batch["codes"], voice, batch["no_codes"])
    x, velocity = between(batch["noise"], batch["mel"], batch["time"])
    return velocity_loss(dit(x, dit.modulation(batch["time"]), condition)[0], velocity)


@dataclass
class VocoderStart(OmniStart):
    """The model, and who judges it in training."""

    period: dict[str, Any] | None = field(default_factory=dict)
    """Arguments of the `PeriodDiscriminator`; None for none."""
    stft: dict[str, Any] | None = field(default_factory=dict)
    """Arguments of the `StftDiscriminator`; None for none."""


class VocoderModel(nn.Module):
    """The model, and what is needed to train its vocoder alone."""

    def __init__(self, omni: nn.Module, judges: Discriminators, mel: MultiScaleMel):
        super().__init__()
        self.omni, self.adversary, self.mel = omni, judges, mel


class VocoderTask:
    """Trains the vocoder on spectrograms of recordings; see the Task protocol of the engine."""

    Model, Data = VocoderStart, WaveData
    optimizer_groups = {"model": ["omni.token2wav.vocoder.*"], "adversary": ["adversary.*"]}

    def __init__(self, config: StageConfig):
        self.config = config
        omni = build(config.model)
        if omni.token2wav is None:
            raise ConfigError("model: it has no part that makes sound")
        judges = Discriminators(config.model.period, config.model.stft)
        self.model = VocoderModel(omni, judges, MultiScaleMel(omni.sample_rate))
        self.recordings = Recordings(config, omni.sample_rate)
        self._made: list[tuple[Tensor, Tensor]] = []  # of each accumulated batch, from one group to the other

    def batch(self, step: int) -> Tensor:
        """Crops [batch, samples]."""
        rng = np.random.default_rng((self.config.seed, step))
        return torch.stack([self.recordings.crop(rng, self.config.data.codes)[2] for _ in range(self.config.batch)])

    def losses(self, batch: Tensor, group: str = "model") -> dict[str, Tensor]:
        """`mel` and `convergence` (`MultiScaleMel`), `adversarial`, `matching`; of the judges, `judge`."""
        if group == "adversary":
            made, target = self._made.pop(0)
            return {"judge": discriminator_loss(self.model.adversary(made)[0], self.model.adversary(target)[0])}
        omni = self.model.omni
        mel = spectrogram(batch, omni.config.vocoder, omni.sample_rate)
        made = omni.token2wav.vocoder(mel)
        self._made.append((made.detach(), batch))
        distance, convergence = self.model.mel(made, batch)
        with torch.no_grad():
            real = self.model.adversary(batch)
        judged = adversarial_losses(self.model.adversary(made), real)
        return {"mel": distance, "convergence": convergence, **judged}

    def sample(self, step: int, folder: Path) -> None:
        """Sounds are made by the model that is exported."""

    def export(self, folder: Path) -> None:
        """Writes the whole model, as it is published."""
        weights.save(self.model.omni, folder)
