"""The notebooks run from an empty folder, every cell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
# What each prints, if it does what it says.
PRINTS = {
    "talk": "Rome",
    "hear-sounds": "siren",
    "train-a-codec": "codebooks",
    "add-a-tool": 'get_weather {"city": "Paris"} -> light rain',
    "compare-thinkers": "What is the capital of Italy? -> The capital of Italy is Rome.",
}


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(PRINTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_every_cell_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    for cell in notebook.cells:  # which answers like it, and is fetched for the tests
        cell["source"] = cell["source"].replace('load("base"', 'load("small"')
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert PRINTS[name] in printed
    assert any("<audio" in output.get("data", {}).get("text/html", "") for output in outputs)
