"""`antiphon hear`: many recordings, and sound that is coming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from antiphon.audio.io import Audio
from antiphon.cli import app, hear
from antiphon.dialogue.events import HeardEvent
from antiphon.models.asr.heard import Heard, Passage, Word


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four recordings, of which one is broken and one is silent."""
    for name in ("a", "b", "deep/c"):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        samples = torch.zeros(1600) if name == "b" else torch.full((1600,), 0.1)
        Audio(samples, 16000).save(tmp_path / "talks" / f"{name}.wav")
    (tmp_path / "talks" / "broken.wav").write_text("no sound")
    return tmp_path / "talks"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a model was asked to hear; it hears the file's name."""
    asked: list[str] = []

    def hears(file: Path, **how: Any) -> Heard:
        asked.append(Path(file).stem)
        words = (Word(asked[-1], 0.1, 0.4, 0.9),) if how["words"] else ()
        return Heard.of([Passage(asked[-1], end=0.5, language="en", words=words)], 0.5)

    model = SimpleNamespace(hear=hears)
    monkeypatch.setattr(hear, "load_model", lambda *_: (asked.append("loaded"), (model, 0.0))[1])
    return asked


def test_many_are_heard_with_one_model_and_the_broken_one_is_told(folder: Path, heard: list[str]) -> None:
    done = CliRunner().invoke(app, ["hear", str(folder)])
    assert done.stdout == f"{folder}/a.wav\ta\n{folder}/b.wav\t\n{folder}/deep/c.wav\tc\n"
    assert heard == ["loaded", "a", "c"], "nothing is to be heard in silence"
    assert (
        "1 of 4 recordings" in str(done.exception) and "broken.wav" in done.stderr and "(2 of 4, about" in done.stderr
    )


def test_each_gets_its_files_and_a_second_run_goes_on(folder: Path, heard: list[str], tmp_path: Path) -> None:
    (folder / "broken.wav").unlink()
    asked = ["hear", str(folder), "-o", str(tmp_path / "out"), "--format", "txt,srt,tsv,verbose_json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.exception
    files = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert files.keys() == {f"{name}.{end}" for name in ("a", "b", "deep/c") for end in ("txt", "srt", "tsv", "json")}
    assert set(done.stdout.split()) == {str(path) for path in files.values()}
    assert files["a.srt"].read_text() == "1\n00:00:00,100 --> 00:00:00,400\na\n\n"
    assert files["deep/c.tsv"].read_text() == "start\tend\ttext\n100\t400\tc\n"
    assert json.loads(files["a.json"].read_text())["words"][0]["word"] == "a"
    files["a.srt"].unlink()
    heard.clear()
    done = CliRunner().invoke(app, asked)
    assert heard == ["loaded", "a"] and "2 of 3 have their files already" in done.stderr
    heard.clear()
    CliRunner().invoke(app, [*asked, "--anew"])
    assert heard == ["loaded", "a", "c"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "srt"], "-o FOLDER"),
        (["--format", "txt,pdf"], "no form 'pdf'"),
        (["-o", "out", "--format", "json,verbose_json"], "the same file"),
        (["--mic"], "alone"),
        (["-"], "alone"),
    ],
)
def test_what_makes_no_sense_is_told_before_a_model_is_loaded(
    arguments: list[str], told: str, folder: Path, heard: list[str]
) -> None:
    done = CliRunner().invoke(app, ["hear", str(folder), *arguments])
    assert told in str(done.exception) and not heard


def test_the_words_of_a_pipe_come_turn_by_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Turns:
        def __init__(self, recognizer: Any, rate: int, options: Any):
            assert (rate, options) == (16000, ("ru", False))
            self.heard = 0

        def step(self, frame: torch.Tensor) -> HeardEvent | None:
            self.heard += len(frame)
            return HeardEvent("first") if self.heard == 1600 else None

        def finish(self) -> HeardEvent | None:
            return HeardEvent("last")

    def frames(*_: Any) -> Iterator[torch.Tensor]:
        yield from torch.zeros(2, 800)

    recognizer = SimpleNamespace(options=lambda language, translate: (language, translate))
    monkeypatch.setattr(hear, "load_model", lambda *_: (SimpleNamespace(recognizer=recognizer), 0.0))
    monkeypatch.setattr("antiphon.dialogue.transcriber.Transcriber", Turns)
    monkeypatch.setattr("antiphon.audio.piped.piped", frames)
    done = CliRunner().invoke(app, ["hear", "-", "--language", "ru"])
    assert done.stdout == "first\nlast\n", done.exception
