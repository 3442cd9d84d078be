"""Log-mel: Whisper's numbers, and the same ones from pieces as from the whole."""

from __future__ import annotations

import random

import pytest
import torch

from antiphon.audio import mel


def speech_like(count: int, seed: int = 0) -> torch.Tensor:
    """[count]: a loud click at the start, then a tone that comes and goes in noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(count) / mel.SAMPLE_RATE
    samples = 0.4 * torch.sin(2 * torch.pi * 300 * time) * torch.sin(2 * torch.pi * 3 * time).clamp_min(0)
    samples = samples + 0.003 * torch.randn(count, generator=generator)
    samples[: min(count, 80)] += 0.9
    return samples.clamp(-1, 1)


def test_filters_and_values_are_whispers() -> None:
    from transformers import WhisperFeatureExtractor

    whisper = WhisperFeatureExtractor()
    assert torch.allclose(mel.mel_filters(80), torch.tensor(whisper.mel_filters.T).float(), atol=1e-6)
    samples = speech_like(16000)
    # The loudest value comes first, so the loudest so far is the loudest of all and the two definitions meet.
    samples[:800] = 0.95 * torch.sin(2 * torch.pi * 300 * torch.arange(800) / mel.SAMPLE_RATE)
    theirs = whisper(samples.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0, :, :100]
    ours = mel.log_mel(samples[None])[0]
    assert ours.shape == theirs.shape
    assert torch.allclose(ours[:, 5:], theirs[:, 5:], atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_give_what_the_whole_gives(seed: int) -> None:
    draw = random.Random(seed)
    signal = torch.stack([speech_like(9000 + seed, seed), speech_like(9000 + seed, seed + 50)])
    state, parts, at = mel.init_state(2), [], 0
    while at < signal.shape[1]:
        size = draw.choice([0, 1, 7, 160, 333, 2000])
        part, state = mel.step(signal[:, at : at + size], state)
        parts.append(part)
        at += size
    parts.append(mel.step(signal[:, :0], state, last=True)[0])
    whole = mel.log_mel(signal)
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-5)
    assert whole.shape[2] == -(-signal.shape[1] // 160)


def test_what_comes_later_changes_nothing() -> None:
    quiet = speech_like(8000) * 0.05
    louder = torch.cat([quiet, 0.9 * torch.sign(torch.randn(8000))])
    first, _ = mel.step(quiet[None], mel.init_state(1))
    both, _ = mel.step(louder[None], mel.init_state(1))
    assert torch.equal(first, both[:, :, : first.shape[2]])


@pytest.mark.parametrize("count", [0, 1, 159, 160, 200, 201, 401])
def test_short_signals(count: int) -> None:
    out = mel.log_mel(torch.ones(1, count) * 0.1)
    assert out.shape == (1, 80, -(-count // 160))
    assert torch.isfinite(out).all()


def test_silence_lies_at_the_floor() -> None:
    assert torch.allclose(mel.log_mel(torch.zeros(1, 3200)), torch.tensor((mel.FLOOR - 8.0 + 4.0) / 4.0))


def test_filters_that_were_made_while_listening_can_be_trained_through():
    with torch.inference_mode():
        made = mel.mel_filters(7, 64, 8000)
    power = torch.rand(33, 5, requires_grad=True)
    torch.matmul(made, power).square().sum().backward()
    assert power.grad is not None
