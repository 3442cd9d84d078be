"""Tokens to text as they come: characters are held back until their last byte is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class IncrementalDetokenizer:
    """One text. What never becomes a whole character is dropped; special tokens add nothing.

    Args:
        tokenizer: of any kind.
        marks: tokens that are read as text though the tokenizer calls them special; see `mark_tokens`.
    """

    def __init__(self, tokenizer: Tokenizer, marks: Mapping[int, str]):
        self.tokenizer, self.marks = tokenizer, marks
        self.stream = DecodeStream(skip_special_tokens=True)

    def add(self, token: int) -> str:
        """What the token adds."""
        if token in self.marks:
            self.stream = DecodeStream(skip_special_tokens=True)
            return self.marks[token]
        return self.stream.step(self.tokenizer, token) or ""


def mark_tokens(tokenizer: Tokenizer, marks: Sequence[str]) -> dict[int, str]:
    """Those of these texts that a tokenizer has as one special token, by their ids."""
    added = tokenizer.get_added_tokens_decoder()
    return {number: token.content for number, token in added.items() if token.special and token.content in marks}
