"""Languages put together from short recordings, errors that are added, times of words."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from antiphon.data.speech.voices.base import Spoken
from antiphon.errors import DataError
from antiphon.evals.hearing import words
from antiphon.evals.metrics.text import normalize_any, word_error_rate
from antiphon.evals.report import Figure

from .conftest import tone


def test_what_is_added_is_ours_less_theirs(evaluation, monkeypatch):
    monkeypatch.setattr(words, "unseen_voices", lambda e, n: [Figure("a", 0.05, "WER", None, 0.03, n)])
    monkeypatch.setattr(words, "real_speech", lambda e, n: [Figure("b", 0.1, "WER", None, 0.12, n)])
    figures = words.added_errors(evaluation, 7)
    assert [(f.name, round(f.value, 6), f.met, f.n) for f in figures] == [
        ("wer-added-unseen-voices", 0.02, False, 7),
        ("wer-added-real-speech", -0.02, True, 7),
    ]


def test_other_languages_are_compared_without_case_marks_and_accents():
    assert normalize_any("¿Qué tal, señor?") == "que tal senor"
    assert word_error_rate(["Нажмите «один»."], ["нажмите один"], normalize_any) == 0.0


def test_seconds_of_a_language(evaluation, audio, monkeypatch):
    monkeypatch.setattr(words, "SPOKEN_SECONDS", 3.0)
    clips = words.spoken_in(evaluation, "de", 4)
    assert len(clips) == 4 and {clip.voice for clip in clips} == {"de"}
    assert all(3.0 <= clip.audio.duration < 4.5 for clip in clips)
    assert not any(np.array_equal(clips[0].audio.samples, other.audio.samples) for other in clips[1:])
    monkeypatch.setitem(words.LANGUAGES, "fi", "emodb")
    with pytest.raises(DataError, match="fi"):
        words.spoken_in(evaluation, "fi", 2)


def test_the_language_that_is_told(evaluation, monkeypatch):
    monkeypatch.setattr(words, "LANGUAGES", {"de": "emodb", "fr": "emodb"})
    clip = words.Clip("a", "", tone(200, 1, 0), "")
    monkeypatch.setattr(words, "spoken_in", lambda e, language, count: [replace(clip, voice=language)] * count)
    answers = iter(["de", "de", None, "fr"])
    evaluation.model = SimpleNamespace(hear=lambda sound: SimpleNamespace(text="x", language=next(answers)))
    (figure,) = words.languages(evaluation, 4)
    assert (figure.value, figure.reference, figure.n) == (0.75, 0.5, 4)
    rows = [json.loads(line) for line in (evaluation.config.keep / "language.jsonl").read_text().splitlines()]
    assert [row["told"] for row in rows] == ["de", "de", "", "fr"]


def test_times_are_compared_where_the_same_number_of_words_was_heard():
    spoken = Spoken(np.zeros(9, np.float32), 24000, words=[("a", 0.1, 0.4), (".", 0.4, 0.4), ("b", 0.5, 0.9)])
    heard = [SimpleNamespace(start=0.15, end=0.4), SimpleNamespace(start=0.5, end=1.0)]
    assert words.word_errors(spoken, heard) == pytest.approx([0.05, 0.0, 0.0, 0.1])
    assert words.word_errors(spoken, heard[:1]) == []
