"""Features for the recognizer: drawn by number and seed alone, and a killed run goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.data.speech import features
from antiphon.data.text.corpora import Sentence
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder

SENTENCES = [
    Sentence(str(i), text, "user", "test", "train")
    for i, text in enumerate(["Who is it?", "Yes.", "Two of them, please."])
]


def test_a_resumed_folder_equals_one_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD_SENTENCES", 2)
    torch.manual_seed(0)
    encoder = WhisperBlockEncoder(
        EncoderConfig(width=8, layers=1, heads=2, inner=8, positions=300, block=20, right=4)
    ).eval()
    config = features.ASR_AUGMENT
    features.make(tmp_path / "once", SENTENCES, encoder, 7, config, 4)
    for count in (2, 4):
        features.make(tmp_path / "twice", SENTENCES, encoder, 7, config, count)
    once, twice = (features.FeatureSet(tmp_path / name) for name in ("once", "twice"))
    said = once.utterances
    assert said == twice.utterances and said[0].voice != said[3].voice
    assert [u.id for u in said] == ["0-0", "1-1", "2-2", "0-3"]
    for a, b in zip(said, twice.utterances):
        left, right = once(a), twice(b)
        # Babble is made of the utterances before, of which a new run has none; these few draws have no babble.
        assert left.shape == (a.length, 8) and torch.equal(left, right)


def test_speakers_differ_and_stay_within_reason() -> None:
    drawn = [features.draw_voice(np.random.default_rng(seed)) for seed in range(300)]
    assert all(0.45 <= v["pitch"] <= 1.5 and 0.8 <= v["formant"] <= 1.2 and 0.8 <= v["speed"] <= 1.4 for v in drawn)
    assert 0.35 < np.mean([v["pitch"] < 0.75 for v in drawn]) < 0.55
