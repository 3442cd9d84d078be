"""Pieces of a reply: which one comes next, whether the reply goes round in circles, and the text that they make."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor


class Unfinished:
    """Bytes of a byte-level BPE -> text, characters held back until their last byte is there; what never gets it is
    dropped.
    """

    def __init__(self, pieces: dict[int, bytes]):
        self.pieces = pieces
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """What the token adds; special tokens add nothing."""
        return self.decoder.decode(self.pieces.get(token, b""))


def piece_bytes(tokenizer: Tokenizer, marks: Sequence[str] = ()) -> dict[int, bytes]:
    """The bytes of every ordinary token of a byte-level BPE (GPT-2's table of printable stand-ins for bytes), and of
    the added ones that are text: those that the tokenizer doesn't call special, and `marks`.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in set(printable))}
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content for token in added.values()}
    ordinary = {
        number: bytes(byte_of[character] for character in piece)
        for piece, number in tokenizer.get_vocab().items()
        if piece not in special
    }
    text = {n: token.content.encode() for n, token in added.items() if not token.special or token.content in marks}
    return ordinary | text


def goes_round(tokens: Sequence[int], longest: int = 24) -> bool:
    """True if the end of a reply repeats: the last n tokens are the n before them (n >= 4), or a token comes four
    times in a row, or the last eight tokens were said before."""
    if len(tokens) >= 4 and len(set(tokens[-4:])) == 1:
        return True
    for n in range(4, min(longest, len(tokens) // 2) + 1):
        if tokens[-n:] == tokens[-2 * n : -n]:
            return True
    tail = list(tokens[-8:])
    return len(tokens) >= 16 and any(list(tokens[at : at + 8]) == tail for at in range(len(tokens) - 15))


def pick(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator | None) -> int:
    """Choose a token from logits `[vocabulary]`: the likeliest at temperature 0, else sampled from the `top_k`
    likeliest (0: all).
    """
    if temperature <= 0:
        return int(logits.argmax())
    if top_k:
        values, indices = logits.topk(min(top_k, logits.numel()))
    else:
        values, indices = logits, torch.arange(logits.numel())
    weights = torch.softmax(values / temperature, dim=-1)
    return int(indices[torch.multinomial(weights, 1, generator=generator)])
