"""Echo cancellation: the loudspeaker's sound goes, the user's stays, whatever the frames' sizes."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from antiphon.audio.echo import EchoCanceller
from antiphon.errors import AudioError

RATE = 16000


def speech_like(seconds: float, seed: int) -> torch.Tensor:
    """Noise with speech's slope and syllables, [n]."""
    generator = np.random.default_rng(seed)
    count = round(seconds * RATE)
    noise = np.cumsum(generator.standard_normal(count))
    noise = np.diff(noise - np.convolve(noise, np.ones(160) / 160, "same"), prepend=0.0)
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * np.arange(count) / RATE + generator.uniform(0, 6)), 0, None)
    noise = noise * syllables
    return torch.from_numpy((0.2 * noise / np.abs(noise).max() * 3).clip(-0.9, 0.9).astype(np.float32))


def room(seed: int, delay: float) -> torch.Tensor:
    """What a loudspeaker and a small room do, [taps]."""
    generator = np.random.default_rng(seed)
    tail = generator.standard_normal(RATE // 10) * np.exp(-np.arange(RATE // 10) / (0.02 * RATE))
    tail[0] = 3.0
    return torch.from_numpy(np.concatenate([np.zeros(round(delay * RATE)), 0.1 * tail]).astype(np.float32))


def echo_of(played: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    size = len(played) + len(response)
    spectrum = torch.fft.rfft(played, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[: len(played)]


def level(samples: torch.Tensor) -> float:
    return 10 * float(torch.log10(samples.double().square().mean() + 1e-12))


def through(microphone: torch.Tensor, played: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    canceller, out, at = EchoCanceller(RATE), [], 0
    while at < len(microphone):
        size = sizes[len(out) % len(sizes)]
        out.append(canceller.step(microphone[at : at + size], played[at : at + size]))
        at += size
    return torch.cat(out)


@pytest.mark.parametrize("delay", [0.06, 0.25])
def test_the_echo_goes(delay: float) -> None:
    pytest.importorskip("livekit.rtc")
    played = speech_like(10, 0)
    echo = echo_of(played, room(1, delay))
    left = through(echo, played, (1280,))
    last = slice(7 * RATE, 10 * RATE)
    assert level(echo[last]) > -45
    assert level(left[last]) < level(echo[last]) - 20


def test_a_user_who_speaks_meanwhile_stays() -> None:
    pytest.importorskip("livekit.rtc")
    played, user = speech_like(10, 0), torch.zeros(10 * RATE)
    user[7 * RATE : 8 * RATE] = speech_like(1, 5)
    echo = echo_of(played, room(1, 0.1))
    left = through(echo + user, played, (1280,))
    spoken = slice(7 * RATE, 8 * RATE)
    assert level(left[spoken]) > level(user[spoken]) - 8


def test_any_sizes_of_frames_give_the_same() -> None:
    pytest.importorskip("livekit.rtc")
    played = speech_like(2, 0)
    echo = echo_of(played, room(1, 0.1))
    assert torch.equal(through(echo, played, (1280,)), through(echo, played, (7, 160, 1999, 0, 33)))


def test_without_a_loudspeaker_the_user_comes_10_ms_later() -> None:
    pytest.importorskip("livekit.rtc")
    user = speech_like(3, 3)
    out = through(user, torch.zeros_like(user), (1280,))
    assert len(out) == len(user) and not out[:160].any()
    assert abs(level(out[RATE:]) - level(user[RATE:])) < 1.5


def test_channels_of_two_lengths_are_refused() -> None:
    pytest.importorskip("livekit.rtc")
    with pytest.raises(AudioError, match="one length"):
        EchoCanceller(RATE).step(torch.zeros(160), torch.zeros(80))
    with pytest.raises(AudioError, match="44100"):
        EchoCanceller(44100)


def test_where_it_is_not_installed_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name.startswith("livekit"):
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(AudioError, match=r"antiphon\[echo\]"):
        EchoCanceller(RATE)
