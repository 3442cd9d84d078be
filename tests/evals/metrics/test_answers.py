"""Right and wrong answers, and that the easy questions are worded as no training question is."""

import json

import pytest

from antiphon.data.text.corpora import normalise
from antiphon.data.text.facts import read_facts
from antiphon.data.text.instruct import InstructData
from antiphon.errors import DataError
from antiphon.evals.metrics.answers import (
    FOLLOW_UPS,
    KNOWLEDGE_QUESTIONS,
    chosen_option,
    is_right,
    last_number,
    plain_words,
    read_questions,
)


@pytest.mark.parametrize(
    ("reply", "accept", "right"),
    [
        ("The capital of Italy is Rome.", ["Rome"], True),
        ("The capital of Italy is Romeo.", ["Rome"], False),
        ("It has 12 months.", ["twelve"], True),
        ("It has twelve months.", ["12"], True),
        ("Twenty-one.", ["21"], True),
        ("That makes 21.", ["twenty one"], True),
        ("There are one hundred and twenty seconds.", ["120"], True),
        ("There are 1,000 grams.", ["one thousand"], True),
        ("Twenty.", ["twenty-one"], False),
        ("A baby cat is a kitten", ["the kitten"], True),
        ("The alphabet starts with A.", ["A"], True),
        ("It starts with B.", ["A"], False),
        ("Brasilia, of course", ["Brasília"], True),
        ("New York", ["York New"], False),
        ("It lives in New, well, York.", ["New York"], False),
        ("He's a vet.", ["veterinarian", "vet"], True),
        ("", ["Rome"], False),
        ("It ended in 1945.", ["nineteen forty-five"], True),
        ("It ended in nineteen forty-five.", ["1945"], True),
        ("Henry the Eighth", ["Henry the 8th"], True),
        ("About three point one four", ["3.14"], True),
        ("Two million people", ["2,000,000"], True),
        ("It grows like O(log n).", ["O(log n)"], True),
        ("In 1946.", ["1945"], False),
        ("India belongs to the Asian continent.", ["Asia"], True),
        ("The Chinese built it.", ["China"], True),
        ("They are called calves.", ["calf"], True),
        ("Veterinarians treat them.", ["veterinarian"], True),
        ("The European one", ["Europe"], True),
        ("They are the ones.", ["one"], False),
        ("That's new.", ["news"], False),
        ("The Japanese built it.", ["China"], False),
        ("A calving cow", ["calf"], False),
        ("Nobody leaves.", ["left"], False),
    ],
)
def test_is_right(reply: str, accept: list[str], right: bool) -> None:
    assert is_right(reply, accept) is right


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("3 + 4 = 7, so it's $1,007.50 in all.", 1007.5),
        ("She earns eighteen dollars.", 18),
        ("The answer is 18.", 18),
        ("It is -3 degrees", -3),
        ("I don't know.", None),
    ],
)
def test_the_last_number_of_a_reply(reply: str, number: float | None) -> None:
    assert last_number(reply) == number


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("B", 1),
        ("b", None),
        ("The answer is B.", 1),
        ("The right one is (B), tin can.", 1),
        ("Option D", 3),
        ("A good choice is a tin can.", 1),
        ("Tin.", 0),
        ("A bee would choose honey.", 3),
        ("Tin or honey.", None),
        ("C: the sea", 2),
        ("", None),
        ("Option B is correct. It keeps", 1),
        ("A honey would be fine", 3),
    ],
)
def test_the_option_that_a_reply_takes(reply: str, number: int | None) -> None:
    assert chosen_option(reply, ["tin", "tin can", "the sea", "honey"]) == number


def test_an_echo_is_no_answer() -> None:
    assert is_right("They are children.", ["child"])
    assert not is_right("They are children.", ["child"], "Several children, but one what?")
    assert not is_right("It is south african.", ["South America"]) and not is_right("Marshallese", ["Mars"])


def test_plain_words() -> None:
    assert plain_words("The 2 Café's, an 101!") == ["two", "cafes", "one", "hundred", "and", "one"]


def test_there_are_200_easy_questions_of_many_kinds() -> None:
    questions = read_questions()
    assert len(questions) == 200 == len({normalise(question.question) for question in questions})
    assert len({question.category for question in questions}) >= 10
    assert all(question.question[-1] in "?.!" and question.question[0].isupper() for question in questions)
    # An answer that stands in its own question would be right by echo; only choices ("odd or even?") may hold it.
    for question in questions:
        assert not is_right(question.question, question.accept, question.question) or " or " in question.question, (
            question
        )


def test_general_knowledge_has_five_levels_and_many_fields() -> None:
    questions = read_questions(KNOWLEDGE_QUESTIONS)
    assert [sum(question.level == level for question in questions) for level in range(1, 6)] == [40] * 5
    assert len({normalise(question.question) for question in questions}) == 200
    assert len({question.category for question in questions}) >= 12
    assert not any(is_right(question.question, question.accept) for question in questions)


def test_follow_ups_need_what_was_said_before() -> None:
    dialogues = read_questions(FOLLOW_UPS)
    assert len(dialogues) == 60 and {len(dialogue.before) for dialogue in dialogues} == {1, 2}
    assert not any(is_right(dialogue.question, dialogue.accept) for dialogue in dialogues)


def test_no_question_of_general_knowledge_is_worded_as_a_training_question() -> None:
    asked = {normalise(question.question) for question in read_questions(KNOWLEDGE_QUESTIONS)}
    assert not asked & {normalise(wording) for wording in InstructData().wordings()}
    assert not asked & {normalise(question.question) for question in read_questions()}


def test_no_easy_question_is_worded_as_a_training_question() -> None:
    easy = {normalise(question.question) for question in read_questions()}
    data = InstructData()
    assert not easy & {normalise(wording) for wording in data.wordings()}
    assert not easy & {normalise(follow) for fact in read_facts() for follow in fact.follow}
    assert not easy & {
        normalise(asked) for number in range(2) for example in data.epoch(number) for asked, _ in example.turns
    }


def test_a_bad_file_is_named(tmp_path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"question": "Why?", "accept": [], "category": "x"}) + "\n")
    with pytest.raises(DataError, match="line 1"):
        read_questions(path)
    with pytest.raises(DataError, match="cannot read"):
        read_questions(tmp_path / "none.jsonl")
