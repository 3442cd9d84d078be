"""Fits the cluster centres of semantic tokens (antiphon.codecs.semantic.kmeans) by mini-batch k-means.

A step of the engine is a step of scikit-learn's `MiniBatchKMeans` over the features of a batch of speech: the centres
are its own, the engine's optimizer has nothing to do (recipes set its learning rate to 0), and a run can be watched,
stopped and taken up again like any other. The settings are those of HuBERT's targets (Hsu et al. 2021, section IV-A):
k-means++, big batches, no centre replaced later.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
import torch.distributed as dist
from omegaconf import MISSING
from torch import Tensor, nn

from antiphon.codecs.semantic.features import load_features
from antiphon.codecs.semantic.kmeans import compared, save_centroids
from antiphon.data.speech.utterances import SpeechSet
from antiphon.encoders.base import SpeechFeatures, length_mask
from antiphon.errors import ConfigError
from antiphon.nn.quantize import nearest
from antiphon.train.codec.directions import phone_directions
from antiphon.train.config import StageConfig
from antiphon.train.prepare import speech_sets


class Centroids(nn.Module):
    """What a checkpoint holds: the centres [codes, width or directions], how many frames each has been given [codes],
    what the features are multiplied with [width], and in which directions they are compared [width, directions]."""

    def __init__(self, size: int, width: int, directions: int = 0):
        super().__init__()
        self.centroids = nn.Parameter(torch.zeros(size, directions or width))
        self.register_buffer("counts", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("directions", torch.zeros(width, directions) if directions else None)


@dataclass
class KMeansModel:
    """Which features are clustered, and how."""

    features: str = MISSING
    """A part's name, folder or hub id of an encoder."""
    layer: int | None = None
    """Of it; None for its output."""
    codes: int = 500
    """Cluster centres."""
    tries: int = 3
    """Starts of k-means++, of which the best is taken."""
    standardise: bool = False
    """Bring each feature to unit variance first: in the inner layers of Whisper and of large models a few are a hundred
    times the others, and would be all that counts."""
    directions: int = 0
    """Compare features in so many directions alone, those in which phones differ most (`phone_directions`): codes then
    tell less of the voice and more of the words. Needs speech with the times of its phones; 0 compares all there is."""
    directed_by: int = 400
    """Utterances that the directions are found from."""
    duration_penalty: float = 0.0
    """What a change of code costs the finished tokenizer, in squared distance: codes last longer, and a sentence has
    fewer of them; the centres don't depend on it."""


@dataclass
class KMeansData:
    """The speech whose features are clustered."""

    speech: list[str] = MISSING
    """Recordings, as `antiphon.data.recordings.recordings` takes them; one or several places."""
    hours: float | None = None
    """Use only the first hours of each."""
    seconds: float = 4.0
    """Of speech in a crop; `batch` of them make a step and must give more frames than there are codes."""


class KMeansTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = KMeansModel, KMeansData

    def __init__(self, config: StageConfig):
        model, data = config.model, config.data
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise ConfigError("k-means runs in one process: start it without torchrun (a larger batch hears more)")
        if model.standardise and model.directions:
            raise ConfigError(
                "model.standardise does nothing to directions, which have a scale of their own: leave it out"
            )
        if model.duration_penalty < 0:
            raise ConfigError(f"model.duration_penalty is {model.duration_penalty}; it must be 0 or more")
        self.config, self.codes = config, model.codes
        self.name, self.layer = model.features, model.layer
        self.features: SpeechFeatures = load_features(self.name, self.layer)
        places = speech_sets(data.speech, self.features.sample_rate, config.out)
        self.sets = [SpeechSet(each.folder, hours=data.hours) for each in places]
        for speech in self.sets:
            if not speech.duration:
                raise ConfigError(f"data.speech: {speech.folder} holds no utterance; make speech there first")
        self.seconds = data.seconds
        frames = int(config.batch * self.seconds * self.features.frame_rate)
        if frames < 2 * self.codes:
            raise ConfigError(
                f"a batch of {frames} frames is too few for {self.codes} codes: raise batch or data.seconds"
            )
        self.model = Centroids(self.codes, self.features.width, model.directions)
        self.kmeans: Any = None

    def batch(self, step: int) -> dict[str, Tensor]:
        """Crops of speech, drawn by the seed and the step alone: audio [batch, samples] and lengths [batch]."""
        generator, crops, lengths = np.random.default_rng([self.config.seed, step]), [], []
        for _ in range(self.config.batch):
            speech = self.sets[generator.integers(len(self.sets))]
            crop, length = speech.crop(int(self.seconds * speech.sample_rate), generator)
            crops.append(soxr.resample(crop, speech.sample_rate, self.features.sample_rate).astype(np.float32))
            lengths.append(length * self.features.sample_rate // speech.sample_rate)
        size = max(map(len, crops))
        crops = [np.pad(crop, (0, size - len(crop))) for crop in crops]
        return {"audio": torch.from_numpy(np.stack(crops)), "lengths": torch.tensor(lengths).clamp_max(size)}

    @torch.no_grad()
    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """The features of a batch's sounding frames, scaled [n, width], or in the directions [n, directions]."""
        values, counts = self.features(batch["audio"], batch["lengths"])
        return compared(values[length_mask(counts, values.shape[1])], self.model.scale, self.model.directions)

    def losses(self, batch: dict[str, Tensor], group: str = "model") -> dict[str, Tensor]:
        """Moves the centres; distance: the share of the frames' variance that the centres (after that) don't tell."""
        if isinstance(self.features, nn.Module):
            self.features.to(batch["audio"].device)
        if self.model.training and self.model.directions is not None and not bool(self.model.counts.any()):
            wanted, seed, device = self.config.model, self.config.seed, batch["audio"].device
            self.model.directions.copy_(
                phone_directions(self.features, self.sets, wanted.directions, wanted.directed_by, seed, device)
            )
        frames = self.frames(batch)
        if self.model.training:
            if self.config.model.standardise and not bool(self.model.counts.any()):
                self.model.scale.copy_(1 / frames.std(0).clamp_min(1e-8))
                frames = frames * self.model.scale
            self._move(frames)
        centres = self.model.centroids
        distance = (frames - centres[nearest(frames, centres.detach())]).square().mean()
        return {"distance": distance / (frames - frames.mean(0)).square().mean()}

    def _move(self, frames: Tensor) -> None:
        """One step of mini-batch k-means."""
        if self.kmeans is None:
            self.kmeans = self._estimator(frames)
        self.kmeans.partial_fit(frames.cpu().numpy())
        with torch.no_grad():
            self.model.centroids.copy_(torch.from_numpy(self.kmeans.cluster_centers_))
            self.model.counts.copy_(torch.from_numpy(self.kmeans._counts))

    def _estimator(self, frames: Tensor) -> Any:
        """scikit-learn's, fresh or where the checkpoint stands."""
        try:
            from sklearn.cluster import MiniBatchKMeans
        except ImportError as error:
            raise ConfigError("k-means needs scikit-learn: pip install 'antiphon[semantic]'") from error
        if not bool(self.model.counts.any()):
            if len(frames) < self.codes:
                raise ConfigError(
                    f"a batch has only {len(frames)} frames of speech for {self.codes} codes: raise batch (recordings "
                    "shorter than data.seconds fill less of it), or lower model.codes"
                )
            tries = self.config.model.tries
            return MiniBatchKMeans(
                self.codes, init="k-means++", n_init=tries, reassignment_ratio=0.0, random_state=self.config.seed
            )
        centres = self.model.centroids.detach().cpu().numpy()
        kmeans = MiniBatchKMeans(self.codes, init=centres, n_init=1, reassignment_ratio=0.0, random_state=0)
        # Its first step sets the counts to zero: let it take one, then put back centres and counts.
        kmeans.partial_fit(frames.cpu().numpy())
        kmeans.cluster_centers_ = centres.copy()
        kmeans._counts = self.model.counts.cpu().numpy().astype(kmeans._counts.dtype)
        return kmeans

    def sample(self, step: int, folder: Path) -> None:
        """Says how evenly the codes are used, over one batch of other speech."""
        frames = self.frames(self.batch(1_000_000 + step))
        codes = nearest(frames, self.model.centroids)
        share = torch.bincount(codes, minlength=self.codes).double() / len(codes)
        perplexity = float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
        used = f"{int((share > 0).sum())} of {self.codes} codes in use"
        print(f"step {step}: {used}, perplexity {perplexity:.0f}", file=sys.stderr, flush=True)

    def export(self, folder: Path) -> None:
        """Writes the tokenizer's folder."""
        penalty = self.config.model.duration_penalty
        args = (self.model.centroids, self.model.scale, folder, self.name, self.layer, self.model.directions, penalty)
        save_centroids(*args)
