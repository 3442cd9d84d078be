"""Numbers as an American says them: plain words without "and", commas or hyphens."""

from __future__ import annotations

import re

from num2words import num2words

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
LONGEST = 15  # more digits than these are said one by one
ROMAN = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def _plain(words: str) -> str:
    return " ".join(word for word in re.split(r"[\s,-]+", words) if word != "and")


def digits(text: str, zero: str = "zero") -> str:
    """Each digit by itself; whatever else stands between them is left out."""
    return " ".join(DIGITS[int(c)] if c != "0" else zero for c in text if c.isdigit())


def cardinal(text: str) -> str:
    """A whole number, thousands apart by commas or not; one with leading zeros or very long, digit by digit."""
    bare = text.replace(",", "")
    if len(bare) > LONGEST or (len(bare) > 1 and bare[0] == "0"):
        return digits(bare)
    return _plain(num2words(int(bare)))


def ordinal(text: str) -> str:
    """ "21" -> "twenty first"."""
    bare = text.replace(",", "")
    return _plain(num2words(int(bare), to="ordinal")) if len(bare) <= LONGEST else digits(bare) + "th"


def year(text: str) -> str:
    """ "1905" -> "nineteen oh five", so too any other number of four digits; all others are plain numbers."""
    if len(text) == 4 and text[0] != "0":
        return _plain(num2words(int(text), to="year"))
    return cardinal(text)


def number(text: str, as_year: bool = False) -> str:
    """A number with or without a fraction, all of whose digits are said: "0.50" -> "zero point five zero"."""
    whole, point, fraction = text.partition(".")
    if not point:
        return year(whole) if as_year else cardinal(whole)
    return " ".join(filter(None, [whole and cardinal(whole), "point", digits(fraction)]))


def plural(words: str) -> str:
    """ "nineteen ninety" -> "nineteen nineties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("s", "x")) else "s")


def fraction(above: str, below: str) -> str:
    """ "3", "4" -> "three quarters"."""
    one = int(above) == 1
    if int(below) == 2:
        return cardinal(above) + (" half" if one else " halves")
    part = "quarter" if int(below) == 4 else ordinal(below)
    return f"{cardinal(above)} {part if one else plural(part)}"


def roman(text: str) -> int | None:
    """The value of a Roman numeral in capitals, None if it isn't one."""
    if not text or not ROMAN.fullmatch(text):
        return None
    values = [_ROMAN_VALUES[c] for c in text]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0]))


def clock(hour: str, minute: str, second: str | None = None, half: str = "") -> str:
    """A time of day.

    Args:
        hour, minute, second: as written.
        half: how the half of the day is said, as "P.M"; "o'clock" likewise.
    """
    words = cardinal(str(int(hour)))
    if int(minute):
        words += " " + ("oh " if int(minute) < 10 else "") + cardinal(str(int(minute)))
    elif not half and not second:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    elif second:
        words += " zero zero"
    if second:
        words += f" and {cardinal(str(int(second)))} second" + ("" if int(second) == 1 else "s")
    return f"{words} {half}" if half else words


def date(year_: str | None, month: int, day: str) -> str | None:
    """ "2024", 5, "03" -> "May third, twenty twenty four"; None if there is no such day."""
    if not (1 <= month <= 12 and 1 <= int(day) <= 31):
        return None
    return f"{MONTHS[month - 1]} {ordinal(str(int(day)))}" + (f", {year(year_)}" if year_ else "")
