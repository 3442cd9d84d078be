"""Examples that teach a language model to answer as a voice should: short, spoken, right.

Facts (`antiphon.data.text.facts`), small talk, requests that can't be fulfilled, and the short answers of public
corpora, mixed into epochs. Every epoch asks each fact in another wording; some questions are typed badly or heard
wrongly, and the reply stays the same. Everything is a pure function of the seed and the epoch's number.

    epoch = InstructData(folder).epoch(0)
    epoch[0].turns       # (("What is the capital of Italy?", "The capital of Italy is Rome."), ...)
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from antiphon.data.text.corpora import (
    capitalise,
    clean,
    finish,
    normalise,
    restore_apostrophes,
    split_of,
    split_sentences,
    text_id,
)
from antiphon.data.text.facts import Fact, read_chat, read_facts, read_requests
from antiphon.data.text.facts.made import spoken

MAX_WORDS = 20
# Sums and the like are many and follow rules: each epoch sees a share of them, most of the ones that people ask.
_SHARES = {"sums": 0.55, "numbers": 0.5, "letters": 0.25, "spelling": 0.25, "comparisons": 0.2}
_LARGER_SHARE = 0.1
_CARRIERS = (
    "Hey, {}", "Please tell me, {}", "Quick question: {}", "I'd like to know, {}", "Okay, {}", "So, {}",
    "Can you help me, {}", "Hello, {}", "And now, {}", "Well, {}", "Um, {}", "Hi, {}", "Next question: {}",
    "One more: {}", "Let me ask you, {}",
)  # fmt: skip
# What is heard for what was said; both ways round are as likely.
_HEARD = (
    "of off", "the a", "is his", "in and", "to two", "for four", "which witch", "what want", "what was",
    "capital capitol",
    "there their", "by buy", "are our", "an and", "does this", "called cold", "a the", "who how", "where were",
    "when one",
    "many money", "baby maybe", "legs less", "colour collar", "sound son", "days this", "has as", "do to",
    "country county",
    "animal animals", "plus bless", "minus mine as", "times time", "eat it", "live leave", "made maid", "word world",
    "wrote road", "opposite opposites", "language languages", "you your", "comes come", "sea see", "know no",
    "red read",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A conversation of one or more turns; every reply is to be learnt.

    Attributes:
        kind: what it is about, for counting: "countries/capital", "chat/thanks", "answers", ...
        turns: (what the user said, what the assistant replied), in order.
    """

    kind: str
    turns: tuple[tuple[str, str], ...]


def say_numbers(text: str) -> str | None:
    """Whole numbers as spoken words: "In 1991, 3 men" -> "In nineteen ninety-one, three men"; None where one can't
    be.
    """
    if re.search(r"\d[.,:/-]\d(?!\d\d\b)|[$£€%+=&]|\d\s*[A-Za-z]{1,2}\b|\d{7,}", text):
        return None

    def say(match: re.Match[str]) -> str:
        digits = match.group().replace(",", "")
        number = int(digits)
        if "," not in match.group() and (1100 <= number < 2000 or 2010 <= number < 2100):
            century, rest = divmod(number, 100)
            return (
                spoken(century) + " " + ("hundred" if not rest else f"oh {spoken(rest)}" if rest < 10 else spoken(rest))
            )
        return spoken(number)

    return re.sub(r"\d[\d,]*\d|\d", say, text)


def is_speakable(reply: str) -> bool:
    """Short enough for a voice, no list, no abbreviation, no digits, ends as a sentence does."""
    return (
        0 < len(reply.split()) <= MAX_WORDS
        and not re.search(r"\d|[:;()/*\"]|\b(?:e\.g|i\.e|etc|vs|approx)\b", reply)
        and reply.count(",") <= 3
        and reply[-1] in ".!?"
    )


def mishear(text: str, rng: random.Random) -> str:
    """One slip of the ear: a small word lost, said twice or taken for another, or a letter of a long word wrong."""
    words = text.split()
    kind = rng.random()
    if kind < 0.45:
        swaps = {a: b for pair in _HEARD for a, b in (pair.split(" ", 1), pair.split(" ", 1)[::-1])}
        places = [n for n, word in enumerate(words) if word.lower() in swaps]
        if places:
            place = rng.choice(places)
            words[place] = swaps[words[place].lower()]
    elif kind < 0.75 and len(words) > 3:
        places = [
            n
            for n, word in enumerate(words)
            if word.lower() in ("the", "a", "an", "is", "of", "do", "does", "in", "what", "are")
        ]
        if places:
            del words[rng.choice(places)]
    elif kind < 0.85:
        place = rng.randrange(len(words))
        words.insert(place, words[place])
    else:
        places = [n for n, word in enumerate(words) if len(word) > 5 and word.isalpha()]
        if places:
            place = rng.choice(places)
            word, letter = words[place], rng.randrange(1, len(words[place]) - 1)
            change = rng.choice(("", word[letter] * 2, rng.choice("aeiou") if word[letter] in "aeiou" else ""))
            words[place] = word[:letter] + change + word[letter + 1 :]
    return " ".join(words)


def as_heard(text: str, rng: random.Random) -> str:
    """A question as it may reach the model: as written, with a lead-in, or misheard. Capitals and punctuation are left:
    the model doesn't read them."""
    if rng.random() < 0.12:
        lower = text if text.startswith(("I ", "I'")) or text[1:2].isupper() else text[0].lower() + text[1:]
        text = rng.choice(_CARRIERS).format(lower)
    if rng.random() < 0.15:
        text = mishear(text, rng)
    return text or "Um."


class InstructData:
    """All sources, and the epochs mixed from them.

    Args:
        folder: holds answers.jsonl.gz, questions.jsonl.gz, conversations.jsonl.gz, requests.jsonl.gz; each may be
            missing, and the folder too (None): facts and small talk are always there.
        held_out: questions that must not occur (any case and punctuation).
        seed: of everything random.
    """

    def __init__(self, folder: Path | str | None = None, held_out: Collection[str] = (), seed: int = 0):
        self.folder = Path(folder) if folder else None
        self.held_out = {normalise(question) for question in held_out}
        self.seed = seed

    @cached_property
    def development(self) -> list[Example]:
        """Facts in a wording that no epoch uses: the last one of every 25th fact that has at least three."""
        return [
            Example(fact.kind, ((fact.questions[-1], fact.replies[0]),)) for fact in read_facts() if _keeps_one(fact)
        ]

    def wordings(self) -> Iterator[str]:
        """Every question of facts and small talk as written, before any slip of the ear."""
        for fact in read_facts():
            yield from fact.questions[: -1 if _keeps_one(fact) else None]
        for talk in read_chat():
            yield from talk.questions

    def epoch(self, number: int) -> list[Example]:
        """The examples of one epoch, shuffled. Each fact of the tables is in it once, in another wording every time."""
        rng = random.Random(f"{self.seed}/{number}")
        examples = list(self._facts(number, rng)) + list(self._chat(rng)) + list(self._corpora(rng))
        rng.shuffle(examples)
        return [
            example for example in examples if not any(normalise(asked) in self.held_out for asked, _ in example.turns)
        ]

    def _facts(self, number: int, rng: random.Random) -> Iterator[Example]:
        singles: list[tuple[str, str, str]] = []
        by_kind: dict[str, list[Fact]] = defaultdict(list)
        for fact in read_facts():
            if fact.follow:
                by_kind[fact.kind].append(fact)
            share = _LARGER_SHARE if fact.kind.endswith("larger") else _SHARES.get(fact.kind.split("/")[0], 1.0)
            if rng.random() >= share:
                continue
            wordings = fact.questions[: -1 if _keeps_one(fact) else None]
            start = int(text_id(fact.questions[0]), 16) % len(wordings)
            singles.append((fact.kind, wordings[(start + number) % len(wordings)], rng.choice(fact.replies)))
        rng.shuffle(singles)
        at = 0
        while at < len(singles):
            length = rng.choices((1, 2, 3), (0.8, 0.14, 0.06))[0]
            part = singles[at : at + length]
            yield Example(part[0][0], tuple((as_heard(question, rng), reply) for _, question, reply in part))
            at += length
        for kind, facts in sorted(by_kind.items()):
            for _ in range(max(1, len(facts) // 7)):
                chosen = rng.sample(facts, min(len(facts), rng.choice((2, 2, 3))))
                first, *rest = chosen
                turns = [(as_heard(rng.choice(first.questions[:-1] or first.questions), rng), first.replies[0])]
                turns += [(as_heard(rng.choice(fact.follow), rng), fact.replies[0]) for fact in rest]
                yield Example(f"{kind}, followed", tuple(turns))

    def _chat(self, rng: random.Random) -> Iterator[Example]:
        for talk in read_chat():
            for question in rng.sample(talk.questions, max(3, len(talk.questions) // 2)):
                yield Example(talk.kind, ((as_heard(question, rng), rng.choice(talk.replies)),))

    def _corpora(self, rng: random.Random) -> Iterator[Example]:
        for rows, share in (
            (self._requests, 80),
            (self._answers, 150),
            (self._questions, 40),
            (self._conversations, 30),
        ):
            yield from rng.sample(rows, min(share, len(rows)))

    def _rows(self, source: str) -> Iterator[dict]:
        path = self.folder / f"{source}.jsonl.gz" if self.folder else None
        if path and path.exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from map(json.loads, file)

    @cached_property
    def _requests(self) -> list[Example]:
        replies = read_requests()
        return [
            Example("requests", ((finish(capitalise(restore_apostrophes(row["text"]))), replies[row["intent"]]),))
            for row in self._rows("requests")
            if row["intent"] in replies
        ]

    @cached_property
    def _answers(self) -> list[Example]:
        examples = []
        for row in self._rows("answers"):
            if (
                row["source"] == "VQuAnDa" and int(text_id(row["text"]), 16) % 10
            ):  # much of it is about the same few forms
                continue
            question, reply = _pair(row["text"], split_sentences(" ".join(row["reply"].split()))[0])
            if question and reply and not re.search(r"\banswers?\.?$", reply) and len(reply.split()) > 2:
                examples.append(Example("answers", ((question, reply),)))
        return examples

    @cached_property
    def _questions(self) -> list[Example]:
        examples = []
        for row in self._rows("questions"):
            if (
                re.search(r"\b(?:following|these|above|below|which one|not)\b|_", row["text"].lower())
                or len(row["answer"].split()) > 8
            ):
                continue
            question, reply = _pair(restore_apostrophes(row["text"]), restore_apostrophes(row["answer"]))
            if question and reply and len(question.split()) <= 18:
                examples.append(Example("questions", ((question, reply),)))
        return examples

    @cached_property
    def _conversations(self) -> list[Example]:
        examples = []
        for row in self._rows("conversations"):
            pairs = [_pair(turn["user"][0], turn["assistant"][-1].replace(";", " and ")) for turn in row["turns"][:3]]
            if all(question and reply for question, reply in pairs):
                examples.append(
                    Example(
                        "conversations", tuple((question, reply) for question, reply in pairs if question and reply)
                    )
                )
        return examples


def _keeps_one(fact: Fact) -> bool:
    return len(fact.questions) >= 3 and int(text_id(fact.questions[0]), 16) % 25 == 0


def _pair(question: str, reply: str) -> tuple[str | None, str | None]:
    """A corpus' question and reply, cleaned and fit to be spoken; None for either that can't be, or isn't for
    training.
    """
    asked, said = clean(question), clean(reply)
    if not asked or not said or split_of(text_id(question)) != "train":
        return None, None
    said = say_numbers(said)
    said = finish(capitalise(said), asks=False) if said else None
    return finish(capitalise(asked)), said if said and is_speakable(said) else None
