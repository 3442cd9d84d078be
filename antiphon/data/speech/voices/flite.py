"""Flite's voices, small and quick: other people's ways to say things, for what must understand anybody."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import soundfile

from antiphon.data.speech.voices.base import Spoken
from antiphon.errors import DataError
from antiphon.models.tts.normalization.normalize import Normalizer

VOICES = ("awb", "rms", "slt", "kal16")  # a Scottish man, two Americans of CMU ARCTIC, and diphones


class FliteVoice:
    """One of the voices that come with the program `flite`. About 35 seconds of speech a second on one core, and
    more as diphones.

    Args:
        name: one of `VOICES`.

    Raises:
        DataError: there is no such voice, or `flite` is not installed.
    """

    sample_rate = 16000

    def __init__(self, name: str = VOICES[0]) -> None:
        if name not in VOICES:
            raise DataError(f"flite has no voice {name!r}: name one of {', '.join(VOICES)}.")
        if shutil.which("flite") is None:
            raise DataError("The voices flite:... need the program flite: apt install flite.")
        self.name = name

    def speak(self, text: str, seed: int = 0, speed: float = 1.0) -> Spoken:
        """Speaks a text, always the same way.

        Args:
            text: what to say.
            seed: passed over.
            speed: above 1 is faster.

        Returns:
            The speech, without phoneme times.

        Raises:
            DataError: flite failed.
        """
        said = Normalizer()(text)
        if not any(sign.isalnum() for sign in said):
            return Spoken(np.zeros(0, np.float32), self.sample_rate)
        options = ["-voice", self.name, "--setf", f"duration_stretch={1 / speed:.3f}"]
        made = subprocess.run(["flite", *options, "-t", said, "-o", "/dev/stdout"], capture_output=True)
        if made.returncode or not made.stdout:
            raise DataError(f"flite can't say {text!r}: {made.stderr.decode(errors='replace').strip()}")
        samples, rate = soundfile.read(io.BytesIO(made.stdout), dtype="float32")
        return Spoken(samples, rate)
