"""The written sentences and how they are judged."""

import re

import pytest

from antiphon.errors import DataError
from antiphon.evals.assistant.spoken_form import WrittenSentence, is_read_right, read_sentences, spoken_words
from antiphon.models.tts.normalization.normalize import Normalizer
from antiphon.models.tts.phonemes import Phonemizer


def test_the_set_is_whole_and_is_read_right():
    sentences, normalizer, phonemizer = read_sentences(), Normalizer(), Phonemizer()
    assert len(sentences) == 200
    assert sum(is_read_right(s, normalizer(s.written), phonemizer) for s in sentences) >= 0.97 * 200


def test_what_is_heard_of_a_spoken_form():
    heard = spoken_words("At eight P.M, NASA and the FBI met.", Phonemizer())
    assert heard == "at eight p m nasa and the f b i met"


def test_a_wrong_reading_counts_as_wrong():
    sentence = WrittenSentence("money", "$5", re.compile("five dollars"))
    assert [is_read_right(sentence, said, Phonemizer()) for said in ("five dollars", "dollar five")] == [True, False]


def test_a_line_that_is_none_is_named(tmp_path):
    (tmp_path / "set.jsonl").write_text('{"kind": "a", "written": "b", "spoken": "("}')
    with pytest.raises(DataError, match="line 1"):
        read_sentences(tmp_path / "set.jsonl")
