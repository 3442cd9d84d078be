"""Sound to codes and back: nothing is lost, however a run was stopped and shared out."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from antiphon.codecs.base import code_fingerprint, fingerprint, has_codes_of
from antiphon.codecs.encodec.model import ChunkedEncodec, EncodecConfig
from antiphon.data.codes import CodeSet
from antiphon.data.recordings import recordings
from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.data.tokenize import encode as module
from antiphon.data.tokenize.decode import DetokenizeConfig, detokenize, file_names
from antiphon.data.tokenize.encode import (
    TokenizeConfig,
    encode,
    in_processes,
    open_codec,
    tokenize,
)
from antiphon.errors import ConfigError, DataError
from antiphon.nn.placement import check_device
from tests.codecs.simple import Bytes, Semantic, StreamingBytes, tiny_mini
from tests.data.fragile import double


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    for i, name in enumerate(("a.wav", "b/a.wav", "b/c.flac", "b/d.wav")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.random.default_rng(i).uniform(-0.5, 0.5, 900 + 100 * i), 8000)
    return folder


def test_there_and_back(corpus, tmp_path):
    codec = Bytes()
    assert tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes"), False, codec) == 0
    found = CodeSet(tmp_path / "codes")
    assert [row.id for row in found.rows] == ["a.wav", "b/a.wav", "b/c.flac", "b/d.wav"]
    assert found.info.codec == "bytes" and found.info.codebooks == 2 and found.info.fingerprint == fingerprint(codec)
    assert [row.samples for row in found.rows] == [900, 1000, 1100, 1200]
    out = tmp_path / "sounds"
    assert detokenize(DetokenizeConfig(tmp_path / "codes", out), False, codec) == []
    for recording, again in zip(recordings(corpus), recordings(out / "manifest.jsonl"), strict=True):
        assert again.id == recording.id and again.path == str((out / recording.id).with_suffix(".wav"))
        torch.testing.assert_close(again.load().samples, recording.load().samples, atol=1e-4, rtol=0)


def test_fewer_codebooks(corpus, tmp_path):
    tokenize(TokenizeConfig(corpus, tmp_path / "one", "bytes", codebooks=1), False, Bytes())
    assert CodeSet(tmp_path / "one")[0].shape == (1, 900)
    tokenize(TokenizeConfig(corpus, tmp_path / "two", "bytes"), False, Bytes())
    for codes, wanted in ((tmp_path / "one", None), (tmp_path / "two", 1)):
        detokenize(DetokenizeConfig(codes, tmp_path / f"{codes.name}-sounds", codebooks=wanted), False, Bytes())
    a, b = (recordings(tmp_path / f"{name}-sounds")[0].load().samples for name in ("one", "two"))
    assert torch.equal(a, b)
    with pytest.raises(DataError, match="2 codebooks, not 3"):
        tokenize(TokenizeConfig(corpus, tmp_path / "three", "bytes", codebooks=3), False, Bytes())
    with pytest.raises(DataError, match="1 codebooks, not 2"):
        detokenize(DetokenizeConfig(tmp_path / "one", tmp_path / "x", codebooks=2), False, Bytes())


def test_a_stopped_run_goes_on(corpus, tmp_path, monkeypatch):
    codec, config = Bytes(), TokenizeConfig(corpus, tmp_path / "codes", "bytes")
    real = module.encode

    def stop(*arguments):
        if codec.encoded == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        tokenize(config, False, codec)
    monkeypatch.undo()
    assert len(CodeSet(tmp_path / "codes")) == 2
    tokenize(config, False, codec)
    assert codec.encoded == 4 and len(CodeSet(tmp_path / "codes")) == 4
    tokenize(config, False, codec)
    assert codec.encoded == 4
    out = DetokenizeConfig(tmp_path / "codes", tmp_path / "sounds")
    detokenize(out, False, codec)
    (tmp_path / "sounds" / "b" / "c.wav").unlink()
    detokenize(out, False, codec)
    assert codec.decoded == 5 and len(recordings(tmp_path / "sounds" / "manifest.jsonl")) == 4


def test_other_recordings_of_the_same_names_are_refused(corpus, tmp_path):
    codec, codes = Bytes(), tmp_path / "codes"
    tokenize(TokenizeConfig(corpus, codes, "bytes"), False, codec)
    moved = corpus.rename(tmp_path / "moved")
    tokenize(TokenizeConfig(moved, codes, "bytes"), False, codec)
    assert codec.encoded == 4
    soundfile.write(moved / "b" / "a.wav", np.full(1000, 0.25), 8000)
    with pytest.raises(DataError, match="another b/a.wav than .*moved/b/a.wav"):
        tokenize(TokenizeConfig(moved, codes, "bytes"), False, codec)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.wav", "new.wav"):
        soundfile.write(other / name, np.full(900, 0.25), 8000)
    with pytest.raises(DataError, match="came from .*corpus"):
        tokenize(TokenizeConfig(other, codes, "bytes"), False, codec)
    (other / "a.wav").unlink()
    assert tokenize(TokenizeConfig(other, codes, "bytes"), False, codec) == 0  # no name in common
    assert len(CodeSet(codes)) == 5


def test_the_manifest_holds_no_more_than_is_known(corpus, tmp_path):
    tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes"), False, Bytes())
    row = json.loads((tmp_path / "codes" / "manifest.jsonl").read_text().splitlines()[0])
    assert set(row) == {"id", "text", "voice", "samples", "stamp", "shard", "offset", "length"}


def test_a_speech_set_that_was_made_anew_is_refused(tmp_path):
    codes = TokenizeConfig(tmp_path / "set", tmp_path / "codes", "bytes")
    for lengths in ((500,), (500, 600), (700, 600)):
        if lengths[0] == 700:
            (tmp_path / "set").rename(tmp_path / "old")
        with SpeechWriter(tmp_path / "set", 8000) as writer:
            for i, length in enumerate(lengths):
                if str(i) not in writer.done:
                    writer.add(Utterance(str(i), "said", "v"), np.full(length, 0.5))
        if lengths[0] == 500:
            assert tokenize(codes, False, Bytes()) == 0 and len(CodeSet(codes.out)) == len(lengths)
    with pytest.raises(DataError, match="another 0 than"):
        tokenize(codes, False, Bytes())


def test_a_name_that_is_not_utf8_loses_nothing(corpus, tmp_path):
    (corpus / "a.wav").rename(corpus / "caf\udce9.wav")  # so Python says a byte that is none
    (corpus / "b" / "d.wav").write_text("no sound")
    (corpus / "b" / "d.wav").rename(corpus / "d\udce9.wav")
    codec, config = Bytes(), TokenizeConfig(corpus, tmp_path / "codes", "bytes")
    assert tokenize(config, False, codec) == tokenize(config, False, codec) == 1
    assert codec.encoded == 3
    assert [row.id for row in CodeSet(config.out).rows] == ["b/a.wav", "b/c.flac", "caf\udce9.wav"]
    assert detokenize(DetokenizeConfig(config.out, tmp_path / "sounds"), False, codec) == []
    again = recordings(tmp_path / "sounds" / "manifest.jsonl")[2]
    assert again.id == "caf\udce9.wav" and again.load().duration == 900 / 8000


def test_sounds_of_other_settings_or_codes_are_refused(corpus, tmp_path):
    codec, codes, sounds = Bytes(), tmp_path / "codes", tmp_path / "sounds"
    tokenize(TokenizeConfig(corpus, codes, "bytes"), False, codec)
    detokenize(DetokenizeConfig(codes, sounds), False, codec)
    with pytest.raises(DataError, match="other codebooks than 1"):
        detokenize(DetokenizeConfig(codes, sounds, codebooks=1), False, codec)
    assert detokenize(DetokenizeConfig(codes, sounds, codebooks=2), False, codec) == []
    soundfile.write(corpus / "e.wav", np.full(900, 0.25), 8000)
    tokenize(TokenizeConfig(corpus, codes, "bytes"), False, codec)
    assert detokenize(DetokenizeConfig(codes, sounds), False, codec) == []  # the set has grown
    assert codec.decoded == 5
    soundfile.write(corpus / "e.wav", np.full(800, 0.25), 8000)
    tokenize(TokenizeConfig(corpus, tmp_path / "anew", "bytes"), False, codec)
    with pytest.raises(DataError, match="other codes"):
        detokenize(DetokenizeConfig(tmp_path / "anew", sounds), False, codec)
    before = (corpus / "a.wav").read_bytes()
    with pytest.raises(DataError, match="a.wav is there and"):
        detokenize(DetokenizeConfig(codes, corpus), False, codec)
    assert (corpus / "a.wav").read_bytes() == before
    with pytest.raises(DataError, match="codebooks is 0"):
        DetokenizeConfig(codes, sounds, codebooks=0)


def test_scales_of_chunks_are_kept(tmp_path):
    fields = dict(latent=6, filters=4, ratios=(4, 2), codebooks=3, codebook_size=16, causal=False, normalize=True)
    codec = ChunkedEncodec(EncodecConfig(sample_rate=800, channels=2, chunk_seconds=1.0, overlap=0.01, **fields)).eval()
    (tmp_path / "corpus").mkdir()
    louder = np.linspace(0.01, 0.9, 2000)[:, None] * np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 2))
    soundfile.write(tmp_path / "corpus" / "a.wav", louder, 800)
    tokenize(TokenizeConfig(tmp_path / "corpus", tmp_path / "codes", "encodec", codebooks=2), False, codec)
    row, codes = next(iter(CodeSet(tmp_path / "codes")))
    heard = recordings(tmp_path / "corpus")[0].load(mono=False).samples[None]
    scales = codec.encode_chunks(heard)[1]
    assert len(row.scales) == 3 and row.scales == scales[0].tolist() and row.scales[2] > 3 * row.scales[0]
    detokenize(DetokenizeConfig(tmp_path / "codes", tmp_path / "sounds"), False, codec)
    sound = recordings(tmp_path / "sounds" / "manifest.jsonl")[0].load(mono=False).samples
    expected = codec.decode(torch.from_numpy(codes)[None], scales)[0, :, :2000].clamp(-1, 1)
    torch.testing.assert_close(sound, expected, atol=1e-4, rtol=0)


def test_places_and_devices_that_cannot_be_used_are_told(corpus, tmp_path):
    for place in (corpus / "a.wav", corpus / "a.wav" / "codes"):
        with pytest.raises(DataError, match="a.wav.* cannot be written"):
            tokenize(TokenizeConfig(corpus, place, "bytes"), False, Bytes())
    tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes"), False, Bytes())
    with pytest.raises(DataError, match="a.wav.* cannot be written"):
        detokenize(DetokenizeConfig(tmp_path / "codes", corpus / "a.wav" / "sounds"), False, Bytes())
    for device in ("foo", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(ConfigError, match=f"no device '{device}'"):
            open_codec("mini", device)
    check_device("cpu")


def test_bad_files_are_listed_and_tried_again_when_asked(corpus, tmp_path, capsys):
    good = (corpus / "b" / "c.flac").read_bytes()
    (corpus / "b" / "c.flac").write_text("no sound")
    config = TokenizeConfig(corpus, tmp_path / "codes", "bytes")
    assert tokenize(config, True, Bytes()) == 1
    assert "b/c.flac: skipped: " in capsys.readouterr().err
    (row,) = map(json.loads, (tmp_path / "codes" / "skipped.jsonl").read_text().splitlines())
    assert row["id"] == "b/c.flac" and "no sound that can be read" in row["reason"]
    (corpus / "b" / "c.flac").write_bytes(good)
    assert tokenize(config, False, Bytes()) == 1
    assert tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes", retry=True), False, Bytes()) == 0
    assert len(CodeSet(tmp_path / "codes")) == 4


def test_when_all_fails_it_is_an_error(corpus, tmp_path):
    for path in corpus.rglob("*.*"):
        path.write_text("no sound")
    with pytest.raises(DataError, match="Not one of 4"):
        tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes"), False, Bytes())


@pytest.mark.parametrize("seconds", [60, 60.01, 80, 95])
def test_long_recordings_go_through_in_pieces(seconds):
    codec, samples = StreamingBytes(), torch.rand(1, int(8000 * seconds))
    codes = encode(codec, samples)
    assert np.array_equal(codes, Bytes().encode(samples[None])[0].numpy())
    if seconds == 60:
        assert codec.pieces == []
    else:
        assert [last for _, last in codec.pieces] == [False] * (len(codec.pieces) - 1) + [True]
        assert max(n for n, _ in codec.pieces) == 160_000


def test_codes_of_another_codec_are_not_decoded(corpus, tmp_path):
    tokenize(TokenizeConfig(corpus, tmp_path / "codes", "bytes"), False, Bytes())
    with pytest.raises(DataError, match="other weights"):
        detokenize(DetokenizeConfig(tmp_path / "codes", tmp_path / "x"), False, StreamingBytes())
    with pytest.raises(DataError, match="no sound"):
        detokenize(DetokenizeConfig(tmp_path / "codes", tmp_path / "x"), False, Semantic())
    with pytest.raises(DataError, match="mp3"):
        DetokenizeConfig(tmp_path / "codes", tmp_path / "x", ending="mp3")


def test_codes_stay_a_codecs_own_while_its_decoder_is_trained_on(corpus, tmp_path):
    tiny_mini(tmp_path / "codec")
    codec = open_codec(str(tmp_path / "codec"))
    tokenize(TokenizeConfig(corpus, tmp_path / "codes", str(tmp_path / "codec")), False, codec)
    sounds = DetokenizeConfig(tmp_path / "codes", tmp_path / "sounds", str(tmp_path / "codec"))
    detokenize(sounds, False, codec)
    info, before = CodeSet(tmp_path / "codes").info, (fingerprint(codec), code_fingerprint(codec))
    with torch.no_grad():
        codec.slow[0].conv.weight.mul_(1.1)
    assert fingerprint(codec) != before[0] and code_fingerprint(codec) == before[1] == info.fingerprint
    info.check(codec, "codes")
    assert has_codes_of(codec, "") and has_codes_of(codec, fingerprint(codec)) and not has_codes_of(codec, before[0])
    with pytest.raises(DataError, match="sounds made of other codes"):  # those of the decoder before
        detokenize(sounds, False, codec)
    header = tmp_path / "codes" / "set.json"
    header.write_text(header.read_text().replace(info.fingerprint, fingerprint(codec)))  # as sets were noted before
    (corpus / "new.wav").write_bytes((corpus / "a.wav").read_bytes())
    assert tokenize(TokenizeConfig(corpus, tmp_path / "codes", str(tmp_path / "codec")), False, codec) is not None
    assert any("new" in row.id for row in CodeSet(tmp_path / "codes").rows)
    with torch.no_grad():
        codec.analysis.weight.mul_(1.1)
    with pytest.raises(DataError, match="other weights"):
        info.check(codec, "codes")
    offset = type(codec)(replace(codec.config, mel_offset=0.1))
    offset.load_state_dict(codec.state_dict())
    assert code_fingerprint(offset) != code_fingerprint(codec)


def test_the_fingerprint_is_of_the_weights():
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert fingerprint(a) != fingerprint(b)
    b.load_state_dict(a.state_dict())
    b.register_buffer("statistics", torch.ones(3))
    assert fingerprint(a) == fingerprint(b)


def test_files_stay_in_the_folder_and_differ():
    names = file_names(["a/b.wav", "a/c.wav", "a/c.mp3", "../up.wav", "/etc/x", "n?.wav", "n:.wav", ".."], "flac")
    assert names[:5] == ["a/b.flac", "a/c.wav.flac", "a/c.mp3.flac", "up.flac", "etc/x.flac"]
    assert len(set(names)) == len(names) and names[7] == "_.flac"


def test_a_killed_process_costs_only_its_own_item():
    found = list(in_processes(double, 2, [1, "kill", 3, 4, 5], 1, lambda at: (at, None)))
    assert found == [(0, 2), (1, None), (2, 6), (3, 8), (4, 10)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_stops_the_processes_silently(early, tmp_path):
    code = (  # a background job's SIGINT is ignored, and children inherit that: this one shall hear it anyhow
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from antiphon.data.tokenize.workers import in_processes\n"
        "from tests.data.fragile import nap\n"
        f"for each in in_processes(nap, {str(tmp_path / 'begun')!r}, list(range(9)), 2, None): print(each)"
    )
    root = Path(__file__).parents[3]
    started = {"cwd": root, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    run = subprocess.Popen([sys.executable, "-c", code], text=True, **started)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    for _ in range(600):
        # early: the workers are there, and import; else they work
        if len(children.read_text().split()) == 3 if early else (tmp_path / "begun").exists():
            break
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    try:
        out, told = run.communicate(timeout=30)  # which waits for all that hold its stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # nothing of it outlives a test that fails
    assert out == "" and told.count("Traceback") == 1 and told.rstrip().endswith("KeyboardInterrupt"), told


@pytest.mark.slow
def test_several_processes_give_the_same_set(corpus, tmp_path):
    tiny_mini(tmp_path / "codec")
    (corpus / "z.wav").write_text("no sound")
    for workers in (1, 2):
        config = TokenizeConfig(corpus, tmp_path / str(workers), str(tmp_path / "codec"), 2, workers)
        assert tokenize(config, False) == 1
        detokenize(DetokenizeConfig(config.out, tmp_path / f"sounds-{workers}", workers=workers), False)
    one, two = (CodeSet(tmp_path / str(workers)) for workers in (1, 2))
    assert one.rows == two.rows and one.info == two.info
    assert all(np.array_equal(one[i], two[i]) and one[i].shape[0] == 2 for i in range(4))
    assert one.info.fingerprint == code_fingerprint(open_codec(str(tmp_path / "codec")))
    a, b = (recordings(tmp_path / f"sounds-{workers}") for workers in (1, 2))
    assert [torch.equal(x.load().samples, y.load().samples) for x, y in zip(a, b, strict=True)] == [True] * 4


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_codes(corpus, tmp_path):
    ray = pytest.importorskip("ray")
    tiny_mini(tmp_path / "codec")
    (corpus / "z.wav").write_text("no sound")
    plain = TokenizeConfig(corpus, tmp_path / "plain", str(tmp_path / "codec"))
    shared = TokenizeConfig(corpus, tmp_path / "ray", str(tmp_path / "codec"), workers=2, ray=True)
    try:
        assert tokenize(plain, False) == tokenize(shared, False) == 1
        assert tokenize(shared, False) == 1  # nothing left to do
    finally:
        ray.shutdown()
    one, two = ({row.id: codes.tolist() for row, codes in CodeSet(each.out)} for each in (plain, shared))
    assert one == two and len(one) == 4
