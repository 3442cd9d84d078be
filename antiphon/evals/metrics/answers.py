"""Right or wrong: does a reply hold one of the accepted answers, the right number, the right option?"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from antiphon.data.text.facts.made import spoken
from antiphon.errors import DataError
from antiphon.evals.metrics.text import normalize

EASY_QUESTIONS = Path(__file__).with_name("easy_questions.jsonl")
KNOWLEDGE_QUESTIONS = Path(__file__).with_name("knowledge_questions.jsonl")
FOLLOW_UPS = Path(__file__).with_name("follow_ups.jsonl")


@dataclass(frozen=True)
class Question:
    """A question and what counts as its answer.

    Attributes:
        question: as one asks it aloud.
        accept: answers of which any will do.
        category: what it is about.
        level: how hard it is, from 1; 0 where nobody said.
        before: what the user said in earlier turns, oldest first.
    """

    question: str
    accept: tuple[str, ...]
    category: str
    level: int = 0
    before: tuple[str, ...] = ()


def read_questions(path: Path | str = EASY_QUESTIONS) -> list[Question]:
    """Read a jsonl of {"question", "accept": [...], "category"}, and perhaps "level" and "before"; by default the 200
    easy ones that ship.

    Raises:
        DataError: unreadable, or a line without these fields.
    """
    questions, number = [], 0
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            number += 1
            row = json.loads(line)
            answers, before = tuple(row["accept"]), tuple(row.get("before", ()))
            questions.append(Question(row["question"], answers, row["category"], row.get("level", 0), before))
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


def is_right(reply: str, accept: Sequence[str], question: str = "") -> bool:
    """True if an accepted answer occurs in the reply as whole words, in order and unbroken.

    Case, accents, punctuation and articles don't count; digits and number words are the same; "and" inside numbers is
    ignored. Years, ordinals, decimals and large numbers are the same as Whisper's normalizer reads them ("nineteen
    forty-five", 1945). The plural will do for a noun, and the adjective for a country or a continent (see `forms`), but
    where it stands in the question: that is an echo.
    """
    said, normal, asked = _without_and(plain_words(reply)), normalize(reply).split(), plain_words(question)
    others = [form for each in accept for form in forms(each)[1:] if not _within(plain_words(form), asked)]
    for answer in (*accept, *others):
        # A letter as an answer ("A") would be lost as an article: then every word counts.
        wanted = _without_and(plain_words(answer))
        heard = said
        if not wanted:
            wanted, heard = [answer.lower()], re.findall(r"[^\W_]+", reply.lower())
        numbers = normalize(answer).split() if any(map(str.isdigit, normalize(answer))) else []
        if _within(wanted, heard) or _within(numbers, normal):
            return True
    return False


@functools.cache
def forms(answer: str) -> tuple[str, ...]:
    """An accepted answer, and what is as right in a sentence.

    >>> forms("calf"), forms("China"), forms("one")
    (('calf', 'calves'), ('China', 'Chinese'), ('one',))
    """
    word = answer.split()[-1] if answer.split() else ""
    if not word.isalpha() or len(word) < 3 or word.lower() in _numbers() or any(map(str.isdigit, normalize(answer))):
        return (answer,)  # "the ones" tell no number
    if answer[0].isupper():
        adjective = _adjective(answer)
        return (answer, adjective) if adjective else (answer,)
    return (answer, answer[: len(answer) - len(word)] + _inflections().plural_noun(word))


@functools.cache
def _numbers() -> frozenset[str]:
    return frozenset(word for number in range(101) for word in spoken(number).replace("-", " ").split())


def _adjective(place: str) -> str:
    """What comes from a country or a continent; "" where that can't be told."""
    from countryinfo import CountryInfo

    try:
        country = CountryInfo(place)
        if place in (country.name(), *country.alt_spellings()):  # it also finds what is only written alike
            return country.demonym()
    except LookupError:
        pass
    # Continents aren't in there: Asia, Asian; Europe, European.
    return place + {"a": "n", "e": "an"}[place[-1]] if place[-1] in "ae" else ""


@functools.cache
def _inflections():
    import inflect

    return inflect.engine()


def last_number(reply: str) -> float | None:
    """The number that a reply ends on, in digits or in words, whatever unit stands beside it; None without one.

    >>> last_number("3 + 4 = 7, and so it costs $1,007.50 in all.")
    1007.5
    """
    found = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", reply)) or re.findall(
        r"-?\d+(?:\.\d+)?", normalize(reply)
    )
    return float(found[-1]) if found else None


def chosen_option(reply: str, options: Sequence[str]) -> int | None:
    """Which option a reply to a question with choices takes: by its letter, or by saying one of them alone.

    Args:
        reply: "B", "The answer is B: to eat out less.", "Eat out less."
        options: their texts; the first is A.

    Returns:
        Its number; None where that can't be told.
    """
    letters = ascii_uppercase[: len(options)]
    # A capital that is no article: all there is, or at the start before a mark, after a word such as "is", or marked.
    patterns = (
        rf"^\W*([{letters}])(?:\W|$)(?![a-z])",
        rf"\b(?i:option|choice)\W+([{letters}])\b",
        rf"\b(?i:answer|is|it's|be|choose|pick|say)\W+([{letters}])\b(?! [a-z])",
        rf"\(([{letters}])\)|\b([{letters}])[:.)]",
    )
    said = {letter for pattern in patterns for found in re.findall(pattern, reply) for letter in found if letter}
    if len(said) == 1:
        return letters.index(said.pop())
    heard = plain_words(reply)
    spelt = [plain_words(option) for option in options]
    held = [i for i, words in enumerate(spelt) if _within(words, heard)]
    # "Tin" is in "tin can", too: the longest of those that are said is meant.
    held = [i for i in held if not any(j != i and _within(spelt[i], spelt[j]) for j in held)]
    return held[0] if len(held) == 1 else None


def _within(wanted: list[str], words: list[str]) -> bool:
    """Whether these words stand in there side by side."""
    return bool(wanted) and any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _without_and(words: list[str]) -> list[str]:
    return [
        word for at, word in enumerate(words) if not (word == "and" and at and words[at - 1] in ("hundred", "thousand"))
    ]
