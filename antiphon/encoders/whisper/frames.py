"""What Whisper's encoder makes of each 80 ms of sound, soon after they were heard: for models that go frame by frame.

    encoder = FrameEncoder.from_pretrained(folder, sample_rate=24000)
    state = encoder.init_state(batch=1)
    heard = encoder.step(samples, state)      # [1, 1920] samples -> [1, width], of the frame `delay` steps before
    encoder.whole(samples)                    # [n] at 16 kHz -> [frames, width], the same of a whole recording

The encoder runs in blocks of 80 ms that see the 80 ms after them, so a frame comes two steps late. Its four vectors of
20 ms stand side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.audio.resample import FrameResampler
from antiphon.encoders.whisper.encoder import EncoderState, WhisperBlockEncoder
from antiphon.nn.cpu import PackedLinear, PackedWeights

BLOCK = 4  # vectors of 20 ms in a frame
FRAME = BLOCK * 320  # samples of a frame, at 16 kHz
DELAY = 2  # steps until a frame is there
# Samples of silence before the first: with so many waiting, each frame completes 8 hops of the spectrogram, the first
# one, too, and what waits is always as much.
SILENT = mel.WINDOW - mel.HOP // 4


@dataclass
class FrameState:
    """Where signals stand, rows of a batch.

    Attributes:
        waiting: what the resampler still needs, [batch, samples].
        mel, encoder: of spectrogram and encoder.
        early: a frame that came before its time, [batch, width]: one that nothing follows within Whisper's 30 s.
        waits: whether there is one, [batch].
    """

    waiting: Tensor
    mel: mel.MelState
    encoder: EncoderState
    early: Tensor
    waits: Tensor


class FrameEncoder:
    """See the module.

    Args:
        encoder: in blocks of 4 that see 4 more.
        sample_rate: of what comes frame by frame, Hz.

    Attributes:
        width: of a frame's vector.
        delay: steps until a frame is there.
        frame_samples: of a frame, at the sample rate.
    """

    delay = DELAY

    def __init__(self, encoder: WhisperBlockEncoder, sample_rate: int = mel.SAMPLE_RATE) -> None:
        self.encoder, self.width = encoder, BLOCK * encoder.config.width
        self.resampler = FrameResampler(sample_rate, mel.SAMPLE_RATE)
        self.frame_samples = FRAME * sample_rate // mel.SAMPLE_RATE

    @classmethod
    def from_pretrained(cls, folder: Path | str, sample_rate: int = mel.SAMPLE_RATE) -> FrameEncoder:
        """With the encoder of a Whisper folder; errors as `WhisperBlockEncoder.from_pretrained`."""
        return cls(WhisperBlockEncoder.from_pretrained(folder, BLOCK, BLOCK).requires_grad_(False), sample_rate)

    def pack(self) -> FrameEncoder:
        """Keeps a second copy of the weights in float16, which a step of one conversation reads in half the time on a
        CPU.

        Published Whisper is in float16: nothing is lost.
        """
        linear = [module for module in self.encoder.modules() if isinstance(module, PackedLinear)]
        packed = PackedWeights(module.weight for module in linear)
        for module in linear:
            module.packed = packed
        return self

    def init_state(self, batch: int = 1) -> FrameState:
        """The state before the first frame."""
        weight = self.encoder.layer_norm.weight
        waits = torch.zeros(batch, dtype=torch.bool, device=weight.device)
        encoder = self.encoder.init_state(batch)
        encoder.cache.resize(self.encoder.config.positions)  # as much at first as ever, so that rows can join a batch
        return FrameState(
            self.resampler.init_state(batch, weight.device),
            self._mel_state(batch),
            encoder,
            weight.new_zeros(batch, self.width),
            waits,
        )

    @torch.no_grad()
    def step(self, samples: Tensor, state: FrameState) -> Tensor:
        """A frame in, a frame out.

        Args:
            samples: [batch, frame_samples].
            state: changed.

        Returns:
            [batch, width] of the frame `delay` steps before; zeros in the first steps.
        """
        bands = self.encoder.config.bands
        samples, state.waiting = self.resampler(samples, state.waiting)
        hops, state.mel = mel.step(samples, state.mel, bands=bands)
        features, counts = self.encoder.step(hops, state.encoder)
        new = F.pad(features, (0, 0, 0, 2 * BLOCK - features.shape[1])).unflatten(1, (2, BLOCK)).flatten(2)
        heard = torch.where(state.waits[:, None], state.early, new[:, 0])
        left = counts // BLOCK + state.waits.long() - 1  # frames beyond the one that is given
        state.early = torch.where(state.waits[:, None], new[:, 0], new[:, 1])
        state.waits = left > 0
        return heard

    @torch.no_grad()
    def whole(self, samples: Tensor) -> Tensor:
        """Every frame of a recording, in its place.

        Args:
            samples: [n] at 16 kHz, n > 0.

        Returns:
            [ceil(n / 1280), width].
        """
        frames = -(-len(samples) // FRAME)
        padded = F.pad(samples, (0, frames * FRAME - len(samples)))
        hops, _ = mel.step(padded[None], self._mel_state(1), bands=self.encoder.config.bands)
        return self.encoder.features_of(hops)[0].unflatten(0, (frames, BLOCK)).flatten(1)

    def _mel_state(self, batch: int) -> mel.MelState:
        start = mel.init_state(batch, self.encoder.layer_norm.weight.device)
        return replace(start, samples=start.samples.new_zeros(batch, SILENT), started=True)
