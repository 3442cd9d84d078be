"""`antiphon eval speech-lm` and the picture of the formats, on a tiny model; what they say if something is missing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from antiphon.codecs import load
from antiphon.codecs.base import fingerprint
from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import AntiphonError, DataError, EvalError
from antiphon.evals.cache import key_of, pack_codes
from antiphon.evals.plots import draw_formats
from antiphon.evals.speech_lm.figures import SpeechLMConfig, SpeechLMEvaluation, run
from antiphon.evals.speech_lm.likelihood import Units
from antiphon.evals.speech_lm.material import material
from antiphon.evals.speech_lm.pairs import Pair, Said, write_pairs
from antiphon.models.speech_lm.vocoder import UnitVocoder, UnitVocoderConfig
from tests.codecs.mini.test_model import TINY
from tests.models.speech_lm.tiny import speech_lm


def written(folder, kind, model, texts):
    """Pairs of a kind whose units lie in the cache: a unit a letter."""
    place = folder / kind
    place.mkdir(parents=True)
    pairs, units = [], Units(model, place)
    for number, sides in enumerate(texts):
        said = []
        for name, text in zip(("right", "wrong", "prompt"), sides):
            if not text:
                said.append(Said())
                continue
            sound = place / f"{number}-{name}.wav"
            sound.write_bytes(text.encode())
            codes = np.array([[ord(sign) % 20 for sign in text]])
            units.cache.get([key_of(sound.name, str(len(text)))], lambda rows, codes=codes: [pack_codes(codes)])
            said.append(Said(text, sound.name))
        pairs.append(Pair(str(number), kind, *said))
    write_pairs(place, pairs)


def test_figures_of_a_tiny_model(tmp_path):
    model = speech_lm()
    model.save_pretrained(tmp_path / "model")
    written(tmp_path / "pairs", "words", model, [("cat", "tca"), ("dog", "gdo")])
    written(tmp_path / "pairs", "endings", model, [("the mat", "a dog", "cat sat"), ("on logs", "the cat", "dogs sat")])
    written(tmp_path / "pairs", "sentences", model, [("the cat sat", ""), ("a dog", "")])
    config = SpeechLMConfig(
        str(tmp_path / "model"),
        material=tmp_path / "pairs",
        only=("words", "endings", "writing"),
        keep=tmp_path / "kept",
    )
    report = run(config, tmp_path / "figures.json")
    names = {figure.name for figure in report.figures}
    assert names == {
        "spoken-words-right", "endings-spoken-right", "endings-across-right", "endings-written-right",
        "speech-to-text-wer",
    }  # fmt: skip
    assert all(figure.value in (0.0, 0.5, 1.0) for figure in report.figures if figure.unit == "share")
    assert json.loads((tmp_path / "figures.json").read_text())["environment"]["weights"]["speech-lm"]
    assert len((tmp_path / "kept" / "sentences.jsonl").read_text().splitlines()) == 2


def test_what_it_says_is_heard_through_a_vocoder(tmp_path, monkeypatch):
    model = speech_lm(fingerprint="of-units")
    model.save_pretrained(tmp_path / "model")
    written(tmp_path / "pairs", "sentences", model, [("the cat sat", ""), ("a dog", "")])
    torch.manual_seed(0)
    MiniCodec(TINY).save_pretrained(tmp_path / "codec")
    codec, vocabulary = load(str(tmp_path / "codec")), model.vocabulary
    config = UnitVocoderConfig(
        vocabulary.codebook_size, vocabulary.frame_rate, vocabulary.fingerprint, str(tmp_path / "codec"),
        fingerprint(codec), codec.frame_rate, codec.codebook_vectors()[0].shape[1], width=16, depth=1,
    )  # fmt: skip
    UnitVocoder(config).save_pretrained(tmp_path / "vocoder")
    heard = {"text-to-speech-wer": ["the cat", "dog"], "unit-vocoder-wer": ["the cat sat", "a dog"]}
    clips = {}

    def transcribed(self, title, sounds, reference=False, language="en"):
        clips[title] = sounds
        return heard[title]

    monkeypatch.setattr(SpeechLMEvaluation, "transcribed", transcribed)
    settings = SpeechLMConfig(
        str(tmp_path / "model"), material=tmp_path / "pairs", only=("speaking",), vocoder=tmp_path / "vocoder",
        keep=tmp_path / "kept",
    )  # fmt: skip
    figures = {figure.name: figure.value for figure in run(settings).figures}
    assert figures == {"text-to-speech-wer": pytest.approx(2 / 5), "unit-vocoder-wer": 0.0}
    assert all(clip.sample_rate == codec.sample_rate and clip.duration > 0 for clip in clips["unit-vocoder-wer"])
    assert len(list((tmp_path / "kept").glob("*.wav"))) == 4
    UnitVocoder(dataclasses.replace(config, tokenizer="another")).save_pretrained(tmp_path / "vocoder")
    with pytest.raises(AntiphonError, match="another tokenizer"):
        run(settings)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(EvalError, match="antiphon train speech-lm/speech"):
        run(SpeechLMConfig(str(tmp_path)))
    with pytest.raises(DataError, match="give --texts FOLDER"):
        material(tmp_path, "grammar", 2, None)
    speech_lm().save_pretrained(tmp_path / "model")
    with pytest.raises(AntiphonError, match="text perplexity needs texts"):
        run(SpeechLMConfig(str(tmp_path / "model"), only=("reading",)))


def test_formats_are_drawn(tmp_path):
    from antiphon.data.formats.formats import Weights, speech, speech_to_text
    from antiphon.data.formats.item import Item

    model = speech_lm()
    item = Item(np.arange(6), "the cat")
    rows = {"speech": speech(item, model), "heard": speech_to_text(item, model, Weights(given=0.0))}
    assert draw_formats(rows, model, tmp_path / "a.png").stat().st_size > 5000
    with pytest.raises(EvalError, match="no example"):
        draw_formats({}, model, tmp_path / "b.png")


@pytest.mark.slow
def test_words_and_non_words_are_spoken(tmp_path):
    from antiphon.evals.speech_lm.pairs import read_pairs

    pairs = read_pairs(material(tmp_path, "words", 3, None))
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.right.text.isalpha() and pair.wrong.text.startswith("/")
