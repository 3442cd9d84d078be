"""The conversation in the terminal: commands are not turns, and missing support is told before a model is loaded."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from antiphon.cli import app, chat
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


@pytest.mark.parametrize("command", [["chat", "--mic"], ["chat", "--play"], ["talk", "--play"]])
def test_missing_support_is_told_before_a_model_is_loaded(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as if it were not installed
    monkeypatch.setattr("antiphon.load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(AudioError, match=r"pip install 'antiphon\[mic\]'"):
        CliRunner().invoke(app, command, catch_exceptions=False)
