"""Facts that need no table: sums, sequences, letters, comparisons. All numbers are in words, as they are spoken."""

from __future__ import annotations

from collections.abc import Iterator

Made = tuple[str, tuple[str, ...], tuple[str, ...]]  # kind, questions, replies

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = dict(one="first", two="second", three="third", five="fifth", eight="eighth", nine="ninth", twelve="twelfth")

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPELT = (
    "apple ball cat dog elephant fish garden house island jungle king lemon moon night orange piano queen "
    "river sun table umbrella violin water yellow zebra banana bread chair door egg flower green hat ice juice "
    "kitchen lion mouse nose onion pencil rain school tree uncle village window year star train"
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

      ("longer", "shorter", ("a second", "a minute", "an hour", "a day", "a week", "a month", "a year", "a century")),
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


def _fact(kind: str, wordings: str, reply: str, **cells: object) -> Made:
    """A fact whose wordings are separated by "|"; `cells` fill the slots."""
    return kind, tuple(part.strip().format_map(cells) for part in wordings.split("|")), (reply.format_map(cells),)


_PLUS = """What is {x} plus {y}? | How much is {x} plus {y}? | What's {x} and {y}? | Add {x} and {y}. |
    What do {x} and {y} make? |
    {x} plus {y}? | What is {a} plus {b}? | What is {a} + {b}?"""
_MINUS = """What is {x} minus {y}? | How much is {x} minus {y}? | What's {x} minus {y}? | Take {y} from {x}. |
    {x} minus {y}? |
    What is {x} take away {y}? | What is {a} minus {b}?"""
_TIMES = """What is {x} times {y}? | How much is {x} times {y}? | What's {x} times {y}? | Multiply {x} by {y}. |
    {x} times {y}? |
    What do you get for {x} times {y}? | What is {a} times {b}?"""
_DIVIDED = """What is {x} divided by {y}? | How much is {x} divided by {y}? | Divide {x} by {y}. |
    What's {x} divided by {y}?"""
_HALF = "What is half of {x}? | What's half of {x}? | How much is half of {x}?"
_DOUBLE = "What is double {x}? | What is twice {x}? | How much is twice {x}? | Double {x}."
_TENS_SUM = "What is {x} plus {y}? | How much is {x} plus {y}? | What's {x} plus {y}?"
_SQUARE = "What is {x} squared? | What's the square of {x}?"


def _sums() -> Iterator[Made]:
    for a in range(21):
        for b in range(21):
            larger = ", larger" if max(a, b) > 10 else ""
            numbers = {"a": a, "b": b, "x": spoken(a), "y": spoken(b)}
            if a + b <= 30:
                yield _fact(f"sums/plus{larger}", _PLUS, "{x} plus {y} is {z}.", z=spoken(a + b), **numbers)
            if b <= a:
                yield _fact(f"sums/minus{larger}", _MINUS, "{x} minus {y} is {z}.", z=spoken(a - b), **numbers)
    for a in range(1, 13):
        for b in range(1, 13):
            larger = ", larger" if a * b > 50 else ""
            x, y, z = spoken(a), spoken(b), spoken(a * b)
            yield _fact(f"sums/times{larger}", _TIMES, "{x} times {y} is {z}.", a=a, b=b, x=x, y=y, z=z)
            if b > 1 and a <= 10 and b <= 10:
                yield _fact(f"sums/divided{larger}", _DIVIDED, "{x} divided by {y} is {z}.", x=z, y=y, z=x)
    for a in [*range(2, 31, 2), 40, 50, 60, 80, 100, 1000]:
        yield _fact("sums/half", _HALF, "Half of {x} is {z}.", x=spoken(a), z=spoken(a // 2))
    for a in [*range(1, 16), 20, 25, 30, 40, 50, 100]:
        yield _fact("sums/double", _DOUBLE, "Twice {x} is {z}.", x=spoken(a), z=spoken(2 * a))
    for a in range(10, 100, 10):
        for b in range(10, 100, 20):
            yield _fact("sums/tens", _TENS_SUM, "{x} plus {y} is {z}.", x=spoken(a), y=spoken(b), z=spoken(a + b))
    for a in range(1, 11):
        yield _fact("sums/square", _SQUARE, "{x} squared is {z}.", x=spoken(a), z=spoken(a * a))


_AFTER = """What {unit} comes after {x}? | Which {unit} comes after {x}? | What {unit} follows {x}? |
    What comes after {x}? |
    What is the {unit} after {x}?"""
_BEFORE = """What {unit} comes before {x}? | Which {unit} comes before {x}? | What comes before {x}? |
    What is the {unit} before {x}?"""
_TOMORROW = (
    "If today is {x}, what day is tomorrow? | Today is {x}. What day is it tomorrow? | It is {x}. What is tomorrow?"
)
_YESTERDAY = """If today is {x}, what day was yesterday? | Today is {x}. What was yesterday? |
    What was yesterday, if today is {x}?"""
_LATER = "What day is two days after {x}? | Which day comes two days after {x}?"
_MONTH_NUMBER = (
    "Which number is {x} among the months? | Is {x} the first or which month? | What number is the month of {x}?"
)
_SEASON = "What season is {x} in? | In which season is {x}? | Which season does {x} belong to?"
_NUMBER_AFTER = """What number comes after {x}? | Which number comes after {x}? | What comes after {x}? |
    What is the number after {x}?"""
_NUMBER_BEFORE = "What number comes before {x}? | Which number comes before {x}? | What comes before {x}?"
_PARITY = "Is {x} odd or even? | Is {x} an even or an odd number? | Is the number {x} even or odd?"


def _sequences() -> Iterator[Made]:
    for kind, names in (("days", DAYS), ("months", MONTHS)):
        unit = kind[:-1]
        for n, x in enumerate(names):
            after, before = names[(n + 1) % len(names)], names[n - 1]
            yield _fact(f"{kind}/after", _AFTER, "{z} comes after {x}.", unit=unit, x=x, z=after)
            yield _fact(f"{kind}/before", _BEFORE, "{z} comes before {x}.", unit=unit, x=x, z=before)
            if kind == "days":
                yield _fact("days/tomorrow", _TOMORROW, "If today is {x}, tomorrow is {z}.", x=x, z=after)
                yield _fact("days/yesterday", _YESTERDAY, "If today is {x}, yesterday was {z}.", x=x, z=before)
                yield _fact("days/later", _LATER, "Two days after {x} is {z}.", x=x, z=names[(n + 2) % 7])
            else:
                season = ("winter", "spring", "summer", "autumn")[(n + 1) // 3 % 4]
                yield _fact("months/number", _MONTH_NUMBER, "{x} is the {z} month.", x=x, z=ordinal(n + 1))
                yield _fact("months/season", _SEASON, "In the north, {x} is in {z}.", x=x, z=season)
    for n in [*range(32), 39, 49, 59, 69, 79, 89, 99, 100, 199, 999]:
        x, after = spoken(n), spoken(n + 1)
        yield _fact("numbers/after", _NUMBER_AFTER, "{z} comes after {x}.", x=x, z=after)
        yield _fact("numbers/before", _NUMBER_BEFORE, "{z} comes before {x}.", x=after, z=x)
        if n < 32:
            yield _fact("numbers/parity", _PARITY, "{x} is {z} number.", x=x, z="an odd" if n % 2 else "an even")


_LETTER_AFTER = """What letter comes after {x}? | Which letter comes after {x}? |
    What comes after {x} in the alphabet? |
    What letter follows {x}?"""
_LETTER_BEFORE = (
    "What letter comes before {x}? | Which letter comes before {x}? | What comes before {x} in the alphabet?"
)
_LETTER_NUMBER = "What is the {x} letter of the alphabet? | Which letter is the {x} in the alphabet?"
_FIRST = """What letter does {x} start with? | What is the first letter of {x}? |
    Which letter does the word {x} begin with? |
    With which letter does {x} start?"""
_LAST = "What is the last letter of {x}? | What letter does {x} end with?"
_SPELL = "How do you spell {x}? | Spell {x}. | Can you spell {x}? | Spell the word {x}."
_LENGTH = "How many letters does {x} have? | How many letters are in the word {x}?"


def _letters() -> Iterator[Made]:
    for n, letter in enumerate(LETTERS):
        if n + 1 < len(LETTERS):
            after = LETTERS[n + 1]
            yield _fact("letters/after", _LETTER_AFTER, "The letter {z} comes after {x}.", x=letter, z=after)
            yield _fact("letters/before", _LETTER_BEFORE, "The letter {z} comes before {x}.", x=after, z=letter)
        yield _fact(
            "letters/number", _LETTER_NUMBER, "The {x} letter of the alphabet is {z}.", x=ordinal(n + 1), z=letter
        )
    for word in SPELT:
        yield _fact("spelling/first", _FIRST, "{x} starts with {z}.", x=word, z=word[0].upper())
        yield _fact("spelling/last", _LAST, "{x} ends with {z}.", x=word, z=word[-1].upper())
        yield _fact("spelling/spell", _SPELL, "{x} is spelled {z}.", x=word, z=", ".join(word.upper()))
        yield _fact("spelling/letters", _LENGTH, "The word {x} has {z} letters.", x=word, z=spoken(len(word)))


_COMPARED = """Which is {word}, {a} or {b}? | What is {word}, {a} or {b}? | What is {word}, {b} or {a}? |
    Is {a} or {b} {word}? |
    {a} or {b}, which is {word}?"""
_LARGER = "Which is more, {a} or {b}? | Which number is bigger, {a} or {b}? | What is larger, {a} or {b}?"


def _comparisons() -> Iterator[Made]:
    for more, less, things in SCALES:
        for low in range(len(things)):
            for high in range(low + 1, len(things)):
                small, large = things[low], things[high]
                a, b = (small, large) if (low + high) % 2 else (large, small)
                for word, x, y in ((more, large, small), (less, small, large)):
                    yield _fact(
                        f"comparisons/{word}", _COMPARED, "{x} is {word} than {y}.", word=word, a=a, b=b, x=x, y=y
                    )
    for a in range(1, 31, 3):
        for b in range(2, 31, 4):
            if a != b:
                x, y = spoken(max(a, b)), spoken(min(a, b))
                yield _fact("comparisons/numbers", _LARGER, "{x} is more than {y}.", a=spoken(a), b=spoken(b), x=x, y=y)


def made() -> Iterator[Made]:
    """All facts of this module, in a fixed order."""
    yield from _sums()
    yield from _sequences()
    yield from _letters()
    yield from _comparisons()
