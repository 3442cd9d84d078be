"""From a folder of sound files to a codec, a set of its codes and a model that learns them: three commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from antiphon.cli import app
from antiphon.errors import DataError

CODEC = "model.codec={filters: 2, dim: 16, heads: 2, inner: 16, codebooks: 3, codebook_size: 16, codebook_dim: 8}"
MOSHI = "model.moshi={dim: 16, heads: 2, layers: 1, inner: 16, depth: {dim: 8, heads: 2, layers: 1, inner: 8}}"
TALKER = (
    "model.talker={encoder_dim: 8, encoder_layers: 1, dim: 8, heads: 2, inner: 8, layers: 1, depth_dim: 8, "
    "depth_heads: 2, depth_inner: 8, depth_layers: 1}"
)
SHORT = ("steps=2", "batch=2", "precision=float32", "threads=1", "sample_every=0")


def antiphon(*arguments: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve flac files, of which the first half says what is said in them."""
    folder = tmp_path / "my_recordings"
    folder.mkdir()
    for number in range(12):
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, 22050 + 500 * number)
        soundfile.write(folder / f"{number:02d}.flac", noise, 22050)
        if number < 6:
            (folder / f"{number:02d}.txt").write_text("Yes, well.\n")
    return folder


def test_three_commands_from_flac_files_to_a_model_of_ones_own_codes(corpus: Path, tmp_path: Path) -> None:
    codec, codes, model = tmp_path / "codec", tmp_path / "codes", tmp_path / "duplex"
    tiny = (CODEC, "model.stft.windows=[64]", "model.period=null", "model.patience=0", "model.ahead=0")
    done = antiphon("train", "codec", f"data={corpus}/", f"out={codec}", "data.seconds=0.32", *tiny, *SHORT)
    assert (done.exit_code, done.stdout) == (0, f"{codec}/model\n"), done.exception
    done = antiphon("tokenize", corpus, "-o", codes, "--codec", codec / "model")
    assert (done.exit_code, done.stdout) == (0, f"{codes}\n"), done.exception
    named = (f"data={codes}", f"data.codec={codec}/model")
    pieces = (f"data.pieces={model}/pieces", "data.frames=8")
    done = antiphon("train", "duplex/recordings", *named, f"out={model}", MOSHI, *pieces, *SHORT)
    assert (done.exit_code, done.stdout) == (0, f"{model}/model\n"), done.exception
    assert f'"codec": "{codec}/model"' in (model / "model" / "config.json").read_text()


def test_a_talker_learns_from_the_texts_beside_the_recordings(corpus: Path, tmp_path: Path) -> None:
    from tests.codecs.simple import tiny_mini

    tiny_mini(tmp_path / "codec")
    named = (f"data={corpus}", f"data.codec={tmp_path}/codec", f"data.codes={tmp_path}/codes")
    done = antiphon("train", "mini/talker", *named, f"out={tmp_path}/talker", TALKER, "data.frames=30", *SHORT)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/talker/model\n"), done.exception
    done = antiphon("data", "info", tmp_path / "codes")
    assert done.exit_code == 0 and "12" in done.stdout and "50%" in done.stdout


def test_codes_of_another_codec_are_refused(corpus: Path, tmp_path: Path) -> None:
    from tests.codecs.simple import tiny_mini

    tiny_mini(tmp_path / "codec")
    assert antiphon("tokenize", corpus, "-o", tmp_path / "codes", "--codec", tmp_path / "codec").exit_code == 0
    named = (f"data={tmp_path}/codes", "data.codec=mini")
    done = antiphon(
        "train", "duplex/recordings", *named, f"out={tmp_path}/out", f"data.pieces={tmp_path}/pieces", MOSHI
    )
    assert isinstance(done.exception, DataError) and "with other weights than this codec has" in str(done.exception)
