"""The commands for codecs as a user meets them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Run = Callable[..., subprocess.CompletedProcess[str]]
Check = Callable[..., None]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 8000)
        soundfile.write(folder / f"{i}.wav", noise, 8000)
    return folder


def test_tokenize_measure_and_back(antiphon: Run, corpus: Path, tmp_path: Path) -> None:
    from tests.codecs.simple import tiny_mini

    tiny_mini(tmp_path / "codec")
    (corpus / "bad.wav").write_text("no sound")
    codes, sounds, figures = tmp_path / "codes", tmp_path / "sounds", tmp_path / "figures.json"
    done = antiphon("tokenize", corpus, "-o", codes, "--codec", tmp_path / "codec", "--codebooks", "2")
    assert (done.returncode, done.stdout) == (0, f"{codes}\n"), done.stderr
    assert "Skipped 1" in done.stderr and "bad.wav" in (codes / "skipped.jsonl").read_text()
    done = antiphon("detokenize", codes, "-o", sounds, "--format", "flac")
    assert (done.returncode, done.stdout) == (0, f"{sounds}\n"), done.stderr
    assert sorted(path.name for path in sounds.iterdir()) == ["0.flac", "1.flac", "manifest.jsonl", "sounds.json"]
    done = antiphon(
        "eval", "codec", sounds, "--codecs", f"tiny={tmp_path / 'codec'}", "--codebooks", "1,3", "--only", "si-snr",
        "--jobs", "1", "--json", figures,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout and "SI-SNR" in done.stdout and "entropy" in done.stdout
    names = [figure["name"] for figure in json.loads(figures.read_text())["figures"]]
    assert "tiny-1-si-snr" in names and "tiny-codebook-3-entropy" in names
    assert figures.with_suffix(".png").is_file() and (tmp_path / "figures.items.jsonl").is_file()


def test_wrong_settings_get_one_line(antiphon: Run, assert_one_line_error: Check, corpus: Path, tmp_path: Path) -> None:
    assert_one_line_error(antiphon("eval", "maxi"), "'maxi'", "codec", "assistant")
    assert_one_line_error(antiphon("eval", "mini", "--resume"), "--json")
    assert_one_line_error(antiphon("eval", "codec", corpus, "--codecs", "x", "--only", "beauty"), "beauty", "stoi")
    assert_one_line_error(antiphon("eval", "codec", corpus, "--codecs", "x", "--codebooks", "1-3"), "1-3", "1,4,8")
    assert_one_line_error(antiphon("eval", "codec", corpus, "--codecs", "x", "--codebooks", "0"), "give 1 or more")
    assert_one_line_error(antiphon("tokenize", tmp_path / "no", "-o", tmp_path / "c", "--codec", "x"), "no such folder")
    into = ("tokenize", corpus, "--codec", "mini", "-o")
    assert_one_line_error(antiphon(*into, corpus / "0.wav"), "0.wav cannot be written", "-o")
    assert_one_line_error(antiphon(*into, tmp_path / "c", "--device", "foo"), "no device 'foo'")
    assert antiphon("bench", "codec", "--threads", "0").returncode == 2
    assert_one_line_error(antiphon("detokenize", corpus, "-o", tmp_path / "c"), "antiphon tokenize")
