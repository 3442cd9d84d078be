"""Recordings are found wherever they lie, and read as any codec takes them."""

import json
import pickle

import numpy as np
import pytest
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.data.recordings import fitted, recordings
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
