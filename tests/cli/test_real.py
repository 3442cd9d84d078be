"""The commands with the real model: what they print, what they write, and that they do the same thing twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.audio.io import load

Run = Callable[..., subprocess.CompletedProcess[str]]
Check = Callable[..., None]
pytestmark = pytest.mark.slow


def test_talk_answers_the_shipped_question(antiphon: Run, tmp_path: Path, question: Path) -> None:
    out = tmp_path / "answer.wav"
    done = antiphon("talk", question, "-m", "small", "-o", out, "--json", tmp_path / "talk.json")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["heard", "answered", "wav", "timings"]
    assert "italy" in lines["heard"].lower()
    assert len(lines["answered"].split()) >= 2
    assert Path(lines["wav"].strip()) == out
    audio = load(out)
    assert 0.5 < audio.duration < 30
    assert not audio.silent
    result = json.loads((tmp_path / "talk.json").read_text())
    assert result["heard"] == lines["heard"].strip()
    assert result["answered"] == lines["answered"].strip()
    assert result["timings"] and all(seconds >= 0 for seconds in result["timings"].values())
    # The same seed gives the same wav.
    again = tmp_path / "again.wav"
    assert antiphon("talk", question, "-m", "small", "-o", again).returncode == 0
    assert again.read_bytes() == out.read_bytes()


def test_hear_prints_the_words_alone(antiphon: Run, question: Path) -> None:
    done = antiphon("hear", question)
    assert done.returncode == 0, done.stderr
    words = done.stdout.lower().split()
    assert done.stdout.count("\n") == 1
    assert {"capital", "italy"} <= {word.strip(".?!,") for word in words}


def test_say_prints_the_path_alone(antiphon: Run, tmp_path: Path) -> None:
    out = tmp_path / "say.flac"
    done = antiphon("say", "The capital of Italy is Rome.", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert 0.8 < load(out).duration < 10


def test_chat_takes_typed_and_recorded_turns_and_survives_a_bad_one(
    antiphon: Run, tmp_path: Path, question: Path
) -> None:
    turns = f"What is the capital of France?\n@{tmp_path}/missing.wav\n@{question}\n/quit\nnever reached\n"
    done = antiphon("chat", "-m", "small", "-o", tmp_path, "--json", tmp_path / "chat.json", stdin=turns)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "chat.json").read_text())["turns"]
    assert len(result) == 2
    assert done.stdout.splitlines() == [turn["answered"] for turn in result]
    assert "missing.wav: no such file" in done.stderr
    assert load(tmp_path / "turn-1.wav").duration > 0.3
    assert "italy" in result[1]["heard"].lower()


def test_an_unknown_part_or_preset_gets_one_line(
    antiphon: Run, assert_one_line_error: Check, tmp_path: Path, question: Path
) -> None:
    assert_one_line_error(antiphon("hear", question, "-m", "no-such-model"), "no-such-model")
    assert_one_line_error(antiphon("hear", question, "--part", f"ears={tmp_path}"), str(tmp_path), "config.json")
    assert_one_line_error(antiphon("hear", question, "--part", "nose=mini"), "nose")
