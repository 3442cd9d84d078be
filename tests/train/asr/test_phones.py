"""The aligner learns which phone sounds from speech whose phones' times are known, and finds them in other speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
import torch

from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.errors import ConfigError
from antiphon.models.asr.phone_times import PhoneAligner
from tests.encoders.test_features import whisper_folder
from tests.train.tiny import run_recipe

TONES = {"a": 300.0, "b": 900.0, "k": 2400.0}  # Hz that stand for a phone


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    with SpeechWriter(tmp_path / "speech", 24000) as writer:
        for number in range(12):
            said = [str(phone) for phone in draw.permutation(list("abk"))] * 2  # no two alike beside each other
            ends = 0.2 + np.cumsum(draw.uniform(0.1, 0.25, len(said)))
            time = np.arange(int(24000 * (ends[-1] + 0.2))) / 24000
            pitches = np.array([0.0, *(TONES[phone] for phone in said), 0.0])
            pitch = pitches[np.searchsorted([0.2, *ends], time, "right")]
            sound = 0.5 * np.sin(2 * np.pi * np.cumsum(pitch) / 24000) + 0.01 * draw.normal(size=len(time))
            about = {"phonemes": "".join(said), "phoneme_ends": ends.tolist(), "phonemes_start": 0.2}
            writer.add(Utterance(str(number), "t", "v", **about), sound)
    return tmp_path / "speech"


def test_the_recipe_learns_phones_and_their_times(speech: Path, tmp_path: Path) -> None:
    (features := tmp_path / "whisper").mkdir()
    whisper_folder(features)
    sizes = {"model__features": str(features), "model__layer": 2, "model__hidden": 16, "data__fewest": 5}
    folder = run_recipe(
        "mini/phone-times", tmp_path / "run", data__speech=[str(speech)], data__utterances=12, data__held_out=2,
        steps=200, batch=256, **sizes,
    )  # fmt: skip
    aligner, known = PhoneAligner.from_pretrained(folder), SpeechSet(speech)
    off = []
    for number, said in enumerate(known.utterances):
        samples = torch.from_numpy(soxr.resample(known.samples(number), 24000, 16000).astype(np.float32))
        found = aligner.align(samples, said.phonemes)
        off += [abs(end - true) for (_, _, end), true in zip(found[:-1], said.phoneme_ends)]
    assert np.mean(off) < 0.03

    with pytest.raises(ConfigError, match=r"data.held_out is 12 of 12"):
        run_recipe(
            "mini/phone-times", tmp_path / "none", data__speech=[str(speech)], data__utterances=12, data__held_out=12,
            **sizes,
        )  # fmt: skip
