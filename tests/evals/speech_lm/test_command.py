"""`antiphon eval speech-lm` and the picture of the formats, on a tiny model; what they say if something is missing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from antiphon.errors import AntiphonError, DataError, EvalError
from antiphon.evals.cache import key_of, pack_codes
from antiphon.evals.plots import draw_formats
from antiphon.evals.speech_lm.figures import SpeechLMConfig, run
from antiphon.evals.speech_lm.likelihood import Units
from antiphon.evals.speech_lm.material import material
from antiphon.evals.speech_lm.pairs import Pair, Said, write_pairs
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
