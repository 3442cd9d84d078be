"""`antiphon talk` of several questions: one model, an answer for each; what can't be answered is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from antiphon.audio.io import Audio
from antiphon.cli import app, talk
from antiphon.errors import AntiphonError, ConfigError

SOUND = torch.sin(torch.arange(16000) / 8) / 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, samples in (("b", SOUND), ("a", SOUND), ("deep/c", 0 * SOUND)):
        Audio(samples, 16000).save(tmp_path / "questions" / f"{name}.wav")
    return tmp_path / "questions"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded: models that repeat what they hear, in the voice's own words."""
    loaded = []

    def reply(audio: Audio, seed: int = 0) -> SimpleNamespace:
        heard = f"level {audio.peak:.2f}"
        return SimpleNamespace(heard=heard, text="Yes.", audio=Audio(SOUND, 24000), timings={"total": 1.0}, scene=None)

    def load_model(name, part, device, dtype):
        loaded.append(name)
        return SimpleNamespace(reply=reply), 2.0

    monkeypatch.setattr(talk, "load_model", load_model)
    return loaded


def run(*arguments: object) -> list[str]:
    return CliRunner().invoke(app, [*map(str, ("talk", *arguments))], catch_exceptions=False).stdout.splitlines()


def test_a_folder_of_questions_gets_a_folder_of_answers(folder: Path, loads: list[str], tmp_path: Path) -> None:
    out, told = tmp_path / "out", tmp_path / "told.json"
    with pytest.raises(AntiphonError, match="1 of 3 questions could not"):
        run(folder, "-o", out, "--json", told)
    assert loads == [None], "one model for all"
    assert sorted(path.name for path in out.iterdir()) == ["a.wav", "b.wav"]
    answers = json.loads(told.read_text())["answers"]
    assert [Path(each["question"]).stem for each in answers] == ["a", "b"] and answers[0]["heard"] == "level 0.50"
    assert "load" in answers[0]["timings"] and "load" not in answers[1]["timings"]


def test_several_questions_need_a_folder_and_one_doesnt(folder: Path, loads: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say with -o FOLDER"):
        run(folder)
    assert not loads
    lines = run(folder / "a.wav", "-o", tmp_path / "one.wav")
    assert [line.split(":")[0] for line in lines] == ["heard", "answered", "wav", "timings"]
    assert run(folder / "a.wav", "-o", tmp_path)[2].endswith("a.wav")
