"""WebDataset's tars: items by index, recordings of them, and one that ends early."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from antiphon.data.mixture import Mixture
from antiphon.data.recordings import recordings
from antiphon.data.tars import Tars
from antiphon.errors import DataError


def sound(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.ones(int(8000 * seconds)), 8000, format="flac")
    return file.getvalue()


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path) -> Path:
    first = {"a/000.flac": sound(0.5), "a/000.txt": b"one  two\n", "a/001.FLAC": sound(1.0)}
    about = json.dumps({"transcript": "three", "speaker": 7}).encode()
    second = {"b.json": about, "b.flac": sound(0.25), "readme.md": b"no sound"}
    write(tmp_path / "shard-0.tar", first)
    write(tmp_path / "shard-1.tar", second)
    return tmp_path


def test_items_come_by_index(shards):
    tars = Tars(shards)
    assert [item.key for item in tars.items] == ["a/000", "a/001", "b", "readme"]
    assert tars[0] == {"key": "a/000", "flac": sound(0.5), "txt": b"one  two\n"}
    assert pickle.loads(pickle.dumps(tars))[2]["flac"] == sound(0.25)
    assert {Mixture({"tars": tars})[number]["key"] for number in range(4)} == {"a/000", "a/001", "b", "readme"}


def test_recordings_are_found_in_them(shards):
    found = recordings(shards)
    assert [(each.id, each.text, each.voice) for each in found] == [
        ("shard-0/a/000", "one two", ""),
        ("shard-0/a/001", "", ""),
        ("shard-1/b", "three", "7"),
    ]
    assert [each.load().samples.shape[-1] for each in found] == [4000, 8000, 2000]
    assert found[0].stamp() and [each.id for each in recordings(shards / "shard-1.tar")] == ["b"]


@pytest.mark.parametrize("share", [0.9, 0.6, 0.2])
def test_a_tar_that_ends_early_is_told(tmp_path, share):
    path = write(tmp_path / "x.tar", {f"{n}.flac": sound(1.0 + n) for n in range(20)})
    whole = path.read_bytes()
    used = len(whole.rstrip(b"\0"))
    path.write_bytes(whole[: int(share * used)])
    with pytest.raises(DataError, match=r"x\.tar.*ends early.*copy it anew"):
        Tars(path)


def test_what_is_no_tar_or_holds_nothing_is_told(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="cannot be read as a tar"):
        Tars(tmp_path)
    (tmp_path / "x.tar").unlink()
    with pytest.raises(DataError, match="holds no items"):
        Tars(tmp_path)
    with pytest.raises(DataError, match="holds no sounds"):
        recordings(write(tmp_path / "y.tar", {"a.txt": b"x"}))
