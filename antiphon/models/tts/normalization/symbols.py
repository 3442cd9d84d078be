"""How digits, signs and letters between two spaces are said: times, dates, money, addresses; else piece by piece."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from antiphon.models.tts.normalization.abbreviations import (
    ADDRESS_SYMBOLS,
    COUNTRIES,
    CURRENCIES,
    CURRENCY_CODES,
    MAGNITUDES,
    NAMES_WHEN_JOINED,
    SYMBOLS,
    UNITS,
)
from antiphon.models.tts.normalization.numbers import (
    cardinal,
    clock,
    date,
    digits,
    fraction,
    number,
    ordinal,
    plural,
)

NUM = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_SIGNS = {"-": "minus", "−": "minus", "–": "minus", "+": "plus", "±": "plus or minus", "~": "about", "≈": "about"}
_SIGNS |= {"<": "less than", ">": "more than", "≤": "at most", "≥": "at least"}
_SIGN = f"([{re.escape(''.join(_SIGNS))}]?)"
_MONEY = re.compile(
    rf"{_SIGN}(US|CA|C|AU|A|NZ)?([{re.escape(''.join(CURRENCIES))}]|Rs|USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY)({NUM})"
    rf"(?:[-–](?:\3)?({NUM}))?\s?-?(hundred|thousand|million|billion|trillion|quadrillion|bn|mn|tn|MM|mm|[kKmMbBtT])?(\+?)"
)
_UNIT = "|".join(map(re.escape, sorted(UNITS, key=len, reverse=True)))
_MEASURE = re.compile(rf"{_SIGN}({NUM})(?:[-–]({NUM}))?-?({_UNIT})(\+?)")
_CODED = re.compile(rf"{_SIGN}({NUM})(?:[-–]({NUM}))?([€£$¥]|USD|EUR|GBP|CHF|CAD|AUD)")
_PHONE = re.compile(r"(\+?\d{1,3}[-.])?\(?(\d{3})\)?[-.–]?(?:(\d{3})[-.–])?(\d{4})")
_DOTTED = re.compile(r"([vV]?)(\d+(?:\.\d+){2,})((?::\d+)?(?:/\d+)?)([-.+]?[A-Za-z]\w*)?")
_TIME = r"([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?\s?([apAP]\.?[mM]\.?)?"
_TLD = "com|org|net|edu|gov|mil|io|co|uk|de|fr|info|biz|us|ca|au|tv|me|ly|ai|app|dev|eu|jp|cn|in|nl|ch|it|es|se|no|xyz"
_ADDRESS = re.compile(
    rf"(?:[A-Za-z][\w+.-]*://|www\.|mailto:)\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[\w-]+\.)+(?:{_TLD})(?::\d+)?(?:[/?#]\S*)?"
    r"|(?:~|\.{1,2})?/[\w.~-]+(?:/[\w.~-]*)*|[A-Za-z]:\\\S*",
    re.I,
)
_LETTER = r"[^\W\d_²³¹⁰⁴-⁹₀-₉½¼¾⅐-↉①-⓿]"
_PIECE = re.compile(rf"{NUM}|{_LETTER}+(?:'{_LETTER}+)*|.", re.S)
_GREEK = re.compile(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)$")
_POWERS = {c: str(n) for n, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"⁻": "-"}
_LOWERED = {c: str(n) for n, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
LETTER_A = "eigh"  # the letter's name; "a" would be read as the article


@dataclass(frozen=True)
class Reading:
    """How something is read.

    Attributes:
        text: in words.
        used: chunks that it stands for.
        after: punctuation behind the last of them, where it is more than one.
        goes_on: the full stop behind it belongs to it, and the sentence goes on.
        unsaid: letters in it that English can't say.
    """

    text: str
    used: int = 1
    after: str = ""
    goes_on: bool = False
    unsaid: str = ""


def read(core: str, dated: bool = False, joined: bool = True) -> Reading:
    """Reads a chunk that isn't a plain word.

    Args:
        core: without punctuation around it.
        dated: it is rather a date than a fraction.
        joined: a unit stands right behind the number in the text, which may make it a name.
    """
    said = _known(core, dated, joined)
    if said is not None:
        return Reading(said)
    if _ADDRESS.fullmatch(core):
        return _pieces(core, address=True)
    halves = re.split(r"(?<=[\w%°€£])([-–—/])(?=[\w$€£.])", core)
    if len(halves) > 1 and re.search(r"\d", core):
        return _parts(halves)
    return _pieces(core)


def _known(core: str, dated: bool, joined: bool) -> str | None:
    """A chunk of one of the known shapes."""
    if re.fullmatch(NUM, core):
        return number(core, as_year=True)
    if found := re.fullmatch(rf"{_SIGN}({NUM})(\+?)", core):
        return _join(_SIGNS.get(found[1]), number(found[2]), found[3] and "plus")
    if found := re.fullmatch(r"(\d{1,3}(?:,\d{3})+|\d+)(st|nd|rd|th|ST|ND|RD|TH)", core):
        return ordinal(found[1])
    if found := re.fullmatch(r"(\d{1,3}(?:,\d{3})+|\d{2,4})'?s", core):
        if found[1].endswith("0") and joined:
            return plural(number(found[1], as_year=True)).removeprefix("one ")  # "thousands"
    if found := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:T(.+))?", core):
        day = date(found[1], int(found[2]), found[3])
        if day:
            return _join(day, found[4] and read(found[4]).text)
    if found := re.fullmatch(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})", core):
        return _date(*found.group(1, 3, 4)) if found[2] == "/" or len(found[4]) == 4 else None
    if found := re.fullmatch(_TIME, core):
        return clock(found[1], found[2], found[3], _half(found[4]))
    if found := re.fullmatch(rf"{_TIME}[-–]{_TIME}", core):
        return " to ".join(clock(*found.group(i, i + 1, i + 2), _half(found[i + 3])) for i in (1, 5))
    if found := re.fullmatch(r"(\d{1,2})(?:[-–](\d{1,2}))?([apAP]\.?[mM])", core):
        return _join(" to ".join(cardinal(hour) for hour in found.group(1, 2) if hour), _half(found[3]))
    if found := re.fullmatch(rf"({NUM}):({NUM})", core):
        return f"{number(found[1])} to {number(found[2])}"
    if found := _MONEY.fullmatch(core):
        return _money(found)
    if found := _CODED.fullmatch(core):
        sign, low, high, name = found.groups()
        return _amount(sign, "", low, high, (CURRENCIES | CURRENCY_CODES)[name], None, "")
    if (found := _MEASURE.fullmatch(core)) and not (joined and found[4] in NAMES_WHEN_JOINED):
        return _measure(*found.groups())
    if found := re.fullmatch(r"(\d+)/(\d+)", core):
        return _over(found[1], found[2], dated)
    if found := re.fullmatch(rf"({NUM})([x×])({NUM})(?:\2({NUM}))?", core):
        sides = [number(side, as_year=True) for side in found.group(1, 3, 4) if side]
        return (" by " if found[2] == "x" else " times ").join(sides)
    if (found := _PHONE.fullmatch(core)) and _is_phone(core, found):
        return _phone(core)
    if re.fullmatch(r"\+?\d+(?:[-–]\d+){2,}", core):
        return _phone(core)
    if found := _DOTTED.fullmatch(core):
        return _dotted(*found.groups())
    if found := re.fullmatch(r"([\d½¼¾⅓⅔⅛]*)([½¼¾⅓⅔⅛])", core):
        part = SYMBOLS[found[2]]
        return f"{cardinal(found[1])} and {part.replace('one ', 'a ', 1)}" if found[1].isdecimal() else part
    if found := re.fullmatch(r"(\d+)'(?:(\d+)\"?)?", core):
        return _join(f"{cardinal(found[1])} {'foot' if found[1] == '1' else 'feet'}", found[2] and cardinal(found[2]))
    if found := re.fullmatch(r"#([A-Za-z]\w*)", core):
        return "hashtag " + _pieces(found[1]).text
    if found := re.fullmatch(rf"[#№]({NUM})", core):
        return "number " + number(found[1])
    return None


def _join(*words: str | None) -> str:
    return " ".join(word for word in words if word)


def _half(written: str | None) -> str:
    """ "pm" -> "P.M", whose letters are spelled."""
    return written[0].upper() + ".M" if written else ""


def _date(a: str, b: str, year: str) -> str | None:
    """Month first, as Americans write it, unless there is no such month."""
    if len(year) == 2:
        year = ("19" if int(year) > 50 else "20") + year
    return date(year, int(a), b) if int(a) <= 12 else date(year, int(b), a)


def _money(found: re.Match) -> str:
    sign, country, symbol, low, high, size, more = found.groups()
    names = (CURRENCIES | CURRENCY_CODES)[symbol]
    return _amount(sign, COUNTRIES.get(country or "", ""), low, high, names, MAGNITUDES.get(size or ""), more)


def _amount(sign, country, low, high, names, size, more) -> str:
    one, many, cent, cents = names
    whole, point, part = low.partition(".")
    if not high and not size and point and len(part) == 2 and cent:
        small = cardinal(str(int(part))) + " " + (cent if int(part) == 1 else cents)
        large = f"{cardinal(whole or '0')} {_join(country, one if whole == '1' else many)}"
        if not int(part):
            return _join(_SIGNS.get(sign), large, more and "plus")
        if whole.strip("0,") == "":
            return _join(_SIGNS.get(sign), small, more and "plus")
        return _join(_SIGNS.get(sign), large, "and", small, more and "plus")
    value = number(low) + (f" to {number(high)}" if high else "")
    unit = one if low == "1" and not high and not size else many
    return _join(_SIGNS.get(sign), value, size, country, unit, more and "plus")


def _measure(sign: str, low: str, high: str | None, unit: str, more: str) -> str:
    one, many = UNITS[unit]
    value = number(low) + (f" to {number(high)}" if high else "")
    return _join(_SIGNS.get(sign), value, one if low == "1" and not high else many, more and "plus")


def _over(above: str, below: str, dated: bool) -> str:
    a, b = int(above), int(below)
    if dated and len(above) < 3 and len(below) < 3 and (day := date(None, a, below)):
        return day
    if above[0] != "0" and below[0] != "0":
        if a < b <= 100 and b > 1:
            return fraction(above, below)
        if a == b:
            return f"{cardinal(above)} fifty" if a == 50 else f"{cardinal(above)} out of {cardinal(below)}"
    if len(below) == 4:
        return f"{number(above, as_year=True)} slash {number(below, as_year=True)}"
    return f"{cardinal(above)} over {cardinal(below)}"


def _is_phone(core: str, found: re.Match) -> bool:
    """Seven digits in two groups are a telephone number unless they are a range of round numbers."""
    if found[3] or found[1] or not re.search(r"[-.–]", core):
        return bool(found[3])
    low, high = int(found[2]), int(found[4])
    round_range = low < high and found[4][0] != "0" and low % 50 == 0 and high % 50 == 0
    return not round_range and "." not in core


def _phone(core: str) -> str:
    groups = [digits(group, "oh") for group in re.split(r"\D+", core) if group]
    return ("plus " if core.startswith("+") else "") + ", ".join(groups)


def _dotted(prefix: str, numbers: str, rest: str, suffix: str | None) -> str:
    """A version's numbers with "point", an internet address's digits with "dot"."""
    groups = numbers.split(".")
    if [len(group) for group in groups] == [3, 3, 4]:
        return " dot ".join(digits(group, "oh") for group in groups)
    internet = len(groups) == 4 and all(len(group) <= 3 and int(group) < 256 for group in groups) and not prefix
    said = " dot ".join(map(digits, groups)) if internet else " point ".join(map(cardinal, groups))
    more = " ".join(
        {":": "colon", "/": "slash"}.get(piece) or cardinal(piece) for piece in re.findall(r"\d+|[:/]", rest or "")
    )
    return _join("version" if prefix else "", said, more, suffix and _pieces(suffix.lstrip("-.+")).text)


def _parts(halves: list[str]) -> Reading:
    """ "5-year-old", "COVID-19", "2010–2015", "$20/month": parts with signs between."""
    words: list[str] = []
    unsaid = ""
    for index, part in enumerate(halves):
        if index % 2:
            left, right = halves[index - 1], halves[index + 1]
            if part in "-–" and len(halves) == 3 and all(re.match(r"[$€£]?\.?\d", side) for side in (left, right)):
                words.append("dash" if _is_name(left, right) else "to")
            elif part == "/":
                per = re.fullmatch(rf".*[$€£]{NUM}.*|.*\d.*[a-z]", left) and right.isalpha()
                words.append("per" if per else "slash")
            elif part == "—":
                words.append("—")
            continue
        alone = read(part)
        words.append(alone.text)
        unsaid += alone.unsaid
    return Reading(" ".join(filter(None, words)), unsaid=unsaid)


def _is_name(left: str, right: str) -> bool:
    """Numbers with a dash between that can be no range nor a score: "747-400", "123-01"."""
    if not (left.isdigit() and right.isdigit()):
        return False
    return (right[0] == "0" and len(right) > 1) or (len(left) == len(right) == 3 and left > right)


def _pieces(core: str, address: bool = False) -> Reading:
    """Anything at all: letters, numbers and signs one after the other."""
    symbols = ADDRESS_SYMBOLS if address else SYMBOLS
    words: list[str] = []
    unsaid = ""
    pieces = _PIECE.findall(core)
    for index, piece in enumerate(pieces):
        left, right = "".join(pieces[:index]), "".join(pieces[index + 1 :])
        c = piece[0]
        if c.isascii() and (c.isdigit() or (c == "." and len(piece) > 1)):
            if address and not left[-1:].isalpha():
                parts = filter(None, piece.split("."))
                words.append(" dot ".join(digits(part) if len(part) > 2 else cardinal(part) for part in parts))
            else:
                words.append(number(piece))
        elif c.isalpha():
            said, missing = _letters(piece, alone=len(pieces) == 1, address=address)
            words.append(said)
            unsaid += missing
        elif c in _POWERS or c in _LOWERED:
            words.append(_raised(c, left, right))
        elif c == "." and not address:
            words.append(_stop(left, right))
        elif c in "-–" and not address:
            words.append("minus" if not left[-1:].isalnum() and right[:1].isdigit() else "")
        elif c == "/" and not address and not (left and right):
            words.append("slash")
        elif c == "*" and left[-1:].isdigit() and right[:1].isdigit():
            words.append("times")
        elif c == "'":
            words.append("")
        else:
            words.append(symbols.get(piece) or _other(piece))
    text = re.sub(r" ([,.;:!?…])", r"\1", " ".join(filter(None, words)))
    return Reading(text, unsaid=unsaid)


def _stop(left: str, right: str) -> str:
    if right[:1] == "." or left[-1:] == ".":
        return "…" if left[-1:] == "." and right[:1] != "." else ""
    if left[-1:].islower() and right[:1].isupper():
        return "."  # a space is missing between two sentences
    return "dot" if right[:1].isalnum() else ""


def _raised(c: str, left: str, right: str) -> str:
    """Digits above or below the line; a run of them is said at its first."""
    table = _POWERS if c in _POWERS else _LOWERED
    if left[-1:] in table:
        return ""
    run = c
    for following in right:
        if following not in table:
            break
        run += following
    value = "".join(table[each] for each in run)
    if table is _LOWERED:
        return cardinal(value)
    if value in ("2", "3"):
        return "squared" if value == "2" else "cubed"
    return "to the power of " + (("minus " if value[0] == "-" else "") + cardinal(value.lstrip("-") or "0"))


def _letters(word: str, alone: bool, address: bool) -> tuple[str, str]:
    """A run of letters as it is said, and those in it that English can't say."""
    if word.lower() in ("www", "http", "https", "ftp", "html", "ssh", "pdf", "mp", "gpt", "xml", "css", "php", "jpg"):
        return ".".join(word.upper()), ""
    if not alone and word in ("a", "A"):
        return LETTER_A, ""
    if not all(not c.isalpha() or unicodedata.name(c, "").startswith("LATIN") for c in word):
        if len(word) == 1 and (greek := _GREEK.match(unicodedata.name(word, ""))):
            return {"LAMDA": "lambda"}.get(greek[1], greek[1].lower()), ""
        said = "".join(c if unicodedata.name(c, "").startswith("LATIN") or c == "'" else " " for c in word)
        missing = "".join(c for c in word if c.isalpha() and not unicodedata.name(c, "").startswith("LATIN"))
        return " ".join(said.split()), missing
    return word, ""


def _other(sign: str) -> str:
    """A sign that no table has: a number of another kind by its value, anything else silent."""
    value = unicodedata.numeric(sign, None)
    return number(f"{value:g}") if value is not None and value >= 0 else ""
