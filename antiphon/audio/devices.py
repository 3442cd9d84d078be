"""Microphone and speaker, where there is one: `pip install 'antiphon[mic]'`.

with microphone(16000) as frames:
    for frame in frames:            # [1280] float32, 80 ms
        ...
play(reply.audio)
with speaker(24000) as write:
    write(samples)                  # as they come; returns at once
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.errors import AudioError

FRAME_SECONDS = 0.08
MOST_AHEAD = 0.6  # seconds of sound that wait for the speaker at most


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError("No microphone or speaker support: install it with pip install 'antiphon[mic]'.") from error
    except OSError as error:  # the Python package is there, the C library is not
        raise AudioError(
            "The PortAudio library is missing: install it (on Debian and Ubuntu: apt install libportaudio2)."
        ) from error
    return sounddevice


def check_devices() -> None:
    """Tells before any work whether microphone and speaker are supported here.

    Raises:
        AudioError: no `sounddevice`, or it finds no PortAudio.
    """
    _sounddevice()


@contextmanager
def microphone(sample_rate: int = 16000, frame_seconds: float = FRAME_SECONDS) -> Iterator[Iterator[Tensor]]:
    """Opens the microphone; gives an endless iterator of frames `[samples]`, float32 in [-1, 1].

    Frames wait in a queue while the caller is busy: none is lost.

    Raises:
        AudioError: no `sounddevice`, or no microphone.
    """
    sounddevice = _sounddevice()
    frames: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    try:
        stream = sounddevice.InputStream(
            samplerate=sample_rate,
            blocksize=round(sample_rate * frame_seconds),
            channels=1,
            dtype="float32",
            callback=lambda block, count, time, status: frames.put(block[:, 0].copy()),
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"No microphone could be opened ({error}). Plug one in, or give a wav file.") from error

    def endless() -> Iterator[Tensor]:
        while True:
            yield torch.from_numpy(frames.get())

    with stream:
        yield endless()


def record(stop: threading.Event, sample_rate: int = 16000, max_seconds: float = 60.0) -> Audio:
    """Records from the microphone until `stop` is set, or for `max_seconds` at most."""
    kept: list[Tensor] = []
    seconds = 0.0
    with microphone(sample_rate) as frames:
        for frame in frames:
            kept.append(frame)
            seconds += frame.shape[0] / sample_rate
            if stop.is_set() or seconds >= max_seconds:
                break
    return Audio(torch.cat(kept), sample_rate)


def play(audio: Audio) -> None:
    """Plays through the speaker and returns when it has ended.

    Raises:
        AudioError: no `sounddevice`, or no speaker.
    """
    sounddevice = _sounddevice()
    try:
        sounddevice.play(audio.samples.detach().cpu().numpy().T, audio.sample_rate, blocking=True)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"No speaker could be opened ({error}). Save the answer to a file instead.") from error


@contextmanager
def speaker(sample_rate: int = 24000) -> Iterator[Callable[[Tensor], None]]:
    """Opens the speaker; gives a function that takes samples [n] to play, and returns at once.

    Where nothing waits, it is silent; where more than `MOST_AHEAD` seconds wait, the oldest are dropped, so that a
    conversation doesn't fall behind.

    Raises:
        AudioError: no `sounddevice`, or no speaker.
    """
    sounddevice = _sounddevice()
    waiting, lock, most = [np.zeros(0, np.float32)], threading.Lock(), round(MOST_AHEAD * sample_rate)

    def pull(block: np.ndarray, count: int, time: object, status: object) -> None:
        with lock:
            ready, waiting[0] = waiting[0][:count], waiting[0][count:]
        block[:] = 0
        block[: len(ready), 0] = ready

    def write(samples: Tensor) -> None:
        with lock:
            waiting[0] = np.concatenate([waiting[0], samples.detach().cpu().numpy()])[-most:]

    try:
        stream = sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32", callback=pull)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"No speaker could be opened ({error}). Plug one in, or give a wav file.") from error
    with stream:
        yield write
