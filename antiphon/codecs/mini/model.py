"""The mini codec: a small causal codec of the Mimi family, made for two CPU cores.

As Mimi (Defossez et al. 2024, section 3.3) it runs at 12.5 frames/s with a split residual quantizer: the first
codebook carries what is said, seven more carry how it sounds. Unlike Mimi it never works at the sample rate. The
encoder is linear: a causal log-mel spectrogram, six frames of it at a time, projected onto their principal components,
which is as good as a small network for a few voices and is fitted in minutes; an optional residual network can be
trained on top. The decoder starts from the spectrogram that the same components give back, and makes the waveform from
pulses and noise (`antiphon.codecs.mini.vocoder`), so that its fastest layers run at 75 frames/s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import mel_filters
from antiphon.codecs.base import CodecModule, CodecState
from antiphon.codecs.mini.vocoder import SourceFilter, SourceState, contour_of, estimate_pitch
from antiphon.hub.weights import configured, load_into, read_config, read_weights, settle, write
from antiphon.nn.conv import CausalConv1d, CausalStack, ConvNeXtBlock, ConvState, Upsample
from antiphon.nn.quantize import Quantized, ResidualQuantizer, update_codebooks

FAMILY = "mini-codec"
TRAINING = (".usage", ".total", ".ready")  # averages, which matter to training alone
BETWEEN = 0.2  # weight, in the loss of the pitch, of frames without a voice
PIECE = 250  # frames that are encoded or decoded at once of a long signal: 20 s


@dataclass
class MiniCodecConfig:
    """Sizes of the mini codec.

    Attributes:
        sample_rate: Hz.
        hop: samples a spectral frame.
        strides: code frames to spectral frames, in two steps of the decoder.
        mels, mel_window, mel_floor: bins, window length and least value of the input's log-mel spectrogram.
        mel_offset: added to the spectrum before the logarithm, so that what is much quieter, as a room's noise, hardly
            moves it and takes few of the codes.
        encoder_width, encoder_depth: of the residual network behind the linear encoder; depth 0 for none.
        decoder_widths, decoder_depths: at the three frame rates, slowest first.
        look_ahead: spectral frames by which the sound lags behind the codes: a spectrum's window tells little of its
            last samples.
        contour_width: of the network that tells the pitch, see `SourceFilter`.
        latent: width of the latent.
        semantic_inner, inner: widths in which the semantic and the acoustic codes live.
        codebooks, codebook_size: number of codebooks, the semantic one included, and codes in each.
    """

    sample_rate: int = 24000
    hop: int = 320
    strides: tuple[int, int] = (2, 3)
    mels: int = 100
    mel_window: int = 1280
    mel_floor: float = 1e-4
    mel_offset: float = 0.0
    encoder_width: int = 256
    encoder_depth: int = 0
    decoder_widths: tuple[int, int, int] = (384, 384, 320)
    decoder_depths: tuple[int, int, int] = (2, 2, 5)
    look_ahead: int = 2
    contour_width: int = 0
    latent: int = 128
    semantic_inner: int = 64
    inner: int = 128
    codebooks: int = 8
    codebook_size: int = 1024

    @property
    def spectra_per_frame(self) -> int:
        return self.strides[0] * self.strides[1]

    @property
    def samples_per_frame(self) -> int:
        return self.hop * self.spectra_per_frame


class LogMel(nn.Module):
    """Causal log-mel spectrogram: frame t ends with sample (t + 1) * hop - 1.

    Args:
        sample_rate, window, hop, mels: Hz, samples, samples, bins.
        floor: least value before the logarithm.
        offset: added to that.
    """

    def __init__(self, sample_rate: int, window: int, hop: int, mels: int, floor: float, offset: float = 0.0):
        super().__init__()
        self.window, self.hop, self.floor, self.offset = window, hop, floor, offset
        self.register_buffer("bank", mel_filters(mels, window, sample_rate).T, persistent=False)
        self.register_buffer("shape", torch.hann_window(window), persistent=False)

    def init_state(self, batch: int) -> ConvState:
        return ConvState(torch.zeros(batch, self.window - self.hop, device=self.bank.device))

    def step(self, samples: Tensor, state: ConvState) -> Tensor:
        """[batch, n * hop] -> [batch, mels, n]."""
        samples = torch.cat([state.past, samples.float()], dim=-1)
        state.past = samples[:, samples.shape[-1] - (self.window - self.hop) :]
        frames = samples.unfold(-1, self.window, self.hop) * self.shape
        spectrum = torch.fft.rfft(frames).abs()
        return torch.log(torch.matmul(spectrum, self.bank).clamp_min(self.floor) + self.offset).transpose(1, 2)

    def forward(self, samples: Tensor) -> Tensor:
        return self.step(samples, self.init_state(len(samples)))


@dataclass
class EncoderState:
    """Of `encode_step`; `pending` is what doesn't fill a frame, [batch, samples]."""

    mel: ConvState
    stack: list[ConvState | None]
    pending: Tensor


@dataclass
class DecoderState:
    """Of `decode_step`; `latest` is the last latent [batch, 1, latent], `frames` how many came [batch], none once the
    stream has ended."""

    slow: list[ConvState | None]
    spectrum: ConvState
    fast: list[ConvState | None]
    source: SourceState
    latest: Tensor
    frames: Tensor


class MiniCodec(CodecModule):
    """Waveform to codes and back; `encode`, `decode` and, live, `encode_step`, `decode_step`; for training `latents`,
    `quantized`, `synthesize_guided`.

    Args:
        config: sizes.
    """

    family, config_class = FAMILY, MiniCodecConfig
    auxiliary_losses = ("voicing", "pitch")  # losses of `synthesize_guided`
    only_decode = ("slow.", "synthesis.", "spectrum.", "fast.", "wave.")

    def __init__(self, config: MiniCodecConfig):
        super().__init__(config)
        self.mel = LogMel(
            config.sample_rate, config.mel_window, config.hop, config.mels, config.mel_floor, config.mel_offset
        )
        patch, width = config.mels * config.spectra_per_frame, config.encoder_width
        self.analysis = nn.Linear(patch, config.latent)
        self.encoder = CausalStack()
        if config.encoder_depth:
            blocks = [ConvNeXtBlock(width) for _ in range(config.encoder_depth)]
            self.encoder = CausalStack(CausalConv1d(patch, width, 1), *blocks, CausalConv1d(width, config.latent, 1))
            nn.init.zeros_(self.encoder[-1].conv.weight)  # the linear encoder alone, to start with
            nn.init.zeros_(self.encoder[-1].conv.bias)
        self.semantic = ResidualQuantizer(config.latent, config.semantic_inner, 1, config.codebook_size)
        self.acoustic = ResidualQuantizer(config.latent, config.inner, config.codebooks - 1, config.codebook_size)
        d, (first, second) = config.decoder_widths, config.strides
        blocks = [[ConvNeXtBlock(width) for _ in range(depth)] for width, depth in zip(d, config.decoder_depths)]
        self.slow = CausalStack(
            CausalConv1d(config.latent, d[0], 7),
            *blocks[0],
            Upsample(d[0], d[1], first),
            *blocks[1],
            Upsample(d[1], d[2], second),
        )
        self.synthesis = nn.Linear(config.latent, patch)
        self.spectrum = CausalConv1d(config.mels, d[2], 7)
        self.fast = CausalStack(*blocks[2])
        self.wave = SourceFilter(d[2], 2 * config.hop, config.hop, config.sample_rate, config.contour_width)

    @property
    def settings(self) -> str:
        """What codes depend on beside the weights, for `antiphon.codecs.base.fingerprint`."""
        return f" offset {self.config.mel_offset}" if self.config.mel_offset else ""

    @property
    def delay(self) -> int:
        """Samples by which `decode_step` lags behind `decode`."""
        return self.wave.delay + self.config.look_ahead * self.config.hop

    def _padded(self, audio: Tensor) -> Tensor:
        """[batch, 1, samples] -> [batch, whole frames of samples]."""
        audio = self._checked(audio)
        return F.pad(audio[:, 0], (0, -audio.shape[-1] % self.config.samples_per_frame))

    def patches(self, audio: Tensor) -> Tensor:
        """audio [batch, 1, samples] -> log-mel spectra [batch, frames, spectra_per_frame * mels]."""
        return self._patches(self.mel(self._padded(audio)))

    def _patches(self, spectra: Tensor) -> Tensor:
        """[batch, mels, frames * spectra_per_frame] -> [batch, frames, spectra_per_frame * mels]."""
        return spectra.transpose(1, 2).unflatten(1, (-1, self.config.spectra_per_frame)).flatten(2)

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, 1, samples] -> [batch, frames, latent], before quantization."""
        patches = self.patches(audio)
        latents = self.analysis(patches)
        return latents + self.encoder(patches.transpose(1, 2)).transpose(1, 2) if len(self.encoder) else latents

    def quantize(self, latents: Tensor) -> Tensor:
        """[batch, frames, latent] -> codes [batch, codebooks, frames], the semantic one first."""
        semantic = self.semantic.encode(latents)
        return torch.cat([semantic, self.acoustic.encode(latents - self.semantic.decode(semantic))], dim=1)

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Latents [batch, frames, latent], each row through its first `used` [batch] codebooks, the semantic one in any
        case; differentiable. In training mode the codebooks learn."""
        if not self.acoustic.codebooks:
            return self.semantic.quantized(latents)
        semantic, *told = self.semantic.observe(latents)
        with torch.no_grad():
            rest = self.semantic.decode(semantic.codes)
        acoustic, *heard = self.acoustic.observe(latents - rest, None if used is None else (used - 1).clamp_min(0))
        if self.training:
            books = [*self.semantic.codebooks, *self.acoustic.codebooks]
            update_codebooks(books, told[0] + heard[0], told[1] + heard[1])
        sound = acoustic.latents
        if used is not None:
            sound = torch.where((used > 1)[:, None, None], sound, torch.zeros_like(sound))
        return Quantized(
            latents=semantic.latents + sound,
            codes=torch.cat([semantic.codes, acoustic.codes], dim=1),
            commitment=semantic.commitment + acoustic.commitment,
            codebook=semantic.codebook,
            first=semantic.latents,
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> [batch, frames, latent]."""
        latents = self.semantic.decode(codes[:, :1])
        return latents + self.acoustic.decode(codes[:, 1:]) if codes.shape[1] > 1 else latents

    def codebook_vectors(self) -> list[Tensor]:
        """What each code adds to the latent, [codebook_size, latent] a codebook."""
        return self.semantic.vectors() + self.acoustic.vectors()

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, 1, samples] -> codes [batch, codebooks, frames]; the last frame is padded with silence. The
        memory needed doesn't grow with the length."""
        levels, size = self._levels(codebooks), self.config.samples_per_frame
        pieces = self._checked(audio).split(PIECE * size, dim=-1)
        if audio.shape[-1] > 0 and len(pieces) == 1:
            return self.quantize(self.latents(audio))[:, :levels]
        codes = audio.new_empty((len(audio), levels, -(-audio.shape[-1] // size)), dtype=torch.long)
        state, last = self.init_state(len(audio)), len(pieces) - 1
        for i, piece in enumerate(pieces):
            codes[..., i * PIECE : (i + 1) * PIECE] = self.encode_step(piece, state, i == last, levels)
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, 1, frames * samples_per_frame]."""
        pieces = list(self.decode_pieces(codes))
        return torch.cat(pieces, dim=-1) if pieces else torch.zeros(len(codes), 1, 0, device=codes.device)

    @torch.no_grad()
    def decode_pieces(self, codes: Tensor) -> Iterator[Tensor]:
        """As `decode`, piece by piece, for what is too long to hold: [batch, 1, samples] each."""
        pieces = self._checked_codes(codes).split(PIECE, dim=-1)
        if len(pieces) == 1:
            if codes.shape[-1]:
                yield self.synthesize(self.dequantize(codes))
            return
        state, last = self.init_state(len(codes)), len(pieces) - 1
        for i, piece in enumerate(pieces):
            sound = self.decode_step(piece, state, i == last)
            yield sound[..., 0 if i else self.delay :]

    def _spectra(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, latent] -> log-mel spectra [batch, mels, frames * spectra_per_frame]."""
        return (
            self.synthesis(latents)
            .unflatten(2, (self.config.spectra_per_frame, self.config.mels))
            .flatten(1, 2)
            .transpose(1, 2)
        )

    def features(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, latent] -> what the waveform is made from [batch, width, frames *
        spectra_per_frame]."""
        return self.fast(self.slow(latents.transpose(1, 2)) + self.spectrum(self._spectra(latents)))

    def synthesize(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, latent] -> audio [batch, 1, samples]."""
        late, length = self.config.look_ahead * self.config.hop, latents.shape[1] * self.config.samples_per_frame
        latents = torch.cat([latents, latents[:, -1:]], dim=1)  # something to look at after the end
        return self.wave(self.features(latents))[:, None, late : late + length]

    def synthesize_guided(self, latents: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`synthesize` for training: the pulses have the target's pitch, so that the sound can be compared with it, and
        what the network says of the pitch is a matter of losses of its own.

        Args:
            latents: [batch, frames, latent].
            target: [batch, 1, samples], the sound that they are of.

        Returns:
            audio [batch, 1, samples], `look_ahead` spectral frames less than the target; losses voicing (nats, whether
            a voice sounds) and pitch (mean absolute difference of natural logarithms where it does; with a contour
            network, at `BETWEEN` of the weight, also where it doesn't, from a straight line between frames where it
            does: a frame that is wrongly taken for one of those is close then).
        """
        features, late, hop = self.features(latents), self.config.look_ahead, self.config.hop
        pitch = F.pad(estimate_pitch(self._padded(target), self.sample_rate, hop), (late, 0))[:, : features.shape[-1]]
        made = self.wave(features, pitch)[:, None, late * hop :]
        voiced, height = self.wave.height(features)
        sounds = pitch > 0
        between = BETWEEN if self.config.contour_width else 0.0  # a frame alone can't tell where the line stands
        counts = torch.where(sounds, 1.0, between) * sounds.any(-1, keepdim=True)
        return made, {
            "voicing": F.binary_cross_entropy_with_logits(voiced, sounds.float()),
            "pitch": ((height - contour_of(pitch)).abs() * counts).sum() / counts.sum().clamp_min(1),
        }

    def init_state(self, batch: int = 1) -> CodecState:
        """The state before the first sample of `batch` streams."""
        weight = self.analysis.weight
        encoder = EncoderState(self.mel.init_state(batch), self.encoder.init_state(batch), weight.new_zeros(batch, 0))
        parts = (self.slow, self.spectrum, self.fast, self.wave)
        latest = weight.new_zeros(batch, 1, self.config.latent)
        frames = torch.zeros(batch, dtype=torch.long, device=weight.device)
        return CodecState(encoder, DecoderState(*(part.init_state(batch) for part in parts), latest, frames))

    @torch.no_grad()
    def encode_step(self, audio: Tensor, state: CodecState, last: bool = False, codebooks: int | None = None) -> Tensor:
        """More audio [batch, 1, any number of samples] -> codes [batch, codebooks, whole frames so far]; see
        `StreamingCodec.encode_step`. `codebooks` as in `encode`."""
        levels, own = self._levels(codebooks), state.encoder
        audio, size = self._checked(audio, own.pending), self.config.samples_per_frame
        samples = torch.cat([own.pending, audio[:, 0]], dim=-1)
        if last:
            samples = F.pad(samples, (0, -samples.shape[-1] % size))
        whole = samples.shape[-1] // size * size
        own.pending = samples[:, whole:].clone()
        if not whole or not len(audio):
            return torch.zeros(len(audio), levels, 0, dtype=torch.long, device=audio.device)
        patches = self._patches(self.mel.step(samples[:, :whole], own.mel))
        latents = self.analysis(patches)
        if len(self.encoder):
            latents = latents + self.encoder.step(patches.transpose(1, 2), own.stack).transpose(1, 2)
        return self.quantize(latents)[:, :levels]

    @torch.no_grad()
    def decode_step(self, codes: Tensor, state: CodecState, last: bool = False) -> Tensor:
        """More codes [batch, 1 to codebooks, n] -> audio [batch, 1, n * samples_per_frame], `delay` samples late; with
        `last`, the `delay` samples that were held back follow."""
        own, sound = state.decoder, []
        if self._checked_codes(codes, own.frames).numel():
            latents = self.dequantize(codes)
            own.latest = latents[:, -1:].clone()
            own.frames = own.frames + codes.shape[-1]
            sound.append(self._synthesize_step(latents, own))
        if last and own.frames.any():
            sound.append(self._synthesize_step(own.latest, own)[..., : self.delay])
            own.frames = torch.zeros_like(own.frames)
        return torch.cat(sound, dim=-1) if sound else torch.zeros(len(codes), 1, 0, device=codes.device)

    def _synthesize_step(self, latents: Tensor, state: DecoderState) -> Tensor:
        x = self.slow.step(latents.transpose(1, 2), state.slow) + self.spectrum.step(
            self._spectra(latents), state.spectrum
        )
        return self.wave.step(self.fast.step(x, state.fast), state.source)[:, None]

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors (float16)."""
        weights = {key: value.half() for key, value in self.state_dict().items()}
        write(folder, {"family": FAMILY, **dataclasses.asdict(self.config)}, weights, TRAINING)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> MiniCodec:
        """Reads what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            HubError: the folder holds something else.
        """
        config = configured(MiniCodecConfig, read_config(folder), folder)
        codec = configured(cls, {"config": config}, folder)
        load_into(codec, read_weights(folder), folder, TRAINING)
        settle(codec)
        return codec.eval()
