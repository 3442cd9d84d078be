"""Sets of codes: what was written comes back, a kill loses little and breaks nothing."""
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from antiphon.data.tokens import About, Coded, TokenSet, TokenWriter, read_about
from antiphon.errors import DataError

ABOUT = About("folder/codec", "0123", 8000, 1, 12.5, 2, 300, "here")


def codes(frames, seed=0, size=300):
    return np.random.default_rng(seed).integers(0, size, (2, frames))


def test_what_was_written_comes_back(tmp_path):
    written = [codes(n, n) for n in (5, 0, 7, 3)]
    with TokenWriter(tmp_path, ABOUT, shard_frames=6) as writer:
        for i, each in enumerate(written):
            writer.add(Coded(f"a/{i}", f"text {i}", "me", 100 * i), each)
    found = TokenSet(tmp_path)
    assert found.about == ABOUT == read_about(tmp_path)
    assert [row.shard for row in found.rows] == ["shard-00000.npy"] * 3 + ["shard-00001.npy"]
    for (row, got), each, i in zip(found, written, range(4), strict=True):
        assert got.dtype == np.int64 and np.array_equal(got, each)
        assert (row.id, row.text, row.samples, row.frames) == (f"a/{i}", f"text {i}", 100 * i, each.shape[1])
    assert np.array_equal(pickle.loads(pickle.dumps(found))[2], written[2])


def test_large_codebooks_fit(tmp_path):
    about = replace(ABOUT, codebook_size=64000, codebooks=1)
    with TokenWriter(tmp_path, about) as writer:
        writer.add(Coded("a"), np.array([[63999, 0]]))
    assert TokenSet(tmp_path)[0].tolist() == [[63999, 0]]


def test_writing_goes_on_where_it_was_killed(tmp_path):
    writer = TokenWriter(tmp_path, ABOUT, shard_frames=4)
    writer.add(Coded("whole"), codes(4))
    writer.skip("bad", "bad.wav", "no sound")
    writer.add(Coded("lost"), codes(1))
    writer._unlock()  # killed: the lock goes, nothing is flushed; a shard and a line are half written
    (tmp_path / "shard-00001.part").write_bytes(b"half")
    (tmp_path / "shard-00007.npy").write_bytes(b"not in the manifest")
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"id": "cut')
    assert [row.id for row in TokenSet(tmp_path).rows] == ["whole"]
    with TokenWriter(tmp_path, ABOUT) as writer:
        assert writer.done == {"whole", "bad"} and writer.skipped == {"bad"}
        writer.retry()
        assert writer.done == {"whole"}
        writer.add(Coded("bad"), codes(2, 1))
    found = TokenSet(tmp_path)
    assert [row.id for row in found.rows] == ["whole", "bad"]
    assert np.array_equal(found[1], codes(2, 1))
    assert sorted(path.name for path in tmp_path.glob("shard*")) == ["shard-00000.npy", "shard-00001.npy"]


def test_a_slow_writer_closes_its_shards_in_time(tmp_path):
    with TokenWriter(tmp_path, ABOUT, shard_seconds=0.0) as writer:
        writer.add(Coded("a"), codes(1))
        assert len(TokenSet(tmp_path)) == 1


def test_another_codec_or_writer_is_refused(tmp_path):
    with TokenWriter(tmp_path, ABOUT), pytest.raises(DataError, match="Another process"):
        TokenWriter(tmp_path, ABOUT)
    with pytest.raises(DataError, match="fingerprint 0123, not 4567"):
        TokenWriter(tmp_path, replace(ABOUT, fingerprint="4567"))
    with pytest.raises(DataError, match="codebooks 2, not 1"):
        TokenWriter(tmp_path, replace(ABOUT, codebooks=1))
    TokenWriter(tmp_path, replace(ABOUT, codec="moved", source="moved")).close()


def test_wrong_codes_are_refused(tmp_path):
    with TokenWriter(tmp_path, ABOUT) as writer:
        writer.add(Coded("a"), codes(1))
        for identity, wrong in (("a", codes(1)), ("b", codes(2)[:1]), ("c", codes(3) + 300), ("d", codes(3) - 300)):
            with pytest.raises(DataError, match=identity):
                writer.add(Coded(identity), wrong)


def test_what_is_no_set_is_told(tmp_path):
    with pytest.raises(DataError, match="antiphon tokenize"):
        TokenSet(tmp_path)
    (tmp_path / "shard-00-00000.npy").touch()
    with pytest.raises(DataError, match="something else"):
        TokenWriter(tmp_path, ABOUT)
    assert (tmp_path / "shard-00-00000.npy").exists()
    for content in ("{", '{"format": 1}', json.dumps({"format": 9, **vars(ABOUT)})):
        (tmp_path / "codes.json").write_text(content)
        with pytest.raises(DataError, match="anew"):
            TokenSet(tmp_path)
