"""Instruction examples: facts that fit their tables, replies fit for a voice, epochs that are pure functions."""

import gzip
import json
import random
from pathlib import Path

import pytest

from antiphon.data.text.corpora import normalise
from antiphon.data.text.facts import articles, read_chat, read_facts, read_requests, read_table
from antiphon.data.text.facts.made import ordinal, spoken
from antiphon.data.text.instruct import MAX_WORDS, InstructData, as_heard, is_speakable, mishear, say_numbers
from antiphon.errors import DataError


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"), (13, "thirteen"), (20, "twenty"), (42, "forty-two"), (100, "one hundred"), (105,
        "one hundred and five"),
        (999, "nine hundred and ninety-nine"), (1000, "one thousand"), (1005, "one thousand and five"),
        (21300, "twenty-one thousand three hundred"), (-3, "minus three"),
    ],
)  # fmt: skip
def test_spoken(number: int, words: str) -> None:
    assert spoken(number) == words


def test_ordinal() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 5, 8, 9, 12, 20, 21, 26)] == [
        "first", "second", "third", "fourth", "fifth", "eighth", "ninth", "twelfth", "twentieth", "twenty-first",
        "twenty-sixth",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a elephant and a owl", "an elephant and an owl"),
        ("A ant", "An ant"), ("a unicorn", "a unicorn"), ("a ewe", "a ewe"),
        ("a hour", "an hour"), ("a umbrella", "an umbrella"), ("a cat", "a cat"),
        ("a euro", "a euro"), ("a one", "a one"),
    ],
)  # fmt: skip
def test_articles(text: str, right: str) -> None:
    assert articles(text) == right


def test_a_table_by_hand() -> None:
    ask = {
        "of": "opposite",
        "questions": ["What is the opposite of {one}?"],
        "replies": ["The opposite of {one} is {two}."],
        "follow": ["And {one}?"],
    }
    table = {
        "name": "t",
        "columns": ["one", "two"],
        "both_ways": True,
        "asks": [ask],
        "rows": "hot | cold\nlight | dark\nlight | heavy",
    }
    facts = read_table(table)
    assert [fact.replies[0] for fact in facts] == [
        "The opposite of hot is cold.", "The opposite of light is dark.", "The opposite of cold is hot.",
        "The opposite of dark is light.", "The opposite of heavy is light.",
    ]  # fmt: skip
    assert facts[0].follow == ("And hot?",) and facts[0].kind == "t/opposite"
    with pytest.raises(DataError, match="2 cells"):
        read_table(table | {"rows": "hot"})
    with pytest.raises(DataError, match="three"):
        read_table(table | {"asks": [{"of": "x", "questions": ["{three}"], "replies": []}]})


def test_all_facts_are_fit_to_be_spoken() -> None:
    facts = read_facts()
    assert len(facts) > 4000 and sum(len(fact.questions) for fact in facts) > 20000
    for fact in facts:
        assert fact.replies and all(question[0].isupper() or question[0].isdigit() for question in fact.questions)
        for reply in fact.replies:
            assert len(reply.split()) <= MAX_WORDS and reply[0].isupper() and reply[-1] in ".!?", reply
            assert not any(character.isdigit() for character in reply), reply
    for talk in read_chat():
        assert all(is_speakable(reply) for reply in talk.replies), talk
    assert all(is_speakable(reply) for reply in read_requests().values())


def test_one_question_has_one_answer() -> None:
    answers: dict[str, str] = {}
    for fact in read_facts():
        for question in fact.questions:
            before = answers.setdefault(normalise(question), fact.replies[0])
            assert before == fact.replies[0] or _agree(before, fact.replies[0]), (question, before, fact.replies[0])


def _agree(one: str, other: str) -> bool:
    """Two replies that say the same in other words: one holds every longer word of the other, but for a few."""
    a, b = set(normalise(one).split()), set(normalise(other).split())
    return len(a & b) >= 0.4 * min(len(a), len(b))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("In 1991.", "In nineteen ninety-one."), ("In 1905.", "In nineteen oh five."),
        ("In 1900.", "In nineteen hundred."),
        ("Since 2003.", "Since two thousand and three."), ("3 men and 1,000 cows.", "three men and one thousand cows."),
        ("It is 3.5 m.", None), ("$5.", None), ("No numbers.", "No numbers."), ("a 5km run", None),
    ],
)  # fmt: skip
def test_say_numbers(text: str, said: str | None) -> None:
    assert say_numbers(text) == said


@pytest.mark.parametrize(
    "bad", ["", "a: b.", "First (one).", "It was 1991.", "one two", "a, b, c, d, e.", "word " * 21 + "end."]
)
def test_what_is_not_speakable(bad: str) -> None:
    assert not is_speakable(bad)


def test_slips_of_the_ear_change_little() -> None:
    question = "What is the capital of the Netherlands?"
    changed = [mishear(question, random.Random(seed)) for seed in range(60)]
    assert sum(text != question for text in changed) > 40
    assert all(abs(len(text.split()) - len(question.split())) <= 1 for text in changed)
    heard = {as_heard(question, random.Random(seed)) for seed in range(80)}
    assert "Please tell me, what is the capital of the Netherlands?" in heard and question in heard and len(heard) > 15


def test_epochs_are_pure_functions_and_differ() -> None:
    first, again, other = InstructData(seed=3).epoch(0), InstructData(seed=3).epoch(0), InstructData(seed=3).epoch(1)
    assert first == again and first != other
    assert any(len(example.turns) > 1 for example in first)
    # Every fact of the tables is asked once, in another wording the next time.
    asked = [{reply for example in epoch for _, reply in example.turns} for epoch in (first, other)]
    held = {normalise(example.turns[0][0]) for example in InstructData().development}
    for fact in read_facts():
        if not fact.kind.startswith(("sums", "numbers", "letters", "spelling", "comparisons")):
            assert all(set(fact.replies) & replies for replies in asked), fact
    assert not held & {normalise(question) for example in first for question, _ in example.turns}


def test_held_out_questions_are_left_out() -> None:
    question = next(example.turns[0][0] for example in InstructData().epoch(0) if len(example.turns) == 1)
    data = InstructData(held_out=[question.upper() + "!!"])
    assert normalise(question) not in {normalise(asked) for example in data.epoch(0) for asked, _ in example.turns}


def test_corpora(tmp_path: Path) -> None:
    dolly = {"reply": "The pineapple is a fruit. It is sweet.", "source": "databricks-dolly-15k open_qa"}
    turns = [
        {"user": ["Who made it?"], "assistant": ["A.", "Bob made it."]},
        {"user": ["And when?"], "assistant": ["In 1991."]},
    ]
    rows = {
        "answers": [
            {"text": f"What is a pineapple number {word}?"} | dolly for word in "one two three four five six".split()
        ],
        "questions": [
            {"text": "Who wrote Inkspell?", "answer": "Cornelia Funke"},
            {"text": "Which of these is red?", "answer": "Mars"},
        ],
        "conversations": [{"turns": turns}],
        "requests": [{"text": "wake me up at noon", "intent": "alarm"}, {"text": "hello there", "intent": "greeting"}],
    }
    for name, lines in rows.items():
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    epoch = InstructData(tmp_path).epoch(0)
    found = {kind: [example.turns for example in epoch if example.kind == kind] for kind in rows}
    assert found["answers"] and all(turns[0][1] == "The pineapple is a fruit." for turns in found["answers"])
    assert found["questions"] in ([((("Who wrote Inkspell?", "Cornelia Funke.")),)], [])
    assert found["conversations"] == [(("Who made it?", "Bob made it."), ("And when?", "In nineteen ninety-one."))]
    assert found["requests"] == [(("Wake me up at noon.", read_requests()["alarm"]),)]
