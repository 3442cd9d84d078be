"""What a voice assistant reads of what was said: the words."""

from __future__ import annotations

import re

# Points between digits belong to the number: 3.5, 10:30, 1,000.
_MARKS = re.compile(r"[?!;\"“”…]|[.,:](?!\d)|(?<!\d)[.,:]")


def as_words(text: str) -> str:
    """A turn of the user, heard or typed, without capitals and punctuation.

    In speech both are guesses of whoever wrote it down. Without them the same words get the same answer, whether they
    were typed or heard. A text that has no words stays as it is.

    >>> as_words("What's the capital of Italy? It's 3.5, right?")
    "what's the capital of italy it's 3.5 right"
    """
    words = " ".join(_MARKS.sub(" ", text.replace("’", "'")).lower().split())
    return words or text
