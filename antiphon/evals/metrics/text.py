"""Metrics of text: word error rate, token F1, words, loops. Pure functions."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence

# "Jeff's name" is no "Jeff is name", as Whisper's normalizer would have it, and half of all texts write "Jeffs name".
_POSSESSIVE = re.compile(
    r"\b(?!(?:it|he|she|that|what|who|where|there|here|let|how|when|why)'s\b)(\w+)'s\b", re.IGNORECASE
)
_VERSUS = re.compile(r"\bvs\b\.?", re.IGNORECASE)  # one word, two ways to write it


@functools.cache
def whisper_normalizer():
    """Whisper's English normalizer, as it is."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def normalize(text: str) -> str:
    """What counts as the same text: Whisper's English normalizer, with possessives without apostrophe and "vs" in full.

    The normalizer forgives case, punctuation, spelling and the writing of numbers (Radford et al. 2022, appendix C).
    "It's twenty-one degrees." and "it is 21 degrees" are equal after it, and so are "Jeff's" and "jeffs".
    """
    text = _POSSESSIVE.sub(r"\1s", _VERSUS.sub("versus", text.replace("\u2019", "'")))
    # It leaves lone marks standing ("..." gives ". ."); they are no words.
    return " ".join(word for word in whisper_normalizer()(text).split() if any(c.isalnum() for c in word))


@functools.cache
def _any_language():
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(remove_diacritics=True)


def normalize_any(text: str) -> str:
    """What counts as the same text in languages other than English: Whisper's basic normalizer, without diacritics."""
    return " ".join(_any_language()(text).split())


def word_error_rate(said: Sequence[str], heard: Sequence[str], normalized: Callable[[str], str] = normalize) -> float:
    """Word error rate over a whole set: edits of all pairs over the words of all references.

    Args:
        said: what was really said.
        heard: what was understood, in the same order.
        normalized: what counts as the same text: `normalize`, or `normalize_any` for other languages.

    Returns:
        0 for perfect; can pass 1 where words were made up.

    Raises:
        ValueError: sets of different lengths, or not one word among the references.
    """
    import jiwer

    if len(said) != len(heard):
        raise ValueError(f"{len(said)} references but {len(heard)} hypotheses.")
    pairs = [(normalized(a), normalized(b)) for a, b in zip(said, heard, strict=True)]
    # jiwer refuses an empty reference, yet words heard in silence are errors too: count them by hand.
    invented = sum(len(b.split()) for a, b in pairs if not a)
    pairs = [(a, b) for a, b in pairs if a]
    if not pairs:
        raise ValueError("No words in the references: a word error rate needs at least one.")
    out = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    errors = out.substitutions + out.deletions + out.insertions + invented
    return errors / (out.hits + out.substitutions + out.deletions)


def token_f1(reference: str, answer: str) -> float:
    """Overlap of two texts as bags of normalized words, as SQuAD scores answers (Rajpurkar et al. 2016).

    Returns:
        2PR / (P + R); 1 if both are empty, 0 if only one is.
    """
    a, b = Counter(normalize(reference).split()), Counter(normalize(answer).split())
    if not a or not b:
        return float(a == b)
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total())


def count_words(text: str) -> int:
    """Words as a reader counts them: runs of characters between spaces that hold a letter or a digit."""
    return sum(any(c.isalnum() for c in word) for word in text.split())


def loops(text: str, size: int = 3, times: int = 3) -> bool:
    """True if a reply repeats itself: some run of `size` words (normalized) occurs `times` times or more, overlaps
    included, or one word comes `size + times - 1` times in a row (which is the same thing for a run of one word).

    "Rome, the capital of Rome, the capital of Rome, the capital of Rome" loops ("the capital of" three times); an
    answer that names a thing twice does not.
    """
    words = [w for w in ("".join(c for c in w.lower() if c.isalnum()) for w in text.split()) if w]
    runs = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    return bool(runs) and max(runs.values()) >= times
