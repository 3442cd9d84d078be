"""EnCodec (Defossez et al. 2022, "High Fidelity Neural Audio Compression"): acoustic, any sound.

SEANet with an LSTM at the frame rate around a residual quantizer. Two kinds: causal and live (`Encodec`, the 24 kHz
model), or in chunks of a second, each brought to the same loudness (`ChunkedEncodec`, the 48 kHz stereo model).
`Encodec.from_pretrained` gives whichever a folder holds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.codecs.base import CodecState
from antiphon.codecs.encodec import weights as encodec_weights
from antiphon.codecs.module import CodecModule, fewer
from antiphon.hub.weights import configured, write
from antiphon.nn.quantize import Quantized, ResidualQuantizer
from antiphon.nn.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder, SeanetState
from antiphon.nn.state import in_groups

FAMILY = "encodec"


@dataclass
class EncodecConfig:
    """Sizes of an EnCodec; the defaults are those of `facebook/encodec_24khz`.

    Attributes:
        sample_rate: Hz.
        channels: of the audio.
        latent: width of latents and codes.
        filters, residual_layers, ratios, kernel, last_kernel, residual_kernel, dilation_growth, compress, causal,
            padding, shortcut, norm, lstm: of SEANet, see `SeanetConfig`. Reflect padding, the published habit, makes a
            stream wait for its first frames; a codec trained here may use "constant".
        codebooks, codebook_size: number of codebooks, and codes in each.
        normalize: each chunk is brought to a root mean square of 1, and its scale kept besides the codes.
        chunk_seconds, overlap: length of chunks, and the share of it in which one fades into the next; None for one
            chunk.
        level: root mean square of a chunk that is decoded without its scale.
        piece: frames that go through the network at once when a long signal is encoded or decoded.
    """

    sample_rate: int = 24000
    channels: int = 1
    latent: int = 128
    filters: int = 32
    residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    kernel: int = 7
    last_kernel: int = 7
    residual_kernel: int = 3
    dilation_growth: int = 2
    compress: int = 2
    causal: bool = True
    padding: str = "reflect"
    shortcut: bool = True
    norm: str | None = None
    lstm: int = 2
    codebooks: int = 32
    codebook_size: int = 1024
    normalize: bool = False
    chunk_seconds: float | None = None
    overlap: float | None = None
    level: float = 0.1
    piece: int = 150

    def __post_init__(self) -> None:
        self.ratios = tuple(self.ratios)
        _ = self.seanet  # refuses what makes no sense

    @property
    def live(self) -> bool:
        """Whether it can stream: nothing looks ahead, and the whole signal is one chunk."""
        return self.causal and not self.normalize and self.chunk_seconds is None

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.ratios)

    @property
    def chunk(self) -> int | None:
        """Samples a chunk."""
        return None if self.chunk_seconds is None else int(self.chunk_seconds * self.sample_rate)

    @property
    def stride(self) -> int | None:
        """Samples from chunk to chunk."""
        if self.chunk is None:
            return None
        return self.chunk if self.overlap is None else max(1, int((1.0 - self.overlap) * self.chunk))

    @property
    def seanet(self) -> SeanetConfig:
        return SeanetConfig(
            channels=self.channels, dimension=self.latent, filters=self.filters, residual_layers=self.residual_layers,
            ratios=self.ratios, kernel=self.kernel, last_kernel=self.last_kernel, residual_kernel=self.residual_kernel,
            dilation_growth=self.dilation_growth, compress=self.compress, causal=self.causal, padding=self.padding,
            shortcut=self.shortcut, norm=self.norm, lstm=self.lstm,
        )  # fmt: skip


class _Encodec(CodecModule):
    """What both kinds share; for training `latents`, `quantized`, `synthesize`."""

    def __init__(self, config: EncodecConfig):
        super().__init__(config)
        self.encoder, self.decoder = SeanetEncoder(config.seanet), SeanetDecoder(config.seanet)
        self.quantizer = ResidualQuantizer(config.latent, 0, config.codebooks, config.codebook_size)

    def codebooks_at(self, bandwidth: float) -> int:
        """How many codebooks a bandwidth in kbit/s allows."""
        bits = math.log2(self.codebook_size) * math.ceil(self.config.sample_rate / self.config.samples_per_frame)
        return min(max(1, int(bandwidth * 1000 // bits)), self.codebooks)

    def latents(self, audio: Tensor) -> Tensor:
        """audio [batch, channels, samples] -> [batch, frames, latent], before quantization; differentiable. Neither cut
        into chunks nor normalised."""
        return self.encoder(self._checked(audio))

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        """Latents [batch, frames, latent], each row through its first `used` [batch] codebooks; differentiable."""
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, latent] -> audio [batch, channels, frames * samples_per_frame]; differentiable."""
        return self.decoder(latents)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors in our own format."""
        skip = (".total", ".ready")  # follow from codes and usage
        write(folder, {"family": FAMILY, **dataclasses.asdict(self.config)}, self.state_dict(), skip)


@dataclass
class EncodecDecoderState:
    """Where a stream of codes stands.

    Attributes:
        seanet: of the decoder.
        late: the sound made but not yet given, [batch, channels, delay]; nothing, once the stream has ended.
    """

    seanet: SeanetState
    late: Tensor


class Encodec(_Encodec):
    """The causal kind: `encode` and `decode`, and live `encode_step` and `decode_step`.

    Where padding is "reflect", nothing is certain of a stream's first frames before `encoder.lead` samples have come;
    they then come all at once, and from there on nothing lags. Rows of a batch may be before and behind that point: the
    rows that have less to give than others have -1 on the left, and silence where these are decoded. The decoder lags
    by `delay` samples throughout.

    Args:
        config: sizes.
    """

    def __init__(self, config: EncodecConfig):
        if not config.live:
            raise ValueError("chunks, normalisation and convolutions that look ahead are ChunkedEncodec's")
        super().__init__(config)

    @property
    def delay(self) -> int:
        """Samples by which `decode_step` lags behind `decode`."""
        return max(self.decoder.lead - 1, 0) * self.config.samples_per_frame

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, channels, samples] -> codes [batch, codebooks, frames]; a last frame that isn't full is padded
        as the convolutions pad. The memory needed doesn't grow with the length."""
        levels, state = self._levels(codebooks), self.encoder.init_state(len(audio))
        pieces = self._checked(audio).split(self.config.piece * self.config.samples_per_frame, dim=-1)
        codes = [
            self.quantizer.encode(self.encoder.step(piece, state, number == len(pieces)), levels)
            for number, piece in enumerate(pieces, 1)
        ]
        return codes[0] if len(codes) == 1 else torch.cat(codes, dim=-1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, channels, frames * samples_per_frame]."""
        pieces = list(self.decode_pieces(codes))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def decode_pieces(self, codes: Tensor) -> Iterator[Tensor]:
        """As `decode`, piece by piece, for what is too long to hold: [batch, channels, samples] each."""
        pieces, state = self._checked_codes(codes).split(self.config.piece, dim=-1), self.decoder.init_state(len(codes))
        for number, piece in enumerate(pieces, 1):
            yield self.decoder.step(self.quantizer.decode(piece), state, number == len(pieces))

    def init_state(self, batch: int = 1) -> CodecState:
        """The state before the first sample of `batch` streams."""
        seanet = self.decoder.init_state(batch)
        late = next(self.parameters()).new_zeros(batch, self.channels, self.delay)
        return CodecState(self.encoder.init_state(batch), EncodecDecoderState(seanet, late))

    @torch.no_grad()
    def encode_step(self, audio: Tensor, state: CodecState, last: bool = False, codebooks: int | None = None) -> Tensor:
        """More audio [batch, channels, any number of samples] -> the codes that are now certain [batch, codebooks, n],
        with -1 on the left of rows that have fewer than others; see `StreamingCodec.encode_step`."""
        levels = self._levels(codebooks)
        latents = self.encoder.step(self._checked(audio, state.encoder.count), state.encoder, last)
        if isinstance(latents, Tensor):
            return self.quantizer.encode(latents, levels)
        longest = max(row.shape[1] for row in latents)
        codes = audio.new_full((len(latents), levels, longest), -1, dtype=torch.long)
        for row, own in enumerate(latents):
            codes[row, :, longest - own.shape[1] :] = self.quantizer.encode(own, levels)[0]
        return codes

    @torch.no_grad()
    def decode_step(self, codes: Tensor, state: CodecState, last: bool = False) -> Tensor:
        """More codes [batch, 1 to codebooks, n] -> audio [batch, channels, n * samples_per_frame], `delay` samples
        late; the last gives those too.

        Rows that have fewer frames than others have -1 on the left, as `encode_step` gives it, and get their sound on
        the right: behind samples_per_frame zeros for each frame that they lack, which are no part of it.
        """
        own, frames = state.decoder, codes.shape[-1]
        self._checked_codes(codes, own.seanet.count, least=-1)
        if not len(codes):
            return own.late.new_zeros(0, self.channels, 0)
        lacking, counts = self._lacking(codes), own.seanet.count.tolist()
        if not any(lacking) and len(set(counts)) == 1:
            return self._decode_together(codes, own, counts[0], last)
        length = frames * self.config.samples_per_frame + (own.late.shape[-1] if last else 0)

        def run(rows: list[int], part: EncodecDecoderState) -> Tensor:
            row = rows[0]
            sound = self._decode_together(codes[rows, :, lacking[row] :], part, counts[row], last)
            return F.pad(sound, (length - sound.shape[-1], 0))

        sounds, state.decoder = in_groups(own, list(zip(lacking, counts)), run)
        return torch.cat(sounds)

    def _lacking(self, codes: Tensor) -> list[int]:
        """How many frames each row lacks."""
        missing = codes < 0
        lacking = missing[:, 0].sum(-1)
        left = torch.arange(codes.shape[-1], device=codes.device) < lacking[:, None]
        if not torch.equal(missing, left[:, None].expand_as(missing)):
            raise ValueError("-1 stands for a frame that a row lacks: on the left, and in all codebooks")
        return lacking.tolist()

    def _decode_together(self, codes: Tensor, state: EncodecDecoderState, count: int, last: bool) -> Tensor:
        """Rows that have all collected `count` frames of their lead-in, and have all that many more."""
        hop = self.config.samples_per_frame
        length = codes.shape[-1] * hop
        # Of its first `delay` samples, which are silent, a stream has given those of the frames collected so far.
        held = self.delay if count >= self.decoder.lead else self.delay - count * hop
        fresh = self.decoder.step(self.quantizer.decode(codes), state.seanet, last)
        queue = torch.cat([state.late[..., :held], fresh], dim=-1)
        if last:
            state.late = queue[..., :0]
            return queue
        state.late = F.pad(queue[..., length:], (0, self.delay + length - queue.shape[-1]))
        return queue[..., :length]

    @classmethod
    def from_pretrained(cls, folder: Path | str, codebooks: int | None = None) -> Encodec | ChunkedEncodec:
        """Reads what `save_pretrained` wrote, or a folder of `facebook/encodec_24khz` or `_48khz`, in float32 and
        evaluation mode.

        Args:
            folder: where.
            codebooks: how many to keep; the rest needs no memory then.

        Returns:
            The kind that the folder holds.

        Raises:
            HubError: the folder holds something else.
        """
        return load(folder, codebooks)


class ChunkedEncodec(_Encodec):
    """The kind that looks ahead: the signal is cut into chunks of a second that overlap by a hundredth.

    Codes of the chunks stand one behind the other, so a second of sound has `frame_rate` frames, a few more than a
    second of a chunk; all chunks but the last have the same number, so that codes alone tell where each begins. What
    codes don't tell is how loud each chunk was: `encode_chunks` gives that besides, and `decode` takes it as `scales`.
    Without it, every chunk gets the loudness `config.level`. The training side (`latents`, `synthesize`) works on a
    chunk at whatever loudness it is given.

    Args:
        config: sizes.
    """

    @property
    def frame_rate(self) -> float:
        if self.config.stride is None:
            return super().frame_rate
        return self.config.sample_rate * self._frames / self.config.stride

    @property
    def _frames(self) -> int | None:
        """Frames of a full chunk."""
        return None if self.config.chunk is None else -(-self.config.chunk // self.config.samples_per_frame)

    @torch.no_grad()
    def encode_chunks(self, audio: Tensor, codebooks: int | None = None) -> tuple[Tensor, Tensor]:
        """Codes, and how loud each chunk was.

        Args:
            audio: [batch, channels, samples].
            codebooks: only that many of the first.

        Returns:
            codes [batch, codebooks, frames], scales [batch, chunks] (ones if the model doesn't normalise).
        """
        levels, length = self._levels(codebooks), self._checked(audio).shape[-1]
        chunk, stride = self.config.chunk or length, self.config.stride or length
        codes, scales = [audio.new_zeros((len(audio), levels, 0), dtype=torch.long)], []
        for offset in range(0, length, max(stride, 1)):
            part = audio[..., offset : offset + chunk]
            scale = part.new_ones(len(part))
            if self.config.normalize:
                scale = part.mean(dim=1).square().mean(dim=-1).sqrt() + 1e-8
                part = part / scale[:, None, None]
            codes.append(self.quantizer.encode(self.encoder(part), levels))
            scales.append(scale)
            if codes[-1].shape[-1] < (self._frames or 0):
                break  # it reaches to the end; another chunk would begin in it and tell nothing new
        scales = torch.stack(scales, dim=1) if scales else audio.new_zeros(len(audio), 0)
        return torch.cat(codes, dim=-1), scales

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, channels, samples] -> codes [batch, codebooks, frames], without the scales."""
        return self.encode_chunks(audio, codebooks)[0]

    @torch.no_grad()
    def decode(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, channels, samples].

        Args:
            codes: of `encode` or `encode_chunks`.
            scales: [batch, chunks], of `encode_chunks`; None for the same loudness throughout.

        Returns:
            What was encoded, its last frame filled.
        """
        parts = self._checked_codes(codes).split(self._frames or max(codes.shape[-1], 1), dim=-1)
        if scales is None:
            level = self.config.level if self.config.normalize else 1.0
            scales = torch.full((len(codes), len(parts)), level, device=codes.device)
        if scales.shape != (len(codes), len(parts)):
            raise ValueError(f"{len(codes)} x {len(parts)} chunks need as many scales, got {list(scales.shape)}")
        stride, longest = self.config.stride or 0, parts[0].shape[-1] * self.config.samples_per_frame
        total = stride * (len(parts) - 1) + parts[-1].shape[-1] * self.config.samples_per_frame
        # A triangle over each chunk: where two overlap, one fades out while the other fades in (linear overlap-add).
        window = 0.5 - (torch.linspace(0, 1, longest + 2, device=codes.device)[1:-1] - 0.5).abs()
        audio, weight = scales.new_zeros(len(codes), self.channels, total), window.new_zeros(total)
        for number, part in enumerate(parts):
            sound = self.decoder(self.quantizer.decode(part)) * scales[:, number, None, None]
            place = slice(number * stride, number * stride + sound.shape[-1])
            audio[..., place] += window[: sound.shape[-1]] * sound
            weight[place] += window[: sound.shape[-1]]
        return audio.div_(weight)

    @classmethod
    def from_pretrained(cls, folder: Path | str, codebooks: int | None = None) -> Encodec | ChunkedEncodec:
        """As `Encodec.from_pretrained`."""
        return load(folder, codebooks)


def load(folder: Path | str, codebooks: int | None = None) -> Encodec | ChunkedEncodec:
    """See `Encodec.from_pretrained`."""
    fields, weights = encodec_weights.read(folder, FAMILY)
    config = configured(EncodecConfig, fields, folder)
    config.codebooks = fewer(codebooks, config.codebooks)
    codec = configured(Encodec if config.live else ChunkedEncodec, {"config": config}, folder)
    encodec_weights.fill(codec, weights, folder)
    return codec.eval()
