"""Measures of what a model says about a sound: tempo, options, classes, translations. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from antiphon.evals.metrics.text import whisper_normalizer

TOLERANCE = 0.04  # of a tempo
OCTAVES = (1.0, 2.0, 3.0, 0.5, 1 / 3)  # by which a tempo may be mistaken in Accuracy 2


def tempo_accuracies(told: float | None, tempo: float) -> tuple[bool, bool]:
    """Accuracy 1: within 4 % of the tempo; Accuracy 2: or of two or three times it, or a half or a third (Gouyon et al.
    2006).

    Args:
        told: beats a minute; None where none was told.
        tempo: the right one.
    """
    return (False, False) if told is None else (is_near(told, tempo), is_near(told, tempo, OCTAVES))


def is_near(told: float, tempo: float, factors: Sequence[float] = (1.0,)) -> bool:
    """Whether a tempo is within 4 % of the right one, times any of the factors."""
    return any(abs(told - tempo * factor) <= TOLERANCE * tempo * factor for factor in factors)


def says_option(reply: str, answer: str, options: Sequence[str]) -> bool:
    """Whether a reply has all words of the right option and none that only the others have, as MMAU's own script judges
    it (Sakshi et al. 2024)."""
    said, right = _words(reply), _words(answer)
    wrong = {word for option in options if _words(option) != right for word in _words(option) - right}
    return bool(said) and right <= said and not said & wrong


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


def translation_bleu(said: Sequence[str], right: Sequence[str]) -> float:
    """BLEU of translations as papers report it: sacrebleu's own settings (Post 2018)."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(said), [list(right)]).score)


def weighted_f1(said: Sequence[str], right: Sequence[str]) -> float:
    """F1 of each class, weighted by how many it has, in percent; what is no class counts as wrong."""
    from sklearn.metrics import f1_score

    labels = sorted(set(right))
    return 100 * float(f1_score(right, list(said), labels=labels, average="weighted", zero_division=0))


def word_edits(said: str, heard: str) -> tuple[int, int]:
    """Words to be changed, put in or taken out, and words that were said, after Whisper's English normalizer, as papers
    report word error rates of English (Radford et al. 2022)."""
    import jiwer

    reference, hypothesis = (whisper_normalizer()(text) for text in (said, heard))
    if not reference.split():
        return len(hypothesis.split()), 0
    out = jiwer.process_words(reference, hypothesis)
    return out.substitutions + out.deletions + out.insertions, out.hits + out.substitutions + out.deletions
