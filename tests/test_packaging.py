"""The wheel: small, whole, and what it needs beside the code is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def names_in(lock: str) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.M)}


def test_the_lock_pins_every_dependency_exactly_and_names_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    wanted_names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", each)[0]).lower() for each in wanted}
    lock = (ROOT / "requirements.lock").read_text()
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    assert wanted_names - {"pip"} <= names_in(lock)


def test_every_link_in_the_readme_and_the_docs_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_shipped_weights_keep_to_their_size() -> None:
    for model, most in (
        ("mini", 80e6),
        ("duplex", 60e6),
        ("omni", 60e6),
        ("scene", 12e6),
        ("turn-taking", 6e6),
        ("mini-voices", 30e6),
    ):
        sizes = [path.stat().st_size for path in (ROOT / "weights" / model).rglob("*") if path.is_file()]
        assert sum(sizes) <= most and max(sizes) <= 45e6, model


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("antiphon-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_what_a_run_needs_and_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 100e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for part in ("adapter", "lora", "codec", "talker"):
        for file in ("config.json", "model.safetensors", "README.md"):
            assert f"antiphon/weights/mini/{part}/{file}" in names
    for model in {path.name for path in (ROOT / "weights").iterdir() if path.is_dir()} - {
        "mini",
        "omni",
        "mini-voices",
    }:
        assert f"antiphon/weights/{model}/model.safetensors" in names
    for recipe in (ROOT / "recipes" / "mini").glob("*.yaml"):
        assert f"antiphon/recipes/mini/{recipe.name}" in names
    assert "antiphon/serve/page/index.html" in names
    # Every file of the package is there, data beside the code included; and nothing that only a checkout needs.
    for path in (ROOT / "antiphon").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if name.startswith(("tests", "docs", ".cache", "runs"))]


@pytest.mark.slow
def test_the_wheel_talks_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(alone)
    environment = os.environ | {"PYTHONPATH": str(alone)}  # before whatever copy the environment has
    command = [sys.executable, "-m", "antiphon.cli", "talk", "-m", "mini", "-o", "answer.wav"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert str(alone / "antiphon" / "examples" / "question.wav") in done.stderr  # it is the wheel's own copy that ran
    assert "italy" in done.stdout.lower()
    assert (tmp_path / "answer.wav").stat().st_size > 10_000
