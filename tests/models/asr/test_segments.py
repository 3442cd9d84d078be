"""Segments and the ways of writing them, in every format."""

from __future__ import annotations

import json

import pytest

from antiphon.models.asr.heard import Heard, Passage, Word, joined
from antiphon.models.asr.segments import Segment, segments, verbose, written


def passage(*words: tuple[str, float, float], language: str = "en") -> Passage:
    timed = tuple(Word(text, start, end, 0.5) for text, start, end in words)
    return Passage(" ".join(word.text for word in timed), "", 0.0, 30.0, language, timed, 1.0)


def test_a_segment_ends_with_a_sentence_at_a_pause_and_where_it_is_long() -> None:
    said = passage(
        ("One.", 0, 0.5), ("Two", 0.6, 1), ("three", 2, 2.5), *((f"word{i}", 3 + i, 3.9 + i) for i in range(9))
    )
    assert [(one.text.split()[0], one.start, one.end) for one in segments([said])] == [
        ("One.", 0, 0.5), ("Two", 0.6, 1), ("three", 2, 8.9), ("word6", 9, 11.9),
    ]  # fmt: skip
    letters = segments([passage(*(("w" * 20, i * 0.1, i * 0.1 + 0.1) for i in range(10)))])
    assert max(len(one.text) for one in letters) <= 84 and sum(len(one.words) for one in letters) == 10


def test_a_passage_without_times_is_a_segment() -> None:
    assert segments([Passage("hello there", "", 1.0, 2.0), Passage("")]) == [Segment(1.0, 2.0, "hello there", (), 1.0)]


def test_subtitles() -> None:
    found = segments([passage(("One.", 0.04, 0.5), ("Two.", 3661.5, 3662.0004))])
    srt = "1\n00:00:00,040 --> 00:00:00,500\nOne.\n\n2\n01:01:01,500 --> 01:01:02,000\nTwo.\n\n"
    assert written(found, "srt", 10.0) == srt
    vtt = "WEBVTT\n\n00:00:00.040 --> 00:00:00.500\nOne.\n\n01:01:01.500 --> 01:01:02.000\nTwo.\n\n"
    assert written(found, "vtt", 10.0) == vtt


def test_json_and_text() -> None:
    found = segments([passage(("One.", 0, 0.5), ("Two.", 1.25, 2))])
    assert written(found, "text", 2.0) == "One. Two.\n"
    assert json.loads(written(found, "json", 2.0)) == {"text": "One. Two."}
    told = json.loads(written(found, "verbose_json", 2.0, "ru", ("word", "segment"), "translate"))
    assert (told["task"], told["language"], told["duration"]) == ("translate", "russian", 2.0)
    assert told["words"][1] == {"word": "Two.", "start": 1.25, "end": 2, "confidence": 0.5}
    assert [one["id"] for one in told["segments"]] == [0, 1] and told["segments"][0]["avg_logprob"] == -0.693
    assert "words" not in verbose(found, 2.0) and verbose(found, 2.0)["language"] is None


@pytest.mark.parametrize(("language", "whole"), [("en", "a b"), ("ja", "ab"), (None, "a b")])
def test_texts_are_joined_as_their_language_is_written(language: str | None, whole: str) -> None:
    assert joined([("a", language), ("", language), ("b", language)]) == whole


def test_what_passages_say_together() -> None:
    parts = [
        Passage("hello", "helo", 0, 1, "en", voiced=0.5), Passage("", "um", 1, 2, "de", voiced=9.0),
        Passage("привет", "", 2, 4, "ru", (Word("привет", 2, 3, 0.9),), voiced=1.5),
    ]  # fmt: skip
    heard = Heard.of(parts, 4.0)
    assert (heard.text, heard.drafted, heard.language, heard.duration) == ("hello привет", "helo um", "ru", 4.0)
    assert [word.text for word in heard.words] == ["привет"] and [one.start for one in heard.passages] == [0, 2]
    assert Heard.of([]).language is None
