"""What README and docs/ tell people to type works: every command's options exist, every import, and the Python runs."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    """The `antiphon ...` lines of a page, those that go on over several lines joined."""
    lines = (line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines())
    return [line.strip() for line in lines if line.strip().startswith("antiphon ")]


def understood(line: str) -> None:
    """Has the command line parse `antiphon ...`, without running it; raises what is wrong with it."""
    import typer

    from antiphon.cli import app

    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="antiphon")
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command = command.commands[words[0]]
        context = command.context_class(command, info_name=words.pop(0), parent=context)
    try:
        command.parse_args(context, words)
    except typer.Exit:  # --help
        pass
    except Exception as error:
        if "does not exist" not in str(error):  # the reader has the files
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    for line in commands(page):
        understood(line)


def test_a_command_that_is_not_there_is_found(tmp_path: Path) -> None:
    for wrong in ("antiphon tlak q.wav", "antiphon talk q.wav --ouptut a.wav", "antiphon talk q.wav --seed many"):
        page = tmp_path / "page.md"
        page.write_text(f"```bash\n{wrong}   # a comment\n```\n")
        with pytest.raises(Exception, match="tlak|ouptut|valid"):
            test_commands_are_understood(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_parses_and_its_imports_are_there(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = compile(block, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                if (name or "").startswith("antiphon"):
                    exec(ast.unparse(node), {})


class Speaker(list):
    """Plays nothing and keeps what it was given."""

    write = list.append


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "talk.md", "hear-and-say.md", "codecs.md"])
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: Path) -> None:
    """With a recorded question where a page has a microphone."""
    from antiphon.audio.io import load

    page = next(page for page in PAGES if page.name == name)
    monkeypatch.chdir(tmp_path)
    for file in ("question.wav", "recording.wav"):
        (tmp_path / file).write_bytes(question.read_bytes())

    @contextmanager
    def microphone(sample_rate: int) -> Iterator[Any]:
        samples = load(question, sample_rate=sample_rate).samples
        quiet = torch.zeros(2 * sample_rate)
        yield (frame.numpy() for frame in torch.cat([samples, quiet]).split(1920) if len(frame) == 1920)

    monkeypatch.setattr("antiphon.audio.devices.microphone", microphone)
    audio = torch.randn(1, 1, 24000) * 0.05
    given: dict[str, Any] = {
        "torch": torch, "audio": audio, "speaker": Speaker(), "microphone": list(audio.split(1920, -1)),
        "samples": audio[0, 0].numpy(),
    }  # fmt: skip
    for block in blocks(page, "python"):
        if "class Toy(" in block:  # its body stands in a test of its own
            continue
        block = block.replace('load("base"', 'load("small"')  # answers like it, and is fetched for the tests
        server = shlex.join([sys.executable, str(ROOT / "tests/dialogue/mcp_server.py")])
        block = block.replace('"http://localhost:8000/mcp"', repr(server))
        if name == "codecs.md":
            block = block.replace('"mimi"', '"mini"')  # the one that ships
            if "state_of_ann" in block:
                codec = given["codec"]
                given |= {"ann": audio, "bob": audio, "pieces": torch.cat([audio, audio])}
                given |= {"state_of_ann": codec.init_state(batch=1), "state_of_bob": codec.init_state(batch=1)}
        exec(compile(block, name, "exec"), given)
    if name == "README.md":
        assert "Rome" in given["reply"].text and (tmp_path / "answer.wav").stat().st_size > 1000
