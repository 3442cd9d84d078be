"""SpeechTokenizer (Zhang et al. 2023): speech at 50 frames/s, what is said in the first of eight codebooks.

SEANet with an LSTM that looks both ways in the encoder, and a residual quantizer whose first codebook was taught by
HuBERT. It looks ahead, so it works on whole signals only; long ones go through in overlapping chunks, which gives the
same (`antiphon.nn.overlap`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.codecs.module import CodecModule, fewer
from antiphon.errors import HubError
from antiphon.hub.weights import configured, load_ours, publish, read_config, read_weights, write
from antiphon.nn.overlap import decode_pieces, encode_pieces
from antiphon.nn.quantize import Quantized, ResidualQuantizer
from antiphon.nn.seanet import SeanetConfig, SeanetConv, SeanetDecoder, SeanetEncoder

FAMILY = "speechtokenizer"
FILE = "SpeechTokenizer.pt"  # the name under which the weights are published


@dataclass
class SpeechTokenizerConfig:
    """Sizes of a SpeechTokenizer; the defaults are those of `fnlp/SpeechTokenizer`.

    Attributes:
        sample_rate: Hz.
        latent: width of latents and codes.
        semantic: width of the teacher's features, onto which `transform` maps what the first codebook gives.
        filters, residual_layers, ratios, residual_kernel, dilation_growth, lstm, bidirectional: of SEANet, see
            `SeanetConfig`.
        codebooks, codebook_size: number of codebooks, and codes in each.
        chunk: frames that go through the network at a time, besides their surroundings.
        keep: frames of which `encode` keeps what it has made of them, 20 KB each; a signal that is longer goes through
            the network up to three times. More is faster, and needs more memory.
    """

    sample_rate: int = 16000
    latent: int = 1024
    semantic: int = 768
    filters: int = 64
    residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    residual_kernel: int = 3
    dilation_growth: int = 2
    lstm: int = 2
    bidirectional: bool = True
    codebooks: int = 8
    codebook_size: int = 1024
    chunk: int = 500
    keep: int = 1500

    def __post_init__(self) -> None:
        self.ratios = tuple(self.ratios)

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.ratios)

    @property
    def seanet(self) -> SeanetConfig:
        return SeanetConfig(
            dimension=self.latent, filters=self.filters, residual_layers=self.residual_layers, ratios=self.ratios,
            residual_kernel=self.residual_kernel, dilation_growth=self.dilation_growth, lstm=self.lstm,
            bidirectional=self.bidirectional, causal=False,
        )  # fmt: skip


class SpeechTokenizer(CodecModule):
    """Waveform to codes and back: `encode`, `decode`, and for training `latents`, `quantized`, `synthesize`.

    Args:
        config: sizes.
    """

    def __init__(self, config: SpeechTokenizerConfig):
        super().__init__(config)
        self.encoder, self.decoder = SeanetEncoder(config.seanet), SeanetDecoder(config.seanet)
        self.quantizer = ResidualQuantizer(config.latent, 0, config.codebooks, config.codebook_size)
        same = config.latent == config.semantic
        self.transform = nn.Identity() if same else nn.Linear(config.latent, config.semantic)

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, 1, samples] -> [batch, frames, latent], before quantization; differentiable."""
        return self.encoder(self._checked(audio))

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Latents [batch, frames, latent], each row through its first `used` [batch] codebooks; differentiable."""
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, latent] -> audio [batch, 1, frames * samples_per_frame]; differentiable."""
        return self.decoder(latents)

    def project_to_teacher(self, first: Tensor) -> Tensor:
        """What the first codebook gives (`Quantized.first`, [batch, frames, latent]) in the teacher's space [batch,
        frames, semantic]; differentiable."""
        return self.transform(first)

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, 1, samples] -> codes [batch, codebooks, frames], the semantic ones first; a last frame that
        isn't full is padded as the convolutions pad. The memory needed hardly grows with the length: by 3 KB a second,
        besides the codes."""
        levels = self._levels(codebooks)
        if audio.shape[-1] <= self.config.chunk * self.config.samples_per_frame:
            return self.quantizer.encode(self.latents(audio), levels)
        pieces = encode_pieces(self.encoder, self._checked(audio), self.config.chunk, self.config.keep)
        return torch.cat([self.quantizer.encode(piece, levels) for piece in pieces], dim=-1)

    @torch.no_grad()
    def decode(self, codes: Tensor, first: int = 0) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, 1, frames * samples_per_frame].

        Args:
            codes: of codebook `first` and those behind it.
            first: 1 leaves out the semantic one: how it sounds without what is said.
        """
        pieces = list(self.decode_pieces(codes, first))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def decode_pieces(self, codes: Tensor, first: int = 0) -> Iterator[Tensor]:
        """As `decode`, piece by piece, for what is too long to hold: [batch, 1, up to chunk frames' samples] each."""
        chunk, frames = self.config.chunk, self._checked_codes(codes, first=first).shape[-1]
        if frames <= chunk:
            yield self.decoder(self.quantizer.decode(codes, first))
        else:
            latents = (self.quantizer.decode(part, first) for part in codes.split(chunk, dim=-1))
            yield from decode_pieces(self.decoder, latents, frames, chunk)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors in our own format."""
        skip = (".total", ".ready")  # follow from codes and usage
        write(folder, {"family": FAMILY, **dataclasses.asdict(self.config)}, self.state_dict(), skip)

    @classmethod
    def from_pretrained(cls, folder: Path | str, codebooks: int | None = None) -> SpeechTokenizer:
        """Reads what `save_pretrained` wrote, or a folder with the published config.json and SpeechTokenizer.pt, in
        float32 and evaluation mode.

        Args:
            folder: where.
            codebooks: how many to keep; the rest needs no memory then.

        Raises:
            HubError: the folder holds something else.
        """
        fields = read_config(folder)
        published = "family" not in fields and "n_q" in fields and "semantic_dimension" in fields
        if published:
            fields = published_settings(fields, folder)
        elif fields.get("family") != FAMILY:
            raise HubError(
                f"{folder} holds no SpeechTokenizer: its config.json should have 'n_q' and 'semantic_dimension' "
                f"(published) or 'family': {FAMILY!r} (ours)."
            )
        config = configured(SpeechTokenizerConfig, fields, folder)
        config.codebooks = fewer(codebooks, config.codebooks)
        codec, weights = configured(cls, {"config": config}, folder), read_weights(folder, FILE)
        if published:
            publish(codec, weights, published_names(codec), folder)
        else:
            load_ours(codec, weights, folder)
        return codec.eval()


SETTINGS = {  # ours: published
    "sample_rate": "sample_rate", "latent": "dimension", "semantic": "semantic_dimension", "filters": "n_filters",
    "residual_layers": "n_residual_layers", "ratios": "strides", "residual_kernel": "residual_kernel_size",
    "dilation_growth": "dilation_base", "lstm": "lstm_layers", "bidirectional": "bidirectional", "codebooks": "n_q",
    "codebook_size": "codebook_size",
}  # fmt: skip

BUFFERS = {"codes": "embed", "usage": "cluster_size"}


def published_settings(fields: dict[str, Any], folder: Path | str) -> dict[str, Any]:
    """Fields of `SpeechTokenizerConfig` from the published config.json, which says much about training besides."""
    if fields.get("activation", "ELU") != "ELU":
        raise HubError(
            f"{folder}: this SpeechTokenizer has the activation {fields['activation']!r}; only the one with ELU "
            "(speechtokenizer_hubert_avg) is supported."
        )
    try:
        return {ours: fields[theirs] for ours, theirs in SETTINGS.items()}
    except KeyError as error:
        raise HubError(f"{folder}: its config.json lacks {error}.") from error


def published_names(codec: SpeechTokenizer) -> Callable[[str], str]:
    """The mapping table: our name of a weight -> the published one."""
    up = {name for name, module in codec.named_modules() if isinstance(module, SeanetConv) and module.upsample > 1}

    def name(key: str) -> str:
        module, _, last = key.rpartition(".")
        if key.startswith("quantizer."):
            return f"quantizer.vq.layers.{module.split('.')[2]}._codebook.{BUFFERS[last]}"
        if key.startswith("transform."):
            return key
        published = module.replace(".layers.", ".model.")
        if module.endswith(".lstm"):
            return f"{published}.{last}"
        return f"{published}.{'convtr.convtr' if module in up else 'conv.conv'}.{last}"

    return name
