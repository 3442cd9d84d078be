"""Whisper's special tokens, by their names."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from antiphon.encoders.whisper.tokens import WhisperTokens

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|haw|>", "<|translate|>", "<|transcribe|>"]


def written(text: str) -> str:
    return pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)[0][0]


def tokenizer(*names: str) -> Tokenizer:
    known = [*(written(text) for text in ("word", " word", "café", "한", "don't")), *names]
    return Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(known)}, merges=[]))


def test_what_transcripts_begin_with() -> None:
    tokens = WhisperTokens(tokenizer(*SPECIAL, "<|nocaptions|>", "<|notimestamps|>"))
    assert tokens.languages == {"en": 7, "haw": 8} and (tokens.end, tokens.no_speech) == (5, 11)
    assert tokens.start() == (6, 7, 10, 12) and tokens.start("haw", "translate") == (6, 8, 9, 12)
    with pytest.raises(KeyError):
        tokens.start("xx")


def test_foreign_tokens_are_the_ones_that_are_not_ascii() -> None:
    assert WhisperTokens(tokenizer(*SPECIAL)).foreign == (2, 3)


def test_another_tokenizer_has_no_languages() -> None:
    tokens = WhisperTokens(tokenizer())
    assert tokens.languages == {} and tokens.end is None and tokens.foreign == (2, 3)
    with pytest.raises(KeyError):
        tokens.start()
