"""Axe, Deque's rules for accessible pages: the npm package axe-core, which `make test` puts beside the environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLACES = [Path(folder) / "node_modules/axe-core/axe.min.js" for folder in (sys.prefix, ".")]


def script() -> str:
    """Axe itself, or the test is skipped."""
    found = next(filter(Path.exists, PLACES), None)
    if found is None:
        pytest.skip("no axe-core (npm install --no-save axe-core)")
    return found.read_text()


def violations(page) -> list[str]:
    """What axe finds wrong with a page of Playwright's as it is shown: "rule: element"."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(script())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
