"""Tiny voices for tests: each word a tone of 0.2 s, words 0.05 s apart, a text always the same."""

import numpy as np

from antiphon.data.dialogue.phrases import RATE, SpokenUtterance, Voice

WORD, SPACE = 0.2, 0.05


def say(voice: Voice, text: str, take: int = 0) -> SpokenUtterance:
    words, pieces = [], []
    for number, word in enumerate(text.split()):
        start = number * (WORD + SPACE)
        words.append((word, start, start + WORD))
        hertz = (400 if voice.pitch == 1 else 150) + 20 * (len(word) % 5) + 3 * (take % 7)
        pieces += [
            0.3 * np.sin(2 * np.pi * hertz * np.arange(round(WORD * RATE)) / RATE),
            np.zeros(round(SPACE * RATE)),
        ]
    samples = np.concatenate(pieces[:-1]).astype(np.float32) if pieces else np.zeros(0, np.float32)
    return SpokenUtterance(text, samples, tuple(words))
