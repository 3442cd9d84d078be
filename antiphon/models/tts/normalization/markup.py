"""Written text as a stream of chunks between spaces, free of markup: Markdown, HTML, SSML.

A block of code becomes one chunk, with its `fence`, as soon as it begins: nobody wants to hear code spelled.
What a mark means depends on what follows it, so of a text that still comes a chunk is given out only when nothing that
may follow can change it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

LONGEST = 256  # a chunk without any space is cut after as many letters
TAG_LIMIT = 500  # a tag or a link is no longer than this

_TAG = re.compile(
    r"</?([A-Za-z][\w:.-]*)((?:\s+[\w:.-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+))*|\s+[a-z]+)\s*/?>|<[!?][^<>]*>"
)
_TAG_BEGUN = re.compile(rf"<(?:[/!?A-Za-z][^<>]{{0,{TAG_LIMIT}}})?")
_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^\s<>]+|[\w.+-]+@[\w.-]+\w)>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ENTITY_BEGUN = re.compile(r"&(?:#(?:\d{0,7}|[xX][0-9a-fA-F]{0,6})|[A-Za-z][A-Za-z0-9]{0,31})?")
_LINK_TAIL = re.compile(r"\]\(<?[^()\s<>]*(?:\([^()\s<>]*\)[^()\s<>]*)?>?(?:\s+\"[^\"()\n]*\")?\)")
_FENCE = re.compile(rf"(```+|~~~+)([^\n`~]{{0,{TAG_LIMIT}}})(?:\n|\Z)")  # the line on which a block of code begins
_FENCE_BEGUN = re.compile(rf"(?:`+|~+)[^\n`~]{{0,{TAG_LIMIT}}}")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # nothing in it can be markup

# Within a word these tags change how it looks, not where it ends; all others stand between words.
_INLINE = {"b", "i", "em", "strong", "u", "span", "sub", "sup", "a", "code", "mark", "small", "big", "font", "del"}
_NEW_LINE = {"p", "br", "div", "li", "ul", "ol", "tr", "table", "blockquote", "pre", "hr", "section", "article"}
_NEW_LINE |= {f"h{n}" for n in range(1, 7)}


@dataclass(frozen=True)
class Chunk:
    """What stands between two spaces.

    Attributes:
        text: of it, without markup.
        start, end: where it stands in the source, markup included.
        first: it begins a line.
        complete: no text that may follow belongs to it.
        fence: it stands for a block of code, which begins behind it and ends with this mark.
    """

    text: str
    start: int
    end: int
    first: bool = False
    complete: bool = True
    fence: str = ""


class _Undecided(Exception):
    """What stands here depends on text that hasn't come."""


class _Scanner:
    """One pass over a text; see `scan`."""

    def __init__(self, text: str, first: bool, last: bool, fence: str):
        self.text, self.last, self.first, self.at, self.fence = text, last, first, 0, fence
        self.letters: list[str] = []
        self.start = 0
        self.ready: list[Chunk] = []

    def close(self, complete: bool = True) -> None:
        """The chunk ends before here."""
        if self.letters:
            chunk = Chunk("".join(self.letters), self.start, self.at, self.first, complete)
            self.ready.append(chunk)
            self.letters, self.first = [], False

    def take(self, letters: str, length: int) -> None:
        if len(self.letters) >= LONGEST:
            self.close()
        if not self.letters:
            self.start = self.at
        self.letters += letters
        self.at += length

    def char(self, index: int) -> str:
        """A letter of the source, "" beyond its end."""
        if index < len(self.text):
            return self.text[index]
        if not self.last:
            raise _Undecided
        return ""

    def step(self) -> None:
        """The next piece of the source."""
        c = self.text[self.at]
        if self.fence:
            self.code()
        elif c.isspace():
            self.close()
            self.first = self.first or c in "\n\r\x0b\x0c\x85\u2028\u2029"
            self.at += 1
        elif c.isalnum():
            word = _WORD.match(self.text, self.at, self.at + LONGEST - len(self.letters) or None)
            self.take(word[0] if word else c, len(word[0]) if word else 1)
        elif c == "<":
            self.tag()
        elif c == "&":
            self.entity()
        elif c in "[]{}":
            self.bracket(c)
        elif c in "*_`~\\":
            self.mark(c)
        elif c == "!" and self.char(self.at + 1) == "[" and not self.letters:
            self.at += 1  # an image, whose description follows
        else:
            self.take(c, 1)

    def undecided(self, begun: re.Pattern) -> bool:
        """What begins here may go on in text that hasn't come."""
        return not self.last and begun.fullmatch(self.text, self.at) is not None

    def tag(self) -> None:
        if link := _AUTOLINK.match(self.text, self.at):
            self.take(link[1], len(link[0]))
        elif (tag := _TAG.match(self.text, self.at, self.at + TAG_LIMIT)) and not self.compares(tag):
            name = (tag[1] or "").lower()
            if name not in _INLINE:
                self.close()
            self.at = tag.end()
            self.first = self.first or name in _NEW_LINE
        elif self.undecided(_TAG_BEGUN):
            raise _Undecided
        else:
            self.take("<", 1)

    def compares(self, tag: re.Match) -> bool:
        """In "a<b and>c" and "1<x>0" the signs are no tag: a bare attribute, or a number before."""
        if not self.letters or (tag[1] or "").lower() in _INLINE | _NEW_LINE:
            return False
        return self.letters[-1].isdigit() or (bool(tag[2]) and "=" not in tag[2])

    def entity(self) -> None:
        if entity := _ENTITY.match(self.text, self.at):
            meant = html.unescape(entity[0])
            if meant.isspace():
                self.close()
                self.at = entity.end()
            elif meant != entity[0]:
                self.take(meant, len(entity[0]))
            else:
                self.take("&", 1)
        elif self.undecided(_ENTITY_BEGUN):
            raise _Undecided
        else:
            self.take("&", 1)

    def bracket(self, c: str) -> None:
        if c == "[" and not self.letters and self.char(self.at + 1) in ("x", "X", " "):
            behind = self.char(self.at + 3) if self.char(self.at + 2) == "]" else "-"
            if not behind.strip():
                self.at += 3  # the box before a task
                return
        if c == "]":
            if self.char(self.at + 1) == "(":
                if link := _LINK_TAIL.match(self.text, self.at, self.at + TAG_LIMIT):
                    self.at = link.end()
                    return
                self.link_may_end()
        self.close()
        self.at += 1

    def link_may_end(self) -> None:
        """Waits for the bracket that closes the one after "]", if it may still come."""
        depth = 0
        for c in self.text[self.at + 1 : self.at + TAG_LIMIT]:
            depth += (c == "(") - (c == ")")
            if not depth or c == "\n":
                return
        if not self.last and len(self.text) < self.at + TAG_LIMIT:
            raise _Undecided

    def begin_code(self, block: re.Match) -> None:
        """The first line of a block of code; marks at the very end of the text begin none."""
        start, self.at = self.at, block.end()
        if self.at < len(self.text) or block[0][-1] == "\n" or block[2].strip():
            self.fence = block[1]
            self.ready.append(Chunk("", start, self.at, first=True, fence=self.fence))

    def code(self) -> None:
        """A line of a block of code, or what of it isn't passed over yet; `first` says that it is a whole line."""
        end = self.text.find("\n", self.at)
        line = self.text[self.at : end if end >= 0 else len(self.text)]
        marks = line.strip()
        if self.first and len(line) < TAG_LIMIT and not marks.strip(self.fence[0]):
            if end < 0 and not self.last:
                raise _Undecided
            if len(marks) >= len(self.fence):
                self.fence = ""
        self.at = end + 1 if end >= 0 else len(self.text)
        self.first = end >= 0 or (self.last and not self.fence)

    def mark(self, c: str) -> None:
        if c in "`~" and self.first and not self.letters:
            if (block := _FENCE.match(self.text, self.at)) and (self.last or block[0][-1:] == "\n"):
                self.begin_code(block)
                return
            if self.undecided(_FENCE_BEGUN):
                raise _Undecided
        end = self.at
        while end - self.at < LONGEST and self.char(end) == c:
            end += 1
        before, after = self.letters[-1] if self.letters else " ", self.char(end) or " "
        run = end - self.at
        if c == "\\":
            if run == 1 and after != " " and not after.isalnum():
                self.take(after, run + 1)
            else:
                self.take(c * run, run)
        elif c == "`" or (c == "~" and run > 1):
            self.at = end
        elif before == " " and after.isspace():
            self.take(c * run, run)  # by itself: a bullet, a rule, "times"
        elif c == "~" or (before.isalnum() and (after.isdigit() if c == "*" else c == "_" and after.isalnum())):
            self.take(c * run, run)
        else:
            self.at = end


@dataclass(frozen=True)
class Scan:
    """The chunks of a text.

    Attributes:
        chunks: of it; the last may be incomplete.
        rest, first, fence: where the chunks after the complete ones begin, whether at the start of a line, and what
            ends the block of code that is there.
    """

    chunks: list[Chunk]
    rest: int
    first: bool
    fence: str


def scan(text: str, first: bool = True, last: bool = True, fence: str = "") -> Scan:
    """Splits a text into chunks.

    Args:
        text: from a place between two chunks on.
        first: it begins a line.
        last: no more text will come.
        fence: ends the block of code that it begins in; "" if it begins in none.
    """
    scanner = _Scanner(text, first, last, fence)
    try:
        while scanner.at < len(text):
            scanner.step()
    except _Undecided:
        pass
    rest, first = scanner.start if scanner.letters else scanner.at, scanner.first
    scanner.close(complete=last)
    return Scan(scanner.ready, len(text) if last else rest, first, scanner.fence)
