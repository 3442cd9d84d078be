"""A small set of codes with texts and times, for the tests of what learns from units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antiphon.data.codes import CodecInfo, Coded, CodesWriter

WORDS = "the cat sat on a mat and the dog sat on the log".split()


def write_units(folder: Path, count: int = 24, codebooks: int = 1, size: int = 20) -> Path:
    """`count` utterances of four to eight words, each word three frames of 0.1 s, whose units follow from the word."""
    rng = np.random.default_rng(0)
    info = CodecInfo("tiny", "fingerprint", 16000, 1, 10.0, codebooks, size)
    with CodesWriter(folder, info) as writer:
        for number in range(count):
            words = [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(4, 9))]
            codes, phones = [], []
            for place, word in enumerate(words):
                codes += [(len(word) + i * ord(word[0])) % size for i in range(3)]
                phones += [(" ", place * 0.3, place * 0.3)] * (place > 0)
                phones += [("x", place * 0.3, place * 0.3 + 0.3)]
            grid = np.stack([(np.array(codes) + k) % size for k in range(codebooks)])
            row = Coded(f"u{number}", " ".join(words), "joe", grid.shape[1] * 1600, "", [], phones)
            writer.add(row, grid)
    return folder
