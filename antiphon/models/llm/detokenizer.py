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


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token adds to a text, which may be part of a character; b"" of one that isn't there.

    Of tokenizers whose tokens are bytes written as letters, GPT-2's way, and of those of SentencePiece.
    """
    piece = tokenizer.id_to_token(token) or ""
    if token in tokenizer.get_added_tokens_decoder():
        return piece.encode()
    if tokenizer.token_to_id("Ġ") is not None or tokenizer.token_to_id("Ċ") is not None:
        return bytes(_BYTES[letter] for letter in piece if letter in _BYTES)
    if len(piece) == 6 and piece.startswith("<0x"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


def _letters_of_bytes() -> dict[str, int]:
    """The letters that stand for bytes: those that can be seen for themselves, the others in order from 256 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _letters_of_bytes()
