"""An aligner whose features say outright which phone sounds: 20 ms of a level an eighth times its number."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.models.asr.phone_times import AlignerConfig, PhoneAligner
from antiphon.models.tts.phonemes import SILENCE, alphabet

A, B, C = (alphabet()[phone] for phone in "abk")


class Tones:
    """Features of a signal whose frames each hold one number: which phone sounds."""

    sample_rate, frame_rate, width = 16000, 50.0, 4

    def __call__(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        numbers = (8 * audio[:, ::320]).round().long()
        return torch.nn.functional.one_hot(numbers, 4).float(), torch.tensor([numbers.shape[1]])


def aligner() -> PhoneAligner:
    """One that hears number n as its column n."""
    made = PhoneAligner(AlignerConfig(width=4, around=0, hidden=4, phones=(SILENCE, A, B, C)), Tones())
    with torch.no_grad():
        for layer in (made.inward, made.outward):
            layer.weight.copy_(10 * torch.eye(4))
            layer.bias.zero_()
    return made.eval()


def sound(*numbers: int) -> Tensor:
    return torch.tensor(numbers).repeat_interleave(320) / 8
