"""Right or wrong: does a reply hold one of the accepted answers?"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antiphon.data.text.facts.made import spoken
from antiphon.errors import DataError

EASY_QUESTIONS = Path(__file__).with_name("easy_questions.jsonl")


@dataclass(frozen=True)
class Question:
    """A question and what counts as its answer.

    Attributes:
        question: as one asks it aloud.
        accept: answers of which any will do.
        category: what it is about.
    """

    question: str
    accept: tuple[str, ...]
    category: str


def read_questions(path: Path | str = EASY_QUESTIONS) -> list[Question]:
    """Read a jsonl of {"question", "accept": [...], "category"}; by default the 200 easy ones that ship.

    Raises:
        DataError: unreadable, or a line without these fields.
    """
    questions, number = [], 0
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            number += 1
            row = json.loads(line)
            questions.append(Question(row["question"], tuple(row["accept"]), row["category"]))
            if not questions[-1].accept:
                raise KeyError("accept")
    except OSError as error:
        raise DataError(f"cannot read the questions: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}, line {number} is not {{"question", "accept", "category"}} with an answer: {error!r}'
        ) from error
    return questions


def plain_words(text: str) -> list[str]:
    """Words for comparing: lower case, no accents, no punctuation, no articles, numbers as words ("42" -> forty
    two).
    """
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.replace("'", "").replace("’", ""))
    text = re.sub(
        r"\d+", lambda digits: f" {spoken(int(digits.group()))} " if len(digits.group()) < 7 else digits.group(), text
    )
    return [word for word in re.findall(r"[^\W_]+", text) if word not in ("a", "an", "the")]


def is_right(reply: str, accept: Sequence[str]) -> bool:
    """True if an accepted answer occurs in the reply as whole words, in order and unbroken.

    Case, accents, punctuation and articles don't count; digits and number words are the same; "and" inside numbers is
    ignored.
    """
    said = _without_and(plain_words(reply))
    for answer in accept:
        # A letter as an answer ("A") would be lost as an article: then every word counts.
        wanted = _without_and(plain_words(answer))
        heard = said
        if not wanted:
            wanted, heard = [answer.lower()], re.findall(r"[^\W_]+", reply.lower())
        if any(heard[at : at + len(wanted)] == wanted for at in range(len(heard) - len(wanted) + 1)):
            return True
    return False


def _without_and(words: list[str]) -> list[str]:
    return [
        word for at, word in enumerate(words) if not (word == "and" and at and words[at - 1] in ("hundred", "thousand"))
    ]
