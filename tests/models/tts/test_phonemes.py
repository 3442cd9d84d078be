"""Spelling as text comes in, and which phone sounds when."""

import random
import re

import numpy as np
import pytest

from antiphon.models.tts.phonemes import Phonemizer, Speller, alphabet, phone_at
from tests.models.written import PROSE, cut, sentences

TEXTS = [
    "The capital of Italy is Rome. It has about 2,800,000 people, and Dr. Smith lives there!",
    "Rome.",
    "Yes. No.",
    "I read the book. An apple a day keeps the doctor away...",
    "Seven plus five is 12.",
    "...",
    "",
]


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(Phonemizer())


def spell(speller: Speller, pieces: list[str]) -> str:
    state = speller.init_state()
    return "".join(speller.step(piece, state) for piece in pieces) + speller.step("", state, last=True)


@pytest.mark.parametrize("text", TEXTS)
def test_text_in_pieces_is_spelled_as_the_whole(speller, text):
    whole = " ".join(p for p in map(speller.phonemizer, speller.phonemizer.sentences(text)) if p)
    rng = np.random.default_rng(0)
    words = re.findall(r"\s*\S+", text)  # as a language model's pieces come: a space before each word
    for _ in range(5):
        at, pieces = 0, []
        while at < len(words):
            size = int(rng.integers(1, 4))
            pieces.append("".join(words[at : at + size]))
            at += size
        assert spell(speller, pieces) == whole == speller.phonemizer(text)


def test_sentences_cut_anywhere_are_spelled_as_the_whole(speller):
    draw = random.Random(2)
    for text in [*PROSE, *sentences(300, seed=3)]:
        whole = spell(speller, [text])
        assert spell(speller, cut(text, draw)) == whole == speller.phonemizer(text), text
    for text in [*PROSE[:5], "The store closes at 8:00 p.m. on Friday.", "It cost $5 trillion.", "0.5 and .5"]:
        assert spell(speller, list(text)) == spell(speller, [text])


def test_prose_is_spelled_as_the_voice_was_trained(speller):
    from hibari import Hibari
    from hibari.g2p import G2P

    g2p, known = G2P(), alphabet()
    for text in PROSE:
        spoken = " ".join(map(g2p, Hibari.split_sentences(text)))
        assert speller.phonemizer(text) == " ".join("".join(c for c in spoken if c in known).split()), text


def test_words_come_before_the_sentence_ends(speller):
    state = speller.init_state()
    assert speller.step("The capital of", state).split()[:2] == ["ðə", "kˈæpəTᵊl"]


def test_prose_waits_for_few_words(speller):
    waits = []
    for text in PROSE:
        state, pieces = speller.init_state(), re.findall(r"\s*\S+", text)
        came = said = 0
        for piece in pieces:
            came += len(piece)
            for word in speller.words(piece, state):
                said = word.end
            waits.append(len(text[said:came].split()))
    # at the beginning of a sentence its language may take some more words
    assert max(waits) <= 6 and np.percentile(waits, 90) <= 3 and np.mean(waits) < 1.7


def test_spelled_words_end_where_they_are_written(speller):
    text = "It cost $5 trillion at 8:00 p.m. on Friday"
    words = speller.words(text, speller.init_state(), last=True)
    ends = ("It", "cost", "trillion", "at", "p.m.", " on", "Friday")
    assert [word.end for word in words] == [text.index(end) + len(end) for end in ends]


def test_what_was_not_said_is_told(speller):
    state = speller.init_state()
    speller.step("你好 means hello.", state, last=True)
    assert (state.unsaid, state.speaks) == (["你好"], True)
    for text in ("你好", "...", "😀"):
        state = speller.init_state()
        speller.step(text, state, last=True)
        assert not state.speaks


@pytest.mark.parametrize("word", ["Donaudampfschifffahrtsgesellschaftskapitän", "Nguyễn", "Łódź"])
def test_no_letter_of_a_foreign_name_is_lost(speller, word):
    phonemes = speller.phonemizer(word)
    assert sum(c.isalpha() and c not in "ˈˌ" for c in phonemes) > len(word) / 2 - 1


def test_phone_at_by_hand():
    known = alphabet()
    phonemes, ends = "nˈO.", np.array([0.2, 0.25, 0.4, 0.6])
    times = np.array([0.05, 0.15, 0.22, 0.3, 0.5, 0.9])
    n, o = known["n"], known["O"]
    assert phone_at(phonemes, ends, 0.1, times).tolist() == [0, n, o, o, 0, 0]
