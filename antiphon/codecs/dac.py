"""DAC, the Descript Audio Codec (Kumar et al. 2023): acoustic, any sound, 16, 24 or 44.1 kHz.

A convolutional encoder and decoder with snake activations around a residual quantizer whose codebooks live in eight
dimensions. Its convolutions look ahead, so it works on whole signals only; long ones go through in overlapping chunks,
which gives the same and keeps memory flat.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.module import CodecModule
from antiphon.errors import HubError
from antiphon.hub.weights import configured, load_into, read_config, read_weights, rename, write
from antiphon.nn.conv import Snake
from antiphon.nn.overlap import Pieces, convolutions, downsample_in_chunks, upsample_in_chunks
from antiphon.nn.quantize import FactorizedResidualQuantizer, Quantized
from antiphon.nn.seanet import folded

FAMILY = "dac"


@dataclass
class DacConfig:
    """Sizes of a DAC; the defaults are those of `descript/dac_16khz`.

    Attributes:
        sample_rate: Hz.
        ratios: by which the encoder's blocks go slower, first to last; kernels are twice as long.
        encoder_width: channels at the sample rate; each block doubles them. The latent is as wide as the last block.
        decoder_width: channels at the frame rate; each block halves them.
        codebooks, codebook_size, codebook_dim: number of codebooks, codes in each, and the width they live in.
        chunk: frames that go through the network at a time, besides their surroundings.
    """

    sample_rate: int = 16000
    ratios: tuple[int, ...] = (2, 4, 5, 8)
    encoder_width: int = 64
    decoder_width: int = 1536
    codebooks: int = 12
    codebook_size: int = 1024
    codebook_dim: int = 8
    chunk: int = 256

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.ratios)

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return self.encoder_width * 2 ** len(self.ratios)


class ResidualUnit(nn.Module):
    """Snake, dilated convolution over 7, snake, convolution over 1, and the input added."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.snake1, self.snake2 = Snake(width), Snake(width)
        self.wide = nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation)
        self.narrow = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.snake2(self.wide(self.snake1(x))))
        return x + y if torch.is_grad_enabled() else y.add_(x)


def _units(width: int) -> list[nn.Module]:
    return [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]


def _encoder(config: DacConfig) -> nn.Sequential:
    """[batch, 1, samples] -> [batch, latent, frames]."""
    width = config.encoder_width
    parts: list[nn.Module] = [nn.Conv1d(1, width, 7, padding=3)]
    for ratio in config.ratios:
        down = nn.Conv1d(width, 2 * width, 2 * ratio, stride=ratio, padding=math.ceil(ratio / 2))
        parts.append(nn.Sequential(*_units(width), Snake(width), down))
        width *= 2
    return nn.Sequential(*parts, Snake(width), nn.Conv1d(width, config.latent, 3, padding=1))


def _decoder(config: DacConfig) -> nn.Sequential:
    """[batch, latent, frames] -> [batch, 1, samples]."""
    width = config.decoder_width
    parts: list[nn.Module] = [nn.Conv1d(config.latent, width, 7, padding=3)]
    for ratio in reversed(config.ratios):
        up = nn.ConvTranspose1d(width, width // 2, 2 * ratio, stride=ratio, padding=math.ceil(ratio / 2))
        width //= 2
        parts.append(nn.Sequential(Snake(2 * width), up, *_units(width)))
    return nn.Sequential(*parts, Snake(width), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh())


class Dac(CodecModule):
    """Waveform to codes and back: `encode`, `decode`, and for training `latents`, `quantized`, `synthesize`.

    Args:
        config: sizes.
    """

    def __init__(self, config: DacConfig):
        super().__init__(config)
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        self.quantizer = FactorizedResidualQuantizer(
            config.latent, config.codebook_dim, config.codebooks, config.codebook_size
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                # 0.02 as published, but no less than PyTorch's own: narrow networks would begin silent and stay so
                nn.init.trunc_normal_(module.weight, std=max(0.02, (3 * module.weight[0].numel()) ** -0.5))
                nn.init.zeros_(module.bias)

    def _padded(self, audio: Tensor) -> Tensor:
        return F.pad(self._checked(audio), (0, -audio.shape[-1] % self.config.samples_per_frame))

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, 1, samples] -> [batch, frames, latent], before quantization; differentiable."""
        return self.encoder(self._padded(audio)).transpose(1, 2)

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Latents [batch, frames, latent], each row through its first `used` [batch] codebooks; differentiable."""
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        """[batch, frames, latent] -> audio [batch, 1, frames * samples_per_frame], what `decode` lacks of that filled
        with silence; differentiable."""
        audio = self.decoder(latents.transpose(1, 2))
        return F.pad(audio, (0, latents.shape[1] * self.config.samples_per_frame - audio.shape[-1]))

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, 1, samples] -> codes [batch, codebooks, frames]; the last frame is padded with silence. The
        memory needed doesn't grow with the length, but for the codes."""
        levels, hop, at = self._levels(codebooks), self.config.samples_per_frame, 0
        codes = self._checked(audio).new_empty((len(audio), levels, -(-audio.shape[-1] // hop)), dtype=torch.long)
        # Padded piece by piece: a long signal would be there twice.
        run, layers = lambda part: self.encoder(self._padded(part)), convolutions(self.encoder)
        for piece in downsample_in_chunks(run, layers, audio, hop, self.config.chunk):
            codes[..., at : at + self.config.chunk] = self.quantizer.encode(piece.transpose(1, 2), levels)
            at += self.config.chunk
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, 1, samples]: samples_per_frame a frame, or, where a
        ratio is odd (16 and 24 kHz), the few samples less that the published network gives."""
        pieces = list(self.decode_pieces(codes))
        return torch.cat(pieces, dim=-1) if pieces else torch.zeros(len(codes), 1, 0, device=codes.device)

    @torch.no_grad()
    def decode_pieces(self, codes: Tensor) -> Iterator[Tensor]:
        """As `decode`, piece by piece, for what is too long to hold: [batch, 1, up to chunk frames' samples] each."""
        hop, chunk = self.config.samples_per_frame, self.config.chunk
        parts = (self.quantizer.decode(part).mT for part in self._checked_codes(codes).split(chunk, dim=-1))
        latents = Pieces(parts, codes.shape[-1])
        yield from upsample_in_chunks(self.decoder, convolutions(self.decoder), latents, hop, chunk)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors; weight norm, if training put it there, is multiplied out."""
        write(folder, {"family": FAMILY, **dataclasses.asdict(self.config)}, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Dac:
        """Reads what `save_pretrained` wrote, or a folder of `descript/dac_16khz`, `_24khz` or `_44khz`, in float32
        and evaluation mode.

        Raises:
            HubError: the folder holds something else.
        """
        fields, weights = read_config(folder), folded(read_weights(folder))
        if fields.get("model_type") == "dac":
            config = configured(DacConfig, published_settings(fields), folder)
            weights = rename(weights, published_names(config))
            for key in [key for key in weights if key.startswith("quantizer.") and key.endswith("ward.weight")]:
                weights[key] = weights[key].flatten(1)  # a convolution over one frame is a linear map
        elif fields.get("family") == FAMILY:
            config = configured(DacConfig, fields, folder)
        else:
            raise HubError(
                f"{folder} holds no DAC: its config.json should say 'model_type': 'dac' (published) or 'family': "
                f"{FAMILY!r} (ours)."
            )
        codec = configured(cls, {"config": config}, folder)
        load_into(codec, weights, folder)
        return codec.eval()


def published_settings(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of `DacConfig` from a published config.json (`transformers`', which leaves defaults out nowhere)."""
    try:
        return {
            "sample_rate": fields["sampling_rate"],
            "ratios": fields["downsampling_ratios"],
            "encoder_width": fields["encoder_hidden_size"],
            "decoder_width": fields["decoder_hidden_size"],
            "codebooks": fields["n_codebooks"],
            "codebook_size": fields["codebook_size"],
            "codebook_dim": fields["codebook_dim"],
        }
    except KeyError as error:
        raise HubError(f"The published config.json lacks {error}: it is no DAC's.") from error


def published_names(config: DacConfig) -> Iterator[tuple[str, str]]:
    """Published names of modules and ours."""

    def units(theirs: str, ours: str, first: int) -> Iterator[tuple[str, str]]:
        for number in range(3):
            for a, b in (("snake1", "snake1"), ("conv1", "wide"), ("snake2", "snake2"), ("conv2", "narrow")):
                yield f"{theirs}.res_unit{number + 1}.{a}", f"{ours}.{first + number}.{b}"

    blocks = len(config.ratios)
    for side in ("encoder", "decoder"):
        yield f"{side}.conv1", f"{side}.0"
        yield f"{side}.snake1", f"{side}.{blocks + 1}"
        yield f"{side}.conv2", f"{side}.{blocks + 2}"
        for block in range(blocks):
            theirs, ours = f"{side}.block.{block}", f"{side}.{block + 1}"
            if side == "encoder":
                yield from units(theirs, ours, 0)
                yield f"{theirs}.snake1", f"{ours}.3"
                yield f"{theirs}.conv1", f"{ours}.4"
            else:
                yield f"{theirs}.snake1", f"{ours}.0"
                yield f"{theirs}.conv_t1", f"{ours}.1"
                yield from units(theirs, ours, 2)
    for level in range(config.codebooks):
        theirs, ours = f"quantizer.quantizers.{level}", f"quantizer.codebooks.{level}"
        for a, b in (("in_proj", "inward"), ("out_proj", "outward"), ("codebook.weight", "codes")):
            yield f"{theirs}.{a}", f"{ours}.{b}"
