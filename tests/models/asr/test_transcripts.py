"""What a transcript is worth: loops, missing words, and words that nobody said."""

from __future__ import annotations

import pytest
import torch

from antiphon.encoders.whisper.decoder import Transcript
from antiphon.models.asr.transcripts import (
    cut_loop,
    few_words,
    join_drafts,
    misses_words,
    stops_early,
    was_nothing,
    was_spoken,
)  # fmt: skip


def test_join_drafts() -> None:
    assert join_drafts([], [4, 5]) == [4, 5]
    assert join_drafts([1, 2, 3], [1, 9, 3, 4, 5]) == [1, 2, 3, 4, 5]


def test_a_loop_is_cut_at_its_end_and_nowhere_else() -> None:
    assert cut_loop([5, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2]) == [5, 1, 2, 3, 4]
    assert cut_loop([9, 8, 8, 8, 8]) == [9, 8]
    assert cut_loop([9, 1, 2, 1, 2, 1, 2, 1]) == [9, 1, 2]
    assert cut_loop([1, 2, 1, 2, 1, 2, 7, 8]) == [1, 2, 1, 2, 1, 2, 7, 8]  # said often, and then something else
    assert cut_loop([]) == []


@pytest.mark.parametrize(
    ("nothing", "confidence", "no_speech", "sure", "voiced", "chunks", "ended"),
    [
        (False, -0.3, 0.1, 0.95, 200, 260, True),  # a sentence
        (True, -1.2, 0.7, 0.95, 200, 260, True),  # Whisper's own rule
        (True, -0.9, 0.4, 0.75, 90, 200, True),  # an animal for three seconds
        (False, -1.9, 0.8, 0.95, 12, 20, True),  # a word alone, of which Whisper knows several spellings
        (True, -1.6, 0.5, 0.90, 12, 160, True),  # a sneeze in five seconds of nothing
        (False, -1.1, 0.5, 0.95, 12, 160, True),  # a word in as many
        (True, -0.3, 0.6, 0.67, 90, 110, False),  # a cry, written as a loop
        (True, -0.9, 0.4, 0.80, 4, 30, True),  # too short to be sure of
    ],
)
def test_what_is_no_word_is_known(nothing, confidence, no_speech, sure, voiced, chunks, ended) -> None:
    voice = torch.zeros(chunks)
    voice[3 : 3 + voiced] = sure
    assert was_nothing(Transcript([1, 2], 3, no_speech, confidence, ended), voice) == nothing


def test_a_sentence_in_a_tenth_of_a_second_was_made_up() -> None:
    voice = torch.zeros(100)
    voice[:3] = 0.95  # a dog barks: "Knocks out, knocks out, knocks out."
    barked, sure = (Transcript(list(range(12)), 3, 0.8, confidence, True) for confidence in (-0.56, -0.1))
    assert was_nothing(barked, voice) and not was_nothing(sure, voice)
    voice[:25] = 0.95
    assert not was_nothing(barked, voice)


def test_of_other_languages_a_clear_voice_is_believed_though_the_decoder_is_unsure() -> None:
    voice = torch.full((200,), 0.95)
    unsure, nothing = Transcript([1], 3, 0.2, -1.2, True), Transcript([1], 3, 0.7, -1.2, True)
    assert was_nothing(unsure, voice) and not was_nothing(unsure, voice, english=False)
    assert was_nothing(nothing, voice, english=False) and was_nothing(unsure, voice * 0.7, english=False)


def test_letters_are_words_where_there_are_no_spaces() -> None:
    voice = torch.full((300,), 0.9)
    assert misses_words("今天天气很好", "", voice) and not misses_words("今天天气很好", "", voice, spaced=False)


def test_missing_words_are_seen_by_length_and_by_the_draft() -> None:
    voice = torch.full((300,), 0.9)  # 9.6 s of speech
    said = "it was the best of times it was the worst of times it was the age of wisdom"
    assert not misses_words(said, "", voice)
    assert misses_words("it was", "", voice)  # two words in ten seconds
    assert not misses_words("it was", "", torch.full((300,), 0.1))  # in which hardly anybody spoke
    assert misses_words("it was the age of wisdom", said, voice[:90])  # what came before is in the draft alone
    assert not misses_words(said, "it wos the bast off timse it was the worst of times it was the age", voice)


def test_speech_is_some_in_a_row_and_loud_enough() -> None:
    voice = torch.zeros(20)
    voice[::2] = 0.9
    assert not was_spoken(voice)
    voice[5:9] = 0.9
    assert was_spoken(voice) and was_spoken(voice, torch.tensor([0.0, 0.1])) and not was_spoken(torch.zeros(0))
    assert not was_spoken(voice, torch.tensor([0.0, 1e-4]))


def test_a_transcript_that_takes_a_pause_for_the_end_stops_early() -> None:
    voice = torch.zeros(450)  # 14.4 s
    voice[:60], voice[100:200], voice[220:400] = 0.9, 0.9, 0.9
    assert few_words("What is used for sensing visual things?", voice)
    assert not few_words("one two three " * 6, voice)
    assert stops_early(1.6, voice) and not stops_early(11.5, voice)
    laugh = torch.zeros(450)
    laugh[:60], laugh[90:115] = 0.9, 0.9
    assert not stops_early(1.6, laugh)  # 0.8 s of something that is no word
    assert not stops_early(20.0, voice)
