"""The conversation in the terminal: commands are not turns, and missing support is told before a model is loaded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from antiphon.audio.io import Audio, load
from antiphon.cli import app, chat
from antiphon.dialogue.backend import check_voice
from antiphon.errors import AudioError


def test_commands_are_not_turns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def say_typed(text: str, seen: list[dict[str, str]]) -> SimpleNamespace:
        said.append(text)
        return SimpleNamespace(heard=text, text="Yes.", audio=None, timings={}, calls=())

    model = SimpleNamespace(chat=lambda **_: SimpleNamespace(say_typed=say_typed))
    monkeypatch.setattr(chat, "load_model", lambda *_: (model, 0.0))
    monkeypatch.setattr(sys, "stdin", io.StringIO("/help\n/sing loudly\nIs it so?\n/exit\nnever read\n"))
    chat.chat()
    out, told = capsys.readouterr()
    assert said == ["Is it so?"] and out == "Yes.\n"
    assert told.count("@file.wav") == 3 and "There is no command /sing." in told


def test_a_conversation_is_saved_forgotten_and_goes_on_in_another_voice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def say_typed(text: str, seen: list[dict[str, str]]) -> SimpleNamespace:
        audio = Audio(torch.ones(2400) / 2, 24000)
        return SimpleNamespace(heard=text, text=f"{text} indeed.", audio=audio, timings={}, calls=())

    def speak_as(name: str) -> None:
        check_voice(name, ("heart", "bella"))
        done.append(name)

    conversation = SimpleNamespace(say_typed=say_typed, speak_as=speak_as, forget=lambda: done.append("forgotten"))
    model = SimpleNamespace(chat=lambda **_: conversation, backend=SimpleNamespace(voices=("heart", "bella")))
    monkeypatch.setattr(chat, "load_model", lambda *_: (model, 0.0))
    lines = [
        "/save a.txt", "One", "/voice", "/voice bella", "/voice nobody", "Two", f"/save {tmp_path}/a.txt",
        f"/save {tmp_path}/a.wav", "/save a.doc", "/forget", f"/save {tmp_path}/b.txt", "Three",
        f"/save {tmp_path}/c.json",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    chat.chat(out=tmp_path / "kept", json=tmp_path / "all.json")
    told = capsys.readouterr().err
    assert done == ["bella", "forgotten"] and "There are: heart, bella." in told and "no voice 'nobody'" in told
    assert told.count("nothing to save yet") == 2 and "ends in .txt, .json, .wav or .flac" in told
    assert (tmp_path / "a.txt").read_text() == "You: One\nModel: One indeed.\n\nYou: Two\nModel: Two indeed.\n\n"
    assert load(tmp_path / "a.wav").duration == 0.1
    assert [each["heard"] for each in json.loads((tmp_path / "c.json").read_text())["turns"]] == ["Three"]
    assert len(json.loads((tmp_path / "all.json").read_text())["turns"]) == 3
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["turn-1.wav", "turn-2.wav", "turn-3.wav"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_lines_are_edited_at_a_terminal_and_called_back_later(tmp_path: Path) -> None:
    """Typed: "ab", the left key, "X"; then the up key twice in another conversation calls that line back."""
    pytest.importorskip("readline")
    code = (
        "import contextlib, sys; from pathlib import Path; from antiphon.cli.typed import editing, read_line\n"
        "with contextlib.redirect_stdout(sys.stderr), editing(('/help',), Path(sys.argv[1])):\n"
        "    while (line := read_line()) is not None: print(f'<{line}>', flush=True)\n"
    )

    def typed(*lines: bytes) -> str:
        mine, theirs = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "new" / "history")],
            stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        for number, line in enumerate(lines, 1):
            while shown.count(b"> ") < number:  # the prompt
                shown += os.read(mine, 1024)
            os.write(mine, line)
        threading.Thread(target=_drain, args=(mine,), daemon=True).start()
        return process.communicate(timeout=60)[1].decode()

    assert "<aXb>\n</help>" in typed(b"ab\x1b[DX\n", b"/he\t\n", b"\x04")
    assert "<aXb>" in typed(b"\x1b[A\x1b[A\n", b"\x04")


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 1024):
            pass


@pytest.mark.parametrize("command", [["chat", "--mic"], ["chat", "--play"], ["talk", "--play"]])
def test_missing_support_is_told_before_a_model_is_loaded(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as if it were not installed
    monkeypatch.setattr("antiphon.load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(AudioError, match=r"pip install 'antiphon\[mic\]'"):
        CliRunner().invoke(app, command, catch_exceptions=False)
