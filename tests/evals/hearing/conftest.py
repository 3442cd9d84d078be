"""Small recordings with labels, and an encoder that is quick to make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.evals.hearing.evaluation import HearingConfig, HearingEvaluation
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, SceneNetwork

LABELS = {
    "kind": ("speech", "music", "sound", "silence"), "event": ("dog", "rooster"), "feeling": ("happy", "sad"),
    "sex": ("female", "male"),
}  # fmt: skip


def tone(hertz: float, seconds: float, seed: int) -> Audio:
    draw = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    samples = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * draw.standard_normal(len(time))
    return Audio(torch.from_numpy(samples.astype(np.float32)), 16000)


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets in the layout of the real ones: happy people of EmoDB speak high, dogs bark low."""
    place = tmp_path_factory.mktemp("audio")
    rows: dict[str, list[dict]] = {"emodb": [], "esc10": []}
    for number in range(18):
        feeling, speaker = ("happy", "sad")[number % 2], ("emodb_03", "emodb_11", "emodb_12")[number % 3]
        about = {"speaker": speaker, "emotion": feeling, "language": "de", "text": "Satz"}
        about["gender"] = "m" if speaker == "emodb_11" else "f"
        rows["emodb"].append({"path": f"{number}.wav", **about, "hertz": 900 if feeling == "happy" else 200})
        event = ("dog bark", "rooster")[number % 2]
        about = {"events": [event], "fold": 1 + number % 4, "freesound_id": str(number)}
        rows["esc10"].append({"path": f"{number}.wav", **about, "hertz": 150 if number % 2 == 0 else 2000})
    for name, items in rows.items():
        (place / name).mkdir()
        for number, row in enumerate(items):
            tone(row.pop("hertz"), 0.8 + 0.1 * (number % 3), number).save(place / name / row["path"])
            row |= {"duration": 1.0, "licence": "CC0 1.0"}
        (place / name / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    return place


def tiny_encoder() -> WhisperBlockEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(width=16, layers=2, heads=2, inner=24, bands=8, positions=60, block=20, right=4)
    encoder = WhisperBlockEncoder(config)
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.2)
    return encoder.eval()


def tiny_listener() -> SceneListener:
    torch.manual_seed(0)
    sizes = dict(layers=3, features=16, bands=8, mixes=2, mixed=8, width=16, heads=2, inner=24, depth=1, window=4)
    return SceneListener(SceneNetwork(NetworkConfig(labels=LABELS, **sizes)))


@pytest.fixture
def evaluation(audio: Path, tmp_path: Path) -> HearingEvaluation:
    """An evaluation of a model that isn't there; what listens is `tiny_listener`."""
    config = HearingConfig(
        model="base", audio=audio, material=tmp_path / "made", keep=tmp_path / "kept", pictures=tmp_path / "pictures"
    )
    made = HearingEvaluation(config)
    made.encoder, made.listener = tiny_encoder(), tiny_listener()
    return made
