"""Having parts now, and a model where none is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from antiphon.cli import app, common
from antiphon.hub.fetch import cached_folder
from antiphon.hub.parts import QWEN_CODER_0_5B, SMART_TURN, WHISPER_BASE
from tests.hub.test_convert_gguf import theirs, write  # noqa: F401


@pytest.fixture
def whisper(cache: Path) -> Path:
    """The recognizer's part, as if it had been fetched, and the turn detector's."""
    for part in (SMART_TURN, WHISPER_BASE):
        folder = cached_folder(part)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    return folder


def test_a_thinker_is_taken_from_a_file(whisper: Path, theirs, tmp_path: Path) -> None:  # noqa: F811
    file = write(tmp_path / "mine.gguf", theirs)
    for again in (False, True):
        done = CliRunner().invoke(app, ["fetch", "small", "--from", str(file)], catch_exceptions=False)
        assert done.exit_code == 0
        folders = dict(line.split(": ") for line in done.stdout.splitlines())
        assert list(folders) == ["asr", "judge", "turns", "turn-taking", "scene", "thinker", "codec", "talker"]
        assert folders["asr"] == folders["judge"] == str(whisper)
        assert folders["thinker"] == str(cached_folder(QWEN_CODER_0_5B))
        assert json.loads(Path(folders["thinker"], "config.json").read_text())["hidden_size"] == 32
        assert ("small: 478 MB to fetch" in done.stderr) is not again
        assert ("is there already; delete" in done.stderr) is again


def test_a_file_that_is_not_there_is_a_usage_error(cache: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fetch", "small", "--from", str(tmp_path / "none.gguf")])
    assert done.exit_code == 2 and not cache.exists()


@pytest.mark.parametrize(("free", "name"), [(5_000_000_000, "base"), (3_000_000_000, "small")])
def test_the_memory_says_what_is_loaded_where_nothing_is_named(free, name, monkeypatch, capsys) -> None:
    monkeypatch.setattr("antiphon.hub.memory.free_memory", lambda: free)
    monkeypatch.setattr("antiphon.load", lambda name, **parts: SimpleNamespace(name=name, parts=parts))
    model, _ = common.load_model(None, ["thinker=./mine.gguf"], "cuda", "float16")
    assert (model.name, model.parts) == (name, {"device": "cuda", "dtype": "float16", "thinker": "./mine.gguf"})
    assert f"Loading {name}" in capsys.readouterr().err
    assert common.load_model("mini", None)[0].name == "mini"
