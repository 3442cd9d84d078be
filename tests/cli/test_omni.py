"""A folder of Qwen2.5-Omni on the command line: `talk`, `chat` and `serve` take it as they take a preset."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from antiphon.audio import io
from antiphon.cli import app
from antiphon.models.omni.packing import pack
from tests.models.omni.tiny import talking


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("omni") / "Qwen2.5-Omni-tiny"
    talking(ends=True).save(path)
    torch.manual_seed(0)
    io.Audio(0.1 * torch.randn(12000), 24000).save(path / "question.wav")
    Image.new("RGB", (80, 60), "red").save(path / "red.png")
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its talker never ends by itself."""
    monkeypatch.setattr("antiphon.models.omni.speech.PATIENCE", (1, 50))


def test_talk_answers_a_recording_about_a_picture_in_a_voice(folder: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "answer.wav", tmp_path / "a.json"
    plain = ["talk", folder / "question.wav", "-m", folder, "-o", out, "--json", told]
    answers = []
    for more in ([], ["--picture", folder / "red.png"], ["--voice", "anna"], ["--picture", folder / "question.wav"]):
        done = CliRunner().invoke(app, [*map(str, [*plain, *more])], catch_exceptions=False)
        assert done.exit_code == 0 and "heard:" not in done.stdout, done.stderr
        answers.append(re.search(r"answered: (.+)", done.stdout)[1])
        result = json.loads(told.read_text())
        assert result["answered"] == answers[-1] and result["heard"] == ""
        assert io.load(out).duration == pytest.approx(result["seconds"], abs=0.01) and result["seconds"] > 0.9
    assert answers[0] == answers[2] != answers[1] and answers[3] != answers[0]


def test_a_packed_folder_talks(folder: Path, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "packed")
    command = ["talk", folder / "question.wav", "-m", packed, "-o", tmp_path / "answer.wav"]
    done = CliRunner().invoke(app, [*map(str, command)], catch_exceptions=False)
    assert done.exit_code == 0 and re.search(r"answered: (.+)", done.stdout), done.stderr
    assert io.load(tmp_path / "answer.wav").duration > 0.9


def test_what_it_cannot_do_is_told_on_one_line(folder: Path, tmp_path: Path, antiphon, assert_one_line_error) -> None:
    plain = ["talk", folder / "question.wav", "-m", folder, "-o", tmp_path / "answer.wav"]
    assert_one_line_error(antiphon(*plain, "--voice", "bert"), "no voice 'bert'", "there are: anna")
    server = f"{sys.executable} -m tests.dialogue.mcp_server"
    assert_one_line_error(antiphon(*plain, "--mcp", server), "can't call functions")
    assert_one_line_error(antiphon(*plain, "--picture", folder / "tokenizer.json"), "no picture that can be read")


def test_chat_is_shown_a_picture_and_remembers_it(folder: Path, tmp_path: Path) -> None:
    lines = f"/picture {folder / 'red.png'}\n/picture nowhere.png\nthe cat\n@{folder / 'question.wav'}\n/quit\n"
    command = ["chat", "-m", str(folder), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "chat.json")]
    done = CliRunner().invoke(app, command, input=lines, catch_exceptions=False)
    turns = json.loads((tmp_path / "chat.json").read_text())["turns"]
    assert [turn["heard"] for turn in turns] == ["the cat", ""] and done.exit_code == 0
    assert all(Path(turn["wav"]).is_file() for turn in turns)
    assert "1 to be seen" in done.stderr and "nowhere.png" in done.stderr and "2 to be seen" not in done.stderr


@pytest.mark.slow
def test_serve_answers_openais_clients(folder: Path) -> None:
    import httpx2 as httpx

    program = [sys.executable, "-m", "antiphon.cli", "serve", "-m", str(folder), "--port", "0"]
    server = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        shown = "".join(server.stdout.readline() for _ in range(3))
        url = re.search(r"clients:\s+(\S+)/v1", shown)[1]
        assert httpx.get(f"{url}/health", timeout=20).json()["voices"] == ["anna"]
        asked = {"messages": [{"role": "user", "content": "the cat"}], "modalities": ["text", "audio"]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=100).json()
        assert answer["choices"][0]["message"]["audio"]["data"]
        server.terminate()
        server.wait(timeout=30)
    finally:
        server.kill()
        server.wait()
