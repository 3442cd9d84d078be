"""Languages that the ears know, and what clients call them."""

from __future__ import annotations

import re

LANGUAGES = {"en": ("en", "eng", "english")}  # how each is called, without what follows of region or script
TAG = re.compile(r"([A-Za-z]{2,8})([-_][A-Za-z0-9]{1,8})*")  # BCP 47; some write "_"


def language_problem(tag: str) -> str | None:
    """What is wrong with a language that a client names; None if the ears know it.

    >>> [language_problem(tag) for tag in ("en", "en-US", "EN_gb", "English")]
    [None, None, None, None]
    >>> language_problem("de-AT")
    "Unsupported language: 'de-AT'. Supported languages are: 'en'."
    """
    found = TAG.fullmatch(tag)
    if found is not None and any(found[1].lower() in names for names in LANGUAGES.values()):
        return None
    return f"Unsupported language: {tag[:40]!r}. Supported languages are: {', '.join(map(repr, LANGUAGES))}."
