"""Flite's voices: they speak, at the pace that is asked for; what is missing is said."""

import shutil

import numpy as np
import pytest

from antiphon.data.speech.voices.flite import VOICES, FliteVoice
from antiphon.errors import DataError


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(DataError, match="no voice 'nobody': name one of awb, rms"):
        FliteVoice("nobody")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="apt install flite"):
        FliteVoice()


@pytest.mark.slow
def test_they_speak_at_the_pace_that_is_asked_for():
    from antiphon.data.speech.speak import Speaker

    said = {}
    for name in VOICES:
        speaker = Speaker(f"flite:{name}")
        plain = {"speed": 1.0, "pitch": 1.0, "formant": 1.0}
        said[name] = spoken = speaker.speak("What time is it?", 5, plain)
        slow = speaker.speak("What time is it?", 5, {**plain, "speed": 0.7})
        assert 0.6 < len(spoken.samples) / spoken.sample_rate < 2.5 and 0.05 < np.abs(spoken.samples).max() <= 1.0
        assert 1.25 < len(slow.samples) / len(spoken.samples) < 1.6
    assert len({len(spoken.samples) for spoken in said.values()}) == len(VOICES)
    assert len(FliteVoice().speak("...").samples) == 0
