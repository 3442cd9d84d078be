"""The house has floors: nothing imports from a floor above its own, lazily or by a string, and no imports go round."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "antiphon"
FLOORS = (
    "errors", "nn", "audio", "hub", "encoders", "codecs", "models", "data", "train", "dialogue", "model", "serve",
    "evals", "bench", "cli",
)  # fmt: skip
# The package's face is open to every floor as a word in a message or an example, and imports what it opens.
FACE = "antiphon"
BY_STRING = re.compile(r"antiphon(?:\.\w+)+(?::\w+)?")


def modules(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Every module's syntax tree, by dotted name; a package's `__init__` has the package's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(name: str, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, int]]:
    """What the module imports at the top, in a function, for its types alone, or by a string, and on which line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in known else node.module or ""), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and BY_STRING.fullmatch(node.value):
            if (target := node.value.partition(":")[0]) in known:
                yield target, node.lineno


def edges(trees: dict[str, ast.Module]) -> dict[tuple[str, str], int]:
    """(importer, imported) -> line, for the package's own modules."""
    known = set(trees)
    return {
        (name, target): line
        for name, tree in trees.items()
        for target, line in imports(name, tree, known)
        if target in known and target != name and FACE not in (name, target)
    }


def floor(name: str) -> int:
    return FLOORS.index(name.split(".")[1])


def circles(graph: dict[tuple[str, str], int]) -> list[list[str]]:
    """Groups of modules of which each reaches each (Tarjan's strongly connected components)."""
    following: dict[str, list[str]] = {}
    for source, target in graph:
        following.setdefault(source, []).append(target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following_node in following.get(node, []):
            if following_node not in index:
                visit(following_node)
                low[node] = min(low[node], low[following_node])
            elif following_node in stack:
                low[node] = min(low[node], index[following_node])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in list(following):
        if node not in index:
            visit(node)
    return found


def upward(graph: dict[tuple[str, str], int]) -> list[str]:
    return [f"{a}:{line} imports {b}" for (a, b), line in sorted(graph.items()) if floor(b) > floor(a)]


@pytest.fixture(scope="module")
def graph() -> dict[tuple[str, str], int]:
    return edges(modules())


def test_nothing_imports_from_a_floor_above(graph):
    assert upward(graph) == []


def test_no_imports_go_round(graph):
    assert circles(graph) == []


def test_the_house_is_the_one_that_is_drawn():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(FLOORS)


def test_what_is_forbidden_is_found(tmp_path):
    """A lazy import, a string, an import for types alone, and a circle are each told."""
    package = tmp_path / "antiphon"
    sources = {
        "nn/lazy.py": "def f():\n    from antiphon.models import thing\n",
        "nn/named.py": "TASK = 'antiphon.train.engine:train'\n",
        "nn/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from antiphon.models.thing import T\n",
        "models/thing.py": "from antiphon.models import other\nT = 1\n",
        "models/other.py": "def f():\n    import antiphon.models.thing\n",
        "train/engine.py": "def train(): ...\n",
    }
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    graph = edges(modules(package))
    assert [line.split(":")[0] for line in upward(graph)] == [
        "antiphon.nn.lazy", "antiphon.nn.named", "antiphon.nn.typed",
    ]  # fmt: skip
    assert circles(graph) == [["antiphon.models.other", "antiphon.models.thing"]]
