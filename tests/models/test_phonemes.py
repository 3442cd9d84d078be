"""Spelling as text comes in, and which phone sounds when."""

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
    for _ in range(5):
        state, at, spelled = speller.init_state(), 0, ""
        while at < len(text):
            size = int(rng.integers(1, 7))
            spelled += speller.step(text[at : at + size], state)
            at += size
        spelled += speller.step("", state, last=True)
        assert spelled == whole


def test_words_come_before_the_sentence_ends(speller):
    state = speller.init_state()
    assert speller.step("The capital of Italy ", state).split()[:2] == ["ðə", "kˈæpəTᵊl"]


def test_phone_at_by_hand():
    known = alphabet()
    phonemes, ends = "nˈO.", np.array([0.2, 0.25, 0.4, 0.6])
    times = np.array([0.05, 0.15, 0.22, 0.3, 0.5, 0.9])
    n, o = known["n"], known["O"]
    assert phone_at(phonemes, ends, 0.1, times).tolist() == [0, n, o, o, 0, 0]
