"""Microphone and speaker: absent ones give an error that says what to do."""

from __future__ import annotations

import sys

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
