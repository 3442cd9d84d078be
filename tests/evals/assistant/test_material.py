"""What the assistant is measured on: samples of sets, shares of voices, frames of questions."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError, EvalError
from antiphon.evals.assistant import figures, material, speed
from antiphon.evals.assistant.material import HELD_OUT, Clip, parts, shares, spoken
from antiphon.evals.assistant.speed import in_frames, seconds_until_ready, trim_end


def test_shares_add_up():
    for count in (1, 7, 300):
        assert sum(n for _, n in shares(count)) == count
    assert dict(shares(300)) == {"joe": 150, "kokoro:jm_kumo": 100, "kokoro:jf_tebukuro": 50}
    assert {voice for voice, _ in HELD_OUT} == {voice for voice, _ in shares(6)}


def test_long_texts_are_cut_between_sentences():
    assert parts("Short. As it is.") == ["Short. As it is."]
    assert parts("One two. Three four? Five.", longest=16) == ["One two.", "Three four?", "Five."]
    assert parts("One. Two. Three four five six seven.", longest=12) == [
        "One. Two.",
        "Three four",
        "five six",
        "seven.",
    ]
    words = "Pay 9155 or 9180 mg. Take the 4170."
    assert parts(words, longest=40) == ["Pay 9155 or 9180 mg.", "Take the 4170."]  # as it is said it is longer


def test_parts_of_a_text_are_joined_and_kept(tmp_path, monkeypatch):
    """Each part is as many samples as it has characters, of its own number."""
    monkeypatch.setattr(parts, "__defaults__", (16,))
    made = []

    def speak(sentences, folder, voice, count, longest):
        made.extend((sentence.id, sentence.text, voice) for sentence in sentences)

    def clips(folder):
        (folder / "manifest.jsonl").touch()
        return [Clip(i, t, Audio(torch.full((len(t),), float(len(t))), 10), v) for i, t, v in made]

    monkeypatch.setattr(material, "_speak", speak)
    monkeypatch.setattr(material, "_clips", clips)
    long, short = spoken(["One two. Three four? Five.", "One two."], tmp_path)
    assert sorted(text for _, text, _ in made) == ["Five.", "One two.", "One two.", "Three four?"]
    assert (long.text, short.text, long.audio.sample_rate) == ("One two. Three four? Five.", "One two.", 10)
    sizes = [8.0] * 8 + [0.0] * 3 + [11.0] * 11 + [0.0] * 3 + [5.0] * 5
    assert long.audio.samples.tolist() == sizes and short.audio.samples.tolist() == [8.0] * 8
    assert len({voice for identity, _, voice in made if identity.startswith(long.id)}) == 1
    monkeypatch.setattr(parts, "__defaults__", (24,))
    kept = SimpleNamespace(utterances=[SimpleNamespace(id=identity) for identity, *_ in made])
    monkeypatch.setattr("antiphon.data.speech.utterances.SpeechSet", lambda folder: kept)
    (again,) = spoken(["One two. Three four? Five."], tmp_path)  # cut otherwise: no old part is taken for a new one
    assert again.audio.samples.tolist() == [20.0] * 20 + [0.0] * 3 + [5.0] * 5


def test_frames_lose_nothing():
    samples = torch.arange(2500.0)
    frames = list(in_frames(samples, 1280))
    assert [len(f) for f in frames] == [1280, 1280]
    assert torch.equal(torch.cat(frames)[:2500], samples) and not torch.cat(frames)[2500:].any()


def test_trim_end_cuts_only_the_end():
    samples = torch.cat(
        [torch.zeros(100), torch.full((50,), 0.5), torch.zeros(10), torch.full((5,), -0.5), torch.full((99,), 1e-3)]
    )
    assert torch.equal(trim_end(Audio(samples, 16000)).samples, samples[:165])
    assert len(trim_end(Audio(torch.zeros(7), 16000)).samples) == 7


def test_being_ready_takes_what_the_process_takes_until_it_says_so(monkeypatch):
    with pytest.raises(EvalError, match="nobody could not be loaded: .*no preset 'nobody'"):
        seconds_until_ready("nobody", {})
    monkeypatch.setattr(speed, "_READY", "import time; time.sleep(0.3); print('ready', flush=True)")
    assert seconds_until_ready("anybody", {}) >= 0.3


def test_hard_sentences_are_of_four_kinds_and_every_sample_has_all():
    rows = [json.loads(line) for line in material.HARD_SENTENCES.read_text().splitlines()]
    assert Counter(row["kind"] for row in rows) == {"numbers": 10, "names": 10, "twisters": 10, "long": 10}
    assert all(len(row["text"].split()) >= 60 for row in rows if row["kind"] == "long")
    kinds = {row["text"]: row["kind"] for row in rows}
    assert {kinds[text] for text in material.hard_sentences(8)} == set(kinds.values())
    assert len(set(material.hard_sentences(1000))) == 40


def test_a_teacher_is_asked_for_by_its_name():
    pytest.importorskip("onnx")
    pytest.importorskip("hibari")
    (clip,) = material.teacher_speaks(["Yes."])
    (again,) = material.teacher_speaks(["Yes."], "hibari")
    assert torch.equal(clip.audio.samples, again.audio.samples) and clip.text == "Yes." and clip.audio.duration > 0.2
    with pytest.raises(DataError, match="no voice 'nobody'"):
        material.teacher_speaks(["Yes."], "nobody")


def test_voices_are_measured_where_there_are_several():
    evaluation = SimpleNamespace(model=SimpleNamespace(synthesizer=SimpleNamespace(voices=[])))
    with pytest.raises(EvalError, match="one voice without a name"):
        figures.say_voices(evaluation, 3)
