"""A codec as somebody else writes it: one file, which tests put where Python finds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.base import CodecModule, CodecState
from antiphon.codecs.families import Family
from antiphon.nn.quantize import Quantized, ResidualQuantizer

FAMILY = Family("toy", "toy_codec:Toy", names={"toy-8": "somebody/toy-8"})


@dataclass
class ToyConfig:
    sample_rate: int = 80
    samples_per_frame: int = 8
    latent: int = 4
    codebooks: int = 3
    codebook_size: int = 16


@dataclass
class Waiting:
    audio: Tensor  # [batch, 1, less than a frame]


class Toy(CodecModule):
    family, config_class, delay = "toy", ToyConfig, 0

    def __init__(self, config: ToyConfig):
        super().__init__(config)
        self.analysis = nn.Linear(config.samples_per_frame, config.latent)
        self.synthesis = nn.Linear(config.latent, config.samples_per_frame)
        self.quantizer = ResidualQuantizer(config.latent, 0, config.codebooks, config.codebook_size)

    def latents(self, audio: Tensor) -> Tensor:
        size = self.config.samples_per_frame
        audio = F.pad(self._checked(audio), (0, -audio.shape[-1] % size))
        return self.analysis(audio.reshape(len(audio), audio.shape[-1] // size, size))

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        return self.synthesis(latents).flatten(1)[:, None]

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        return self.quantizer.encode(self.latents(audio), self._levels(codebooks))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return self.synthesize(self.quantizer.decode(self._checked_codes(codes)))

    def init_state(self, batch: int = 1) -> CodecState:
        return CodecState(Waiting(torch.zeros(batch, 1, 0)), Waiting(torch.zeros(batch, 1, 0)))

    def encode_step(self, audio: Tensor, state: CodecState, last: bool = False, codebooks: int | None = None) -> Tensor:
        audio = torch.cat([state.encoder.audio, self._checked(audio, state.encoder.audio)], dim=-1)
        whole = audio.shape[-1] if last else audio.shape[-1] // self.config.samples_per_frame * 8
        state.encoder.audio = audio[..., whole:].clone()
        return self.encode(audio[..., :whole], codebooks)

    def decode_step(self, codes: Tensor, state: CodecState, last: bool = False) -> Tensor:
        return self.decode(self._checked_codes(codes, state.decoder.audio))
