"""The command line as a user meets it: exit codes, what goes to stdout and what to stderr, and what bad input gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from antiphon.cli.common import describe_timings, overrides, sampling
from antiphon.cli.talk import example_question
from antiphon.errors import ConfigError
from antiphon.train.config import find_recipe

Run = Callable[..., subprocess.CompletedProcess[str]]
Check = Callable[..., None]
ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command(antiphon: Run) -> None:
    done = antiphon("--help", COLUMNS="100")
    assert done.returncode == 0
    for command in "talk hear say chat duplex fetch train data eval info bench tokenize detokenize".split():
        assert f" {command} " in done.stdout
        assert antiphon(command, "--help").returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"], ["talk", "--help"], ["eval", "--help"]])
def test_what_needs_no_model_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from antiphon.cli import app
app({arguments}, standalone_mode=False)
heavy = ("torch", "numpy", "transformers", "av", "scipy", "onnxruntime")
print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_an_unknown_command_or_option_is_a_usage_error(antiphon: Run) -> None:
    for arguments in (("sing",), ("hear",), ("talk", "a.wav", "--louder")):
        done = antiphon(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""


def test_info_prints_the_cache_and_the_parts(antiphon: Run, tmp_path: Path) -> None:
    done = antiphon("info", "--json", tmp_path / "deep" / "info.json", ANTIPHON_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "cache") in done.stdout
    assert "whisper-base" in done.stdout
    found = json.loads((tmp_path / "deep" / "info.json").read_text())
    assert found["presets"]["mini"]["thinker"]["licence"] == "Apache-2.0"
    assert found["presets"]["mini"]["thinker"]["folder"] == ""
    takes = found["needs"]
    assert 0 < takes["mini"]["download_mb"] < takes["small"]["download_mb"] < takes["base"]["download_mb"]
    assert takes["base"]["download_mb"] < takes["base"]["disk_mb"]
    assert all(preset["fits"] == (preset["memory_mb"] <= found["memory_free_mb"]) for preset in takes.values())
    assert [name for name, preset in takes.items() if preset["default"]] in (["base"], ["small"])
    assert "preset base:" in done.stdout and "GB free" in done.stdout
    assert not (tmp_path / "cache").exists()


def test_version(antiphon: Run) -> None:
    done = antiphon("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == __import__("antiphon").__version__


def test_bad_recordings_get_one_line(antiphon: Run, assert_one_line_error: Check, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all\n" * 20)
    (tmp_path / "empty.wav").touch()
    for command in ("talk", "hear"):
        assert_one_line_error(antiphon(command, tmp_path / "missing.wav"), "missing.wav", "no such file")
        assert_one_line_error(antiphon(command, tmp_path / "text.wav"), "text.wav", "not a sound file")
        assert_one_line_error(antiphon(command, tmp_path / "empty.wav"), "empty.wav", "0 bytes")


def test_debug_shows_where_an_error_came_from(antiphon: Run, tmp_path: Path) -> None:
    done = antiphon("--debug", "hear", tmp_path / "missing.wav")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" in done.stderr
    assert "AudioError" in done.stderr


def test_silence_has_no_words_and_no_answer(antiphon: Run, assert_one_line_error: Check, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    done = antiphon("hear", tmp_path / "silent.wav", "--json", tmp_path / "heard.json")
    assert (done.returncode, done.stdout) == (0, "\n")
    assert "silent" in done.stderr
    assert json.loads((tmp_path / "heard.json").read_text())["heard"] == ""
    done = antiphon("talk", tmp_path / "silent.wav", "-o", tmp_path / "answer.wav")
    assert_one_line_error(done, "silent")
    assert not (tmp_path / "answer.wav").exists()


def test_a_bad_place_for_the_answer_is_told_before_the_work(
    antiphon: Run, assert_one_line_error: Check, tmp_path: Path, question: Path
) -> None:
    assert_one_line_error(antiphon("talk", question, "-o", tmp_path / "answer.mp3"), "answer.mp3", ".wav or .flac")
    assert_one_line_error(antiphon("say", "Hello.", "-o", tmp_path / "answer"), ".wav or .flac")
    assert_one_line_error(antiphon("say", " ... ", "-o", tmp_path / "answer.wav"), "nothing to say")
    assert_one_line_error(
        antiphon("say", "你好", "-o", tmp_path / "answer.wav"), "speaks English", "nothing of that text"
    )


def test_wrong_settings_get_one_line(
    antiphon: Run, assert_one_line_error: Check, tmp_path: Path, question: Path
) -> None:
    assert_one_line_error(antiphon("hear", question, "--part", "thinker"), "ROLE=FOLDER", "thinker")
    assert_one_line_error(antiphon("eval", "maxi"), "maxi", "assistant")
    assert_one_line_error(antiphon("train", tmp_path / "missing.yaml"), "missing.yaml", "no such recipe")


def test_options_become_what_the_model_takes() -> None:
    assert overrides(["brain=./a=b", "asr=x/y"]) == {"thinker": "./a=b", "asr": "x/y"}
    assert overrides(["llm=./a"]) == overrides(["thinker=./a"])
    assert overrides(None) == {}
    with pytest.raises(ConfigError):
        overrides(["=x"])
    assert sampling(0.0, None) == {"temperature": 0.0}
    assert describe_timings({"first_audio": 0.414, "total": 2.0}) == "first audio 0.41 s, total 2.00 s"


def test_what_ships_is_found(question: Path) -> None:
    assert example_question() == question
    recipes = sorted((ROOT / "recipes" / "mini").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert find_recipe(recipe) == recipe
        assert find_recipe(Path("mini") / recipe.stem) == recipe
        assert find_recipe(Path("recipes/mini") / recipe.name).samefile(recipe)
    assert find_recipe(Path("no/such")) == Path("no/such")


@pytest.mark.parametrize("which", ["assistant", "hearing", "mini", "duplex"])
def test_texts_that_are_not_there_are_told_before_anything_starts(
    antiphon: Run, assert_one_line_error: Check, tmp_path: Path, which: str
) -> None:
    done = antiphon("eval", which, "--texts", tmp_path / "none")
    assert_one_line_error(done, "--texts", "no such folder")
    assert len(done.stderr.splitlines()) == 1
