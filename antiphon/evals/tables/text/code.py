"""Whether code that a model wrote does what its task asks: the tests of HumanEval, MBPP, MultiPL-E and LiveCodeBench.

Each function takes a problem, as its set writes it, and a reply, and gives what came of the program.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import sys
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from antiphon.evals.tables.text.sandbox import Limits, Outcome, run_confined

FENCE = re.compile(r"```[\w+#-]*\n(.*?)(?:```|\Z)", re.DOTALL)
# How a language of MultiPL-E is run: the program's file, a command of the shell, and a program that only runs where all
# that the tests need is there.
LANGUAGES = {
    "cpp": (
        "program.cpp", "g++ -O0 -std=c++17 program.cpp -o program && ./program", "#include <cassert>\nint main() {}",
    ),
    "go": (
        "program_test.go", "go test program_test.go",
        'package program_test\nimport "testing"\nfunc TestNothing(t *testing.T) {}',
    ),
    "jl": ("program.jl", "julia program.jl", "using Test"),
    "js": ("program.js", "node program.js", "require('node:assert')"),
    "lua": ("program.lua", "lua program.lua", "require('luaunit')"),
    "php": ("program.php", "php program.php", "<?php exit(0);"),
    "pl": ("program.pl", "perl program.pl", "use Test::Deep;"),
    "r": ("program.r", "Rscript program.r", "quit(status = 0)"),
    "rb": ("program.rb", "ruby program.rb", "require 'test/unit'"),
    "rkt": ("program.rkt", "racket program.rkt", "#lang racket\n(require rackunit)"),
    "rs": ("program.rs", "rustc program.rs -o program && ./program", "fn main() {}"),
    "sh": ("program.sh", "bash program.sh", "true"),
    "swift": ("program.swift", "swiftc program.swift -o program && ./program", "import Foundation"),
    "ts": ("program.ts", "tsc --target es2020 program.ts && node program.js", "let x: number = 1;"),
}  # fmt: skip
COMPILED = Limits(seconds=30, memory=8 << 30, file=64 << 20)  # compilers and node reserve more than they use
CALL = """
import json as _json, sys as _sys
_given = [_json.loads(_line) for _line in _sys.stdin.read().splitlines() if _line.strip()]
print(_json.dumps(Solution().{name}(*_given)))
"""


def code_in(reply: str) -> str:
    """The first fenced block of a reply; the reply itself without one."""
    found = FENCE.search(reply)
    return found.group(1) if found else reply


def python(program: str, stdin: str = "", limits: Limits = Limits()) -> Outcome:
    """Runs a Python program."""
    return run_confined([sys.executable, "-I", "program.py"], {"program.py": program}, stdin, limits)


def humaneval(problem: Mapping[str, Any], reply: str) -> Outcome:
    """HumanEval (Chen et al. 2021): the function goes on from its head, or is written whole; `check` says whether it
    is right."""
    body = reply.partition("```")[0]
    whole = FENCE.search(reply)
    if whole and f"def {problem['entry_point']}" in whole.group(1):
        body = whole.group(1)
    return python(f"{problem['prompt']}{body}\n{problem['test']}\ncheck({problem['entry_point']})\n")


def mbpp(problem: Mapping[str, Any], reply: str) -> Outcome:
    """MBPP (Austin et al. 2021): a program after which all assertions hold."""
    code = code_in(f"```python\n{reply}" if "```" in reply and not reply.lstrip().startswith("```") else reply)
    tests = "\n".join(problem["test_list"])
    return python(f"{problem.get('test_setup_code') or ''}\n{code}\n{tests}\n")


@cache
def runs_here(language: str) -> bool:
    """Whether MultiPL-E's language can be run on this machine, with what its tests need; else all would be wrong."""
    if language not in LANGUAGES:
        return False
    name, command, nothing = LANGUAGES[language]
    return run_confined(["bash", "-c", command], {name: nothing}, limits=COMPILED).passed


def multipl_e(problem: Mapping[str, Any], reply: str) -> Outcome:
    """MultiPL-E (Cassano et al. 2022): the function goes on from its head, up to the language's stops."""
    name, command, _ = LANGUAGES[problem["language"]]
    for stop in problem["stop_tokens"]:
        reply = reply.split(stop)[0]
    program = f"{problem['prompt']}{reply}\n{problem['tests']}"
    return run_confined(["bash", "-c", command], {name: program}, limits=COMPILED)


def livecodebench(problem: Mapping[str, Any], reply: str) -> Outcome:
    """LiveCodeBench (Jain et al. 2024): every public and private test, from standard input or as a call."""
    program = code_in(reply)
    outcome = Outcome(1, "", "no tests")
    about = json.loads(problem.get("metadata") or "{}")
    for test in [*_tests(problem["public_test_cases"]), *_tests(problem.get("private_test_cases") or "[]")]:
        called = test.get("testtype") == "functional"
        outcome = python(program + (CALL.format(name=about["func_name"]) if called else ""), test["input"])
        if not outcome.passed:
            return outcome
        if not _same(outcome.output, test["output"], called):
            return Outcome(1, outcome.output, f"gave {outcome.output[:60]!r}, not {test['output'][:60]!r}")
    return outcome


def _same(given: str, wanted: str, called: bool) -> bool:
    if called:
        try:
            return json.loads(given) == json.loads(wanted)
        except ValueError:  # the program wrote something of its own
            return False
    lines = [[line.split() for line in text.strip().splitlines()] for text in (given, wanted)]
    return lines[0] == lines[1]


def _tests(text: str) -> list[dict[str, Any]]:
    """Tests, as JSON or as the set packs them: JSON, pickled, compressed, in base 64."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(_Plain(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load())


class _Plain(pickle.Unpickler):
    """Reads pickles of plain values alone: others could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")
