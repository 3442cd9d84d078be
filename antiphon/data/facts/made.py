"""Facts that need no table: sums, sequences, letters, comparisons. All numbers are in words, as they are spoken."""

from __future__ import annotations

from collections.abc import Iterator

Made = tuple[str, tuple[str, ...], tuple[str, ...]]  # kind, questions, replies

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPELT = (
    "apple ball cat dog elephant fish garden house island jungle king lemon moon night orange piano queen river sun table "
    "umbrella violin water yellow zebra banana bread chair door egg flower green hat ice juice kitchen lion mouse nose onion "
    "pencil rain school tree uncle village window year star train"
).split()
# Each list goes up; pairs that are far enough apart are compared.
SCALES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("bigger", "smaller", ("an ant", "a mouse", "a cat", "a dog", "a pig", "a cow", "an elephant", "a whale")),
    ("bigger", "smaller", ("a grape", "a lemon", "a melon", "a pumpkin")),
    ("bigger", "smaller", ("a pea", "a tennis ball", "a football", "a car", "a house", "a mountain")),
    ("bigger", "smaller", ("a village", "a town", "a city", "a country", "a continent")),
    ("bigger", "smaller", ("the moon", "the Earth", "Jupiter", "the sun")),
    ("bigger", "smaller", ("Portugal", "France", "Canada", "Russia")),
    ("heavier", "lighter", ("a feather", "a book", "a chair", "a piano", "a truck", "a ship")),
    ("heavier", "lighter", ("a mouse", "a dog", "a horse", "a rhino", "an elephant")),
    ("faster", "slower", ("a snail", "a person", "a horse", "a car", "a train", "a plane", "a rocket")),
    ("faster", "slower", ("a tortoise", "a rabbit", "a lion", "a cheetah")),
    ("hotter", "colder", ("ice", "a cold drink", "warm milk", "boiling water", "fire", "the sun")),
    ("taller", "shorter", ("a flower", "a child", "a giraffe", "a tree", "a tower", "a mountain")),
    ("longer", "shorter", ("a second", "a minute", "an hour", "a day", "a week", "a month", "a year", "a decade", "a century")),
    ("longer", "shorter", ("a centimetre", "an inch", "a foot", "a metre", "a kilometre", "a mile")),
    ("older", "younger", ("a baby", "a child", "a teenager", "a mother", "a grandmother")),
    ("harder", "softer", ("a pillow", "wood", "stone", "diamond")),
    ("louder", "quieter", ("a whisper", "a voice", "a shout", "a plane")),
    ("deeper", "shallower", ("a puddle", "a pool", "a lake", "an ocean")),
)  # fmt: skip


def spoken(number: int) -> str:
    """A whole number as it is said: 42 -> "forty-two", 105 -> "one hundred and five"; below one million."""
    if number < 0:
        return "minus " + spoken(-number)
    if number < 20:
        return _SMALL[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_SMALL[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {spoken(number % 100)}" if number % 100 else ""
        return f"{_SMALL[number // 100]} hundred{rest}"
    thousands, rest = divmod(number, 1000)
    return f"{spoken(thousands)} thousand" + (f"{' and' if rest < 100 else ''} {spoken(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """Below 100: 3 -> "third", 21 -> "twenty-first"."""
    head, dash, last = spoken(number).rpartition("-")
    last = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return head + dash + last


def _sums() -> Iterator[Made]:
    for a in range(0, 21):
        for b in range(0, 21):
            if a + b <= 30:
                x, y, z = spoken(a), spoken(b), spoken(a + b)
                yield "sums/plus", (f"What is {x} plus {y}?", f"How much is {x} plus {y}?", f"What's {x} and {y}?",
                                    f"Add {x} and {y}.", f"What do {x} and {y} make?", f"{x} plus {y}?", f"What is {a} plus {b}?",
                                    f"What is {a} + {b}?"), (f"{x} plus {y} is {z}.",)  # fmt: skip
            if b <= a:
                x, y, z = spoken(a), spoken(b), spoken(a - b)
                yield "sums/minus", (f"What is {x} minus {y}?", f"How much is {x} minus {y}?", f"What's {x} minus {y}?",
                                     f"Take {y} from {x}.", f"{x} minus {y}?", f"What is {x} take away {y}?",
                                     f"What is {a} minus {b}?"), (f"{x} minus {y} is {z}.",)  # fmt: skip
    for a in range(1, 13):
        for b in range(1, 13):
            x, y, z = spoken(a), spoken(b), spoken(a * b)
            yield "sums/times", (f"What is {x} times {y}?", f"How much is {x} times {y}?", f"What's {x} times {y}?",
                                 f"Multiply {x} by {y}.", f"{x} times {y}?", f"What do you get for {x} times {y}?",
                                 f"What is {a} times {b}?"), (f"{x} times {y} is {z}.",)  # fmt: skip
            if b > 1 and a <= 10 and b <= 10:
                yield "sums/divided", (f"What is {z} divided by {y}?", f"How much is {z} divided by {y}?", f"Divide {z} by {y}.",
                                       f"What's {z} divided by {y}?"), (f"{z} divided by {y} is {x}.",)  # fmt: skip
    for a in [*range(2, 31, 2), 40, 50, 60, 80, 100, 1000]:
        x, half = spoken(a), spoken(a // 2)
        yield "sums/half", (f"What is half of {x}?", f"What's half of {x}?", f"How much is half of {x}?"), (f"Half of {x} is {half}.",)
    for a in [*range(1, 16), 20, 25, 30, 40, 50, 100]:
        x, double = spoken(a), spoken(2 * a)
        yield "sums/double", (f"What is double {x}?", f"What is twice {x}?", f"How much is twice {x}?", f"Double {x}."), (
            f"Twice {x} is {double}.",)  # fmt: skip
    for a in range(10, 100, 10):
        for b in range(10, 100, 20):
            x, y, z = spoken(a), spoken(b), spoken(a + b)
            yield "sums/tens", (f"What is {x} plus {y}?", f"How much is {x} plus {y}?", f"What's {x} plus {y}?"), (f"{x} plus {y} is {z}.",)
    for a in range(1, 11):
        yield "sums/square", (f"What is {spoken(a)} squared?", f"What's the square of {spoken(a)}?"), (f"{spoken(a)} squared is {spoken(a * a)}.",)


def _sequences() -> Iterator[Made]:
    for kind, names in (("days", DAYS), ("months", MONTHS)):
        unit = kind[:-1]
        for n, name in enumerate(names):
            after, before = names[(n + 1) % len(names)], names[n - 1]
            yield f"{kind}/after", (f"What {unit} comes after {name}?", f"Which {unit} comes after {name}?", f"What {unit} follows {name}?",
                                    f"What comes after {name}?", f"What is the {unit} after {name}?"), (f"{after} comes after {name}.",)  # fmt: skip
            yield f"{kind}/before", (f"What {unit} comes before {name}?", f"Which {unit} comes before {name}?", f"What comes before {name}?",
                                     f"What is the {unit} before {name}?"), (f"{before} comes before {name}.",)  # fmt: skip
            if kind == "days":
                later = names[(n + 2) % 7]
                yield "days/tomorrow", (f"If today is {name}, what day is tomorrow?", f"Today is {name}. What day is it tomorrow?",
                                        f"It is {name}. What is tomorrow?"), (f"If today is {name}, tomorrow is {after}.",)  # fmt: skip
                yield "days/yesterday", (f"If today is {name}, what day was yesterday?", f"Today is {name}. What was yesterday?",
                                         f"What was yesterday, if today is {name}?"), (f"If today is {name}, yesterday was {before}.",)  # fmt: skip
                yield "days/later", (f"What day is two days after {name}?", f"Which day comes two days after {name}?"), (
                    f"Two days after {name} is {later}.",)  # fmt: skip
            else:
                place = ordinal(n + 1)
                yield "months/number", (f"Which number is {name} among the months?", f"Is {name} the first or which month?",
                                        f"What number is the month of {name}?"), (f"{name} is the {place} month.",)  # fmt: skip
                season = ("winter", "spring", "summer", "autumn")[(n + 1) // 3 % 4]
                yield "months/season", (f"What season is {name} in?", f"In which season is {name}?", f"Which season does {name} belong to?"), (
                    f"In the north, {name} is in {season}.",)  # fmt: skip
    for n in [*range(0, 32), 39, 49, 59, 69, 79, 89, 99, 100, 199, 999]:
        x, after = spoken(n), spoken(n + 1)
        yield "numbers/after", (f"What number comes after {x}?", f"Which number comes after {x}?", f"What comes after {x}?",
                                f"What is the number after {x}?"), (f"{after} comes after {x}.",)  # fmt: skip
        yield "numbers/before", (f"What number comes before {after}?", f"Which number comes before {after}?", f"What comes before {after}?"), (
            f"{x} comes before {after}.",)  # fmt: skip
        if n < 32:
            kind = "an odd" if n % 2 else "an even"
            yield "numbers/parity", (f"Is {x} odd or even?", f"Is {x} an even or an odd number?", f"Is the number {x} even or odd?"), (
                f"{x} is {kind} number.",)  # fmt: skip


def _letters() -> Iterator[Made]:
    for n, letter in enumerate(LETTERS):
        if n + 1 < len(LETTERS):
            after = LETTERS[n + 1]
            yield "letters/after", (f"What letter comes after {letter}?", f"Which letter comes after {letter}?", f"What comes after {letter} in the alphabet?",
                                    f"What letter follows {letter}?"), (f"The letter {after} comes after {letter}.",)  # fmt: skip
            yield "letters/before", (f"What letter comes before {after}?", f"Which letter comes before {after}?",
                                     f"What comes before {after} in the alphabet?"), (f"The letter {letter} comes before {after}.",)  # fmt: skip
        place = ordinal(n + 1)
        yield "letters/number", (f"What is the {place} letter of the alphabet?", f"Which letter is the {place} in the alphabet?"), (
            f"The {place} letter of the alphabet is {letter}.",)  # fmt: skip
    for word in SPELT:
        first, last = word[0].upper(), word[-1].upper()
        yield "spelling/first", (f"What letter does {word} start with?", f"What is the first letter of {word}?", f"Which letter does the word {word} begin with?",
                                 f"With which letter does {word} start?"), (f"{word} starts with {first}.",)  # fmt: skip
        yield "spelling/last", (f"What is the last letter of {word}?", f"What letter does {word} end with?"), (f"{word} ends with {last}.",)
        yield "spelling/spell", (f"How do you spell {word}?", f"Spell {word}.", f"Can you spell {word}?", f"Spell the word {word}."), (
            f"{word} is spelled {', '.join(word.upper())}.",)  # fmt: skip
        yield "spelling/letters", (f"How many letters does {word} have?", f"How many letters are in the word {word}?"), (
            f"The word {word} has {spoken(len(word))} letters.",)  # fmt: skip


def _comparisons() -> Iterator[Made]:
    for more, less, things in SCALES:
        for low in range(len(things)):
            for high in range(low + 1, len(things)):
                small, large = things[low], things[high]
                first, second = (small, large) if (low + high) % 2 else (large, small)
                for word, right, other in ((more, large, small), (less, small, large)):
                    yield f"comparisons/{word}", (
                        f"Which is {word}, {first} or {second}?", f"What is {word}, {first} or {second}?", f"What is {word}, {second} or {first}?",
                        f"Is {first} or {second} {word}?", f"{first} or {second}, which is {word}?",
                    ), (f"{right} is {word} than {other}.",)  # fmt: skip
    for a in range(1, 31, 3):
        for b in range(2, 31, 4):
            if a != b:
                x, y, larger, smaller = spoken(a), spoken(b), spoken(max(a, b)), spoken(min(a, b))
                yield "comparisons/numbers", (f"Which is more, {x} or {y}?", f"Which number is bigger, {x} or {y}?", f"What is larger, {x} or {y}?"), (
                    f"{larger} is more than {smaller}.",)  # fmt: skip


def made() -> Iterator[Made]:
    """All facts of this module, in a fixed order."""
    yield from _sums()
    yield from _sequences()
    yield from _letters()
    yield from _comparisons()
