"""Tokenizers of what is said: codecs with `encode` only."""
