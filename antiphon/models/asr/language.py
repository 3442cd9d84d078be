"""Languages: what they are called, and which is spoken."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from torch import Tensor

from antiphon.errors import ModelError

TAG = re.compile(r"([a-z]{2,8})([-_][a-z0-9]{1,8})*", re.IGNORECASE)  # BCP 47; some write "_"
DOUBT_SECONDS = 2.0  # the less speech there is, the likelier another language than the expected one has to be


def language_code(named: str, known: Collection[str]) -> str:
    """Whisper's code of a language: "ru" of "ru", "RU-ru", "rus" or "Russian".

    Args:
        named: a BCP 47 tag (some write "_"), a code of two or three letters, or the English name.
        known: the codes that there are.

    Raises:
        ModelError: none of these.
    """
    from babel.core import get_global

    if found := TAG.fullmatch(named):
        tag = found[1].lower()
        for one in (tag, get_global("parent_exceptions").get(tag)):  # "nb" is "no" in particular
            for code in known:
                if one is not None and _today(one) == _today(code):
                    return code
    for code in known:
        if language_name(code) == named.lower():
            return code
    raise ModelError(f"Unknown language {named[:40]!r}. There are: {', '.join(sorted(known)) or 'none but English'}.")


def spoken_language(likely: Tensor, codes: Sequence[str], expected: str, seconds: float) -> str:
    """The language that is spoken: the likeliest, or the expected one where there is too little to tell.

    Args:
        likely: how likely the decoder finds each language, [languages].
        codes: of these languages.
        expected: the one that is likely anyway: the conversation's so far.
        seconds: of speech; of one second, another language has to be three times as likely, of six a third more.
    """
    best = codes[int(likely.argmax())]
    if expected not in codes or best == expected:
        return best
    odds = float(likely.max() / likely[codes.index(expected)].clamp_min(1e-9))
    return best if odds > 1 + DOUBT_SECONDS / max(seconds, 0.1) else expected


def language_name(code: str) -> str:
    """The English name of a language, in lower case: "russian" of "ru"."""
    from babel import Locale

    return Locale("en").languages.get(_today(code), code).lower()


def _today(code: str) -> str:
    """The code that stands for a language today: "jv" of "jw", "ru" of "rus"."""
    from babel.core import get_global

    return get_global("language_aliases").get(code, code)
