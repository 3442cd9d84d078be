"""The store under every set: what was written comes back, a kill loses little and breaks nothing, old sets are read."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from antiphon.data.codes import CodecInfo, Coded, CodeSet, CodesWriter
from antiphon.data.dialogue.codes import DialogueCodes
from antiphon.data.dialogue.format import Word
from antiphon.data.speech.features import FeatureSet
from antiphon.data.speech.timed_codes import TimedSet
from antiphon.data.store import ArrayStore, ArrayWriter, kind_of
from antiphon.errors import DataError
from antiphon.models.tts.phonemes import alphabet
from tests.codecs.simple import Bytes

INFO = CodecInfo("folder/codec", "0123", 8000, 1, 12.5, 2, 300)


def codes(frames, seed=0, size=300):
    return np.random.default_rng(seed).integers(0, size, (2, frames))


def test_what_was_written_comes_back(tmp_path):
    written = [codes(n, n) for n in (5, 0, 7, 3)]
    with CodesWriter(tmp_path, INFO, shard_frames=6) as writer:
        for i, each in enumerate(written):
            writer.add(Coded(f"a/{i}", f"text {i}", "me", 100 * i), each)
    found = CodeSet(tmp_path)
    assert found.info == INFO and kind_of(tmp_path) == "codes" and found.frames.tolist() == [5, 0, 7, 3]
    assert [row.shard for row in found.rows] == ["shard-00-00000.npy"] * 3 + ["shard-00-00001.npy"]
    for (row, got), each, i in zip(found, written, range(4), strict=True):
        assert got.dtype == np.int64 and np.array_equal(got, each)
        assert (row.id, row.text, row.samples, row.frames) == (f"a/{i}", f"text {i}", 100 * i, each.shape[1])
    assert np.array_equal(pickle.loads(pickle.dumps(found))[2], written[2])


def test_large_codebooks_fit(tmp_path):
    info = replace(INFO, codebook_size=64000, codebooks=1)
    with CodesWriter(tmp_path, info) as writer:
        writer.add(Coded("a"), np.array([[63999, 0]]))
    assert CodeSet(tmp_path)[0].tolist() == [[63999, 0]]


def test_writing_goes_on_where_it_was_killed(tmp_path):
    writer = CodesWriter(tmp_path, INFO, shard_frames=4)
    writer.add(Coded("whole"), codes(4))
    writer.skip("bad", "no sound", path="bad.wav")
    writer.add(Coded("lost"), codes(1))
    writer._unlock()  # killed: the lock goes, nothing is flushed; a shard and a line are half written
    (tmp_path / "shard-00-00001.part").write_bytes(b"half")
    (tmp_path / "shard-00-00007.npy").write_bytes(b"not in the manifest")
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"id": "cut')
    assert [row.id for row in CodeSet(tmp_path).rows] == ["whole"]
    with CodesWriter(tmp_path, INFO) as writer:
        assert writer.done == {"whole", "bad"} and writer.skipped == {"bad"}
        writer.retry()
        assert writer.done == {"whole"}
        writer.add(Coded("bad"), codes(2, 1))
    found = CodeSet(tmp_path)
    assert [row.id for row in found.rows] == ["whole", "bad"]
    assert np.array_equal(found[1], codes(2, 1))
    assert sorted(path.name for path in tmp_path.glob("shard*")) == ["shard-00-00000.npy", "shard-00-00001.npy"]


def test_a_slow_writer_closes_its_shards_in_time(tmp_path):
    with CodesWriter(tmp_path, INFO, shard_seconds=0.0) as writer:
        writer.add(Coded("a"), codes(1))
        assert len(CodeSet(tmp_path)) == 1


def test_another_codec_or_writer_is_refused(tmp_path):
    with CodesWriter(tmp_path, INFO), pytest.raises(DataError, match="Another process"):
        CodesWriter(tmp_path, INFO)
    with pytest.raises(DataError, match="fingerprint 0123, not 4567"):
        CodesWriter(tmp_path, replace(INFO, fingerprint="4567"))
    with pytest.raises(DataError, match="codebooks 2, not 1"):
        CodesWriter(tmp_path, replace(INFO, codebooks=1))
    CodesWriter(tmp_path, replace(INFO, codec="moved"), source="moved").close()


def test_wrong_codes_are_refused(tmp_path):
    with CodesWriter(tmp_path, INFO) as writer:
        writer.add(Coded("a"), codes(1))
        for identity, wrong in (("a", codes(1)), ("b", codes(2)[:1]), ("c", codes(3) + 300), ("d", codes(3) - 300)):
            with pytest.raises(DataError, match=identity):
                writer.add(Coded(identity), wrong)


def test_what_is_no_set_is_told(tmp_path):
    with pytest.raises(DataError, match="antiphon tokenize"):
        CodeSet(tmp_path)
    (tmp_path / "shard-00-00000.npy").touch()
    with pytest.raises(DataError, match="something else"):
        CodesWriter(tmp_path, INFO)
    assert (tmp_path / "shard-00-00000.npy").exists()
    for content in ("{", '{"kind": "codes"}', json.dumps({"format": 9, "kind": "codes", **vars(INFO)})):
        (tmp_path / "set.json").write_text(content)
        with pytest.raises(DataError, match="anew"):
            CodeSet(tmp_path)
    (tmp_path / "set.json").write_text('{"format": 1, "sample_rate": 8000}')  # as older versions began speech sets
    with pytest.raises(DataError, match="a set of speech, not of codes"):
        CodeSet(tmp_path)


# --- sets of older versions --------------------------------------------------------------------------------------


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_codes_in_shards_of_an_older_version(tmp_path):
    about = dict(vars(INFO).items())
    (tmp_path / "codes.json").write_text(json.dumps({"format": 1, **about, "source": "here"}))
    np.save(tmp_path / "shard-00000.npy", codes(7).T.astype(np.int16))
    rows = [{"id": "a", "text": "A", "voice": "", "samples": 9, "frames": 3, "shard": "shard-00000.npy", "offset": 0}]
    lines(tmp_path / "manifest.jsonl", [*rows, {**rows[0], "id": "b", "frames": 4, "offset": 3}])
    found = CodeSet(tmp_path)
    assert found.info == INFO and [row.id for row in found.rows] == ["a", "b"]
    assert np.array_equal(np.concatenate([found[0], found[1]], 1), codes(7))
    with pytest.raises(DataError, match="an older version made"):
        CodesWriter(tmp_path, INFO)


def test_codes_of_one_voice_of_an_older_version(tmp_path):
    known = alphabet()
    np.save(tmp_path / "codes.npy", codes(7).astype(np.int16))
    symbols = [0, known["n"], known[" "], known["O"], 0]
    rows = [
        {"text": t, "frames": n, "symbols": symbols, "ends": [0.08, 0.1, 0.12, 0.2, 0.24]}
        for t, n in (("a", 3), ("b", 4))
    ]
    (tmp_path / "index.json").write_text(json.dumps(rows))
    found = TimedSet(CodeSet(tmp_path, Bytes()))
    assert [each.text for each in found] == ["a", "b"] and np.array_equal(found[1].codes, codes(7)[:, 3:])
    assert found.codes.info.frame_rate == 8000.0 and found.codes.rows[0].phones[1] == (" ", 0.1, 0.12)
    assert found[0].symbols.tolist() == symbols


def test_dialogues_and_features_of_an_older_version(tmp_path):
    about = {"fingerprint": "0123", "sample_rate": 8000, "frame_rate": 12.5, "codebooks": 1, "codebook_size": 300}
    dialogues, features = tmp_path / "dialogues", tmp_path / "features"
    for folder in (dialogues, features):
        folder.mkdir()
    (dialogues / "conversations.json").write_text(json.dumps({"format": 1, **about}))
    codes(7).T.astype("<i2").tofile(dialogues / "codes.i16")
    row = {
        "id": "t",
        "start": 3,
        "frames": 4,
        "seconds": 0.3,
        "words": [["a", 0.1, 0.2, "user"]],
        "events": [],
        "info": {},
    }
    lines(dialogues / "index.jsonl", [{**row, "id": "s", "start": 0, "frames": 3}, row])
    found = DialogueCodes(dialogues)
    assert found.info.fingerprint == "0123" and found[1].words == [Word("a", 0.1, 0.2, "user")]
    assert np.array_equal(found[1].codes, codes(7)[:, 3:]) and found.frames.tolist() == [3, 4]
    np.save(features / "shard-00000.npy", np.arange(12, dtype=np.float16).reshape(6, 2))
    row = {"id": "x", "text": "a", "voice": "v", "source": "", "shard": "shard-00000.npy", "offset": 2, "frames": 4}
    lines(features / "manifest.jsonl", [{**row, "seconds": 0.1}])
    old = FeatureSet(features)
    assert old(old.utterances[0]).tolist() == [[4, 5], [6, 7], [8, 9], [10, 11]]


def test_items_of_any_width_come_back_and_a_growing_store_is_followed(tmp_path):
    with ArrayWriter(tmp_path, "states", {}, shard_rows=4) as writer:
        arrays = [np.full((n, 2, 3), n, np.float16) for n in (3, 0, 2)]
        for n, array in enumerate(arrays):
            writer.add({"id": str(n), "more": [n]}, array)
        store = ArrayStore(tmp_path, "states")
        writer.add({"id": "3"}, arrays[0])
    assert [row["id"] for row in store.refresh()] == ["3"] and store.refresh() == [] and len(store) == 4
    assert store.rows[1]["more"] == [1] and all(np.array_equal(store.array(r), a) for r, a in zip(store.rows, arrays))
    assert store.array(store.rows[0], 1, 9).shape == (2, 2, 3) and store.array(store.rows[0], 5).shape == (0, 2, 3)
