"""Drawing tokens, each row with chance of its own: a row draws the same whatever batch it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from antiphon.errors import ConfigError

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # the golden ratio's fraction in 64 bits, as a signed number


@dataclass(frozen=True)
class TokenSampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest.
        top_k: how many of the likeliest are drawn from; 0 for all.
        top_p: the likeliest that have this share together are drawn from; 1 for all.
        repetition: by how much tokens that were said are less likely (Keskar et al. 2019, section 4.1); 1 for not.
        presence, frequency: what is taken from the logits of tokens that were said, once, and as often as they were;
            negative ones make them likelier.
        bias: what is added to the logits of tokens, (token, added).
        seed: the same seed draws the same.
        not_first: tokens that a reply doesn't begin with.
        top_chances: of how many of the likeliest tokens the probabilities are told with each token; None tells none,
            not its own either.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    not_first: tuple[int, ...] = ()
    top_chances: int | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.repetition <= 0:
            raise ConfigError("temperature and top_k must be 0 or more, top_p over 0 and at most 1, repetition over 0.")


class Writes(Protocol):
    """A form that a row is written in, see `grammar.Writing`."""

    def allowed(self, card: int) -> Tensor: ...

    def take(self, token: int) -> bool: ...


@dataclass(frozen=True)
class TokenChances:
    """How likely a token was, as the language model has it: before temperature, penalties and forms.

    Attributes:
        token: with its log probability.
        top: the likeliest tokens there, the likeliest first.
    """

    token: tuple[int, float]
    top: tuple[tuple[int, float], ...] = ()


def sample_rows(
    logits: Tensor,
    samplings: Sequence[TokenSampling],
    positions: Sequence[int],
    said: Sequence[Sequence[int]],
    forms: Sequence[Writes | None] = (),
) -> list[int]:
    """A token of each row, drawn as each row wants it.

    Args:
        logits: [batch, card].
        samplings: of each row.
        positions: number of each row's token, from which with its seed its chance follows.
        said: each row's tokens so far.
        forms: that rows are written in; each is told its row's token.

    Raises:
        ConfigError: a bias of a token that isn't there.
    """
    for row, (sampling, tokens) in enumerate(zip(samplings, said)):
        if sampling.not_first and not tokens:
            banned = torch.tensor(sampling.not_first, device=logits.device)
            logits = logits.index_put((torch.tensor(row), banned), logits.new_tensor(-torch.inf))
        if sampling.repetition != 1 and tokens:
            known = torch.tensor(sorted(set(tokens)), device=logits.device)
            logits = logits.index_put((torch.tensor(row), known), _penalised(logits[row, known], sampling.repetition))
        if (sampling.presence or sampling.frequency) and tokens:
            known, counts = torch.tensor(tokens, device=logits.device).unique(return_counts=True)
            less = sampling.presence + sampling.frequency * counts.to(logits.dtype)
            logits = logits.index_put((torch.tensor(row), known), logits[row, known] - less)
        if sampling.bias:
            biased, added = zip(*sampling.bias)
            if gone := [token for token in biased if not 0 <= token < logits.shape[-1]]:
                raise ConfigError(f"There is no token {gone[0]}: this model has {logits.shape[-1]}, from 0.")
            at = torch.tensor(row), torch.tensor(biased, device=logits.device)
            logits = logits.index_put(at, logits.new_tensor(added), accumulate=True)
    seeds = torch.tensor([sampling.seed for sampling in samplings])
    chance = uniforms(seeds, torch.tensor(positions), 1)[:, 0].to(logits.device)
    settings = [(each.temperature, each.top_k, each.top_p) for each in samplings]
    if not any(forms):
        return sample_each(logits, chance, settings).tolist()
    drawn = []
    for row, form in enumerate(forms):
        while True:  # a form may refuse a token, and then allows less
            own = logits[row : row + 1]
            if form is not None:
                own = own.masked_fill(~form.allowed(own.shape[-1]).to(own.device), -torch.inf)
            token = int(sample(own, chance[row : row + 1], *settings[row]))
            if form is None or form.take(token):
                break
        drawn.append(token)
    return drawn


def token_chances(logits: Tensor, token: int, top: int) -> TokenChances:
    """Of a token that was drawn of these logits [card], and of the `top` likeliest ones."""
    likely = logits.float().log_softmax(-1)
    best, tokens = likely.topk(min(top, len(likely)))
    return TokenChances((token, float(likely[token])), tuple(zip(tokens.tolist(), best.tolist())))


def sample_each(logits: Tensor, chance: Tensor, settings: Sequence[tuple[float, int, float]]) -> Tensor:
    """`sample` where each row has its own temperature, top_k and top_p: [batch, card], [batch] -> [batch]."""
    if len(set(settings)) == 1:
        return sample(logits, chance, *settings[0])
    tokens = torch.zeros_like(chance, dtype=torch.long)
    for setting in set(settings):
        rows = torch.tensor([row for row, own in enumerate(settings) if own == setting], device=chance.device)
        tokens[rows] = sample(logits[rows], chance[rows], *setting)
    return tokens


def sample(logits: Tensor, chance: Tensor | None, temperature: float, top_k: int, top_p: float = 1.0) -> Tensor:
    """Draws a token a row, by the inverse of the distribution function.

    Args:
        logits: [batch, card].
        chance: [batch], uniform in [0, 1); may be None where nothing is left to it.
        temperature, top_k, top_p: as in `TokenSampling`.

    Returns:
        [batch] int64.
    """
    if temperature == 0:
        return logits.argmax(-1)
    index = None
    if 0 < top_k < logits.shape[-1] or top_p < 1:
        logits, index = logits.topk(min(top_k, logits.shape[-1]) or logits.shape[-1], dim=-1)
    share = torch.softmax(logits.float() / temperature, dim=-1).cumsum_(-1)
    total = share[:, -1:]
    if top_p < 1:
        last = (share < top_p * total).sum(-1, keepdim=True).clamp_max_(share.shape[-1] - 1)
        total = share.gather(-1, last)
    drawn = (share <= chance[:, None] * total).sum(-1, keepdim=True).clamp_max_(share.shape[-1] - 1)
    return (drawn if index is None else index.gather(-1, drawn))[:, 0]


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


def _penalised(logits: Tensor, repetition: float) -> Tensor:
    return torch.where(logits < 0, logits * repetition, logits / repetition)


def is_repeating(tokens: Sequence[int], longest: int = 24) -> bool:
    """The repetition guard: true if the end of a reply repeats: the last n tokens are the n before them (n >= 4), or a
    token comes four times in a row, or the last eight tokens were said before."""
    if len(tokens) >= 4 and len(set(tokens[-4:])) == 1:
        return True
    for n in range(4, min(longest, len(tokens) // 2) + 1):
        if tokens[-n:] == tokens[-2 * n : -n]:
            return True
    tail = list(tokens[-8:])
    return len(tokens) >= 16 and any(list(tokens[at : at + 8]) == tail for at in range(len(tokens) - 15))
