"""Tokenizers of what is said: codecs with `encode` only."""

from __future__ import annotations

from antiphon.codecs.families import Family

FAMILIES = (
    Family("semantic", f"{__name__}.kmeans:SemanticTokenizer", ("hubert", "wav2vec2", "wavlm")),
    Family("supervised", f"{__name__}.supervised:SupervisedTokenizer"),
)
