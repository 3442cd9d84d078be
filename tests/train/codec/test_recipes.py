"""The shipped recipes of codec families take two steps as they are written, on a few seconds of sound."""

from pathlib import Path

import numpy as np
import pytest

from antiphon.codecs import load
from antiphon.data.shards import ShardWriter, Utterance
from tests.encoders.test_features import whisper_folder
from tests.train.tiny import run_recipe


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    with ShardWriter(tmp_path / "speech", 16000) as writer:
        for index in range(4):
            writer.add(Utterance(str(index), "text", "v"), 0.1 * draw.standard_normal(19200))
    return tmp_path / "speech"


@pytest.mark.parametrize(
    "name", ["dac-tiny", "encodec-tiny", "mimi-tiny", "mimi-tiny-distilled", "speechtokenizer-tiny"]
)
def test_the_shipped_recipe_runs(speech: Path, tmp_path: Path, name: str) -> None:
    settings: dict[str, object] = {"data__speech": [str(speech)], "data__hours": None, "data__check": 1}
    if name in ("mimi-tiny-distilled", "speechtokenizer-tiny"):
        whisper_folder(tmp_path)
        settings |= {"model__teacher__name": str(tmp_path), "model__teacher__layer": 2}
    if name == "speechtokenizer-tiny":
        settings["model__codec__semantic"] = 16
    folder = run_recipe(f"codecs/{name}", tmp_path / "run", **settings)
    assert load(folder).codebooks == 8
