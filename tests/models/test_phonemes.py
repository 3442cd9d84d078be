"""Spelling as text comes in, and which phone sounds when."""

import re

import numpy as np
import pytest

from antiphon.models.phonemes import Phonemizer, Speller, alphabet, phone_at

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


@pytest.mark.parametrize("text", TEXTS)
def test_text_in_pieces_is_spelled_as_the_whole(speller, text):
    whole = " ".join(p for p in map(speller.phonemizer, speller.phonemizer.sentences(text)) if p)
    rng = np.random.default_rng(0)
    words = re.findall(r"\s*\S+", text)  # as a language model's pieces come: a space before each word
    for _ in range(5):
        state, at, spelled = speller.init_state(), 0, ""
        while at < len(words):
            size = int(rng.integers(1, 4))
            spelled += speller.step("".join(words[at : at + size]), state)
            at += size
        assert spelled + speller.step("", state, last=True) == whole


def test_words_cut_anywhere_lose_nothing(speller):
    text = "I have about 2,800 elephants, and an honest doctor lives there!"
    whole = speller.phonemizer(text)
    for size in (1, 2, 3, 5):
        state = speller.init_state()
        spelled = "".join(speller.step(text[i : i + size], state) for i in range(0, len(text), size))
        spelled += speller.step("", state, last=True)
        bare = str.maketrans("", "", "ˈˌ")  # the word that follows was not whole: only stress may differ
        assert len(spelled.split()) == len(whole.split())
        assert spelled.translate(bare) == whole.translate(bare)


def test_words_come_before_the_sentence_ends(speller):
    state = speller.init_state()
    assert speller.step("The capital of", state).split()[:2] == ["ðə", "kˈæpəTᵊl"]


def test_phone_at_by_hand():
    known = alphabet()
    phonemes, ends = "nˈO.", np.array([0.2, 0.25, 0.4, 0.6])
    times = np.array([0.05, 0.15, 0.22, 0.3, 0.5, 0.9])
    n, o = known["n"], known["O"]
    assert phone_at(phonemes, ends, 0.1, times).tolist() == [0, n, o, o, 0, 0]
