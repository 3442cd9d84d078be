"""Runs the command line in a process of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import forked


def _antiphon(*arguments: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.antiphon(*map(str, arguments), stdin=stdin, environment=os.environ | environment)


def _assert_one_line_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("antiphon: ")
    for word in words:
        assert word in last


@pytest.fixture
def antiphon() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`antiphon("hear", path, stdin="", VARIABLE="value")`."""
    return _antiphon


@pytest.fixture
def assert_one_line_error() -> Callable[..., None]:
    """Checks that a run failed with one clear line that holds the given words, and nothing on stdout."""
    return _assert_one_line_error
