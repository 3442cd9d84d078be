"""Recordings are found wherever they lie, and read as any codec takes them."""

import gzip
import json
import pickle
import sys

import numpy as np
import pytest
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.data.codes import CodecInfo, Coded, CodesWriter
from antiphon.data.recordings import fitted, recordings
from antiphon.data.speech.gather import speech_set
from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.errors import AudioError, DataError


def wav(path, seconds=0.5, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate)
    return path


def test_a_folder_gives_its_sounds_in_order(tmp_path):
    for name in ("b.wav", "a.FLAC", "deep/er/c.ogg", ".hidden.wav", ".hidden/d.wav"):
        wav(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no sound")
    found = recordings(tmp_path)
    assert [each.id for each in found] == ["a.FLAC", "b.wav", "deep/er/c.ogg"]
    assert found[1].load().samples.shape == (4000,)
    assert pickle.loads(pickle.dumps(found[1])) == found[1]


def test_a_manifest_gives_texts_ids_and_paths_from_its_folder(tmp_path):
    wav(tmp_path / "sounds" / "a.wav")
    rows = [
        {"path": "sounds/a.wav", "text": "Hello.", "voice": "me", "phones": [["h", 0.0, 0.1], ["o", 0.1, 0.4]]},
        {"path": str(tmp_path / "sounds" / "a.wav"), "id": "again"},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = recordings(manifest)
    assert (first.id, first.text, first.voice) == ("sounds/a.wav", "Hello.", "me")
    assert first.phones == (("h", 0.0, 0.1), ("o", 0.1, 0.4))
    assert (second.id, second.text) == ("again", "")
    assert torch.equal(first.load().samples, second.load().samples)


def test_a_manifest_may_be_as_editors_and_people_write_it(tmp_path):
    rows = ['{"path": "a.wav", "text": "one\u2028two\x85three"}', '{"path": "b.wav", "id": null}', '{"path": "c.wav"}']
    (tmp_path / "m.jsonl").write_bytes(("\ufeff" + "\r\n".join(rows)).encode())
    found = recordings(tmp_path / "m.jsonl")
    assert [each.id for each in found] == ["a.wav", "b.wav", "c.wav"] and found[0].text == "one\u2028two\x85three"


def test_texts_stand_beside_the_sounds(tmp_path):
    for name in ("a.wav", "b.wav", "deep/c.flac", "d.wav"):
        wav(tmp_path / name)
    (tmp_path / "a.txt").write_text("Hello,\nyou.\n")
    words = [
        ["Yes", [0.0, 0.2], "SPEAKER_MAIN"],
        ["no", [0.1, 0.2], "SPEAKER_01"],
        ["well.", [0.2, 0.4], "SPEAKER_MAIN"],
    ]
    (tmp_path / "deep" / "c.json").write_text(json.dumps({"alignments": words}))  # moshi-finetune's
    (tmp_path / "d.json").write_text('{"something": "else"}')
    assert [each.text for each in recordings(tmp_path)] == ["Hello, you.", "", "", "Yes well."]
    (tmp_path / "index.jsonl").write_text(
        '{"path": "deep/c.flac", "duration": 0.5}\n{"path": "a.wav", "duration": 0.5}\n'
    )
    assert [each.text for each in recordings(tmp_path / "index.jsonl")] == ["Yes well.", "Hello, you."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", 'path,sentence,client_id\na.wav,"Hello, you.",me\n'),
        ("m.tsv", "id\tpath\ttranscript\tspeaker\na.wav\ta.wav\tHello, you.\tme\n"),
        ("nemo.json", '{"audio_filepath": "a.wav", "duration": 0.5, "text": "Hello, you.", "speaker": "me"}'),
    ],
)
def test_manifests_of_others_are_read(tmp_path, name, content):
    wav(tmp_path / "a.wav")
    (tmp_path / name).write_text(content)
    (only,) = recordings(tmp_path / name)
    assert (only.id, only.text, only.voice) == ("a.wav", "Hello, you.", "me") and only.load().duration == 0.5


def test_parts_of_recordings(tmp_path):
    wav(tmp_path / "a.wav")
    whole = recordings(tmp_path)[0].load().samples
    row = {"path": "a.wav", "offset": 0.1, "duration": 0.2, "id": "part"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    assert torch.equal(recordings(tmp_path / "m.jsonl")[0].load().samples, whole[800:2400])
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    cut = {
        "id": "cut", "start": 0.1, "duration": 0.2, "channel": 0, "type": "MonoCut",
        "supervisions": [{"text": "Hello,", "speaker": "me"}, {"text": "you."}],
        "recording": {"id": "a", "sources": [source], "sampling_rate": 8000, "num_samples": 4000, "duration": 0.5},
    }  # fmt: skip
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(json.dumps(cut).encode()))
    (only,) = recordings(tmp_path / "cuts.jsonl.gz")
    assert (only.id, only.text, only.voice) == ("cut", "Hello, you.", "me")
    assert torch.equal(only.load().samples, whole[800:2400])
    cut["recording"]["sources"] = [{**source, "type": "url"}]
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut))
    with pytest.raises(DataError, match="line 1"):
        recordings(tmp_path / "cuts.jsonl")


def test_sound_before_the_first_phone_is_trimmed(tmp_path):
    wav(tmp_path / "a.wav")
    row = {"path": "a.wav", "phones": [["h", 0.2, 0.3], ["o", 0.3, 0.4]]}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    (whole,) = recordings(tmp_path / "m.jsonl")
    part = whole.trimmed(0.05)
    assert torch.equal(part.load().samples, whole.load().samples[1200:])
    np.testing.assert_allclose([start for _, start, _ in part.phones], [0.05, 0.15])
    assert whole.trimmed(0.3) == whole and part.stamp() == whole.stamp()


def test_what_needs_a_package_says_which(tmp_path, monkeypatch):
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        recordings(tmp_path)


def test_codes_are_no_sound(tmp_path):
    with CodesWriter(tmp_path, CodecInfo("mimi", "0", 8000, 1, 12.5, 1, 4)) as writer:
        writer.add(Coded("a"), np.zeros((1, 3), int))
    with pytest.raises(DataError, match="a set of codes, in which there is no sound"):
        recordings(tmp_path)


def test_any_recordings_become_a_speech_set(tmp_path, caplog):
    for name in ("a.wav", "b.wav"):
        wav(tmp_path / "corpus" / name)
    (tmp_path / "corpus" / "bad.wav").write_text("no sound")
    (tmp_path / "corpus" / "a.txt").write_text("Hello.")
    speech = speech_set(tmp_path / "corpus", 4000, tmp_path / "copy")
    assert [(u.id, u.text, u.length) for u in speech.utterances] == [("a.wav", "Hello.", 2000), ("b.wav", "", 2000)]
    assert "bad.wav: left out" in caplog.text
    again = speech_set(tmp_path / "copy", 9, tmp_path / "nowhere")  # it is one already
    np.testing.assert_array_equal(again.samples(1), speech.samples(1))
    wav(tmp_path / "corpus" / "c.wav")
    assert len(speech_set(tmp_path / "corpus", 4000, tmp_path / "copy", resumed=True)) == 2
    assert len(speech_set(tmp_path / "corpus", 4000, tmp_path / "copy")) == 3
    assert speech_set(tmp_path / "corpus", 4000, tmp_path / "copy", hours=0.4 / 3600).duration == 0.5


def test_a_speech_set_gives_texts_and_phones(tmp_path):
    samples = np.linspace(-0.5, 0.5, 4000, dtype=np.float32)
    with SpeechWriter(tmp_path, 8000) as writer:
        writer.add(Utterance("x", "A b.", "v", phonemes="a b", phoneme_ends=[0.2, 0.25, 0.4]), samples[:3000])
        writer.add(Utterance("y", "C.", "v"), samples)
    first, second = recordings(tmp_path)
    assert first.phones == (("a", 0.0, 0.2), (" ", 0.2, 0.25), ("b", 0.25, 0.4)) and second.phones == ()
    assert (second.id, second.text, second.voice) == ("y", "C.", "v")
    np.testing.assert_allclose(second.load().samples, samples, atol=1e-4)
    assert first.load().duration == 3000 / 8000


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "no path"}', "line 2"),
        ("not json", "line 2"),
        ('["a.wav"]', "line 2"),
        ('{"path": "a.wav"}', "line 1 already"),
        ('{"path": "b.wav", "phones": [["h"]]}', "line 2"),
    ],
)
def test_a_bad_manifest_is_told_where(tmp_path, line, told):
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav"}\n' + line + "\n")
    with pytest.raises(DataError, match=told):
        recordings(tmp_path / "m.jsonl")


def test_nothing_there_is_told(tmp_path):
    (tmp_path / "m.jsonl").write_text("\n")
    for place in (tmp_path / "missing", tmp_path, tmp_path / "m.jsonl"):
        with pytest.raises(DataError, match=place.name):
            recordings(place)
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav"}')
    with pytest.raises(AudioError, match="no such file"):
        recordings(tmp_path / "m.jsonl")[0].load()


def test_sounds_are_made_to_fit_a_codec():
    mono, stereo = Audio(torch.ones(800), 8000), Audio(torch.stack([torch.ones(800), torch.zeros(800)]), 8000)
    assert fitted(mono, 8000, 2).tolist() == torch.ones(2, 800).tolist()
    assert torch.equal(fitted(stereo, 8000, 2), stereo.samples)
    assert torch.equal(fitted(stereo, 8000, 1), torch.full((1, 800), 0.5))
    assert fitted(mono, 16000, 1).shape == (1, 1600)
