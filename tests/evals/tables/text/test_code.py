"""Code that a model wrote runs apart from everything else, and is right where the set's tests say so."""

from __future__ import annotations

import base64
import json
import pickle
import sys
import zlib
from pathlib import Path

import pytest

from antiphon.errors import EvalError
from antiphon.evals.tables.text import code, sandbox
from antiphon.evals.tables.text.code import humaneval, livecodebench, mbpp, multipl_e, python, runs_here
from antiphon.evals.tables.text.sandbox import Limits, run_confined

QUICK = Limits(seconds=2, memory=512 << 20, file=1 << 20)
PROBLEM = {
    "prompt": "def double(x):\n    '''Twice as much.'''\n", "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}  # fmt: skip


def test_there_is_no_network() -> None:
    outcome = python("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)", limits=QUICK)
    assert not outcome.passed and "unreachable" in outcome.why.lower()


def test_nothing_can_be_written_but_in_its_own_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    outcome = python(f"open('own.txt', 'w').write('x')\nopen({str(kept)!r}, 'w').write('gone')", limits=QUICK)
    assert not outcome.passed and "read-only" in outcome.why.lower()
    assert kept.read_text() == "mine"
    assert python("open('own.txt', 'w').write('x')", limits=QUICK).passed


@pytest.mark.parametrize(
    "program, why",
    [
        ("while True: pass", ""),
        ("import time; time.sleep(60)", "time was over"),
        ("x = 'x' * (1 << 31)", "MemoryError"),
        ("open('big', 'w').write('x' * (1 << 22))", "File too large"),
    ],
)
def test_a_program_that_takes_too_much_is_stopped(program: str, why: str) -> None:
    outcome = python(program, limits=QUICK)
    assert not outcome.passed and why in outcome.why


def test_what_a_program_began_ends_with_it(tmp_path: Path) -> None:
    lasting = "[sys.executable, '-c', 'import time; time.sleep(987)'], start_new_session=True"
    program = f"import subprocess, sys\nsubprocess.Popen({lasting})"
    assert python(program, limits=QUICK).passed
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"time.sleep(987)" in command for command in commands)


def test_where_it_cannot_be_confined_nothing_runs(monkeypatch, tmp_path: Path) -> None:
    broken = tmp_path / "confined.py"
    refuses = "def leave_the_network(folder):\n    raise OSError(1, 'Operation not permitted')\n"
    text = sandbox.CONFINED.read_text()
    broken.write_text(text.replace('if __name__ == "__main__":', refuses + '\nif __name__ == "__main__":'))
    monkeypatch.setattr(sandbox, "CONFINED", broken)
    with pytest.raises(EvalError, match="Nothing was run"):
        run_confined([sys.executable, "-c", "print(1)"], {})


def test_humaneval_goes_on_from_the_head_or_is_written_whole() -> None:
    assert humaneval(PROBLEM, "    return 2 * x\n```\nThat's it.").passed
    assert humaneval(PROBLEM, "Here:\n```python\ndef double(x):\n    return x + x\n```").passed
    assert not humaneval(PROBLEM, "    return x\n").passed
    assert not humaneval(PROBLEM, "").passed


def test_mbpp_needs_every_assertion() -> None:
    problem = {"test_list": ["assert f(1) == 2", "assert f(2) == 3"], "test_setup_code": ""}
    assert mbpp(problem, "def f(x):\n    return x + 1\n").passed
    assert mbpp(problem, "```python\ndef f(x):\n    return x + 1\n```\nIt adds one.").passed
    assert mbpp(problem, "def f(x):\n    return x + 1\n```\nIt adds one.").passed
    assert not mbpp(problem, "def f(x):\n    return 2 * x\n").passed


@pytest.mark.skipif(not runs_here("sh"), reason="no bash")
def test_multipl_e_stops_where_the_language_does() -> None:
    problem = {
        "language": "sh", "prompt": "double() {\n", "stop_tokens": ["\n}"],
        "tests": '}\n[[ $(double 2) == "4" ]] || exit 1\n',
    }  # fmt: skip
    assert multipl_e(problem, "  echo $(( $1 * 2 ))\n}\nexit 1").passed
    assert not multipl_e(problem, "  echo $1\n}").passed


def test_a_language_counts_where_its_programs_run(monkeypatch) -> None:
    broken = {"sh": ("program.sh", "bash program.sh", "exit 3")}
    monkeypatch.setattr(code, "LANGUAGES", broken)
    runs_here.cache_clear()
    assert not runs_here("sh") and not runs_here("klingon")
    runs_here.cache_clear()


def test_livecodebench_runs_public_and_private_tests() -> None:
    private = json.dumps([{"input": "4\n", "output": "8\n", "testtype": "stdin"}])
    packed = base64.b64encode(zlib.compress(pickle.dumps(private))).decode()
    problem = {
        "public_test_cases": json.dumps([{"input": "2", "output": "4", "testtype": "stdin"}]),
        "private_test_cases": packed, "metadata": "{}",
    }  # fmt: skip
    assert livecodebench(problem, "```python\nprint(2 * int(input()))\n```").passed
    assert not livecodebench(problem, "```python\nprint(4)\n```").passed
    called = {
        "public_test_cases": json.dumps([{"input": "[1, 2]\n3", "output": "[3, 6]", "testtype": "functional"}]),
        "metadata": json.dumps({"func_name": "times"}),
    }  # fmt: skip
    reply = "class Solution:\n    def times(self, x, by):\n        return [by * each for each in x]\n"
    assert livecodebench(called, reply).passed
    talks = livecodebench(called, f"print('a word of its own')\n{reply}")
    assert not talks.passed and "a word of its own" in talks.output


def test_a_pickle_that_would_run_code_is_not_read() -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    packed = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(pickle.UnpicklingError):
        livecodebench({"public_test_cases": "[]", "private_test_cases": packed}, "")
