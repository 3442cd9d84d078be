"""Codecs that do little, for tests of what is around a codec."""

from __future__ import annotations

import torch

from antiphon.codecs.base import CodecState
from antiphon.codecs.mini import MiniCodec, MiniCodecConfig


class Bytes:
    """Samples as 16 bits in two codebooks of 256: the upper byte alone is coarse, both together give the sound back.

    A frame is one sample, so that nothing is padded; it counts how much it is asked for.
    """

    sample_rate, channels, frame_rate, codebooks, codebook_size = 8000, 1, 8000.0, 2, 256

    def __init__(self) -> None:
        self.encoded = self.decoded = 0

    def encode(self, audio, codebooks=None):
        self.encoded += 1
        whole = ((audio[:, 0].clamp(-1, 1) + 1) * 32767.5).round().long()
        return torch.stack([whole // 256, whole % 256], dim=1)[:, :codebooks]

    def decode(self, codes):
        self.decoded += 1
        low = codes[:, 1] if codes.shape[1] > 1 else torch.full_like(codes[:, 0], 128)
        return ((codes[:, 0] * 256 + low) / 32767.5 - 1).float()[:, None]


class StreamingBytes(Bytes):
    """The same live; `pieces` says in what lengths it was fed."""

    delay = 0

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[tuple[int, bool]] = []

    def init_state(self, batch=1):
        return CodecState(None, None)

    def encode_step(self, audio, state, last=False):
        self.pieces.append((audio.shape[-1], last))
        return Bytes.encode(self, audio)

    def decode_step(self, codes, state, last=False):
        return self.decode(codes)


class Semantic(Bytes):
    """Codes that no sound can be made of."""

    decode = None


def tiny_mini(folder) -> None:
    """Writes a mini codec of random weights that any process can load."""
    torch.manual_seed(0)
    config = MiniCodecConfig(
        sample_rate=8000, hop=100, mels=16, mel_window=400, encoder_width=8, decoder_widths=(8, 8, 8),
        decoder_depths=(1, 1, 1), latent=8, semantic_inner=8, inner=8, codebooks=3, codebook_size=16,
    )  # fmt: skip
    codec = MiniCodec(config)
    for part in (codec.semantic, codec.acoustic):
        for buffer in part.buffers():
            if buffer.dtype.is_floating_point and buffer.ndim > 1:
                buffer.normal_()
    codec.save_pretrained(folder)
