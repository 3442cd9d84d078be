"""Codecs that do little, for tests of what is around a codec."""

from __future__ import annotations

import random

import torch

from antiphon.codecs.base import CodecState
from antiphon.codecs.mini.model import MiniCodec, MiniCodecConfig
from antiphon.nn.state import fork, join, select


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


def follow_a_schedule(codec, seed: int, streams: int = 4) -> None:
    """Streams join a batch, change places in it, are forked, bring parts of frames and leave it, all at random: each
    gets the codes that it gets alone, and hears in all what `decode` gives."""
    draw, hop = random.Random(seed), codec.config.samples_per_frame
    torch.manual_seed(seed)
    lengths = [draw.randint(0, 20) * hop + draw.choice((0, draw.randint(0, hop))) for _ in range(streams)]
    audio = [torch.randn(1, codec.channels, length) for length in lengths]
    found: list[list[torch.Tensor]] = [[] for _ in audio]
    heard: list[list[torch.Tensor]] = [[] for _ in audio]
    at, coming, rows, waits = [0] * streams, list(range(streams)), [], 0
    state = codec.init_state(0)

    def step(state, rows, pieces, last=False) -> None:
        codes = codec.encode_step(pieces, state, last)
        sound = codec.decode_step(codes, state, last)
        for place, row in enumerate(rows):
            found[row].append(codes[place][:, codes[place, 0] >= 0])
            lacks = (codes.shape[-1] - found[row][-1].shape[-1]) * hop
            assert not sound[place, :, :lacks].any()
            heard[row].append(sound[place, :, lacks:])

    while coming or rows:
        waits = waits if rows else 0
        while coming and waits % hop == 0 and draw.random() < 0.5:
            rows.append(coming.pop())
            state = join([state, codec.init_state(1)])
        draw.shuffle(places := list(range(len(rows))))
        state, rows = select(state, places), [rows[place] for place in places]
        most = min((lengths[row] - at[row] for row in rows), default=0)
        size = min(most, draw.choice((0, 1, hop, hop - waits % hop, draw.randint(0, 3 * hop))))
        pieces = [audio[row][..., at[row] : at[row] + size] for row in rows]
        batch = torch.cat(pieces) if pieces else torch.zeros(0, codec.channels, size)
        other = fork(state)
        codec.decode_step(codec.encode_step(torch.randn_like(batch), other), other)  # a future that isn't gone on with
        step(state, rows, batch)
        at, waits = [place + size * (row in rows) for row, place in enumerate(at)], waits + size
        for row in [row for row in rows if at[row] == lengths[row]]:
            own = select(state, [rows.index(row)])
            step(own, [row], audio[row][..., :0], last=True)
            rest = [other for other in rows if other != row]
            state, rows = select(state, [rows.index(other) for other in rest]), rest
    for row, whole in enumerate(audio):
        codes = codec.encode(whole)
        assert torch.equal(torch.cat(found[row], -1), codes[0])
        sound = torch.cat(heard[row], -1)[:, codec.delay :]
        torch.testing.assert_close(sound, codec.decode(codes)[0], atol=1e-5, rtol=1e-4)
