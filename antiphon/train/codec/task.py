"""Trains a codec of any family: reconstruction, adversaries, commitment, semantic distillation.

Which of them, and how much of each, is the recipe's `objective`. Mimi's adversarial-only training is `mel: 0`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn

from antiphon.audio.io import Audio
from antiphon.codecs.families import codec_class
from antiphon.codecs.mini.model import MiniCodec
from antiphon.codecs.semantic.features import load_features
from antiphon.data.speech.augment import Augment, augment, scale_peak
from antiphon.data.speech.utterances import SpeechSet
from antiphon.encoders.base import SpeechFeatures
from antiphon.errors import ConfigError, ModelError
from antiphon.nn.quantize import Quantized
from antiphon.train.checkpoint import has_checkpoint
from antiphon.train.codec.balance import Balancer, weighted
from antiphon.train.codec.discriminators import Discriminators
from antiphon.train.codec.distil import Distillation, pool
from antiphon.train.codec.fit import fit_codec
from antiphon.train.codec.losses import MultiScaleMel, adversarial_losses, discriminator_loss
from antiphon.train.codec.scale import scale_discriminators, scale_to_data
from antiphon.train.config import StageConfig, typed
from antiphon.train.prepare import speech_sets

WAVEFORM_LOSSES = ("mel", "convergence", "wave", "adversarial", "matching")  # balanced against each other
ROOM = Augment(speed=0, reverb=0.5, noise=0.8, snr_db=(8.0, 30.0), telephone=0, muffle=0, level=0, silence=0)
CODE_LOSSES = ("commitment", "codebook", "distillation")  # losses of the codes: they count as they are


@runtime_checkable
class TrainableCodec(Protocol):
    """What `TokenizerTask` needs of a codec (an `nn.Module`, constructed from its config with fresh weights).

    `synthesize(quantized(latents(audio)).latents)` is `decode(encode(audio))`, with gradients all the way through, on
    whole frames of audio. Latents are [batch, frames, dim], of any dim. A codec that has `project_to_teacher(first)`
    maps what its first codebook gives into its teacher's space itself, and keeps that map with its weights
    (SpeechTokenizer). A codec that has `synthesize_guided(latents, target)` makes the sound in training with help from
    the target [batch, channels, samples], and has losses of its own besides, whose names are `auxiliary_losses` (the
    mini codec: its pitch).

    Attributes:
        sample_rate, channels, frame_rate, codebooks, codebook_size: as of any `antiphon.codecs.base.Codec`.
    """

    sample_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, channels, samples] -> [batch, frames, dim], what the quantizer is given."""

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Quantizes with a straight-through gradient; in training mode codebooks that learn by moving averages do so.

        Args:
            latents: [batch, frames, dim].
            used: [batch], how many codebooks each row uses (quantizer dropout); all when None.
        """

    def synthesize(self, latents: Tensor) -> Tensor:
        """[batch, frames, dim] -> audio [batch, channels, about as many samples as went in]."""

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors."""


@dataclass
class TeacherConfig:
    """Whom the first codebook learns from."""

    name: str = "whisper-base"
    """A folder, a hub id, or a part's name, of what `antiphon.codecs.semantic.features.load_features` reads."""
    layer: int | None = None
    """Of it; None for its output."""
    kind: str = "frames"
    """"frames" (Mimi) or "dimensions" (SpeechTokenizer); see `Distillation`."""
    span: float = 1.0
    """Codec frames over which features are averaged; Mimi's is 2."""


@dataclass
class CodecModel:
    """The codec, and who judges it in training."""

    family: str = MISSING
    """A family of codecs ("mimi"), or the import path of a codec's class, "package.module:Class"."""
    codec: dict[str, Any] = field(default_factory=dict)
    """Fields of its config; beside `start` those that are otherwise than there."""
    start: str | None = None
    """A folder of the family to start from; what it lacks, as another config may have it, is fresh."""
    scale: bool = True
    """Whether fresh weights, the discriminators' among them, are scaled on the first batch; see `train.codec.scale`."""
    fit: int = 0
    """Frames on which the mini codec's linear encoder and codebooks are fitted first, 0 for none; one of the sets needs
    its phones' times. With `start` they are fitted anew, and its decoder learns to read them."""
    period: dict[str, Any] | None = None
    """Arguments of the `PeriodDiscriminator`; None for none."""
    stft: dict[str, Any] | None = None
    """Arguments of the `StftDiscriminator`; None for none."""
    patience: int = 0
    """Steps before the discriminators come in."""
    ahead: int = 0
    """Steps that they then learn by themselves, before the codec hears of them."""
    learn: float = 1.0
    """Share of the steps after that in which they learn; EnCodec's is 2/3 at 24 kHz, 1/2 at 48 (section 3.4)."""
    balance: bool = True
    """Whether losses of the waveform are balanced (EnCodec); else their gradients count as they are."""
    mel_windows: tuple[int, ...] = (256, 512, 1024, 2048)
    """Of the mel distance, in samples."""
    mel_bins: tuple[int, ...] = (20, 40, 80, 120)
    """Bins of each."""
    teacher: TeacherConfig | None = None
    """Whom the first codebook learns from; None for nobody."""


@dataclass
class CodecData:
    """The speech that goes through the codec."""

    speech: list[str] = MISSING
    """Recordings, as `antiphon.data.recordings.recordings` takes them; one or several places. Those that are no speech
    sets are copied into the run's folder first, resampled."""
    hours: float | None = None
    """Train on the first hours of each; None for all but the last utterances, which are listened to."""
    seconds: float = 1.0
    """Length of a crop."""
    speed: tuple[float, float] = (1.0, 1.0)
    """Between which factors rows are played faster and so higher, or slower: other throats than the sets have."""
    peak: tuple[float, float] | None = None
    """Between which levels the loudest sample of a row comes to lie, in dB of full scale; None leaves them alone."""
    noisy: float = 0.0
    """Share of rows that the codec is given with a room and noise around them, while what it is to make stays clean."""
    dropout: float = 0.0
    """Share of rows that use only a random number of the first codebooks."""
    skip: float = 0.0
    """Share of rows whose latents go to the decoder unquantized; Mimi's is 0.5."""
    check: int = 12
    """Utterances that `sample` listens to: the first ones that don't train; without `hours`, at most half of each
    set."""


def build_codec(model: CodecModel) -> TrainableCodec:
    """The codec that a recipe asks for.

    Raises:
        ConfigError: no such family, or none that can train, or fields that its config hasn't.
    """
    try:
        family = codec_class(model.family)
        config = typing.get_type_hints(family.__init__)["config"]
    except (ModelError, AttributeError, KeyError, ValueError) as error:
        raise ConfigError(f"model.family {model.family!r} is no codec that trains: {error}") from error
    codec = _started(family, model) if model.start else family(typed(config, model.codec, "model.codec"))
    if not isinstance(codec, TrainableCodec):
        raise ConfigError(f"model.family {model.family!r} can't train: it lacks parts of TrainableCodec")
    return codec


def _started(family: Any, model: CodecModel) -> TrainableCodec:
    """The codec of the folder `model.start`, with other fields where `model.codec` has some."""
    started = family.from_pretrained(model.start)
    if not model.codec:
        return started
    try:
        config = typed(type(started.config), {**dataclasses.asdict(started.config), **model.codec}, "model.codec")
        codec = family(config)
        unknown = codec.load_state_dict(started.state_dict(), strict=False).unexpected_keys
    except (TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"model.codec doesn't go with what model.start holds: {error}") from error
    if unknown:
        raise ConfigError(f"model.codec leaves no place for {unknown[0]} of {model.start}")
    return codec


class TokenizerModel(nn.Module):
    """The codec, and what is needed to train it alone."""

    def __init__(
        self,
        codec: TrainableCodec,
        mel: MultiScaleMel,
        adversary: Discriminators | None,
        distillation: Distillation | None,
        balancer: Balancer | None,
    ):
        super().__init__()
        self.codec, self.mel = codec, mel
        for name, part in (("adversary", adversary), ("distillation", distillation), ("balancer", balancer)):
            if part is not None:
                self.add_module(name, part)


class TokenizerTask:
    """The stage's task; see the Task protocol of the engine.

    Losses, whose weights are the recipe's `objective` (0 when not named there): mel, convergence (`MultiScaleMel`),
    wave (mean absolute difference), adversarial, matching; commitment, codebook, distillation; the codec's own.
    Codebooks that learn by moving averages do so only while the encoder trains.
    """

    Model, Data = CodecModel, CodecData

    def __init__(self, config: StageConfig):
        self.config = config
        self.data: CodecData = config.data
        model: CodecModel = config.model
        self.setup, self.weights = model, config.objective
        codec = build_codec(model)
        named = (*WAVEFORM_LOSSES, *CODE_LOSSES, *getattr(codec, "auxiliary_losses", ()))
        if unknown := sorted(set(self.weights) - set(named)):
            raise ConfigError(f"objective has no {', '.join(unknown)}; there are {', '.join(named)}")
        self.waveform_weights = {name: weight for name, weight in self.weights.items() if name in WAVEFORM_LOSSES}
        gan = any(self.weights.get(name) for name in ("adversarial", "matching"))
        if gan and model.period is None and model.stft is None:
            raise ConfigError("objective asks for adversaries, but model.period and model.stft are null")
        self.teacher: SpeechFeatures | None = None
        distillation = None
        if self.weights.get("distillation"):
            if model.teacher is None:
                raise ConfigError("objective asks for distillation, but model.teacher is null")
            self.teacher = load_features(model.teacher.name, model.teacher.layer).eval()
            self.teacher.requires_grad_(False)
            distillation = Distillation(self._projected_width(codec), self.teacher.width, model.teacher.kind)
        self.model = TokenizerModel(
            codec,
            MultiScaleMel(codec.sample_rate, model.mel_windows, model.mel_bins),
            Discriminators(model.period, model.stft) if gan else None,
            distillation,
            Balancer(self.waveform_weights) if model.balance else None,
        )
        self.optimizer_groups = {"model": ["codec.*"] + (["distillation.*"] if distillation else [])}
        if gan:
            self.optimizer_groups["adversary"] = ["adversary.*"]
        self._a_step = config.accumulate  # batches that the engine takes for one
        if not 0 < self.data.speed[0] <= self.data.speed[1]:
            raise ConfigError(f"data.speed is {tuple(self.data.speed)}: two factors above 0, the lower one first")
        self.speech, self.unseen = self._open()
        if not has_checkpoint(config.out):
            self._prepare()
        self._made: list[tuple[Tensor, Tensor]] = []  # of each accumulated batch, from one group to the other

    def _prepare(self) -> None:
        """What fresh weights are given before any gradient."""
        codec, audio = self.model.codec, self.batch(0)["audio"] if self.setup.scale else None
        if audio is not None and hasattr(self.model, "adversary"):
            scale_discriminators(self.model.adversary, audio)
        start = self.setup.start
        if audio is not None and not start:
            scale_to_data(codec, audio)
        if self.setup.fit:
            if not isinstance(codec, MiniCodec):
                raise ConfigError(f"model.fit is for the mini codec's linear encoder; {self.setup.family} has none")
            fit_codec(codec, self.speech, self.setup.fit, MiniCodec.from_pretrained(start) if start else None)

    def _projected_width(self, codec: TrainableCodec) -> int | None:
        """Width of what the first codebook gives; None where the codec maps it into the teacher's space itself."""
        assert self.teacher is not None
        with torch.no_grad():
            latents = codec.latents(torch.zeros(1, codec.channels, codec.sample_rate))
            if not hasattr(codec, "project_to_teacher"):
                return latents.shape[-1]
            width = codec.project_to_teacher(latents).shape[-1]
        if width != self.teacher.width:
            raise ConfigError(f"the codec expects a teacher of width {width}, this one's is {self.teacher.width}")
        return None

    def _open(self) -> tuple[list[SpeechSet], list[np.ndarray]]:
        """The sets to train on, and utterances that are not in them."""
        codec, sets, unseen = self.model.codec, [], []
        gathered = speech_sets(self.data.speech, codec.sample_rate, self.config.out)
        for whole in gathered:
            hours = self.data.hours
            if hours is None:
                first = len(whole) - min(self.data.check, len(whole) // 2)
                hours = sum(u.duration for u in whole.utterances[:first]) / 3600 - 1e-6
            sets.append(SpeechSet(whole.folder, hours=hours))
            if not sets[-1].duration:
                raise ConfigError(
                    f"data.speech: {whole.folder} holds no utterance to train on; give another, or more hours"
                )
            share = -(-self.data.check // len(gathered))
            for index in range(len(sets[-1]), min(len(sets[-1]) + share, len(whole))):
                unseen.append(self._resampled(whole.samples(index), whole.sample_rate, codec.sample_rate))
        return sets, unseen

    @staticmethod
    def _resampled(samples: np.ndarray, given: int, asked: int) -> np.ndarray:
        return Audio(torch.from_numpy(samples), given).resample(asked).samples.numpy()

    def batch(self, step: int) -> dict[str, Any]:
        rng, codec = np.random.default_rng((self.config.seed, step)), self.model.codec
        rows, levels = self.config.batch, codec.codebooks
        picked = [self.speech[rng.integers(len(self.speech))] for _ in range(rows)]
        crops = [self._crop(speech, rng) for speech in picked]
        used = np.where(rng.random(rows) < self.data.dropout, rng.integers(1, levels + 1, rows), levels)
        skip = torch.from_numpy(rng.random(rows) < self.data.skip)
        audio = self._stack(crops, codec.sample_rate)
        batch = {
            "step": step // self._a_step,
            "audio": audio[:, None].expand(-1, codec.channels, -1),
            "used": torch.from_numpy(used),
            "skip": skip,
        }
        if self.data.noisy:
            noisy = rng.random(rows) < self.data.noisy
            heard = [self._in_a_room(row.numpy(), rng) if there else row for row, there in zip(audio, noisy)]
            batch["given"] = torch.stack(heard)[:, None].expand(-1, codec.channels, -1)
        if self.teacher is not None:
            batch["heard"] = self._stack(crops, self.teacher.sample_rate)
        return batch

    def _crop(self, speech: SpeechSet, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Samples, and the rate at which they are to be heard."""
        (slowest, fastest), rate = self.data.speed, speech.sample_rate
        if (slowest, fastest) != (1.0, 1.0):
            rate = round(rate * math.exp(rng.uniform(math.log(slowest), math.log(fastest))))
        samples = speech.crop(int(self.data.seconds * rate), rng)[0]
        if self.data.peak is not None:
            samples = scale_peak(samples, rng.uniform(*self.data.peak))
        return samples, rate

    def _in_a_room(self, samples: np.ndarray, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(augment(samples, self.model.codec.sample_rate, rng, ROOM))

    def _stack(self, crops: list[tuple[np.ndarray, int]], sample_rate: int) -> Tensor:
        """[rows, samples], of one length though rates were rounded."""
        length = int(self.data.seconds * sample_rate)
        rows = torch.zeros(len(crops), length)
        for row, (samples, rate) in zip(rows, crops):
            heard = torch.from_numpy(self._resampled(samples, rate, sample_rate))[:length]
            row[: len(heard)] = heard
        return rows

    def losses(self, batch: dict[str, Any], group: str) -> dict[str, Tensor]:
        if group == "adversary":
            return self._adversary_losses()
        codec, target = self.model.codec, batch["audio"]
        latents = codec.latents(batch.get("given", target))
        codec.train(latents.requires_grad)
        quantized = codec.quantized(latents, batch["used"])
        given, own = torch.where(batch["skip"][:, None, None], latents, quantized.latents), {}
        if hasattr(codec, "synthesize_guided"):
            made, own = codec.synthesize_guided(given, target)
        else:
            made = codec.synthesize(given)
        length = min(made.shape[-1], target.shape[-1])
        made, target = made[..., :length].float(), target[..., :length]
        sounds = self._waveform_losses(made, target, batch["step"])
        codes = {"commitment": quantized.commitment, "codebook": quantized.codebook, **own}
        if self.teacher is not None:
            codes["distillation"] = self._distilled(quantized.first, batch["heard"])
        codes = {name: loss for name, loss in codes.items() if loss.requires_grad and self.weights.get(name)}
        balance = getattr(self.model, "balancer", None)
        audio = balance(sounds, made) if balance is not None else weighted(sounds, self.waveform_weights, made)
        return {name: loss.detach() for name, loss in sounds.items()} | codes | {"audio": audio}

    def _waveform_losses(self, made: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of the audio [batch, channels, samples]."""
        mel, convergence = self.model.mel(made.flatten(0, 1), target.flatten(0, 1))
        losses = {"mel": mel, "convergence": convergence, "wave": (made - target).abs().mean()}
        if hasattr(self.model, "adversary"):
            if not self.skips_update(step, "adversary"):
                self._made.append((made.detach(), target))
            if step >= self.setup.patience + self.setup.ahead:
                with torch.no_grad():
                    real = self.model.adversary(target)
                losses |= adversarial_losses(self.model.adversary(made), real)
        return losses

    def _adversary_losses(self) -> dict[str, Tensor]:
        made, target = self._made.pop(0)
        fake, real = self.model.adversary(made)[0], self.model.adversary(target)[0]
        return {"discriminator": discriminator_loss(fake, real)}

    def skips_update(self, step: int, group: str) -> bool:
        """Whether a group takes no step: the discriminators until their time has come, and in some of those in which
        the codec learns from them."""
        if group != "adversary":
            return False
        together, share = step - self.setup.patience - self.setup.ahead, self.setup.learn
        if together < 0:
            return step < self.setup.patience
        return math.floor((together + 1) * share) == math.floor(together * share)

    def _distilled(self, first: Tensor, audio: Tensor) -> Tensor:
        """The distillation loss of [batch, frames, dim] against what the teacher hears in [batch, samples]."""
        assert self.teacher is not None
        self.teacher.to(audio.device)
        first = self.model.codec.project_to_teacher(first) if hasattr(self.model.codec, "project_to_teacher") else first
        with torch.no_grad():
            features = self.teacher(audio)[0]
            rate = self.model.codec.frame_rate
            features = pool(features, self.teacher.frame_rate, rate, first.shape[1], self.setup.teacher.span)
        return self.model.distillation(first, features)

    def sample(self, step: int, folder: Path) -> None:
        """Unseen utterances through the codec: the first three as wav, and scores, also as a line of scores.jsonl."""
        if not self.unseen:
            about = "data.hours takes all utterances" if self.data.hours is not None else "no utterance is kept apart"
            print(f"sample {step}: nothing to listen to, {about}; give more speech or fewer hours", flush=True)
            return
        from pystoi import stoi

        folder.mkdir(parents=True, exist_ok=True)
        codec, scores, distances, codes = self.model.codec, [], [], []
        device = next(codec.parameters()).device
        for index, samples in enumerate(self.unseen):
            audio = torch.from_numpy(samples).to(device)[None, None].expand(1, codec.channels, -1)
            codes.append(codec.encode(audio)[0])
            made = codec.decode(codes[-1][None])
            length = min(made.shape[-1], audio.shape[-1])
            made, audio = made[0, :, :length].float(), audio[0, :, :length]
            distances.append(float(self.model.mel(made, audio)[0]))
            scores.append(stoi(audio.mean(0).cpu().numpy(), made.mean(0).cpu().numpy(), codec.sample_rate))
            if index < 3:
                Audio(made.cpu(), codec.sample_rate).save(folder / f"{step:06d}-{index}.wav")
        together = torch.cat(codes, -1)
        figures = {
            "step": step,
            "stoi": round(float(np.mean(scores)), 4),
            "mel": round(float(np.mean(distances)), 4),
            "codes": [len(level.unique()) for level in together],
            "frames": together.shape[-1],
        }
        with (folder / "scores.jsonl").open("a") as file:
            file.write(json.dumps(figures) + "\n")
        print(f"sample {step}: {figures}", flush=True)

    def export(self, folder: Path) -> None:
        self.model.codec.save_pretrained(folder)
