"""Text to phonemes, and where phonemes lie in time."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import numpy as np

STRESS = "ˈˌ"
SILENCE = 0  # the id of "nothing sounds", also the padding


@functools.cache
def alphabet() -> dict[str, int]:
    """Phoneme -> id, as `hibari-tts` numbers them (misaki's alphabet, 1 to 177)."""
    from pathlib import Path

    import hibari

    return json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))


def phone_at(phonemes: str, ends: np.ndarray, start: float, times: np.ndarray) -> np.ndarray:
    """Which phone sounds at each time.

    Args:
        phonemes: one character each.
        ends: seconds at which each ends; phoneme i starts where i - 1 ends.
        start: seconds at which the first starts.
        times: seconds, any shape.

    Returns:
        Ids, int64, the shape of `times`; `SILENCE` before the first phoneme, after the last, and at spaces and
        punctuation. The time of a stress mark belongs to the phone that follows it.
    """
    known = alphabet()
    ids = np.zeros(len(phonemes) + 1, np.int64)
    for i in range(len(phonemes) - 1, -1, -1):
        c = phonemes[i]
        ids[i] = ids[i + 1] if c in STRESS else known.get(c, SILENCE) if c.isalpha() else SILENCE
    index = np.searchsorted(ends, times, side="right")
    return np.where(times < start, SILENCE, ids[index])


class Phonemizer:
    """English text to phonemes, by the rules and lexicon of `hibari-tts` (a port of misaki's)."""

    def __init__(self) -> None:
        from hibari.g2p import G2P

        self._g2p = G2P()
        self._known = alphabet()

    def __call__(self, sentence: str) -> str:
        """One sentence; words stay apart by single spaces. Empty if nothing in it can be spoken."""
        spoken = self._g2p(sentence) if any(c.isalnum() for c in sentence) else ""
        return " ".join("".join(c for c in spoken if c in self._known).split())

    def sentences(self, text: str) -> list[str]:
        """Splits at sentence ends; what follows the last one is the last element."""
        from hibari import Hibari

        return Hibari.split_sentences(text)


@dataclass
class SpellerState:
    """Text that came and is not spelled yet, and how many phoneme words of its sentence are."""

    text: str = ""
    emitted: int = 0


class Speller:
    """Text as it comes to phonemes as soon as they are certain: a word is spelled once the next one has begun.

    English needs that much of a look ahead ("the" before a vowel). Where pieces cut words, the next word is
    judged by what there is of it, and a stress may come out otherwise.

    Args:
        phonemizer: spells.
    """

    def __init__(self, phonemizer: Phonemizer):
        self.phonemizer = phonemizer

    def init_state(self) -> SpellerState:
        return SpellerState()

    def step(self, text: str, state: SpellerState, last: bool = False) -> str:
        """More text; `last` says that no more will come.

        Returns:
            The phonemes that have become certain, with a space after each word but the very last. What was returned is
            never revised.
        """
        state.text += text
        sentences = self.phonemizer.sentences(state.text)
        spelled = ""
        for sentence in sentences[:-1]:
            spelled += self._rest(sentence, state) + " "
            state.emitted = 0
        sentence = sentences[-1] if sentences else ""
        if last:
            state.text = ""
            return (spelled + self._rest(sentence, state)).rstrip()
        open_word = bool(state.text) and not state.text[-1].isspace()
        state.text = sentence + ("" if open_word or not sentence else " ")
        words = sentence.split()
        if len(words) > 1:
            certain = len(self.phonemizer(" ".join(words[:-1])).split())
            fresh = self.phonemizer(" ".join(words)).split()[state.emitted : certain]
            state.emitted += len(fresh)
            spelled += "".join(word + " " for word in fresh)
        return spelled if spelled.strip() else ""

    def _rest(self, sentence: str, state: SpellerState) -> str:
        """The phonemes of a whole sentence that are still to be said."""
        return " ".join(self.phonemizer(sentence).split()[state.emitted :])
