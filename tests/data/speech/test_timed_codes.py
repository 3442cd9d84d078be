"""A speech set as codes: times move with what is cut off, and lengths agree."""

import json

import numpy as np
import pytest
import soundfile
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import CodecInfo, Coded, CodeSet, CodesWriter
from antiphon.data.speech.timed_codes import TimedSet, timeline
from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Turn, Utterance
from antiphon.data.tokenize.encode import TokenizeConfig, tokenize
from antiphon.errors import DataError
from antiphon.models.tts.phonemes import Phonemizer, alphabet
from tests.codecs.mini.test_model import TINY


def test_timeline_by_hand():
    known = alphabet()
    symbols, ends = timeline([("n", 0.1, 0.2), ("O", 0.2, 0.4), (".", 0.4, 0.7)], length=0.8)
    assert symbols.tolist() == [0, known["n"], known["O"], known["."], 0]
    np.testing.assert_allclose(ends, [0.1, 0.2, 0.4, 0.7, 0.8])
    symbols, ends = timeline([("n", 0.1, 0.2), ("?!", 0.2, 0.3), ("O", 0.4, 0.9)], length=0.8)
    assert symbols.tolist() == [0, known["n"], known[" "], known["O"], 0]  # a gap parts words
    np.testing.assert_allclose(ends, [0.1, 0.2, 0.4, 0.8, 0.8])


@pytest.fixture
def speech(tmp_path) -> SpeechSet:
    rng = np.random.default_rng(0)
    with SpeechWriter(tmp_path / "speech", TINY.sample_rate) as writer:
        for number, seconds in enumerate((0.5, 1.0, 0.8)):
            ends = [seconds * share for share in (0.4, 0.6, 0.95)]
            said = Utterance(
                id=str(number), text=f"text {number}", voice="v", phonemes="nO.", phoneme_ends=ends, phonemes_start=0.2
            )
            writer.add(said, 0.1 * rng.standard_normal(int(seconds * TINY.sample_rate)))
    return SpeechSet(tmp_path / "speech")


def test_a_set_is_encoded_from_its_lead_on(speech, tmp_path):
    torch.manual_seed(0)
    codec = MiniCodec(TINY).eval()
    tokenize(TokenizeConfig(speech.folder, tmp_path / "codes", "tiny", lead=0.1), False, codec)
    made = TimedSet(CodeSet(tmp_path / "codes", codec))
    assert len(made) == 3 and made.ids == ["0", "1", "2"]
    for number in range(3):
        coded = made[number]
        samples = torch.from_numpy(speech.samples(number, int(0.1 * TINY.sample_rate)))
        assert coded.text == f"text {number}"
        assert np.array_equal(coded.codes, codec.encode(samples[None, None])[0].numpy())
        assert coded.ends[0] == pytest.approx(0.1) and coded.ends[-1] == pytest.approx(coded.codes.shape[1] * 0.08)
        assert len(coded.symbols) == len(coded.ends) == 5
    with pytest.raises(DataError, match="lead 0.1, not None"):
        tokenize(TokenizeConfig(speech.folder, tmp_path / "codes", "tiny"), False, codec)
    assert len(TimedSet(made.codes, hours=0.9 / 3600)) == 2


def test_words_without_times_are_spread_over_the_sound(tmp_path, caplog):
    torch.manual_seed(0)
    codec = MiniCodec(TINY).eval()
    (tmp_path / "corpus").mkdir()
    for name in "ab":
        soundfile.write(tmp_path / "corpus" / f"{name}.wav", np.full(TINY.sample_rate, 0.1), TINY.sample_rate)
    (tmp_path / "corpus" / "a.txt").write_text("Yes, well.")
    tokenize(TokenizeConfig(tmp_path / "corpus", tmp_path / "codes", "tiny"), False, codec)
    made = TimedSet(CodeSet(tmp_path / "codes", codec), lead=0.1, tail=0.04)
    assert made.ids == ["a.wav"] and "1 of 1 recordings" in caplog.text  # of b nobody knows what is said
    spelled, length = Phonemizer()("Yes, well."), made[0].codes.shape[1] * 0.08
    known = alphabet()
    assert made[0].symbols.tolist() == [0, *(known[phone] for phone in spelled), 0]
    np.testing.assert_allclose(np.diff(made[0].ends)[:-1], (length - 0.14) / len(spelled))
    assert made[0].ends[0] == pytest.approx(0.1) and made[0].ends[-1] == pytest.approx(length)


def test_contexts_are_turns_or_it_is_told_where_they_are_not(tmp_path):
    codec = MiniCodec(TINY)
    contexts = ([{"role": "user", "text": "Hello."}], "whisper", [{"who": "user"}])
    with CodesWriter(tmp_path / "codes", CodecInfo.of(codec)) as writer:
        for number, context in enumerate(contexts):
            coded = Coded(str(number), "Yes.", context=context)
            writer.add(coded, np.zeros((codec.codebooks, 6), np.int64))
    timed = TimedSet(CodeSet(tmp_path / "codes"))
    assert timed.context(0) == (Turn("user", "Hello."),)
    for number in (1, 2):
        with pytest.raises(DataError, match=f"the context of {number} is no list of turns"):
            timed.context(number)


def test_a_manifests_contexts_come_along_with_its_codes(speech, tmp_path):
    MiniCodec(TINY).save_pretrained(tmp_path / "codec")
    soundfile.write(tmp_path / "a.wav", speech.samples(0), TINY.sample_rate)
    context = [{"role": "user", "text": "Whisper, please."}]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"path": "a.wav", "text": "Yes.", "context": context}) + "\n")
    tokenize(TokenizeConfig(tmp_path / "mine.jsonl", tmp_path / "codes", str(tmp_path / "codec")), bar=False)
    assert TimedSet(CodeSet(tmp_path / "codes")).context(0) == (Turn("user", "Whisper, please."),)
