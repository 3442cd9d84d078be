"""What the scene network sees: an audio encoder's layers, the level and the spectrogram, on one clock of 80 ms.

The layers and the spectrogram are those of the encoder that hears the words (`encoders/whisper`), from the same pass.
The spectrogram is scaled by the loudest sound so far, so the level stands beside it.

    features = extract(samples, encoder)          # whole recordings, as the encoder sees them live: in blocks

Live, the three come apart: samples and spectrogram at once, the layers when a block of the encoder is done. `gather`
keeps what is early.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder

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
        return SceneFeatures(
            self.layers[:, :, start:end],
            self.level[:, start:end],
            self.mel[:, :, MEL_PER_FRAME * start : None if end is None else MEL_PER_FRAME * end],
        )

    def then(self, other: SceneFeatures) -> SceneFeatures:
        """These frames and those of `other` behind them."""
        return SceneFeatures(
            torch.cat([self.layers, other.layers], 2),
            torch.cat([self.level, other.level], 1),
            torch.cat([self.mel, other.mel], 2),
        )


@dataclass
class GatherState:
    """What has come and can't be given yet; fields are replaced and never written into.

    Attributes:
        samples: of a frame that isn't whole, [batch, fewer than 1280].
        early: frames of which the layers are missing: `early.layers` has none; its `mel` may have more or fewer frames
            than its `level`.
    """

    samples: Tensor
    early: SceneFeatures

    @classmethod
    def empty(cls, encoder: EncoderConfig, batch: int = 1) -> GatherState:
        """Nothing has come."""
        layers = torch.zeros(batch, encoder.layers + 1, 0, encoder.width)
        early = SceneFeatures(layers, torch.zeros(batch, 0), torch.zeros(batch, encoder.bands, 0))
        return cls(torch.zeros(batch, 0), early)


def gather(samples: Tensor, mel: Tensor, layers: Tensor, state: GatherState, last: bool = False) -> SceneFeatures:
    """The frames that are whole now.

    Args:
        samples: new ones, [batch, n] at 16 kHz.
        mel: what the spectrogram gave of them, [batch, bands, m].
        layers: what the encoder gave, [batch, layers + 1, t, width].
        state: changed.
        last: the encoder starts afresh after this: a last frame may be shorter.
    """
    samples = torch.cat([state.samples, samples], 1)
    size = samples.shape[1] if last else samples.shape[1] // FRAME * FRAME
    early = state.early.then(SceneFeatures(layers, level(samples[:, :size]), mel))
    frames = early.layers.shape[2]
    if last:
        missing = max(0, MEL_PER_FRAME * frames - early.mel.shape[2])
        early.mel = F.pad(early.mel, (0, missing), mode="replicate") if missing else early.mel
        early.level = F.pad(early.level, (0, max(0, frames - early.level.shape[1])), value=SILENCE_DB)
    given = early.cut(0, frames)
    rest = early.cut(frames)
    empty = samples[:, :0], SceneFeatures(layers[:, :, :0], rest.level[:, :0], rest.mel[:, :, :0])
    state.samples, state.early = empty if last else (samples[:, size:], rest)
    return given


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


def extract(samples: Tensor, encoder: WhisperBlockEncoder, learns: bool = False) -> SceneFeatures:
    """Features of whole recordings of one length.

    Args:
        samples: [batch, n] at 16 kHz, n > 0.
        encoder: in blocks; it starts afresh after as many frames as it has positions.
        learns: gradients go back from the layers into the encoder.

    Returns:
        ceil(n / 1280) frames; the spectrogram's last ones are repeated to fill the last frame.
    """
    with torch.no_grad():
        spectrogram, loudness = mel.log_mel(samples, encoder.config.bands), level(samples)
        if not learns:
            layers = encoder.step_layers(spectrogram, encoder.init_state(len(samples)), last=True)[2]
    if learns:
        layers = encoder.layers_of(spectrogram)
    missing = MEL_PER_FRAME * loudness.shape[1] - spectrogram.shape[2]
    return SceneFeatures(layers, loudness, F.pad(spectrogram, (0, missing), mode="replicate"))
