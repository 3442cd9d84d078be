"""Mimi (Defossez et al. 2024, "Moshi", section 3.3): speech at 12.5 frames/s, what is said in the first codebook.

SEANet takes the waveform to 25 frames/s, a transformer over the last ten seconds follows, a convolution goes down to
12.5; the decoder mirrors that. Everything is causal, and streams: one frame, 80 ms, is 1,920 samples.

Both published formats load: a `transformers` folder (`kyutai/mimi`) and Kyutai's own `tokenizer-*.safetensors`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.base import CodecState
from antiphon.codecs.mimi import weights as mimi_weights
from antiphon.codecs.module import CodecModule, fewer
from antiphon.errors import HubError
from antiphon.hub.weights import configured, write
from antiphon.nn.quantize import Quantized, SplitQuantizer
from antiphon.nn.seanet import SeanetConfig, SeanetConv, SeanetDecoder, SeanetEncoder, SeanetState, TailState
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState

FAMILY = "mimi"


@dataclass
class MimiConfig:
    """Sizes of Mimi; the defaults are the published ones.

    Attributes:
        sample_rate: Hz.
        channels: of the audio.
        dim: width of the latents and the transformers.
        filters, residual_layers, ratios, kernel, last_kernel, residual_kernel, dilation_growth, compress: of SEANet
            (`SeanetConfig`).
        heads, inner, layers, window: of both transformers; the window is in steps of 40 ms.
        layer_scale: initial LayerScale.
        eps: of the transformers' norms.
        rope_base: of their rotary positions.
        stride: SEANet's latents a frame.
        codebooks, semantic: number of codebooks, and how many of them are the semantic ones.
        codebook_size, codebook_dim: codes in each, and the width they live in.
        pad_audio: what becomes of a last frame that isn't full. True: silence fills it up, as in Kyutai's `moshi`.
            False: each convolution pads what it gets, as in `transformers` and Kyutai's `rustymimi`; only codes of the
            last frames differ.
        chunk: frames that go through the network at once when a whole signal is encoded or decoded.
    """

    sample_rate: int = 24000
    channels: int = 1
    dim: int = 512
    filters: int = 64
    residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 6, 5, 4)
    kernel: int = 7
    last_kernel: int = 3
    residual_kernel: int = 3
    dilation_growth: int = 2
    compress: int = 2
    heads: int = 8
    inner: int = 2048
    layers: int = 8
    window: int = 250
    layer_scale: float = 0.01
    eps: float = 1e-5
    rope_base: float = 10000.0
    stride: int = 2
    codebooks: int = 32
    semantic: int = 1
    codebook_size: int = 2048
    codebook_dim: int = 256
    pad_audio: bool = True
    chunk: int = 25

    def __post_init__(self) -> None:
        self.ratios = tuple(self.ratios)
        if not 1 <= self.semantic <= self.codebooks:
            raise ValueError(f"{self.semantic} of {self.codebooks} codebooks can't be semantic: 1 or more must be")

    @property
    def seanet(self) -> SeanetConfig:
        """Of encoder and decoder."""
        return SeanetConfig(
            channels=self.channels, dimension=self.dim, filters=self.filters, residual_layers=self.residual_layers,
            ratios=self.ratios, kernel=self.kernel, last_kernel=self.last_kernel, residual_kernel=self.residual_kernel,
            dilation_growth=self.dilation_growth, compress=self.compress, padding="constant", shortcut=False, lstm=0,
        )  # fmt: skip

    @property
    def samples_per_frame(self) -> int:
        return self.seanet.hop * self.stride


class DepthwiseUpsample(nn.Module):
    """Transposed convolution of each channel by itself, kernel twice the stride, no bias.

    Args:
        width: channels.
        stride: outputs an input.
    """

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, stride, width).uniform_(-0.5, 0.5))  # [present or previous, ...]

    def init_state(self, batch: int) -> TailState:
        return TailState(self.weight.new_zeros(batch, 1, self.weight.shape[2]))

    def step(self, x: Tensor, state: TailState) -> Tensor:
        """[batch, time, width] -> [batch, time * stride, width]."""
        if not x.shape[1]:
            return x
        before = torch.cat([state.tail, x[:, :-1]], dim=1)
        state.tail = x[:, -1:].clone()
        return torch.addcmul(x[:, :, None] * self.weight[0], before[:, :, None], self.weight[1]).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, self.init_state(len(x)))


@dataclass
class MimiEncoderState:
    seanet: SeanetState
    transformer: TransformerState
    down: TailState


@dataclass
class MimiDecoderState:
    up: TailState
    transformer: TransformerState
    seanet: SeanetState


class Mimi(CodecModule):
    """Waveform to codes and back: `encode`, `decode`; live, `encode_step`, `decode_step`; for training `latents`,
    `quantized`, `synthesize`.

    Args:
        config: sizes.
    """

    delay = 0

    def __init__(self, config: MimiConfig):
        super().__init__(config)
        self.fewest = config.semantic
        transformer = TransformerConfig(
            config.dim, config.heads, config.inner, config.layers, config.window, norm="layer", eps=config.eps,
            gated=False, layer_scale=config.layer_scale, last_norm=False, rope_base=config.rope_base, max_piece=8,
        )  # fmt: skip
        self.encoder = SeanetEncoder(config.seanet, unit=config.samples_per_frame)
        self.encoder_transformer = Transformer(transformer)
        self.downsample = SeanetConv(
            config.dim, config.dim, 2 * config.stride, config.stride, activate=False, padding="replicate", bias=False
        )
        self.quantizer = SplitQuantizer(
            config.dim, config.codebook_dim, config.semantic, config.codebooks - config.semantic, config.codebook_size
        )
        self.upsample = DepthwiseUpsample(config.dim, config.stride)
        self.decoder_transformer = Transformer(transformer)
        self.decoder = SeanetDecoder(config.seanet)

    def _filled(self, audio: Tensor) -> Tensor:
        """The last frame filled up, if that is this model's habit."""
        return F.pad(audio, (0, -audio.shape[-1] % self.config.samples_per_frame)) if self.config.pad_audio else audio

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, channels, samples] -> [batch, frames, dim], before quantization; differentiable."""
        return self.downsample(self.encoder_transformer(self.encoder(self._filled(self._checked(audio)))))

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Quantizes latents [batch, frames, dim] with a straight-through gradient, see `SplitQuantizer.quantized`."""
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, dim] -> audio [batch, channels, frames * 1,920]; differentiable."""
        return self.decoder(self.decoder_transformer(self.upsample(latents)))

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, channels, samples] -> codes [batch, codebooks, frames]. Goes through in chunks: the memory
        needed doesn't grow with the length."""
        levels = self._levels(codebooks)
        pieces = self._checked(audio).split(self.config.chunk * self.config.samples_per_frame, dim=-1)
        state = self._encoder_state(len(audio))
        codes = [
            self.quantizer.encode(self._encode_step(piece, state, last=number == len(pieces)), levels)
            for number, piece in enumerate(pieces, 1)
        ]
        return codes[0] if len(codes) == 1 else torch.cat(codes, dim=-1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, channels, frames * 1,920]."""
        pieces = list(self.decode_pieces(codes))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def decode_pieces(self, codes: Tensor) -> Iterator[Tensor]:
        """As `decode`, piece by piece, for what is too long to hold: [batch, channels, samples] each."""
        state = self._decoder_state(len(self._checked_codes(codes)))
        for piece in codes.split(self.config.chunk, dim=-1):
            yield self._decode_step(piece, state)

    def init_state(self, batch: int = 1) -> CodecState:
        """The state before the first sample of `batch` streams."""
        return CodecState(self._encoder_state(batch), self._decoder_state(batch))

    def _encoder_state(self, batch: int) -> MimiEncoderState:
        parts = (self.encoder, self.encoder_transformer, self.downsample)
        return MimiEncoderState(*(part.init_state(batch) for part in parts))

    def _decoder_state(self, batch: int) -> MimiDecoderState:
        parts = (self.upsample, self.decoder_transformer, self.decoder)
        return MimiDecoderState(*(part.init_state(batch) for part in parts))

    @torch.no_grad()
    def encode_step(self, audio: Tensor, state: CodecState, last: bool = False, codebooks: int | None = None) -> Tensor:
        """More audio [batch, channels, any number of samples] -> codes [batch, codebooks, whole frames so far]; see
        `StreamingCodec.encode_step`. `codebooks` as in `encode`."""
        levels = self._levels(codebooks)
        audio = self._checked(audio, state.encoder.transformer.position)
        return self.quantizer.encode(self._encode_step(audio, state.encoder, last), levels)

    def _encode_step(self, audio: Tensor, state: MimiEncoderState, last: bool) -> Tensor:
        """Audio -> the latents that are now certain, [batch, n, dim]."""
        if last and self.config.pad_audio:
            missing = -(state.seanet.pending.shape[1] + audio.shape[-1]) % self.config.samples_per_frame
            audio = F.pad(audio, (0, missing))
        x = self.encoder.step(audio, state.seanet, last)
        if not x.shape[1]:
            return x
        fresh = (state.transformer.position == 0)[:, None, None]
        x = self.encoder_transformer.step(x, state.transformer)
        state.down.tail = torch.where(fresh, x[:, :1], state.down.tail)  # padded with copies of the first
        return self.downsample.step(x, state.down, first=False, last=last)

    @torch.no_grad()
    def decode_step(self, codes: Tensor, state: CodecState, last: bool = False) -> Tensor:
        """More codes [batch, 1 to codebooks, n] -> audio [batch, channels, n * 1,920]; nothing is held back."""
        return self._decode_step(self._checked_codes(codes, state.decoder.transformer.position), state.decoder)

    def _decode_step(self, codes: Tensor, state: MimiDecoderState) -> Tensor:
        x = self.upsample.step(self.quantizer.decode(codes), state.up)
        return self.decoder.step(self.decoder_transformer.step(x, state.transformer), state.seanet)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors in our own format."""
        skip = (".total", ".ready")  # follow from codes and usage
        write(folder, {"family": FAMILY, **dataclasses.asdict(self.config)}, self.state_dict(), skip)

    @classmethod
    def from_pretrained(cls, folder: Path | str, codebooks: int | None = None) -> Mimi:
        """Reads what `save_pretrained` wrote, or either published format, in float32 and evaluation mode.

        Args:
            folder: a folder with config.json and model.safetensors; or one with Kyutai's tokenizer-*.safetensors; or
                that file itself.
            codebooks: how many to keep (Moshi uses 8 of 32); the rest needs no memory then.

        Raises:
            HubError: the folder holds something else.
        """
        fields, weights, layout = mimi_weights.read(folder, FAMILY)
        config = configured(MimiConfig, fields, folder)
        config.codebooks = fewer(codebooks, config.codebooks, config.semantic)
        with torch.device("meta"):  # no memory, no random numbers
            codec = configured(cls, {"config": config}, folder)
        weights = mimi_weights.fitted(codec, weights, layout, folder)
        try:
            codec.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise HubError(f"{folder}: the weights do not fit its sizes ({detail}).") from error
        codec.encoder_transformer.reset()
        codec.decoder_transformer.reset()
        return codec.eval()
