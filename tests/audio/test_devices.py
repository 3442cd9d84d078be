"""Microphone and speaker: absent ones give an error that says what to do."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from antiphon.audio import devices
from antiphon.audio.io import Audio
from antiphon.errors import AudioError


def test_without_sounddevice_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # what an import of a missing package meets
    with pytest.raises(AudioError, match=r"antiphon\[mic\]"):
        devices.play(Audio(torch.zeros(10), 16000))
    with pytest.raises(AudioError, match=r"antiphon\[mic\]"), devices.microphone():
        pass


def test_the_speaker_plays_what_comes_and_drops_what_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, samplerate, channels, dtype, callback):
            self.pull = callback
            streams.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def played(count: int) -> list[float]:
        block = np.full((count, 1), 9.0, np.float32)
        streams[0].pull(block, count, None, None)
        return block[:, 0].tolist()

    streams: list[Stream] = []
    module = SimpleNamespace(OutputStream=Stream, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    with devices.speaker(10) as write:
        assert played(2) == [0, 0]  # nothing has come: silence
        write(torch.tensor([1.0, 2.0, 3.0]))
        assert played(2) == [1, 2] and played(2) == [3, 0]
        write(torch.arange(20.0))
        assert played(8) == [14, 15, 16, 17, 18, 19, 0, 0]  # 0.6 s wait at most
