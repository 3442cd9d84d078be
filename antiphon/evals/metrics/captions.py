"""Measures of captions against one reference each: BLEU, ROUGE-L, METEOR, CIDEr-D. Pure functions, in percent.

SPICE and FENSE aren't among them: they are a parser's and a network's, in archives of their own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

NGrams = Counter[tuple[str, ...]]
LONGEST = 4  # words of an n-gram that CIDEr-D looks at
SIGMA = 6.0  # words by which a caption may be too long or too short before CIDEr-D holds it against it


def bleu(said: Sequence[str], captions: Sequence[str], order: int) -> float:
    """BLEU of single words up to `order` words in a row, of a whole set, in percent (Papineni et al. 2002), by
    sacrebleu; capitals and punctuation don't count, as in captions."""
    from sacrebleu.metrics.bleu import BLEU

    plain = [[" ".join(_words(text)) for text in texts] for texts in (said, captions)]
    score = BLEU(max_ngram_order=order, smooth_method="none", tokenize="none").corpus_score(plain[0], [plain[1]])
    return float(score.score)


def rouge_l(said: Sequence[str], captions: Sequence[str]) -> float:
    """ROUGE-L, the mean of F1, in percent (Lin 2004), by Google's rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = list(zip(said, captions, strict=True))
    return 100 * sum(scorer.score(caption, text)["rougeL"].fmeasure for text, caption in pairs) / len(pairs)


def meteor(said: Sequence[str], captions: Sequence[str]) -> float:
    """METEOR, the mean (Banerjee and Lavie 2005), by NLTK: words match as they are, by their stems, and by WordNet
    where NLTK has that (`python -m nltk.downloader wordnet`); see `knows_synonyms`."""
    from nltk.translate.meteor_score import single_meteor_score

    more: dict[str, Any] = {} if knows_synonyms() else {"wordnet": _NoSynonyms()}
    pairs = zip(said, captions, strict=True)
    return 100 * sum(single_meteor_score(_words(b), _words(a), **more) for a, b in pairs) / len(said)


def knows_synonyms() -> bool:
    """Whether NLTK has WordNet."""
    import nltk

    for place in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(place)
        except LookupError:
            continue
        return True
    return False


class _NoSynonyms:
    """What NLTK asks for synonyms where there is no WordNet."""

    def synsets(self, word: str) -> list[Any]:
        return []


def cider_d(said: Sequence[str], captions: Sequence[str]) -> float:
    """CIDEr-D, the mean (Vedantam et al. 2015): how alike caption and reference are in the n-grams that few of the
    other references have. As it is customary ten times a share, here in percent of that: up to 1000."""
    made, references = ([_ngrams(_words(text)) for text in texts] for texts in (said, captions))
    seen = Counter(ngram for each in references for ngram in each)
    rarity = {ngram: math.log(len(references) / times) for ngram, times in seen.items()}
    unseen = math.log(len(references))
    pairs = zip(made, references, strict=True)
    return 1000 * sum(_likeness(a, b, rarity, unseen) for a, b in pairs) / len(references)


def _likeness(made: NGrams, right: NGrams, rarity: dict[tuple[str, ...], float], unseen: float) -> float:
    """Mean over lengths of n-grams of the cosine of their weights, in which no n-gram counts more often than it is
    right to say it; less where the lengths differ."""
    total, lengths = 0.0, [sum(times for ngram, times in each.items() if len(ngram) == 2) for each in (made, right)]
    for n in range(1, LONGEST + 1):
        a, b = (
            {ngram: times * rarity.get(ngram, unseen) for ngram, times in each.items() if len(ngram) == n}
            for each in (made, right)
        )
        norm = math.hypot(*a.values()) * math.hypot(*b.values())
        total += sum(min(weight, b[ngram]) * b[ngram] for ngram, weight in a.items() if ngram in b) / (norm or 1.0)
    return total / LONGEST * math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))


def _ngrams(words: Sequence[str]) -> NGrams:
    return Counter(tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1))


def _words(text: str) -> list[str]:
    """Capitals and punctuation don't count."""
    return re.findall(r"\w+", text.lower())
