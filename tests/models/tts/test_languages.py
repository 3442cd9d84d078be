"""What isn't English is told, however the text comes; names and foreign words in English are read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.models.tts.languages import english_name, language
from antiphon.models.tts.phonemes import Phonemizer, Speller
from tests.models.written import cut

FOREIGN = {
    "de": "Das ist eine gute Frage.",
    "fr": "Le chat dort sur la table.",
    "es": "El perro duerme en la casa.",
    "ru": "Это хороший вопрос.",
    "zh": "这是一个好问题，我很高兴。",
}
ENGLISH = [
    "The German word for dog is Hund.",
    "Rio de Janeiro.",
    "Vincent van Gogh.",
    "Die Hard is a film.",
    "π is 3.14.",
]


@pytest.mark.parametrize("code", FOREIGN)
def test_a_sentence_in_another_language_is_known(code):
    assert language(FOREIGN[code].split(), ended=True) == code


@pytest.mark.parametrize("text", ENGLISH)
def test_a_foreign_name_or_word_in_english_is_read(text):
    speller = Speller(Phonemizer())
    state = speller.init_state()
    speller.step(text, state, last=True)
    assert state.language == "en" or not state.written
    assert not state.unsaid


def test_the_notice_is_said_once_for_sentences_in_a_row_and_english_goes_on():
    speller = Speller(Phonemizer())
    state = speller.init_state()
    text = "Sure, here it is. Das ist eine gute Frage. Das ist ein guter Hund. That means hello."
    words = speller.words(text, state, last=True)
    said = "".join(word.phonemes for word in words)
    assert said.count(speller.phonemizer("German").strip("ˈˌ")[1:4]) == 1
    assert words[-1].end == len(text)
    assert state.unsaid[:2] == ["Das", "ist"]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([*FOREIGN.values(), *ENGLISH]), st.sampled_from([*FOREIGN.values(), *ENGLISH]), st.randoms())
def test_pieces_are_said_as_the_whole(first, second, draw):
    speller = Speller(_PHONEMIZER)
    text, state = f"{first} {second}", speller.init_state()
    parts = "".join(speller.step(piece, state) for piece in cut(text, draw)) + speller.step("", state, last=True)
    assert parts == speller.step(text, speller.init_state(), last=True)


_PHONEMIZER = Phonemizer()


def test_languages_have_names():
    assert [english_name(code) for code in ("de", "xx-none")] == ["German", "another language"]
