"""Speaking with the real teacher voice: times that fit the sound, sets that do not depend on how they were made."""

import gzip
import json

import numpy as np
import pytest

from antiphon.errors import DataError

pytest.importorskip("onnx")
pytest.importorskip("hibari")

from antiphon.data.describe import describe
from antiphon.data.speech.augment import Augment
from antiphon.data.speech.speak import MANY_SPEAKERS, SpeakConfig, Speaker, Variety, mixed_sentences, speak
from antiphon.data.speech.utterances import SpeechSet
from antiphon.data.speech.voices.base import Spoken
from antiphon.data.text.corpora import Sentence, text_id

TEXTS = ("Paris is the capital of France.", "Set an alarm for seven!", "It's four.", "What colour is the sky?")


def sentences(role="assistant"):
    return [Sentence(text_id(text), text, role, "tests", "train") for text in TEXTS]


def by_id(folder):
    return {utterance.id: (utterance, samples) for utterance, samples in SpeechSet(folder)}


def test_clean_speech_comes_with_its_times(tmp_path):
    speak(sentences()[:2], SpeakConfig(tmp_path / "set"), bar=False)
    speech = SpeechSet(tmp_path / "set")
    assert [each.text for each in speech.utterances] == list(TEXTS[:2])
    for utterance, samples in speech:
        ends = np.array(utterance.phoneme_ends)
        assert len(ends) == len(utterance.phonemes) > 10 and (np.diff(ends) >= 0).all()
        assert 0 <= utterance.phonemes_start < ends[0] and ends[-1] <= utterance.duration + 1e-6
        assert len(utterance.words) == len(utterance.text.split())
        # Loud inside the words, still before the first one.
        first, last = utterance.words[0][1], utterance.words[-1][2]
        inside = samples[int(first * 24000) : int(last * 24000)]
        assert np.sqrt(np.mean(inside**2)) > 0.01
        assert np.abs(samples[: int(0.8 * first * 24000)]).max() < 0.2 * np.abs(inside).max()


def test_a_set_is_the_same_however_it_was_made(tmp_path):
    config = SpeakConfig(tmp_path / "once", variety=MANY_SPEAKERS, augment=Augment(), sample_rate=16000, seed=3)
    speak(sentences(), config, bar=False)
    pieces = SpeakConfig(**{**vars(config), "out": tmp_path / "pieces", "count": 1})
    speak(sentences(), pieces, bar=False)
    assert len(SpeechSet(tmp_path / "pieces")) == 1
    speak(sentences(), SpeakConfig(**{**vars(pieces), "count": 0}), bar=False)
    shared = SpeakConfig(**{**vars(config), "out": tmp_path / "shared"})
    speak(sentences(), shared, workers=2, bar=False)
    once = by_id(tmp_path / "once")
    assert len(once) == len(TEXTS)
    for other in ("pieces", "shared"):
        found = by_id(tmp_path / other)
        assert found.keys() == once.keys()
        for identity, (utterance, samples) in found.items():
            np.testing.assert_array_equal(samples, once[identity][1])
            assert utterance.changes == once[identity][0].changes and utterance.changes["augmented"] == 1.0
            assert not utterance.phonemes  # times would no longer fit
    other_seed = SpeakConfig(**{**vars(config), "out": tmp_path / "other", "seed": 4})
    speak(sentences()[:1], other_seed, bar=False)
    (_, samples), *_ = SpeechSet(tmp_path / "other")
    assert len(samples) != len(once[sentences()[0].id][1])


def test_limits_and_skipping(tmp_path):
    speak(sentences(), SpeakConfig(tmp_path, count=2, seconds=(1.5, 12.0)), bar=False)
    assert len(SpeechSet(tmp_path)) == 2
    speak(sentences(), SpeakConfig(tmp_path, seconds=(1.5, 12.0)), bar=False)
    speak(sentences(), SpeakConfig(tmp_path, seconds=(1.5, 12.0)), bar=False)  # nothing is left to do
    texts = [each.text for each in SpeechSet(tmp_path).utterances]
    assert "It's four." not in texts and len(texts) == 3
    assert json.loads((tmp_path / "skipped.jsonl").read_text())["id"] == text_id("It's four.")
    lines = dict(describe(tmp_path))
    assert lines["utterances"] == "3" and lines["phoneme times"] == "100%" and "voice hibari" in lines


def test_the_bar_ends_full_though_the_last_sentence_is_longer_than_what_was_missing(tmp_path, capsys):
    speak(sentences(), SpeakConfig(tmp_path / "set", hours=1.0 / 3600), bar=True)
    assert SpeechSet(tmp_path / "set").duration > 1.6
    assert "100%" in capsys.readouterr().err


def test_the_bar_is_drawn_where_there_is_more_than_what_is_asked_for(tmp_path, capsys):
    speak(sentences(), SpeakConfig(tmp_path / "set"), bar=True)
    other = Sentence(text_id("How are you?"), "How are you?", "user", "tests", "train")
    speak([other], SpeakConfig(tmp_path / "set"), bar=True)
    assert len(SpeechSet(tmp_path / "set")) == len(TEXTS) + 1
    assert "100%" in capsys.readouterr().err


def test_lower_voices_have_longer_throats():
    draws = [MANY_SPEAKERS.draw(np.random.default_rng(seed)) for seed in range(200)]
    for name, (low, high) in (("speed", MANY_SPEAKERS.speed), ("pitch", MANY_SPEAKERS.pitch)):
        values = [draw[name] for draw in draws]
        assert low <= min(values) < low * 1.1 and high / 1.1 < max(values) <= high
    assert np.corrcoef([d["pitch"] for d in draws], [d["formant"] for d in draws])[0, 1] > 0.5
    assert Variety().draw(np.random.default_rng(0)) == {"speed": 1.0, "pitch": 1.0, "formant": 1.0}


def test_a_voice_that_knows_no_throats_is_slowed_down_and_played_faster(monkeypatch):
    class Tone:
        def speak(self, text: str, seed: int, speed: float) -> Spoken:
            return Spoken(np.sin(np.arange(int(16000 / speed)) * 2 * np.pi * 400 / 16000).astype(np.float32), 16000)

    speaker = Speaker("hibari")
    monkeypatch.setattr(speaker, "voice", Tone())
    spoken = speaker.speak("a", 0, {"speed": 1.0, "pitch": 0.7, "formant": 1.2})
    assert spoken.sample_rate == 16000 and abs(len(spoken.samples) - 16000) <= 1
    assert int(np.abs(np.fft.rfft(spoken.samples)).argmax()) == 480
    assert speaker.made({"speed": 1.0, "pitch": 0.7, "formant": 1.2}) == {"formant": 1.2}


def test_mixing_keeps_shares_and_the_dev_sentences_out(tmp_path):
    turns = [
        {"speaker": who, "text": f"{said} number {n} of many."}
        for n in range(600)
        for who, said in (("user", "I want"), ("system", "I found"))
    ]
    with gzip.open(tmp_path / "dialogues.jsonl.gz", "wt") as file:
        file.write(json.dumps({"turns": turns}) + "\n")
    mixed = mixed_sentences(tmp_path, {"assistant": 0.75, "user": 0.25})
    for part in (mixed[:100], mixed[100:300]):
        assert sum(each.role == "user" for each in part) / len(part) == pytest.approx(0.25, abs=0.02)
    dev = mixed_sentences(tmp_path, {"assistant": 1.0}, "dev")
    assert dev and not {each.id for each in dev} & {each.id for each in mixed}
    assert [each.id for each in dev] == sorted(each.id for each in dev)
    with pytest.raises(DataError, match="has no train sentences"):
        mixed_sentences(tmp_path, {"user": 1.0}, questions=True)


def test_wrong_asks_are_refused(tmp_path):
    with pytest.raises(DataError, match="no voice 'nobody'"):
        Speaker("nobody")
    for wrong in ({"voices": ()}, {"hours": -1.0}, {"seconds": (3.0, 1.0)}):
        with pytest.raises(DataError):
            SpeakConfig(tmp_path, **wrong)
    with pytest.raises(DataError, match="workers"):
        speak(sentences(), SpeakConfig(tmp_path), workers=0)
