"""The ten tasks, done as their page says: every command and every piece of Python, in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.docs.test_snippets import ROOT

PAGE = ROOT / "docs" / "ten-tasks.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.S | re.M)
TASKS = "Talk, Type, Interrupt, Change the voice, Subtitles, Train, Another thinker, Call a tool, In a notebook, Serve"


def tasks() -> dict[str, list[tuple[str, str]]]:
    """Of each task, by its title, the blocks: (language, text)."""
    parts = re.split(r"^## \d+\. (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {title: BLOCK.findall(part) for title, part in zip(parts[1::2], parts[2::2])}


def test_there_are_ten_and_each_has_its_steps() -> None:
    found = tasks()
    assert len(found) == 10 and all(found.values())
    assert all(title.startswith(begin) for title, begin in zip(found, TASKS.split(", ")))


def run(block: str) -> str:
    """The commands of a block, in this process; what they print."""
    from antiphon.cli import app

    printed = ""
    for line in block.splitlines():
        typed, _, line = line.rpartition(" | ")
        words = shlex.split(line, comments=True)
        if words[1] == "serve":  # which ends when it is told to: see `serving`
            continue
        told = shlex.split(typed)[1].encode().decode("unicode_escape") if typed else "/quit\n"
        done = CliRunner().invoke(app, words[1:], input=told)
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
        printed += done.output
    return printed


@pytest.mark.slow
def test_each_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: Path, mini: Any) -> None:
    from antiphon import hub
    from antiphon.audio.io import load
    from antiphon.serve.settings import ServeConfig
    from tests.serve.scripted import serving

    monkeypatch.chdir(tmp_path)
    Path("question.wav").write_bytes(question.read_bytes())
    Path("my-thinker").symlink_to(hub.folder("thinker", "small"))
    Path("recordings").mkdir()
    for number in range(12):
        Path("recordings", f"{number}.wav").write_bytes(question.read_bytes())
    given: dict[str, Any] = {}
    calls: list[Any] = []
    found = tasks()
    printed = dict.fromkeys(found, "")
    with serving(mini.backend, ServeConfig(port=0)) as (address, _):
        for title, blocks in found.items():
            for language, block in blocks:
                if language == "bash":
                    printed[title] += run(block)
                else:
                    exec(compile(block.replace("127.0.0.1:8000", address), title, "exec"), given)
                    calls += given["reply"].calls if "reply" in given else ()
    talk, typed, interrupt, voice, subtitles, train, thinker, tool, notebook, serve = found
    assert "Rome" in printed[talk] and load("answer.wav").duration > 0.5
    assert "Rome" in printed[typed] and load("answers/turn-1.wav").duration > 0.3
    assert given["heard"] >= 0.4, interrupt
    assert Path("hello.wav").read_bytes() != Path("good-morning.wav").read_bytes(), voice
    assert len(list(Path("subtitles").glob("*.srt"))) == 12, subtitles
    assert "capital of Italy" in Path("subtitles/0.srt").read_text()
    assert list(Path("runs/codec/model").glob("*.safetensors")) and any(Path("codes").iterdir()), train
    assert load("other.wav").duration > 0.3 and "heard" in printed[thinker]
    assert calls[0].call.name == "get_weather" and not calls[0].error, tool
    assert "Rome" in given["reply"].text, notebook
    assert Path("rome.mp3").stat().st_size > 1000, serve
