"""A vocoder of units learns which vectors of a codec they are, and how long each lasts; any codec will do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antiphon.codecs import load
from antiphon.codecs.base import code_fingerprint
from antiphon.data.codes import CodecInfo, Coded, CodesWriter
from antiphon.errors import ConfigError, HubError
from antiphon.models.speech_lm.vocoder import UnitVocoder, frame_ends, nearest_codes
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task, train
from antiphon.train.speech_lm.vocoder import deduplicated
from tests.train.test_codecs_by_name import CODECS, codec  # noqa: F401 (a fixture)

UNITS = 6


def write_pairs(folder, name: str, count: int = 6, other: str = "") -> dict:
    """The same recordings as units, four a frame of the codec, and as codes that follow from them; a unit lasts one
    more than its number."""
    made, rng = load(name), np.random.default_rng(0)
    rate = 4 * made.frame_rate
    units = CodesWriter(folder / "units", CodecInfo("units", "of-units", 16000, 1, rate, 1, UNITS))
    codes = CodesWriter(folder / "codes", CodecInfo.of(made, name))
    with units, codes:
        for number in range(count):
            each = np.cumsum(rng.integers(1, UNITS, 3 * UNITS)) % UNITS  # no two alike beside each other
            row = np.repeat(each, each + 1)
            row = row[: len(row) // 4 * 4]
            frame = row.reshape(-1, 4)[:, -1]
            grid = np.stack([(frame + k) % made.codebook_size for k in range(made.codebooks)])
            units.add(Coded(f"u{number}"), row[None])
            codes.add(Coded(f"{other}u{number}"), grid)
    return {"units": str(folder / "units"), "codes": str(folder / "codes")}


def recipe(places, name, out, **changes) -> StageConfig:
    given = {
        "task": "antiphon.train.speech_lm.vocoder:UnitVocoderTask",
        "model": {"codec": name, "width": 32, "depth": 1},
        "data": {**places, "seconds": 0.2, "held_out": 0},
        "steps": 4, "batch": 4, "out": str(out), "precision": "float32", "sample_every": 2, "log_every": 2,
    }  # fmt: skip
    return StageConfig(**{**given, **changes})


def test_it_learns_sounds_and_durations_of_any_codec(codec, tmp_path):  # noqa: F811
    name = str(tmp_path / "codec")
    places = write_pairs(tmp_path, name)
    task = build_task(recipe(places, name, tmp_path / "run"))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    first = task.losses(task.batch(0))
    for step in range(150):
        optimizer.zero_grad()
        sum(task.losses(task.batch(step)).values()).backward()
        optimizer.step()
    last = task.losses(task.batch(0))
    assert last["sound"] < 0.6 * first["sound"] and last["duration"] < 0.3 * first["duration"]
    vocoder = task.model.eval()
    units = torch.tensor([3, 0, 5, 2])
    long = vocoder.lengthened(units)
    assert all(abs(int((long == unit).sum()) - int(unit) - 1) <= 1 for unit in units)
    spoken = vocoder.speak(units)
    assert spoken.shape == codec.decode(vocoder.codes(units))[0, 0].shape and len(spoken)
    assert torch.equal(vocoder.codes(long, deduplicated=False), vocoder.codes(units))


def test_a_run_exports_what_speaks_and_refuses_another_codec(tmp_path):
    torch.manual_seed(0)
    made = CODECS["mini"]().eval()
    made.save_pretrained(tmp_path / "codec")
    places = write_pairs(tmp_path, str(tmp_path / "codec"))
    places = {**places, "held_out": 2}
    folder = train(recipe(places, str(tmp_path / "codec"), tmp_path / "run", data={**places, "seconds": 0.2}))
    vocoder = UnitVocoder.from_pretrained(folder)
    assert (
        vocoder.config.fingerprint == code_fingerprint(load(str(tmp_path / "codec")))
        and vocoder.config.tokenizer == "of-units"
    )
    assert len(vocoder.speak([1, 2, 3])) and not len(vocoder.speak([]))
    assert any((tmp_path / "run").rglob("*.wav"))
    with pytest.raises(ValueError, match="0 to 5"):
        vocoder.speak([1, UNITS])
    CODECS["mini"]().save_pretrained(tmp_path / "codec")
    with pytest.raises(HubError, match="other weights"):
        UnitVocoder.from_pretrained(folder).speak([1, 2])
    with pytest.raises(HubError, match="no vocoder of units"):
        UnitVocoder.from_pretrained(tmp_path / "codec")


def test_what_comes_later_than_it_looks_ahead_changes_nothing(tmp_path):
    made = CODECS["mini"]().eval()
    made.save_pretrained(tmp_path / "codec")
    places = write_pairs(tmp_path, str(tmp_path / "codec"))
    model = build_task(recipe(places, str(tmp_path / "codec"), tmp_path / "run")).model
    one = torch.randint(0, UNITS, (1, 60))
    two = one.clone()
    two[:, 40:] = (two[:, 40:] + 1) % UNITS
    sure = frame_ends(40 - model.config.ahead, 4.0, 1.0).numel() - 1
    a, b = model.latents(one), model.latents(two)
    assert torch.allclose(a[:, :sure], b[:, :sure], atol=1e-5) and not torch.allclose(a, b, atol=1e-3)


def test_sets_that_share_nothing_are_told(tmp_path):
    made = CODECS["mini"]().eval()
    made.save_pretrained(tmp_path / "codec")
    places = write_pairs(tmp_path, str(tmp_path / "codec"), other="another-")
    with pytest.raises(ConfigError, match="share no recording"):
        build_task(recipe(places, str(tmp_path / "codec"), tmp_path / "run"))


def test_frames_runs_and_codes():
    assert frame_ends(8, 4.0, 1.0).tolist() == [3, 7]
    assert frame_ends(9, 4.0, 1.0).tolist() == [3, 7, 8]  # the last is begun
    assert frame_ends(3, 2.0, 3.0).tolist() == [0, 1, 1, 2, 2]  # a codec with more frames than units
    units, lasts = deduplicated(torch.tensor([[1, 1, 2, 2, 2, 3, -1], [4, 4, 4, 4, 4, 4, 4]]), 3)
    assert units.tolist() == [[1, 2, 3], [4, 4, 4]] and lasts.tolist() == [[-1, 3, -1], [-1, 3, -1]]
    books = [torch.eye(3) * 4, torch.eye(3)]
    assert nearest_codes(books[0][[2, 0]] + books[1][[1, 1]], books).tolist() == [[2, 0], [1, 1]]
