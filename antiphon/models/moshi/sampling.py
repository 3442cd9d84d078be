"""Drawing tokens, each row with chance of its own: a row draws the same whatever batch it stands in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.errors import ConfigError

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # the golden ratio's fraction in 64 bits, as a signed number


@dataclass(frozen=True)
class MoshiSampling:
    """How tokens are drawn. The defaults are Moshi's.

    Attributes:
        temperature, top_k: of the codes; temperature 0 takes the likeliest, top_k 0 draws from all.
        text_temperature, text_top_k: of the text.
        pad_bonus: added to the logit of "no word here": above 0 the model speaks less, below 0 more.
    """

    temperature: float = 0.8
    top_k: int = 250
    text_temperature: float = 0.7
    text_top_k: int = 25
    pad_bonus: float = 0.0

    def __post_init__(self) -> None:
        if min(self.temperature, self.text_temperature, self.top_k, self.text_top_k) < 0:
            raise ConfigError("temperatures and top_k must be 0 or more.")

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0 and self.text_temperature == 0


GREEDY = MoshiSampling(temperature=0.0, text_temperature=0.0)


def uniforms(seed: Tensor, position: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1) that depend on the seed, the position and their index alone (the mixing of SplitMix64).

    Args:
        seed, position: [batch] int64.
        count: numbers a row.

    Returns:
        [batch, count] float32.
    """
    index = torch.arange(1, count + 1, device=seed.device)
    x = _mixed(seed * 0x2545F4914F6CDD1D + position)[:, None] + index * _ODD
    return (_mixed(x) >> 40 & 0xFFFFFF).float() * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ (x >> 31 & 0x1FFFFFFFF)


def draw(logits: Tensor, chance: Tensor, temperature: float, top_k: int) -> Tensor:
    """Draws a token a row, by the inverse of the distribution function.

    Args:
        logits: [batch, card].
        chance: [batch], uniform in [0, 1).
        temperature: 0 takes the likeliest.
        top_k: how many of the likeliest are drawn from; 0 for all.

    Returns:
        [batch] int64.
    """
    if temperature == 0:
        return logits.argmax(-1)
    index = None
    if 0 < top_k < logits.shape[-1]:
        logits, index = logits.topk(top_k, dim=-1)
    share = torch.softmax(logits.float() / temperature, dim=-1).cumsum_(-1)
    drawn = (share <= chance[:, None] * share[:, -1:]).sum(-1, keepdim=True).clamp_max_(share.shape[-1] - 1)
    return (drawn if index is None else index.gather(-1, drawn))[:, 0]
