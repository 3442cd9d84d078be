"""Sets of utterances: kill and resume equals one run; readers meet only whole things; crops lie where they should."""

import json
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.errors import DataError

RATE = 1000


def sound(n):
    """Utterance n: 200 to 1,199 samples that tell where they are from."""
    generator = np.random.default_rng(n)
    return generator.uniform(-1, 1, int(generator.integers(200, 1200))).astype(np.float32)


def write(folder, numbers, shard_seconds=2.0):
    with SpeechWriter(folder, RATE, shard_seconds=shard_seconds) as writer:
        for n in numbers:
            if f"u{n}" not in writer.done:
                writer.add(Utterance(f"u{n}", f"text {n}", "hum", seed=n), sound(n))


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def test_what_is_written_is_read(tmp_path):
    write(tmp_path, range(20))
    speech = SpeechSet(tmp_path)
    assert [each.id for each in speech.utterances] == [f"u{n}" for n in range(20)] and speech.sample_rate == RATE
    assert len({each.shard for each in speech.utterances}) > 3
    for n, (utterance, samples) in enumerate(speech):
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, sound(n), atol=0.51 / 32767)
        assert utterance.duration == pytest.approx(len(sound(n)) / RATE) and utterance.text == f"text {n}"
    assert speech.duration == pytest.approx(sum(len(sound(n)) for n in range(20)) / RATE)
    np.testing.assert_array_equal(speech.samples(3, 50, 100), speech.samples(3)[50:150])
    assert len(speech.samples(3, 10**6)) == 0
    again = pickle.loads(pickle.dumps(speech))
    np.testing.assert_array_equal(again.samples(7), speech.samples(7))


WRITER = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
import test_utterances
from antiphon.data.speech.utterances import SpeechWriter, Utterance
with SpeechWriter(Path(sys.argv[1]), test_utterances.RATE, shard_seconds=2.0) as writer:
    for n in range(40):
        if f"u{{n}}" not in writer.done:
            writer.add(Utterance(f"u{{n}}", f"text {{n}}", "hum", seed=n), test_utterances.sound(n))
            time.sleep(0.01)
"""


def test_killed_and_resumed_equals_one_run(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write(whole, range(40))
    script = tmp_path / "writer.py"
    script.write_text(WRITER.format(here=str(__import__("pathlib").Path(__file__).parent)))
    kills = 0
    for shards in (1, 3, 6):
        process = subprocess.Popen([sys.executable, str(script), str(cut)])
        deadline = time.monotonic() + 60
        while process.poll() is None and len(list(cut.glob("shard-*.npy"))) < shards and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += process.returncode == -signal.SIGKILL
        for _, samples in SpeechSet(cut):  # whatever is in the manifest can be read
            assert np.isfinite(samples).all()
    assert kills >= 2
    write(cut, range(40))
    assert content(cut) == content(whole)


def test_leavings_of_a_kill_are_cleared_up(tmp_path):
    write(tmp_path / "whole", range(12))
    write(tmp_path / "cut", range(6))
    kept = content(tmp_path / "cut")
    # A shard that never reached the manifest, half a shard, and half a line.
    np.save(tmp_path / "cut" / "shard-00-00099.npy", np.zeros(10, np.int16))
    (tmp_path / "cut" / "shard-00-00100.part").write_bytes(b"half")
    with (tmp_path / "cut" / "manifest.jsonl").open("a") as file:
        file.write('{"id": "u9", "te')
    assert len(SpeechSet(tmp_path / "cut")) == 6
    SpeechWriter(tmp_path / "cut", RATE).close()
    assert content(tmp_path / "cut") == kept
    write(tmp_path / "cut", range(12))
    read = SpeechSet(tmp_path / "cut")
    assert [each.id for each in read.utterances] == [f"u{n}" for n in range(12)]


def test_readers_see_a_set_grow_and_can_hold_it_still(tmp_path):
    write(tmp_path, range(10))
    growing, still = SpeechSet(tmp_path), SpeechSet(tmp_path, hours=3.0 / 3600)
    first = [each.id for each in still.utterances]
    assert 0 < len(first) < 10 and sum(each.duration for each in still.utterances[:-1]) < 3.0 <= still.duration
    write(tmp_path, range(30))
    assert growing.refresh() == 20 and len(growing) == 30 and growing.refresh() == 0
    assert still.refresh() == 0
    assert [each.id for each in SpeechSet(tmp_path, hours=3.0 / 3600).utterances] == first
    np.testing.assert_allclose(growing.samples(29), sound(29), atol=1e-4)


def test_crops_lie_inside_utterances_and_cover_them_evenly(tmp_path):
    with SpeechWriter(tmp_path, RATE) as writer:
        for n, length in enumerate([100, 300, 600]):
            writer.add(Utterance(f"u{n}", "x", "ramp"), (n + np.arange(length) / 1000) / 10)
    speech = SpeechSet(tmp_path)
    generator = np.random.default_rng(0)
    drawn = [speech.crop(200, generator) for _ in range(3000)]
    assert all(len(piece) == 200 and not piece[length:].any() for piece, length in drawn)
    which = np.array([int(piece[0] * 10 + 1e-3) for piece, _ in drawn])
    assert np.bincount(which) / 3000 == pytest.approx([0.1, 0.3, 0.6], abs=0.03)
    assert {length for piece, length in drawn if piece[length - 1] * 10 < 0.9999} == {100}  # shorter than a crop
    starts = np.array([(piece[0] * 10 - 2) * 1000 for (piece, _), n in zip(drawn, which) if n == 2])
    assert starts.min() < 10 and starts.max() > 390
    first, again = (speech.crop(200, np.random.default_rng(1))[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_choosing_voices_and_lengths(tmp_path):
    with SpeechWriter(tmp_path, RATE) as writer:
        for n in range(10):
            writer.add(Utterance(f"u{n}", "x", "ab"[n % 2]), np.zeros(100 * (n + 1)))
    assert [each.id for each in SpeechSet(tmp_path, voices=["b"]).utterances] == ["u1", "u3", "u5", "u7", "u9"]
    assert [each.id for each in SpeechSet(tmp_path, seconds=(0.25, 0.5)).utterances] == ["u2", "u3", "u4"]


def test_several_workers_share_a_set(tmp_path):
    with SpeechWriter(tmp_path, RATE, 0, 1.0) as a, SpeechWriter(tmp_path, RATE, 1, 1.0) as b:
        for n in range(20):
            (a, b)[n % 2].add(Utterance(f"u{n}", "x", "hum", seed=n), sound(n))
    for utterance, samples in SpeechSet(tmp_path):
        np.testing.assert_allclose(samples, sound(utterance.seed), atol=1e-4)
    assert len(SpeechSet(tmp_path)) == 20
    assert SpeechWriter(tmp_path, RATE).done == {f"u{n}" for n in range(20)}


def test_skipped_ones_are_remembered(tmp_path):
    with SpeechWriter(tmp_path, RATE) as writer:
        writer.skip("u0", "too long")
    with SpeechWriter(tmp_path, RATE) as writer:
        assert writer.done == {"u0"}
    assert json.loads((tmp_path / "skipped.jsonl").read_text()) == {"id": "u0", "reason": "too long"}


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="no set of speech"):
        SpeechSet(tmp_path / "nothing")
    with SpeechWriter(tmp_path, RATE) as writer:
        with pytest.raises(DataError, match="Another process"):
            SpeechWriter(tmp_path, RATE)
        writer.add(Utterance("u0", "x", "hum"), sound(0))
        with pytest.raises(DataError, match="already"):
            writer.add(Utterance("u0", "x", "hum"), sound(0))
        with pytest.raises(DataError, match="finite"):
            writer.add(Utterance("u1", "x", "hum"), np.array([np.nan]))
        with pytest.raises(DataError, match="no utterances"):
            SpeechSet(tmp_path).crop(10, np.random.default_rng(0))
    with pytest.raises(DataError, match="sample rate 1000, not 8000"):
        SpeechWriter(tmp_path, 8000)
    (tmp_path / "shard-00-00000.npy").write_bytes(b"junk")
    with pytest.raises(DataError, match="cannot be read"):
        SpeechSet(tmp_path).samples(0)
