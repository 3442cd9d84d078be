"""What every encoder of speech shares: features a frame, of rows that may differ in length."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

FRAME_SAMPLES = 320  # of a frame of Whisper, HuBERT, wav2vec 2.0 and WavLM: 50 frames/s at 16 kHz


class SpeechFeatures(Protocol):
    """Speech to features.

    Attributes:
        sample_rate: of the audio, Hz.
        frame_rate: frames a second.
        width: features a frame.
    """

    sample_rate: int
    frame_rate: float
    width: int

    def __call__(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """audio [batch, samples], lengths [batch] in samples (None: all) -> features [batch, frames, width], zeros
        after a row's end; frames of each row [batch]."""


def length_mask(lengths: Tensor, longest: int) -> Tensor:
    """[batch] -> [batch, longest], True within a row's length."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def checked_lengths(audio: Tensor, lengths: Tensor | None) -> Tensor:
    """Lengths in samples [batch] of audio [batch, samples]; None stands for whole rows."""
    if audio.ndim != 2:
        raise ValueError(f"audio must be [batch, samples], got {list(audio.shape)}")
    if lengths is None:
        return torch.full((len(audio),), audio.shape[1], device=audio.device)
    if lengths.shape != audio.shape[:1] or int(lengths.max()) > audio.shape[1]:
        raise ValueError(f"lengths {lengths.tolist()} don't fit audio {list(audio.shape)}")
    return lengths.to(audio.device)
