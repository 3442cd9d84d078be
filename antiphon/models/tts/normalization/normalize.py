"""Written text to the words that are said for it, as it comes.

    normalizer = Normalizer()
    normalizer("It cost $5 trillion at 8:00 p.m.")    # "It cost five trillion dollars at eight P.M."

Plain words pass as they are. A word is given out as soon as no later text can change how it is read, so a text in
pieces gives the words of the whole. No digit is lost: what no rule knows is said piece by piece.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace

from antiphon.models.tts.normalization.abbreviations import (
    ALONE,
    BARE_TITLES,
    COUNTED,
    CROWNS,
    CURRENCY_CODES,
    DAYS,
    DIALLED,
    DOTTED,
    LETTERED,
    MAGNITUDES,
    MONTHS,
    NEVER_LAST,
    NUMBERED,
    RULERS,
    SENTENCE_STARTS,
    SPEAKER_VERBS,
    TITLES,
    UNDOTTED,
    UNITS,
    WORDS_TOO,
)
from antiphon.models.tts.normalization.markup import Chunk, scan
from antiphon.models.tts.normalization.numbers import cardinal, clock, digits, number, ordinal, roman
from antiphon.models.tts.normalization.symbols import LETTER_A, NUM, Reading, read

_PARTS = re.compile(r"([\"'“”‘’«(¿¡]*)(.*?)([.,;:!?…\"'“”’)»]*)", re.S)
_PLAIN = re.compile(r"[^\W\d_]*(?:[-'‘’–—.…,;:!?\"“”()«»¿¡/]+[^\W\d_]*)*")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]{1,3}|[A-Z][a-z]\.[A-Z]")
_RUN_ON = re.compile(r"[^\W\d_]\.[^\W\d_]")
_ENDS = re.compile(r"[.!?…][\"”’')»]*$")
_CLOSERS_DROPPED = re.compile(r"(?<=[.!?…])[\"”’)]+$")
_HALF = re.compile(r"([ap])\.?m", re.I)
_RULE = re.compile(r"[-=*_~─═]{3,}|[*_~]{2}|[|:-]*-[|:-]*\|[|:-]*")
_HEADING = re.compile(r"#{1,6}")
_NUMBERED = re.compile(r"\d{1,3}[.)]")
_BULLETS = set("-*+•‣◦▪●–")
_AFTER_TIMES = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
_AFTER_TIMES |= {"Eastern", "Pacific", "Central", "ET", "EST", "PT", "PST", "GMT", "UTC"}
CODE_TOLD = "The code is on the screen."
_WAITING = " \"'“‘([*_`"  # marks that may stand before the letter that shows whether a sentence begins


@dataclass(frozen=True)
class Word:
    """What is said for a piece of the text.

    Attributes:
        text: words in letters alone, with punctuation; "" where nothing is said.
        start, end: the piece, in letters of the whole text.
        last: a sentence ends here; such a word has no text.
        unsaid: letters of the piece that English can't say.
        written: the piece without markup if it is letters; "" for what tells of no language: numbers, signs, code.
    """

    text: str
    start: int
    end: int
    last: bool = False
    unsaid: str = ""
    written: str = ""


@dataclass
class NormalizerState:
    """A text that is being read.

    Attributes:
        text: what came and isn't read yet, from letter `offset` of the whole on.
        line_start: nothing was read of the line so far, or only a mark such as a bullet.
        first: the text begins a line.
        fence: what ends the block of code that the text begins in.
        listed: the line is a heading or an item of a list, which ends like a sentence.
        before: the last words, the newest last.
        open: the last word ends the sentence unless a small letter follows.
        begun: the sentence has words.
    """

    text: str = ""
    offset: int = 0
    line_start: bool = True
    first: bool = True
    fence: str = ""
    listed: bool = False
    before: tuple[str, ...] = ()
    open: bool = False
    begun: bool = False


class _Undecided(Exception):
    """How this is read depends on text that hasn't come."""


@dataclass
class _Look:
    """Complete chunks of a text, and the right to look at those that follow."""

    chunks: list[Chunk]
    last: bool
    at: int = 0
    words: list[Word] = field(default_factory=list)

    def next(self, ahead: int = 1) -> Chunk | None:
        """A chunk of the same line behind this one; None if there is none."""
        for index in range(self.at + 1, self.at + ahead + 1):
            if index >= len(self.chunks):
                if not self.last:
                    raise _Undecided
                return None
            if self.chunks[index].first:
                return None
        if not self.chunks[self.at + ahead].complete:
            raise _Undecided
        return self.chunks[self.at + ahead]

    def letter(self, ahead: int = 1) -> str:
        """What the next chunk of the line begins with, marks left out; "" if there is none, "\n" at a new line."""
        index = self.at + ahead
        if index >= len(self.chunks):
            if not self.last:
                raise _Undecided
            return ""
        chunk = self.chunks[index]
        if chunk.first:
            return "\n"
        bare = chunk.text.lstrip(_WAITING)
        if not bare and not chunk.complete:
            raise _Undecided
        return bare[:1] or chunk.text[:1]


class Normalizer:
    """Reads written text."""

    def __call__(self, text: str) -> str:
        """A whole text as it is said."""
        return " ".join(word.text for word in self.step(text, self.init_state(), last=True) if word.text)

    def init_state(self) -> NormalizerState:
        return NormalizerState()

    def step(self, text: str, state: NormalizerState, last: bool = False) -> list[Word]:
        """More text; `last` says that no more will come.

        Returns:
            The words that have become certain.
        """
        state.text += text
        found = scan(state.text, state.first, last, state.fence)
        look = _Look(found.chunks, last)
        done = 0
        try:
            while look.at < len(look.chunks):
                chunk = look.chunks[look.at]
                self._close_sentence(look, state)
                if not chunk.complete:
                    break
                look.at += self._read(look, state)
                state.fence = look.chunks[look.at - 1].fence
                done, state.first = look.chunks[look.at - 1].end, bool(state.fence)
        except _Undecided:
            pass
        if look.at == len(look.chunks) or not look.chunks[look.at].complete:
            done, state.first, state.fence = found.rest, found.first, found.fence
        words = [replace(w, start=w.start + state.offset, end=w.end + state.offset) for w in look.words]
        state.text, state.offset = state.text[done:], state.offset + done
        if last and state.begun:
            state.begun = False
            words.append(Word("", state.offset, state.offset, last=True))
        return words

    def _close_sentence(self, look: _Look, state: NormalizerState) -> None:
        """Ends the sentence if the next chunk begins another."""
        chunk = look.chunks[look.at]
        if chunk.first:
            state.line_start, state.listed, state.before = True, False, ()
        if (state.open and not chunk.first and not look.letter(0).islower()) or (chunk.first and state.begun):
            look.words.append(Word("", chunk.start, chunk.start, last=True))
            state.begun = state.open = False

    def _read(self, look: _Look, state: NormalizerState) -> int:
        """Reads a chunk, and those behind it that belong to it; gives their number."""
        chunk = look.chunks[look.at]
        if chunk.fence:
            look.words.append(Word(CODE_TOLD, chunk.start, chunk.end))
            state.line_start, state.begun, state.open = False, True, True
            return 1
        text = _tidy(chunk.text)
        if self._is_mark(text, look, state):
            return 1
        before, core, after = _PARTS.fullmatch(text.lstrip(">") if state.line_start else text).groups()
        if before[-1:] in ("'", "‘") and core[:1].isdigit():
            before = before[:-1]  # "'90s"
        if after.startswith('"') and '"' not in before and re.fullmatch(r"\d+'\d+", core):
            after = after[1:]  # inches
        reading = self._reading(before, core, after, look, state)
        used = reading.used
        end = look.chunks[look.at + used - 1].end
        if used > 1 or not core:
            before, after = before.replace("(", "") if core else "", reading.after
        ends = not reading.goes_on and _ENDS.search(after or reading.text) is not None
        if ends and _CLOSERS_DROPPED.search(after) and _begins(look.letter(used)):
            after = _CLOSERS_DROPPED.sub("", after)  # as hibari splits sentences, and so as the voice was trained
        if reading.goes_on and after.startswith("."):
            after = after[1:]
        if state.listed and reading.text[-1:].isalnum() and not after and look.letter(used) in ("", "\n"):
            after = "."  # the end of a heading or an item is heard
        spoken = f"{before}{reading.text}{after}" if reading.text else ""
        lettered = used == 1 and (reading.text == core or bool(reading.unsaid)) and any(map(str.isalpha, core))
        written = chunk.text.encode(errors="replace").decode() if lettered else ""
        look.words.append(Word(spoken, chunk.start, end, unsaid=reading.unsaid, written=written))
        state.line_start = False
        state.begun = state.begun or bool(spoken)
        state.open = ends and state.begun
        own = core if used == 1 and not reading.goes_on else (reading.text.split() or [""])[-1]
        if core.isdigit() and state.before and re.fullmatch(r"\+\d+", state.before[-1]):
            own = f"+{own}"  # a telephone number goes on
        state.before = (*state.before, own + after)[-3:]
        return used

    def _is_mark(self, text: str, look: _Look, state: NormalizerState) -> bool:
        """Marks of lists, headings, quotations and tables aren't read."""
        if _RULE.fullmatch(text):
            return True
        if text == "|":
            state.listed = True  # a row of a table
            if not state.line_start:
                mark = "." if look.letter() in ("", "\n") else ","
                look.words.append(Word(mark, look.chunks[look.at].start, look.chunks[look.at].end))
            return True
        if not state.line_start:
            return False
        if not text.strip(">"):
            return True
        if (text in _BULLETS or _HEADING.fullmatch(text)) and look.letter() not in ("", "\n"):
            state.listed = True
            return True
        state.listed = state.listed or _NUMBERED.fullmatch(text) is not None
        return False

    def _reading(self, before: str, core: str, after: str, look: _Look, state: NormalizerState) -> Reading:
        if not core:
            return Reading(before + after)
        if after.startswith(".") and (reading := self._dotted(core, after, look, state)):
            return reading
        if text := UNDOTTED.get(core):
            return Reading(text)
        if core in BARE_TITLES or core == "St":
            if not after and look.letter().isupper():
                return Reading({**TITLES, "St": "Saint"}[core])
            return Reading(core)
        if (reading := self._roman(core, after, look, state)) is not None:
            return reading
        if core == "A" and not after.startswith("'") and state.before and state.before[-1] in LETTERED:
            return Reading(LETTER_A)
        if core in ("x", "X", "-", "–", "−", "*", "/", "#") and (reading := self._operator(core, look, state)):
            return reading
        if (reading := self._calendar(core, after, look, state)) is not None:
            return reading
        if core in ALONE:
            return Reading(
                UNITS[core][bool(state.before) and state.before[-1] not in ("per", "a", "an", "one", "each")]
            )
        if self._is_plain(core) and (_INITIALS.fullmatch(core) or not _RUN_ON.search(core)):
            if len(core) == 1 and core.isupper() and after.startswith("."):
                return Reading(core + ".", goes_on=True)  # of a name, as in "J. K. Rowling"
            return Reading(core)
        if state.before and state.before[-1].startswith("+") and re.fullmatch(r"\(?\d+\)?(?:-\d+)*", core):
            return Reading(", ".join(digits(group, "oh") for group in core.split("-")))
        if not after or after == ")":
            if reading := self._with_next(before, core, after, look, state):
                return reading
        return self._alone(core, state)

    def _is_plain(self, core: str) -> bool:
        """Letters that English has, and marks within and between words."""
        if core[0] == "/" or core in CURRENCY_CODES or not _PLAIN.fullmatch(core):
            return False
        return all(unicodedata.name(c, "").startswith("LATIN") if c.isalpha() else not c.isnumeric() for c in core)

    def _dotted(self, core: str, after: str, look: _Look, state: NormalizerState) -> Reading | None:
        """An abbreviation with its full stop."""
        stop, inside = after == ".", after[1:2] in (",", ";", ":") and len(after) > 1
        if (stop and core in NUMBERED) or (stop and MONTHS.get(core, core) != core):
            following = look.letter()
            counted = following.isdigit() or (following in tuple("IVX") and self._counts(core, look))
            if counted:
                return Reading(NUMBERED.get(core) or MONTHS[core], goes_on=True)
        if core == "St":
            following = look.letter() if stop else ""
            street = bool(state.before) and _is_name(state.before[-1]) and len(state.before) > 1
            if following.isupper() and not street:
                return Reading("Saint", goes_on=True)
            return Reading("Street", goes_on=inside or (stop and not _ends(following)))
        if stop and core in TITLES and look.letter().isupper() and not (core == "Sr" and _named(state)):
            return Reading(TITLES[core], goes_on=True)
        if core in DOTTED:
            if core == "v" and not (state.before and _is_name(state.before[-1])):
                return None
            goes_on = inside or (stop and (core in NEVER_LAST or not _ends(look.letter())))
            return Reading(DOTTED[core], goes_on=goes_on)
        if core == "ed" and state.before and state.before[-1][:1].isdigit():
            return Reading("edition", goes_on=not _ends(look.letter()))
        return None

    def _counts(self, core: str, look: _Look) -> bool:
        """A Roman numeral follows: "vol. II", but not "I said no. I did."."""
        following = look.next()
        numeral = following.text.rstrip(".,;:!?)") if following else ""
        return roman(numeral) is not None and (len(numeral) > 1 or core.lower() in ("vol", "ch", "fig", "sec", "op"))

    def _roman(self, core: str, after: str, look: _Look, state: NormalizerState) -> Reading | None:
        """A Roman numeral where it is one, None where the letters are a word."""
        bare = core.removesuffix("'s")
        previous = state.before[-1] if state.before else ""
        value = roman(bare.upper() if len(bare) > 1 and set(bare) <= set("ivx") and previous in COUNTED else bare)
        if value is None:
            return None
        owner, bare = "'s" if bare != core else "", bare.upper()
        if len(bare) >= 5 and bare[0] == "M":
            return Reading(number(str(value), as_year=True) + owner)
        if set(bare) & set("CDM") or (len(bare) == 1 and bare == "L"):
            return None
        if previous in COUNTED or (previous.capitalize() in COUNTED and len(bare) > 1):
            if bare == "I" and not after and len(state.before) == 1 and self._speaks(look):
                return None
            return Reading(cardinal(str(value)) + owner)
        crowned = len(state.before) > 1 and state.before[-2] in CROWNS
        if (previous in RULERS or (crowned and previous.istitle())) and previous not in CROWNS:
            if len(bare) == 1 and not crowned and after.startswith(".") and look.letter().isupper():
                following = look.next()
                if following is None or following.text.rstrip(",") not in SENTENCE_STARTS:
                    return None  # the initial of a name
            if bare == "I" and not after and self._speaks(look):
                return None
            return Reading(f"the {ordinal(str(value))}{owner}")
        if len(bare) > 1 and set(bare) <= set("IVX") and value < 40:
            if _named(state) and state.before[-2] in RULERS:
                return Reading(f"the {ordinal(str(value))}{owner}")  # Robert Smith III
            if (_is_name(previous) and not previous.isupper()) or (not state.before and after.startswith(".")):
                return Reading(cardinal(str(value)) + owner)
            following = None if after else look.next()
            if following is not None and following.text.lower().startswith("centur"):
                return Reading(ordinal(str(value)))
        return None

    def _calendar(self, core: str, after: str, look: _Look, state: NormalizerState) -> Reading | None:
        """ "Fri", "Mon-Fri", "Sat, Oct 12": a day or a month cut short, without a full stop."""
        names, parts = {**MONTHS, **DAYS}, re.split("[-–]", core)
        if not all(part in names and names[part] != part for part in parts) or len(parts) > 2:
            return None
        if len(parts) == 1 and core in WORDS_TOO:
            if after not in ("", ",") or (state.before and state.before[-1].lower() == "the"):
                return None
            following = None if look.letter().isdigit() else look.next()
            if following is not None and following.text.strip(".,") not in MONTHS:
                return None
            if following is None and not look.letter().isdigit():
                return None
        return Reading(" to ".join(names[part] for part in parts))

    def _speaks(self, look: _Look) -> bool:
        following = look.next()
        return following is not None and following.text.lower().rstrip(".,;:!?") in SPEAKER_VERBS

    def _operator(self, core: str, look: _Look, state: NormalizerState) -> Reading | None:
        """A sign by itself between two numbers, or two letters of a formula."""
        previous = state.before[-1] if state.before else ""
        if core == "#":
            return Reading("number" if look.letter().isdigit() else "hash")
        if not previous or not (previous[-1].isdigit() or len(previous) == 1 or previous[-1] in ")%°"):
            return Reading("star") if core == "*" else Reading("slash") if core == "/" else None
        following = look.next()
        operand = following.text.lstrip("(-−$€£") if following else ""
        if not (operand[:1].isdigit() or (previous[-1].isdigit() is False and len(operand.rstrip(".,?!")) == 1)):
            return Reading("star") if core == "*" else Reading("slash") if core == "/" else None
        if core in "xX*":
            return Reading("times") if core == "*" or operand[:1].isdigit() else None
        if core == "/":
            return Reading("divided by")
        then = look.next(2) if core in "-–" and operand[:1].isdigit() else None
        if then is not None and then.text in ("=", "≈", "<", ">"):
            return Reading("minus")
        low, high = (re.sub(r"[^\d.]", "", part).strip(".") for part in (previous, operand))
        rising = low.count(".") < 2 and high.count(".") < 2 and low and high and float(low) < float(high)
        return Reading("to" if rising and core != "−" else "minus")

    def _with_next(self, before: str, core: str, after: str, look: _Look, state: NormalizerState) -> Reading | None:
        """A number that is read together with the chunk behind it."""
        if re.fullmatch(r"\d{3}", core) and (before == "(") == (after == ")"):
            if reading := self._phone(core, look):
                return reading
        if after:
            return None
        whole = re.fullmatch(r"\d{1,2}", core)
        time = re.fullmatch(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?", core)
        money = re.fullmatch(rf"[-−+~]?[A-Z]{{0,3}}[$£€¥₹₩₽₺₿₪฿]{NUM}(?:[-–][$£€¥₹]?{NUM})?", core)
        plain = re.fullmatch(rf"[-−+~<>≤≥]?{NUM}(?:[-–]{NUM})?|\d+/\d+", core)
        code = re.fullmatch(r"USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY", core)
        if not (whole or time or money or plain or code):
            return None
        following = look.next()
        if following is None:
            return None
        lead, word, tail = _PARTS.fullmatch(_tidy(following.text)).groups()
        if lead or not word:
            return None
        if code:
            found = read(core + word) if re.fullmatch(NUM, word) else None
            return replace(found, used=2, after=tail) if found else None
        if (whole or time) and (half := _HALF.fullmatch(word)) and int(core.partition(":")[0]) <= 24:
            said = half[1].upper() + ".M"
            dotted = tail.startswith(".") and "." in word
            goes_on = dotted and not _ends_behind(tail, look)
            hour, minute, second = time.groups() if time else (core, "00", None)
            return Reading(clock(hour, minute, second, said), used=2, after=tail[1:] if goes_on else tail)
        if time and word.lower() in ("o'clock", "oclock"):
            return Reading(clock(time[1], time[2], time[3], "o'clock"), used=2, after=tail)
        if money and word in MAGNITUDES and len(word) > 2:
            found = read(core + word)
            return replace(found, used=2, after=tail) if found else None
        if whole and word in MONTHS and 1 <= int(core) <= 31 and not money:
            article = "" if state.before and state.before[-1].lower() == "the" else "the "
            tail = tail[1:] if word != MONTHS[word] and tail.startswith(".") and not _ends_behind(tail, look) else tail
            return Reading(f"{article}{ordinal(core)} of {MONTHS[word]}", used=2, after=tail)
        if plain and ((word in UNITS and word != "x") or word in ("USD", "EUR", "GBP", "€", "£", "CHF", "CAD", "AUD")):
            if core.startswith(("<", ">", "≤", "≥")) and not re.search(r"\d", core):
                return None
            found = read(core + word, joined=False)
            if tail.startswith(".") and not _ends_behind(tail, look):
                tail = tail[1:]
            return replace(found, used=2, after=tail) if found else None
        if plain and word in ("in", "sq") and (word == "sq" or tail.startswith(".")):
            return self._square(core, word, look)
        return None

    def _square(self, core: str, word: str, look: _Look) -> Reading | None:
        """ "5 sq ft", "5 in."."""
        if word == "in":
            following = look.next()
            tail = following.text[2:] if following else ""
            if tail == "." and not _ends_behind(tail, look):
                tail = ""
            return Reading(f"{read(core).text} " + ("inch" if core == "1" else "inches"), used=2, after=tail)
        unit = look.next(2)
        if unit is None:
            return None
        _, name, tail = _PARTS.fullmatch(unit.text).groups()
        if name not in UNITS:
            return None
        one, many = UNITS[name]
        return Reading(f"{read(core).text} square {one if core == '1' else many}", used=3, after=tail)

    def _phone(self, core: str, look: _Look) -> Reading | None:
        """ "(555) 123-4567", "555 123 4567"."""
        following = look.next()
        if following is None:
            return None
        lead, word, tail = _PARTS.fullmatch(following.text).groups()
        if lead:
            return None
        if re.fullmatch(r"\d{3}[-–.]\d{4}", word):
            parts, used = [core, word[:3], word[4:]], 2
        elif re.fullmatch(r"\d{3}", word) and not tail and (then := look.next(2)):
            _, end, tail = _PARTS.fullmatch(then.text).groups()
            if not re.fullmatch(r"\d{4}", end):
                return None
            parts, used = [core, word, end], 3
        else:
            return None
        return Reading(", ".join(digits(part, "oh") for part in parts), used=used, after=tail)

    def _alone(self, core: str, state: NormalizerState) -> Reading:
        """A chunk by itself, after what came before."""
        previous = state.before[-1] if state.before else ""
        if previous in MONTHS and (span := re.fullmatch(r"(\d{1,2})(?:[-–](\d{1,2}))?", core)):
            days = [int(day) for day in span.groups() if day]
            if all(1 <= day <= 31 for day in days):
                return Reading(" to ".join(ordinal(str(day)) for day in days))
        if previous.isdigit() and (part := re.fullmatch(r"(\d{1,2})/(\d{1,3})", core)) and int(part[1]) < int(part[2]):
            said = read(core).text
            return Reading("and " + ("a" + said[3:] if said.startswith("one ") else said))
        if previous in ("=", "+", "-", "−") and re.fullmatch(r"\d+x", core):
            return Reading(f"{cardinal(core[:-1])} x")  # of a formula
        if previous.lower() in DIALLED and re.fullmatch(r"\d{3,}", core):
            return Reading(digits(core, "oh"))
        if previous.lower() in ("on", "by", "since", "until", "till", "before", "after", "from", "dated"):
            found = read(core, dated=True)
        else:
            found = read(core)
        return found


def can_be_said(text: str) -> bool:
    """Whether anything in a text can be said in English."""
    return any(c.isalpha() for c in Normalizer()(text))


def _tidy(text: str) -> str:
    """One form for each letter and mark that has several."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(str(unicodedata.digit(c)) if c.isdecimal() and not c.isascii() else c for c in text)
    text = text.replace("’", "'").replace("‒", "-").replace("―", "—").replace("μ", "µ").replace("\u2011", "-")
    for signs, sign in ((">=", "≥"), ("<=", "≤"), ("!=", "≠"), ("=>", "→"), ("->", "→")):
        text = text.replace(signs, sign)
    return text


def _is_name(word: str) -> bool:
    return word[:1].isupper() and word.replace("'", "").replace("-", "").isalpha() and len(word) > 1


def _named(state: NormalizerState) -> bool:
    """Two capitalized words came before."""
    return len(state.before) > 1 and _is_name(state.before[-1]) and _is_name(state.before[-2])


def _begins(letter: str) -> bool:
    """A sentence may begin with this letter, or the text or line ends."""
    return not letter.islower()


def _ends(letter: str) -> bool:
    """The full stop of an abbreviation before this letter ends the sentence too."""
    return _begins(letter) and not letter.isdigit()


def _ends_behind(tail: str, look: _Look) -> bool:
    """Whether the full stop after the next chunk, which is an abbreviation, ends the sentence too."""
    if tail != ".":
        return tail[1:2] in (".", "!", "?")
    following = look.next(2) if look.letter(2).isupper() else None
    if following is not None and following.text.strip(".,;:!?") in _AFTER_TIMES | set(MONTHS):
        return False
    return _ends(look.letter(2))
