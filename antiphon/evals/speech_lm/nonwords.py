"""Words that there are not, but could be: made of the sounds of those that there are.

After Wuggy (Keuleers and Brysbaert 2010): parts of a word are exchanged so that what arises is as usual in the language
as the word itself. Here a part is a phoneme, a vowel with its stress, and every three neighbours of the result stand
together in some word too.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

EDGE = "#"
STRESS = "ˈˌ"


def symbols(phonemes: str) -> list[str]:
    """The phonemes of a word, a stress mark with the vowel behind it.

    >>> symbols("fˈAməs")
    ['f', 'ˈA', 'm', 'ə', 's']
    """
    parts: list[str] = []
    for sign in phonemes:
        if parts and parts[-1] in STRESS:
            parts[-1] += sign
        else:
            parts.append(sign)
    return parts


def _windows(parts: list[str]) -> Iterator[tuple[str, ...]]:
    edged = [EDGE, *parts, EDGE]
    return (tuple(edged[at : at + 3]) for at in range(len(edged) - 2))


class NonWords:
    """Makes them.

    Args:
        lexicon: phonemes of the words that there are; the more, the surer that what is made is none.
    """

    def __init__(self, lexicon: Iterable[str]):
        self.known = set(lexicon)
        words = [symbols(each) for each in sorted(self.known)]
        self.counts = Counter(window for word in words for window in _windows(word))
        self.between: dict[tuple[str, str], list[str]] = defaultdict(list)
        for before, middle, after in sorted(self.counts):
            self.between[before, after].append(middle)
        self.unstressed = {self._plain(word) for word in self.known}

    @staticmethod
    def _plain(phonemes: str) -> str:
        return "".join(sign for sign in phonemes if sign not in STRESS)

    def usual(self, parts: list[str]) -> float:
        """Mean logarithm of how often each three neighbours occur; -inf where some never do."""
        found = [self.counts[window] for window in _windows(parts)]
        return sum(map(math.log, found)) / len(found) if all(found) else -math.inf

    def make(self, word: str, rng: random.Random, tries: int = 200) -> str | None:
        """A non-word like `word`, of as many symbols, of which a third or more differ; None if none was found.

        Of the candidates that were drawn, the one that is about as usual as the word.
        """
        parts, best, distance = symbols(word), None, math.inf
        least = max(1, round(len(parts) / 3))
        for _ in range(tries):
            made = list(parts)
            for place in rng.sample(range(len(parts)), min(len(parts), least + rng.randrange(2))):
                edged = [EDGE, *made, EDGE]
                made[place] = rng.choice(self.between.get((edged[place], edged[place + 2]), [made[place]]))
            joined = "".join(made)
            if sum(a != b for a, b in zip(made, parts)) < least or self._plain(joined) in self.unstressed:
                continue
            away = abs(self.usual(made) - self.usual(parts))
            if away < distance:
                best, distance = joined, away
        return best
