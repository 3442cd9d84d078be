"""The words of a turn: the same however they were written down."""

import doctest

import pytest

from antiphon.models.llm import text as words
from antiphon.models.llm.text import as_words


def test_the_example_holds():
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    "typed, heard",
    [
        ("What's the capital of Italy?", "what’s the capital of Italy"),
        ("Hello, what is 3 + 18?", "Hello. What is 3 + 18"),
        ('Who wrote "Hamlet"', "who wrote Hamlet?"),
        ("What is a well-known opera?  Tell me!", "What is a well-known opera, tell me."),
    ],
)
def test_case_and_punctuation_do_not_count(typed, heard):
    assert as_words(typed) == as_words(heard)


def test_numbers_keep_their_points_and_nothing_is_lost_of_a_text_without_words():
    assert as_words("At 10:30 it was 3.5, not 1,000.") == "at 10:30 it was 3.5 not 1,000"
    assert as_words("?!") == "?!" and as_words("") == ""
