"""What the scene network sees: an audio encoder's layers, the level and the spectrogram, on one clock of 80 ms.

The layers and the spectrogram are those of the encoder that hears the words (`encoders/whisper`), from the same pass.
The spectrogram is scaled by the loudest sound so far, so the level stands beside it.

    features = extract(samples, encoder)          # whole recordings, as the encoder sees them live: in blocks
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder

FRAME = 1280  # samples of a frame at 16 kHz: 80 ms
FRAME_SECONDS = FRAME / mel.SAMPLE_RATE
MEL_PER_FRAME = FRAME // mel.HOP
SILENCE_DB = -90.0  # nothing counts as softer


@dataclass
class SceneFeatures:
    """Frames of 80 ms of recordings, rows of a batch.

    Attributes:
        layers: [batch, layers + 1, T, width], see `WhisperBlockEncoder.step_layers`.
        level: dB of full scale, [batch, T].
        mel: log-mel, [batch, bands, 8 T].
    """

    layers: Tensor
    level: Tensor
    mel: Tensor

    @property
    def frames(self) -> int:
        """T."""
        return self.level.shape[1]

    def cut(self, start: int, end: int | None = None) -> SceneFeatures:
        """Frames from `start` on, to before `end`."""
        last = self.frames if end is None else end
        return SceneFeatures(
            self.layers[:, :, start:last],
            self.level[:, start:last],
            self.mel[:, :, MEL_PER_FRAME * start : MEL_PER_FRAME * last],
        )

    def then(self, other: SceneFeatures) -> SceneFeatures:
        """These frames and those of `other` behind them."""
        return SceneFeatures(
            torch.cat([self.layers, other.layers], 2),
            torch.cat([self.level, other.level], 1),
            torch.cat([self.mel, other.mel], 2),
        )


def level(samples: Tensor) -> Tensor:
    """Root mean square of each 80 ms, in dB of full scale: [batch, n] at 16 kHz -> [batch, ceil(n / 1280)].

    The last frame is as long as the samples that are left.
    """
    frames = -(-samples.shape[1] // FRAME)
    squares = F.pad(samples.square(), (0, frames * FRAME - samples.shape[1])).unflatten(1, (frames, FRAME)).sum(2)
    sizes = torch.full((frames,), float(FRAME), device=samples.device)
    if frames:
        sizes[-1] = samples.shape[1] - (frames - 1) * FRAME
    return (10 * torch.log10(squares / sizes + 1e-12)).clamp_min(SILENCE_DB)


@torch.no_grad()
def extract(samples: Tensor, encoder: WhisperBlockEncoder) -> SceneFeatures:
    """Features of whole recordings of one length.

    Args:
        samples: [batch, n] at 16 kHz, n > 0.
        encoder: in blocks; it starts afresh after as many frames as it has positions.

    Returns:
        ceil(n / 1280) frames; the spectrogram's last ones are repeated to fill the last frame.
    """
    spectrogram = mel.log_mel(samples, encoder.config.bands)
    layers = encoder.step_layers(spectrogram, encoder.init_state(len(samples)), last=True)[2]
    loudness = level(samples)
    missing = MEL_PER_FRAME * loudness.shape[1] - spectrogram.shape[2]
    return SceneFeatures(layers, loudness, F.pad(spectrogram, (0, missing), mode="replicate"))
