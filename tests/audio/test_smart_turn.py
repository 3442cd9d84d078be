"""The published turn detector: the same answers as its own package gives, whatever the sound."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from antiphon.audio.io import load
from antiphon.audio.smart_turn import SAMPLES, SmartTurn, features
from antiphon.errors import ModelError
from antiphon.hub.fetch import fetch
from antiphon.hub.parts import SMART_TURN
from tests.conftest import ROOT


def sounds() -> list[torch.Tensor]:
    said = load(ROOT / "examples" / "question.wav", sample_rate=16000).mono().samples
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    return [said, said[:16000], torch.cat([said, torch.zeros(3200)]), 0.1 * noise, torch.cat([said] * 4), said[:100]]


@pytest.mark.parametrize("number", range(6))
def test_its_features_are_those_of_whisper_over_the_last_eight_seconds(number: int) -> None:
    from transformers import WhisperFeatureExtractor

    theirs = WhisperFeatureExtractor(chunk_length=8)
    samples = sounds()[number]
    last = np.pad(samples.numpy()[-SAMPLES:], (SAMPLES - min(SAMPLES, len(samples)), 0))
    wanted = theirs(last, sampling_rate=16000, do_normalize=True, return_tensors="pt").input_features[0]
    torch.testing.assert_close(features(samples), wanted, rtol=0, atol=5e-3)


def test_of_nothing_it_sees_silence() -> None:
    assert features(torch.zeros(0)).shape == (80, 800) and features(torch.zeros(500)).isfinite().all()


def test_a_folder_without_the_network_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="smart-turn.onnx is missing"):
        SmartTurn(tmp_path)
    (tmp_path / "smart-turn.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="can't be read"):
        SmartTurn(tmp_path)


@pytest.mark.slow
def test_it_says_what_its_own_package_says() -> None:
    v3 = pytest.importorskip("pipecat.audio.turn.smart_turn.local_smart_turn_v3")
    ours, theirs = SmartTurn(fetch(SMART_TURN)), v3.LocalSmartTurnAnalyzerV3()
    for samples in sounds():
        wanted = theirs._predict_endpoint(samples.numpy())["probability"]
        assert ours.probability(samples) == pytest.approx(wanted, abs=5e-3)  # 8-bit steps of features 1e-5 apart
    assert copy.deepcopy(ours) is ours


@pytest.mark.slow
def test_a_question_is_over_at_its_end_and_not_in_its_middle() -> None:
    said, quiet, detector = sounds()[0], torch.zeros(3200), SmartTurn(fetch(SMART_TURN))
    assert detector.probability(torch.cat([said, quiet])) > 0.9
    assert detector.probability(said[:16000]) < 0.5
