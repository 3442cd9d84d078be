"""Features of Whisper's encoder for whole recordings, and the log-mel spectrogram that it was trained on.

Every 30 s the encoder starts afresh, as Whisper does. The sound isn't padded to 30 s: the encoder sees what is there
and no more. Rows of a batch may differ in length: each gives what it gives alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import HOP, SAMPLE_RATE, WINDOW, mel_filters
from antiphon.encoders.base import FRAME_SAMPLES, checked_lengths, length_mask
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import ModelError


def whisper_mel(audio: Tensor, lengths: Tensor, bands: int = 80) -> Tensor:
    """Whisper's own log-mel spectrogram: what is under the loudest value of the *row* by more than 8 is cut off.

    Args:
        audio: [batch, samples] at 16 kHz.
        lengths: [batch], in samples; what follows is taken for silence.
        bands: 80, or 128 for Whisper large-v3.

    Returns:
        [batch, bands, 2 * ceil(samples / 320)], zeros after a row's last whole frame of the encoder.
    """
    frames = -(-audio.shape[1] // FRAME_SAMPLES)
    audio = audio * length_mask(lengths, audio.shape[1])
    audio = F.pad(audio, (0, frames * FRAME_SAMPLES - audio.shape[1] + WINDOW // 2))
    windows = F.pad(audio[:, None], (WINDOW // 2, 0), mode="reflect")[:, 0].unfold(1, WINDOW, HOP)[:, : 2 * frames]
    log = log_mel(windows, bands)
    mel = (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
    return (mel * length_mask(2 * -(-lengths // FRAME_SAMPLES), mel.shape[1])[:, :, None]).transpose(1, 2)


def log_mel(windows: Tensor, bands: int) -> Tensor:
    """Logarithms (base 10) of the mel bands of windows [..., 400]: [..., bands], before anything is cut off."""
    power = torch.fft.rfft(windows * torch.hann_window(WINDOW, device=windows.device)).abs().square()
    with torch.autocast(windows.device.type, enabled=False):  # a spectrum's range is too wide for bf16
        return torch.log10((power @ mel_filters(bands).to(windows.device).T).clamp_min(1e-10))


class WhisperFeatures(nn.Module):
    """Features of Whisper's encoder, 50 a second; see the module.

    Args:
        encoder: Whisper's.
        layer: whose output is taken, from 1; 0 for the input of the first; None for the encoder's output, which is
            the last layer's after a layer norm.
    """

    sample_rate, frame_rate = SAMPLE_RATE, SAMPLE_RATE / FRAME_SAMPLES

    def __init__(self, encoder: WhisperBlockEncoder, layer: int | None = None):
        super().__init__()
        if layer is not None and not 0 <= layer <= len(encoder.layers):
            raise ModelError(f"layer is {layer}; this Whisper has 0 to {len(encoder.layers)}")
        self.encoder, self.layer, self.width = encoder, layer, encoder.config.width

    @classmethod
    def from_pretrained(cls, folder: Path | str, layer: int | None = None) -> WhisperFeatures:
        """The features of a Whisper folder (see `WhisperBlockEncoder.from_pretrained`)."""
        return cls(WhisperBlockEncoder.from_pretrained(folder), layer)

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `SpeechFeatures`; a last frame that isn't full is filled up with silence."""
        lengths = checked_lengths(audio, lengths)
        frames, window = -(-lengths // FRAME_SAMPLES), self.encoder.config.positions
        out = audio.new_zeros(len(audio), -(-audio.shape[1] // FRAME_SAMPLES), self.width)
        for start in range(0, out.shape[1], window):
            rows = (frames > start).nonzero()[:, 0]
            if not len(rows):
                break
            left = (lengths[rows] - start * FRAME_SAMPLES).clamp_max(window * FRAME_SAMPLES)
            piece = audio[rows, start * FRAME_SAMPLES : start * FRAME_SAMPLES + int(left.max())]
            values = self._window(piece, left)
            out[rows, start : start + values.shape[1]] = values.to(out.dtype)
        return out * length_mask(frames, out.shape[1])[:, :, None], frames

    def _window(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """At most 30 s."""
        encoder, frames = self.encoder, -(-lengths // FRAME_SAMPLES)
        x = encoder.embed(whisper_mel(audio, lengths, encoder.config.bands))
        x = encoder.run(x, frames, last=self.layer)
        return encoder.layer_norm(x) if self.layer is None else x
