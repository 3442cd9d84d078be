"""Trains what makes sound of units: how long each lasts, and which vectors of a codec they are.

Units and codes are of the same recordings, made by `antiphon tokenize` twice. Vectors are told by their squared
distance, of which one is what telling their mean would cost; durations by their likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon.data.codes import CodeSet
from antiphon.data.formats.sources import is_held_out
from antiphon.data.tokenize.encode import open_codec, tokenized
from antiphon.errors import ConfigError
from antiphon.models.speech_lm.vocoder import UnitVocoder, UnitVocoderConfig, frame_ends
from antiphon.train.config import Measures, StageConfig

SAMPLES = 4
MEASURED = 64  # recordings, at most
NONE = -1


@dataclass
class VocoderModel:
    """Its size, see `UnitVocoderConfig`."""

    codec: str = "mini"
    """Whose codes are told: a name, a folder or a hub id."""
    width: int = 256
    """Of both networks."""
    depth: int = 4
    """Blocks at each rate."""


@dataclass
class VocoderData:
    """The same recordings as units and as codes."""

    units: str = MISSING
    """A set of units (`antiphon tokenize`)."""
    codes: str = MISSING
    """A set of codes of the same recordings, or where these are."""
    seconds: float = 4.0
    """Of a crop."""
    held_out: int = 50
    """One recording in so many is kept apart, by its id, and measured; 0 for none."""


class UnitVocoderTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = VocoderModel, VocoderData

    def __init__(self, config: StageConfig):
        model, data = config.model, config.data
        self.config, self.codec = config, open_codec(model.codec)
        self.units = CodeSet(data.units)
        self.codes = tokenized(data.codes, self.codec, model.codec, Path(config.out) / "codes", resumed=True)
        if self.units.info.codebooks != 1:
            raise ConfigError(f"data.units: {data.units} has {self.units.info.codebooks} codebooks; units have one")
        places = {row.id: place for place, row in enumerate(self.codes.rows)}
        both = [(at, places[row.id]) for at, row in enumerate(self.units.rows) if row.id in places and row.length]
        ids = [self.units.rows[at].id for at, _ in both]
        self.pairs = [pair for pair, name in zip(both, ids) if not is_held_out(name, data.held_out)]
        self.held = [pair for pair, name in zip(both, ids) if is_held_out(name, data.held_out)][:MEASURED]
        if not self.pairs:
            raise ConfigError(
                f"{data.units} and {data.codes} share no recording: tokenize the same ones with both codecs"
            )
        info, books = self.units.info, self.codec.codebook_vectors()
        self.model = UnitVocoder(
            UnitVocoderConfig(
                info.codebook_size, info.frame_rate, info.fingerprint, model.codec, self.codes.info.fingerprint,
                float(self.codec.frame_rate), books[0].shape[1], model.width, model.depth,
            )
        )  # fmt: skip
        self.books = [book.detach().float() for book in books]
        self.variance = float(torch.cat([self.vectors(place) for _, place in self.pairs[:100]]).var(0).mean())

    def vectors(self, place: int) -> Tensor:
        """What the codec's codes of a recording stand for, [frames, latent]."""
        codes = torch.from_numpy(self.codes[place])
        return torch.stack([book[row] for book, row in zip(self.books, codes)]).sum(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops, drawn by the seed and the step alone: units [batch, n], -1 where none is, and the codec's vectors
        [batch, frames, latent]."""
        return self._crops(self.pairs, step)

    def _crops(self, pairs: Sequence[tuple[int, int]], step: int) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng([self.config.seed, step])
        chosen = (pairs[each] for each in draw.integers(len(pairs), size=self.config.batch))
        rate, frame_rate = self.model.config.unit_rate, self.model.config.frame_rate
        frames = int(self.config.data.seconds * frame_rate)
        length = int(np.ceil(frames * rate / frame_rate))
        rows, targets = [], []
        for at, place in chosen:
            units, vectors = torch.from_numpy(self.units[at][0]), self.vectors(place)
            first = int(draw.integers(max(1, len(vectors) - frames + 1)))
            vectors = vectors[first : first + frames]
            start = round(first * rate / frame_rate)
            row = units[start : start + length]
            rows.append(F.pad(row, (0, length - len(row)), value=NONE))
            targets.append(F.pad(vectors, (0, 0, 0, frames - len(vectors)), value=float("nan")))
        return torch.stack(rows), torch.stack(targets)

    def losses(self, batch: tuple[Tensor, Tensor], group: str = "model") -> dict[str, Tensor]:
        """sound: squared distance of the vectors over their variance; duration: nats a unit."""
        units, vectors = batch
        told, there = self.model.latents(units)[:, : vectors.shape[1]], ~vectors[..., 0].isnan()
        ends = frame_ends(units.shape[1], self.model.config.unit_rate, self.model.config.frame_rate, units.device)
        there &= units[:, ends[: vectors.shape[1]]] != NONE
        distance = (told - vectors.nan_to_num())[there].float().square().mean() / self.variance
        each, lasts = deduplicated(units, self.model.config.longest)
        logits = self.model.durations(each)
        duration = F.cross_entropy(logits.flatten(0, 1).float(), (lasts - 1).flatten(), ignore_index=NONE - 1)
        return {"sound": distance, "duration": duration}

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """The losses on what was kept apart."""
        found = self.losses(self._crops(self.held, 0)) if self.held else {}
        return {name: float(value) for name, value in found.items()}

    def sample(self, step: int, folder: Path) -> None:
        """Some recordings that were kept apart, from their units alone and by the codec."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (at, place) in enumerate(self.held[:SAMPLES]):
            runs = self.units[at][0]
            runs = runs[np.r_[True, runs[1:] != runs[:-1]]]
            made = self.model.speak(runs), self.codec.decode(torch.from_numpy(self.codes[place])[None])[0].mean(0)
            for name, sound in zip((f"{step:06d}-{number}", f"codec-{number}"), made):
                soundfile.write(folder / f"{name}.wav", sound.detach().cpu().numpy(), self.codec.sample_rate)

    def export(self, folder: Path) -> None:
        """Writes the vocoder's folder."""
        self.model.save_pretrained(folder)


def deduplicated(units: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Each run of equal units once, and how long it is.

    Args:
        units: [batch, n], -1 where none is.
        longest: a run that is longer is several.

    Returns:
        units and lengths [batch, most], -1 behind a row's end; lengths are -1 too of a row's first and last run, which
        the crop has cut.
    """
    rows: list[list[tuple[int, int]]] = []
    for row in units.tolist():
        runs: list[list[int]] = []
        for unit in row:
            if unit == NONE:
                break
            if runs and runs[-1][0] == unit and runs[-1][1] < longest:
                runs[-1][1] += 1
            else:
                runs.append([unit, 1])
        rows.append([(unit, NONE if at in (0, len(runs) - 1) else count) for at, (unit, count) in enumerate(runs)])
    most = max(map(len, rows))
    filled = torch.tensor([row + [(NONE, NONE)] * (most - len(row)) for row in rows], device=units.device)
    return filled[..., 0], filled[..., 1]
