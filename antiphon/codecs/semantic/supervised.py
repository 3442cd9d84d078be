"""Semantic tokens from speech recognition: Whisper's encoder with a quantizer in its middle.

What the quantizer lets through must suffice for the rest of the encoder and Whisper's decoder to write down what was
said, so the codes keep the words and drop the voice: the S3 tokens of CosyVoice (Du et al. 2024, section 2.1; FSQ from
CosyVoice 2 on) and the tokenizer of GLM-4-Voice (Zeng et al. 2024, section 3.1: average pooling to 12.5 frames/s before
the quantizer). Training is `antiphon.train.codec.supervised`.

    tokenizer = SupervisedTokenizer.from_pretrained(folder)
    codes = tokenizer.encode(audio)                    # [batch, 1, frames]
    features = tokenizer.features(codes)               # [batch, 50 a second, width]: what the words are read from
    features, frames = tokenizer.continuous(samples)   # the same without the quantizer, for adapters
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import SAMPLE_RATE
from antiphon.encoders.base import FRAME_SAMPLES, length_mask
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.encoders.whisper.features import WhisperFeatures, whisper_mel
from antiphon.errors import ModelError
from antiphon.nn.quantize import FSQ, Codebook, nearest
from antiphon.nn.weights import misfit

FAMILY = "supervised"
_TRAINING = (".usage", ".total", ".ready")  # averages of the codebook, which matter to training alone


@dataclass
class SupervisedConfig:
    """Sizes of the tokenizer.

    Attributes:
        width, layers, heads, inner, bands, positions: of Whisper's encoder.
        layer: the quantizer stands behind so many layers.
        pool: frames of the encoder (50 a second) that are averaged into one code.
        quantizer: "vq" (a codebook with moving averages) or "fsq" (a fixed grid).
        dim, codebook_size: width and number of the codes of a "vq".
        levels: of each dimension of an "fsq".
        restore: repeat each code to the encoder's own rate before the layers behind it, which then need little
            training; else they and the decoder go on at the codes' rate, as in GLM-4-Voice.
        block: frames of the encoder in a block that doesn't see later ones, 0 for no such limit.
    """

    width: int = 512
    layers: int = 6
    heads: int = 8
    inner: int = 2048
    bands: int = 80
    positions: int = 1500
    layer: int = 3
    pool: int = 4
    quantizer: str = "vq"
    dim: int = 256
    codebook_size: int = 1024
    levels: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 3, 3)
    restore: bool = True
    block: int = 0

    def __post_init__(self) -> None:
        self.levels = tuple(self.levels)
        if self.quantizer not in ("vq", "fsq"):
            raise ModelError(f"quantizer is {self.quantizer!r}; choose vq or fsq")
        if not 0 < self.layer <= self.layers:
            raise ModelError(f"layer is {self.layer}; this Whisper has 1 to {self.layers}")
        if self.pool < 1 or self.positions % self.pool or self.block % self.pool:
            raise ModelError(
                f"pool is {self.pool}; it must divide {self.positions} positions and a block of {self.block} frames"
            )


class Bottleneck(nn.Module):
    """A quantizer between two linear maps.

    Args:
        config: quantizer and its sizes.
    """

    def __init__(self, config: SupervisedConfig):
        super().__init__()
        fsq = config.quantizer == "fsq"
        self.quantizer = FSQ(config.levels) if fsq else Codebook(config.codebook_size, config.dim)
        dim = len(config.levels) if fsq else config.dim
        self.inward = nn.Linear(config.width, dim)
        self.outward = nn.Linear(dim, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantizes with a straight-through gradient.

        Args:
            x: [batch, frames, width].
            mask: [batch, frames], True where there is sound: the codebook learns from these alone.

        Returns:
            [batch, frames, width], codes [batch, frames] (0 where there is no sound), commitment loss (mean squared
            distance to the codes; 0 for FSQ).
        """
        inner = self.inward(x).float()
        heard = inner[mask]
        with torch.autocast(x.device.type, enabled=False):  # the nearest code is a matter of small differences
            quantized, index = self.quantizer(heard)
        if isinstance(self.quantizer, FSQ):
            commitment = heard.new_zeros(())
        else:
            commitment = (heard - quantized.detach()).square().mean()
            quantized = heard + (quantized - heard).detach()
        codes = index.new_zeros(mask.shape).masked_scatter(mask, index)
        values = torch.zeros_like(inner).masked_scatter(mask[..., None], quantized)
        return self.outward(values.to(x.dtype)), codes, commitment

    def encode(self, x: Tensor) -> Tensor:
        """[batch, frames, width] -> codes [batch, frames]."""
        inner = self.inward(x).float().flatten(0, 1)
        fsq = isinstance(self.quantizer, FSQ)
        index = self.quantizer(inner)[1] if fsq else nearest(inner, self.quantizer.codes)
        return index.view(x.shape[:2])

    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, frames] -> [batch, frames, width]."""
        fsq = isinstance(self.quantizer, FSQ)
        return self.outward(self.quantizer.vectors(codes) if fsq else F.embedding(codes, self.quantizer.codes))


class SupervisedTokenizer(nn.Module):
    """Waveform to one code a frame; a `Tokenizer` (antiphon.codecs.base) at 16 kHz.

    The encoder's positions are taken out before the quantizer and added again behind it: codes say what, not when.

    Args:
        config: sizes.
    """

    sample_rate, channels, codebooks = SAMPLE_RATE, 1, 1

    def __init__(self, config: SupervisedConfig):
        super().__init__()
        self.config = config
        names = [field.name for field in dataclasses.fields(EncoderConfig)]
        sizes = {name: value for name, value in dataclasses.asdict(config).items() if name in names}
        self.encoder = WhisperBlockEncoder(EncoderConfig(**{**sizes, "block": config.positions, "right": 0}))
        self.bottleneck = Bottleneck(config)

    @classmethod
    def from_whisper(cls, folder: Path | str, **sizes: object) -> SupervisedTokenizer:
        """A tokenizer that is to be trained: Whisper's weights, a fresh quantizer.

        Args:
            folder: Whisper's (see `WhisperBlockEncoder.from_pretrained`).
            sizes: fields of SupervisedConfig that aren't the encoder's.
        """
        encoder = WhisperBlockEncoder.from_pretrained(folder)
        ours = {field.name for field in dataclasses.fields(SupervisedConfig)}
        shape = {name: value for name, value in dataclasses.asdict(encoder.config).items() if name in ours - {"block"}}
        try:
            tokenizer = cls(SupervisedConfig(**{**shape, **sizes}))
        except TypeError as error:
            raise ModelError(f"the tokenizer has no such size ({error})") from None
        tokenizer.encoder.load_state_dict(encoder.state_dict())
        return tokenizer

    @property
    def frame_rate(self) -> float:
        return SAMPLE_RATE / (FRAME_SAMPLES * self.config.pool)

    @property
    def codebook_size(self) -> int:
        return self.bottleneck.quantizer.size

    def stem(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder's first layer gets: at most 30 s of audio [batch, samples], lengths [batch] in samples ->
        [batch, frames, width], frames of the encoder in each row [batch]."""
        return self.encoder.embed(whisper_mel(audio, lengths, self.config.bands)), -(-lengths // FRAME_SAMPLES)

    def below(self, x: Tensor, frames: Tensor, first: int, last: int) -> Tensor:
        """Layers `first` to `last` - 1 of the encoder, over [batch, frames, width] and `frames` of each row [batch]."""
        return self.encoder.run(x, frames, first, last, self.config.block)

    def pooled(self, x: Tensor, frames: Tensor) -> Tensor:
        """What the layers below the quantizer give [batch, frames, width], without positions and averaged: [batch,
        frames of codes, width]."""
        pool, there = self.config.pool, length_mask(frames, x.shape[1])[:, :, None].to(x.dtype)
        x = (x - self.encoder.embed_positions.weight[: x.shape[1]]) * there
        x = F.pad(x, (0, 0, 0, -x.shape[1] % pool)).unflatten(1, (-1, pool))
        count = F.pad(there, (0, 0, 0, -there.shape[1] % pool)).unflatten(1, (-1, pool)).sum(2)
        return x.sum(2) / count.clamp_min(1)

    def lower(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the quantizer gets: at most 30 s of audio [batch, samples], lengths [batch] in samples -> averages
        [batch, frames, width], frames of the encoder (not of codes) in each row [batch]."""
        x, frames = self.stem(audio, lengths)
        return self.pooled(self.below(x, frames, 0, self.config.layer), frames), frames

    def upper(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the quantizer: [batch, frames of codes, width] and `lower`'s frames -> the encoder's output
        [batch, frames, width] and its frames in each row [batch]."""
        encoder, longest = self.encoder, int(frames.max())
        block = self.config.block
        if self.config.restore:
            x = x.repeat_interleave(self.config.pool, 1)[:, :longest]
        else:
            frames, block = -(-frames // self.config.pool), block // self.config.pool
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        return encoder.layer_norm(encoder.run(x, frames, self.config.layer, None, block)), frames

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Through the quantizer, differentiable: at most 30 s of audio [batch, samples], lengths [batch] -> the
        encoder's output [batch, frames, width], its frames [batch], codes [batch, frames of codes], commitment."""
        x, frames = self.lower(audio, lengths)
        x, codes, commitment = self.bottleneck(x, length_mask(-(-frames // self.config.pool), x.shape[1]))
        return *self.upper(x, frames), codes, commitment

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, 1, samples] -> what the quantizer gets [batch, frames, width]."""
        return self._in_windows(_samples(audio), None)[0]

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, 1, samples] -> codes [batch, 1, frames]. A last frame that isn't full averages what there is.

        Every 30 s the encoder starts afresh, as Whisper does.
        """
        if codebooks not in (None, 1):
            raise ValueError(f"codebooks is {codebooks}; these codes have one")
        return self.bottleneck.encode(self.latents(audio))[:, None]

    @torch.no_grad()
    def tokenize(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows of different length: [batch, samples], lengths [batch] -> codes [batch, 1, frames], frames [batch].

        Each row's codes are what it gives alone; after its end there are zeros.
        """
        latents, count = self._in_windows(samples, lengths)
        codes = self.bottleneck.encode(latents) * length_mask(count, latents.shape[1])
        return codes[:, None], count

    @torch.no_grad()
    def features(self, codes: Tensor) -> Tensor:
        """codes [batch, 1, frames] -> the encoder's output behind the quantizer [batch, frames, width], for adapters;
        50 a second, or as many as codes where the tokenizer doesn't `restore`."""
        parts, each = [], self.config.positions // self.config.pool
        for piece in codes[:, 0].split(each, 1):
            frames = torch.full((len(codes),), piece.shape[1] * self.config.pool, device=codes.device)
            parts.append(self.upper(self.bottleneck.decode(piece), frames)[0])
        return torch.cat(parts, 1)

    @torch.no_grad()
    def continuous(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Plain features without the quantizer, for adapters: [batch, samples], lengths [batch] -> the encoder's
        output [batch, 50 a second, width], frames [batch]."""
        return WhisperFeatures(self.encoder)(samples, lengths)

    def _in_windows(self, samples: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """`lower` for any length: latents [batch, frames, width], frames of codes [batch]."""
        if lengths is None:
            lengths = torch.full((len(samples),), samples.shape[1], device=samples.device)
        size = FRAME_SAMPLES * self.config.pool
        each, count = self.config.positions // self.config.pool, -(-lengths // size)
        parts = [samples.new_zeros(len(samples), 0, self.config.width)]
        for start in range(0, -(-samples.shape[1] // size), each):
            piece = samples[:, start * size : (start + each) * size]
            left = (lengths - start * size).clamp(0, piece.shape[1])
            values = samples.new_zeros(len(samples), -(-piece.shape[1] // size), self.config.width)
            if len(rows := left.nonzero()[:, 0]):
                values[rows] = self.lower(piece[rows], left[rows])[0].to(values.dtype)
            parts.append(values)
        return torch.cat(parts, 1), count

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors (float16)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"family": FAMILY, **dataclasses.asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
        weights = {k: v.detach().half().contiguous().cpu() for k, v in self.state_dict().items()}
        save_file({k: v for k, v in weights.items() if not k.endswith(_TRAINING)}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SupervisedTokenizer:
        """Reads what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / "config.json").read_text())
            if fields.pop("family", None) != FAMILY:
                raise ValueError(f"its config.json doesn't say family {FAMILY!r}")
            tokenizer = cls(SupervisedConfig(**fields))
            weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
            if told := misfit(tokenizer, weights, strict=False):
                raise ValueError(told)
            missing, unknown = tokenizer.load_state_dict(weights, strict=False)
            if unknown or any(not name.endswith(_TRAINING) for name in missing):
                raise ValueError(f"weights don't fit its config.json (missing {missing[:3]}, unknown {unknown[:3]})")
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no supervised tokenizer that can be read: {error}") from error
        if isinstance(book := tokenizer.bottleneck.quantizer, Codebook):
            book.ready.fill_(True)
            book.total.copy_(book.codes)
        return tokenizer.eval()


class SupervisedFeatures(nn.Module):
    """What a tokenizer's quantizer is given, as `encoders.SpeechFeatures`: a teacher for distillation.

    Args:
        tokenizer: whose.
    """

    def __init__(self, tokenizer: SupervisedTokenizer):
        super().__init__()
        self.tokenizer, self.sample_rate = tokenizer, tokenizer.sample_rate
        self.frame_rate, self.width = tokenizer.frame_rate, tokenizer.config.width

    @classmethod
    def from_pretrained(cls, folder: Path | str, layer: int | None = None) -> SupervisedFeatures:
        """Of a folder that `SupervisedTokenizer.save_pretrained` wrote.

        Raises:
            ModelError: a layer is asked for.
            ModelError: the folder holds something else.
        """
        if layer is not None:
            raise ModelError(f"layer is {layer}; a supervised tokenizer's features come from where its quantizer is")
        return cls(SupervisedTokenizer.from_pretrained(folder))

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `SpeechFeatures`."""
        latents, count = self.tokenizer._in_windows(audio, lengths)
        return latents * length_mask(count, latents.shape[1])[:, :, None], count


def _samples(audio: Tensor) -> Tensor:
    """[batch, 1, samples] -> [batch, samples]."""
    if audio.ndim != 3 or audio.shape[1] != 1:
        raise ValueError(f"audio must be [batch, 1, samples], got {list(audio.shape)}")
    return audio[:, 0]
