"""Corpora to examples: texts, voices, augmentation and sharded sets of speech."""
