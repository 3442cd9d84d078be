"""How alike two voices are: the cosine of their speaker embeddings.

The network is Resemblyzer's (a GE2E speaker encoder, Wan et al. 2018: three LSTM layers over 40 mel bands, windows of
1.6 s) with the weights that ship in the package `resemblyzer`. Only that file is taken from there, so that neither
librosa nor a compiler is needed. Pauses are left in, where that package's own preparation cuts them out: the two
sounds that are compared here have the same ones.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.io import Audio
from antiphon.audio.mel import mel_filters
from antiphon.errors import EvalError

RATE = 16000
WINDOW, HOP, BANDS = 400, 160, 40
PIECE = 160  # frames of mel in a window
STEP = 77  # frames between two windows: 1.3 of them a second
COVERAGE = 0.75  # a last window that is less full than this is left out
LEAST_VOLUME = 10 ** (-30 / 20)  # root mean square of full scale; quieter clips are amplified to it


class SpeakerEncoder(nn.Module):
    """A clip's voice as a vector of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        """mels [B, PIECE, BANDS] -> [B, 256], none of it negative, each row of length 1."""
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.inference_mode()
    def embed(self, clip: Audio) -> Tensor:
        """The mean over windows of 1.6 s, [256], of length 1 (zeros for perfect silence)."""
        wave = clip.mono().resample(RATE).samples.float()
        volume = float(wave.square().mean().sqrt()) if wave.numel() else 0.0
        if 0.0 < volume < LEAST_VOLUME:
            wave = wave * (LEAST_VOLUME / volume)
        starts = windows(len(wave))
        end = (starts[-1] + PIECE) * HOP
        mel = power_mel(F.pad(wave, (0, max(0, end - len(wave)))))
        return F.normalize(self(torch.stack([mel[i : i + PIECE] for i in starts])).mean(0), dim=0)


def windows(samples: int) -> list[int]:
    """First frames of the windows over a clip; at least one."""
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - PIECE + STEP + 1), STEP))
    if len(starts) > 1 and (samples - starts[-1] * HOP) / (PIECE * HOP) < COVERAGE:
        starts.pop()
    return starts


def power_mel(wave: Tensor) -> Tensor:
    """[N] at 16 kHz -> power in mel bands [1 + N // HOP, BANDS], with zeros around the samples."""
    spectrum = torch.stft(
        wave, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )
    return (mel_filters(BANDS, WINDOW, RATE) @ spectrum.abs().square()).mT


@functools.cache
def encoder() -> SpeakerEncoder:
    """The trained network.

    Raises:
        EvalError: the package resemblyzer is not installed.
    """
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None:
        raise EvalError("Speaker similarity needs resemblyzer's weights: pip install --no-deps resemblyzer==0.1.4")
    path = Path(next(iter(spec.submodule_search_locations))) / "pretrained.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    model = SpeakerEncoder()
    model.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("similarity_")})
    return model.eval()


def speaker_similarity(clean: Audio, heard: Audio) -> float:
    """Cosine of the voices of two clips: 1 for the same sound; different people are mostly under 0.7."""
    model = encoder()
    return float(model.embed(clean) @ model.embed(heard))
