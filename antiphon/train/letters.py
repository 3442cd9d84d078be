"""Letters that CTC recognizes: what is beneath them learns what was said where, before it can write any words.

letters = nn.Linear(width, len(LETTERS) + 1)
loss = letters_loss(letters(hidden), lengths, spelt("The dog.")[None], torch.tensor([7]))
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.train.asr.align import plain

LETTERS = "abcdefghijklmnopqrstuvwxyz' "
"""Number 0 is the blank of CTC, these are 1, 2, ..."""


def spelt(text: str) -> Tensor:
    """Numbers int64 [letters] of a text's letters, in lower case without punctuation; none where it has none."""
    return torch.tensor([LETTERS.index(letter) + 1 for letter in plain(text) if letter in LETTERS], dtype=torch.int64)


def letters_loss(logits: Tensor, lengths: Tensor, letters: Tensor, counts: Tensor) -> Tensor:
    """CTC (Graves et al. 2006) in nats a letter; texts that have more letters than places count nothing.

    Args:
        logits: [batch, places, letters + 1].
        lengths: [batch], places that are heard.
        letters: [batch, longest], of each what `spelt` gave, padded.
        counts: [batch], letters of each.
    """
    scores = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(scores, letters, lengths, counts, zero_infinity=True)
