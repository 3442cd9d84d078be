"""How words were said, beside what they are: what a language model reads of each, besides its embedding.

Whisper's decoder knows more of a word than it writes: its hidden state, and the sound that it looked at meanwhile
(`models.asr.heard.SpokenWords`). From the two a small network makes one vector for each word, which is added to the
embedding of each of the word's tokens. It is zero before it is trained, so nothing is lost; and where a scene's folder
has none, words are read as they always were.

    residuals = words.read(passages)              # of a turn, or None
    x = embed(tokens) + residuals(text, spans)    # where the text is read: [tokens, width]

The language model cuts words into other tokens than Whisper does, and may read them without capitals and punctuation.
So words are found again in what it reads by their letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.models.asr.heard import Passage, SpokenWords

INNER = 64  # width between a word's states and what is added
SKIPPED = 40  # letters of the text that may be no word's before the next one is looked for no further


@dataclass(frozen=True, eq=False)
class WordResiduals:
    """What is added to the words of a turn.

    Attributes:
        texts: the words.
        values: of each, [words, width].
    """

    texts: tuple[str, ...]
    values: Tensor

    def __call__(self, text: str, spans: Sequence[tuple[int, int]]) -> Tensor:
        """What is added to a text's tokens, [tokens, width]; nothing to those that are of no word.

        Args:
            text: in which the words stand, or most of them.
            spans: of each token, its characters [start, end) there; others are of no word.
        """
        owners = word_of_letters(text, self.texts)
        of_tokens = [next((owners[at] for at in range(max(0, s), min(e, len(text))) if owners[at] >= 0), -1)
                     for s, e in spans]  # fmt: skip
        values = torch.cat([self.values, self.values.new_zeros(1, self.values.shape[1])])  # the last is for no word
        return values[torch.tensor(of_tokens, dtype=torch.long, device=values.device)]


class WordsResidual(nn.Module):
    """States of words -> what is added to their embeddings.

    Args:
        features: width of the decoder's state and of the encoder's output each.
        width: of the embeddings.
    """

    def __init__(self, features: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(2 * features)
        self.down = nn.Linear(2 * features, INNER)
        self.up = nn.Linear(INNER, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """[words, 2 * features] -> [words, width]."""
        return self.up(F.gelu(self.down(self.norm(states))))

    @torch.no_grad()
    def read(self, passages: Sequence[Passage]) -> WordResiduals | None:
        """What is added to the words of a turn; None where nothing tells how they were heard."""
        spoken = [passage.spoken for passage in passages if passage.spoken is not None]
        return self.of(spoken) if spoken else None

    def of(self, spoken: Sequence[SpokenWords]) -> WordResiduals:
        """What is added to words, in the order in which they were said; differentiable."""
        texts = tuple(text for each in spoken for text in each.texts)
        return WordResiduals(texts, self(torch.cat([each.states for each in spoken])))


def word_of_letters(text: str, words: Sequence[str]) -> list[int]:
    """Which word each character of a text belongs to, -1 for none: each word is looked for behind the one before it,
    by its letters and digits alone.

    >>> word_of_letters("it's noon now", ["It's,", "nine", "now!"])
    [0, 0, 0, 0, -1, -1, -1, -1, -1, -1, 2, 2, 2]
    """
    places = [at for at, letter in enumerate(text) if letter.isalnum()]
    letters = [text[at].lower() for at in places]
    owners, begin = [-1] * len(text), 0
    for number, word in enumerate(words):
        own = [letter.lower() for letter in word if letter.isalnum()]
        ends = min(len(letters) - len(own), begin + SKIPPED)
        found = next((at for at in range(begin, ends + 1) if letters[at : at + len(own)] == own), None) if own else None
        if found is not None:
            begin = found + len(own)
            owners[places[found] : places[begin - 1] + 1] = [number] * (places[begin - 1] + 1 - places[found])
    return owners
