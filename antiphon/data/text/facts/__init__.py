"""Facts as tables (the YAML files beside this module) and as arithmetic, each with several wordings of its question.

A table says once how its questions and replies are worded, and then lists its rows: a thousand short spoken questions
with their short spoken replies come of a page of text.

    for fact in read_facts(): print(fact.questions[0], fact.reply)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from antiphon.data.text.corpora import capitalise
from antiphon.data.text.facts.made import made
from antiphon.errors import DataError

TABLES = ("geography", "animals", "words", "things", "numbers", "time", "people", "science", "more")


@dataclass(frozen=True)
class Fact:
    """One fact, ready to be asked.

    Attributes:
        kind: "table/ask", for instance "countries/capital"; facts of one kind share their wordings.
        questions: wordings of the question, cased and punctuated.
        replies: what a voice says, each right by itself; the first is the usual one.
        follow: questions that are understood only after another question of the same kind ("And of Spain?").
    """

    kind: str
    questions: tuple[str, ...]
    replies: tuple[str, ...]
    follow: tuple[str, ...] = ()


def articles(text: str) -> str:
    """Put "an" before vowels: "a elephant" -> "an elephant"; not before a vowel letter that is said as a consonant."""
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|u(?!ni|se))(?!one\b|ewe\b|euro|eu)", r"\1n ", text)
    return re.sub(r"\b([Aa]) (?=hour\b|X-ray\b)", r"\1n ", text)


def _fill(wording: str, cells: dict[str, str]) -> str:
    return capitalise(articles(wording.format_map(cells)))


def read_table(table: dict[str, Any]) -> list[Fact]:
    """The facts of one table: every row with every ask, and every row turned round as well where `both_ways`.

    Raises:
        DataError: a row with another number of cells than there are columns, or a wording with an unknown slot.
    """
    columns, facts, seen = table["columns"], [], set()
    rows = [[cell.strip() for cell in line.split("|")] for line in table["rows"].strip().splitlines()]
    if table.get("both_ways"):
        rows += [row[::-1] for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"table {table['name']!r}: the row {' | '.join(row)!r} has not the {len(columns)} cells {columns}"
            )
        cells = dict(zip(columns, row, strict=True))
        for ask in table["asks"]:
            try:
                questions, replies, follow = (
                    tuple(_fill(wording, cells) for wording in ask.get(part, ()))
                    for part in ("questions", "replies", "follow")
                )
            except KeyError as error:
                raise DataError(f"table {table['name']!r}, ask {ask['of']!r}: no column {error}") from error
            if questions[0] in seen:  # "light" is the opposite of both "dark" and "heavy": one question, first answer
                continue
            seen.add(questions[0])
            facts.append(Fact(f"{table['name']}/{ask['of']}", questions, replies, follow))
    return facts


@cache
def read_facts() -> tuple[Fact, ...]:
    """All facts: every table, then the made ones (sums, sequences, letters, comparisons)."""
    facts: list[Fact] = []
    for name in TABLES:
        path = Path(__file__).with_name(f"{name}.yaml")
        if path.exists():
            for table in yaml.safe_load(path.read_text(encoding="utf-8")):
                facts += read_table(table)
    facts += [
        Fact(kind, tuple(map(capitalise, map(articles, questions))), tuple(map(capitalise, map(articles, replies))))
        for kind, questions, replies in made()
    ]
    return tuple(facts)


@cache
def read_chat() -> tuple[Fact, ...]:
    """Small talk: sets of remarks, each with the replies that fit any of them."""
    sets = yaml.safe_load(Path(__file__).with_name("chat.yaml").read_text(encoding="utf-8"))
    return tuple(Fact(f"chat/{part['name']}", tuple(part["questions"]), tuple(part["replies"])) for part in sets)


@cache
def read_requests() -> dict[str, str]:
    """Reply to each CLINC150 intent that asks for what the assistant can't do."""
    groups = yaml.safe_load(Path(__file__).with_name("requests.yaml").read_text(encoding="utf-8"))
    return {intent: group["reply"] for group in groups for intent in group["intents"]}
