"""When phonemes sound: an encoder that tells how long each lasts, and the timeline that frames are read from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class TalkerConfig:
    """Sizes of the talker.

    Attributes:
        symbols: size of the phoneme alphabet, 0 being silence.
        hidden: width of the thinker's states.
        situation: width of what decides the manner of a reply, read from the states from which the thinker begins it
            and those before it; 0: each symbol reads the state of its own word.
        encoder_dim, encoder_layers, encoder_kernel: phoneme encoder; it looks (kernel // 2) * layers symbols ahead.
        dim, heads, inner, layers, window: temporal transformer; the window is in frames.
        depth_dim, depth_heads, depth_inner, depth_layers: depth transformer.
        codebooks, codebook_size, code_dim: of the codec; the last is the width of its latent.
        points: moments a frame at which the phonemes are read.
        acoustic_delay: frames by which acoustic codes lag behind the semantic one.
        frame_rate: frames a second.
        lead, tail: seconds of silence before the first phoneme and after the last.
        speakers: names of the voices; none where there is one voice without a name.
    """

    symbols: int = 178
    hidden: int = 576
    situation: int = 0
    encoder_dim: int = 256
    encoder_layers: int = 4
    encoder_kernel: int = 5
    dim: int = 384
    heads: int = 6
    inner: int = 1024
    layers: int = 5
    window: int = 250
    depth_dim: int = 192
    depth_heads: int = 4
    depth_inner: int = 512
    depth_layers: int = 2
    codebooks: int = 8
    codebook_size: int = 1024
    code_dim: int = 128
    points: int = 4
    acoustic_delay: int = 1
    frame_rate: float = 12.5
    lead: float = 0.08
    tail: float = 0.12
    speakers: list[str] = field(default_factory=list)

    @property
    def look_ahead(self) -> int:
        return self.encoder_layers * (self.encoder_kernel // 2)

    @property
    def delays(self) -> list[int]:
        return [0] + [self.acoustic_delay] * (self.codebooks - 1)


class Situation(nn.Module):
    """What decides how a reply is said, from the thinker's states behind all that was said and heard before it, and
    before the replies before it: what was asked for three turns ago is hardly to be found in the last one.

    Attention over the turns, behind a bottleneck, as a manner is a few numbers: a turn's score is linear in what it
    says, less a penalty for its age.

    Args:
        hidden: width of the states.
        width: of the bottleneck.
        dim: of what is added to each symbol.
    """

    def __init__(self, hidden: int, width: int, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(hidden))
        self.register_buffer("deviation", torch.ones(hidden))
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, dim, bias=False)
        self.score, self.age_penalty = nn.Linear(width, 1, bias=False), nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.up.weight)  # a talker that has not met a thinker yet ignores it

    @torch.no_grad()
    def take_states(self, states: Tensor) -> None:
        """The mean and the deviation of states [n, hidden]: a few of their numbers are far larger than the rest."""
        self.mean.copy_(states.mean(0))
        self.deviation.copy_(states.std(0).clamp_min(1e-3))

    def forward(self, states: Tensor) -> Tensor:
        """states [batch, turns, hidden], the last turn last, zeros where there is none -> [batch, dim], zeros where
        there are none at all."""
        known = (states != 0).any(-1)
        standard = F.dropout((states - self.mean) / self.deviation, 0.5, self.training)
        said = torch.tanh(self.down(standard))
        ages = torch.arange(states.shape[1] - 1, -1, -1, device=states.device)
        scores = self.score(said)[..., 0] - F.softplus(self.age_penalty) * ages
        shares = scores.masked_fill(~known, -1e9).softmax(-1) * known
        return self.up((shares[..., None] * said).sum(1))


class PhonemeEncoder(nn.Module):
    """Phonemes in their neighbourhood, `look_ahead` symbols on both sides and no further, and how long each lasts."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        dim, kernel = config.encoder_dim, config.encoder_kernel
        self.embed = nn.Embedding(config.symbols, dim)
        self.speaker = nn.Embedding(len(config.speakers), dim) if config.speakers else None
        if self.speaker is not None:
            nn.init.zeros_(self.speaker.weight)  # at first, all speak as a talker with one voice does
        self.situation = Situation(config.hidden, config.situation, dim) if config.situation else None
        if self.situation is None:
            self.thinker = nn.Linear(config.hidden, dim, bias=False)
            nn.init.zeros_(self.thinker.weight)  # as in `Situation`
        self.mixes = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2) for _ in range(config.encoder_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(config.encoder_layers))
        self.duration = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(
        self,
        symbols: Tensor,
        hidden: Tensor | None = None,
        mask: Tensor | None = None,
        speaker: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encodes a string of phonemes.

        Args:
            symbols: ids [batch, length].
            hidden: the thinker's state at each symbol's word [batch, length, hidden]; in a situation, those from which
                this reply and the ones before it begin [batch, turns, hidden]; zeros where there is none, or None.
            mask: [batch, length], 1 for symbols, 0 for padding; None if there is no padding.
            speaker: numbers of those who speak, [batch], where the voices have names; None for the first.

        Returns:
            features [batch, length, encoder_dim] and log(1 + duration in 25 ms units) [batch, length].
        """
        keep = torch.ones_like(symbols, dtype=torch.float32) if mask is None else mask.float()
        x = self.embed(symbols)
        if self.speaker is not None:  # how long phones last and how they sound both depend on it
            x = x + self.speaker(symbols.new_zeros(len(symbols)) if speaker is None else speaker)[:, None]
        if hidden is not None:
            x = x + (self.thinker(hidden) if self.situation is None else self.situation(hidden)[:, None])
        x = x * keep[..., None]
        for mix, norm in zip(self.mixes, self.norms):
            y = mix(norm(x).mul(keep[..., None]).transpose(1, 2)).transpose(1, 2)
            x = (x + F.gelu(y)) * keep[..., None]
        return x, self.duration(x)[..., 0]


DURATION_UNIT = 0.025  # seconds


def duration_seconds(log_units: Tensor) -> Tensor:
    """What the encoder's second output means: seconds."""
    return torch.expm1(log_units).clamp_min(0) * DURATION_UNIT


def read_timeline(ends: Tensor, times: Tensor, last: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Which symbol sounds at each moment, and where in it the moment lies.

    Args:
        ends: seconds at which each symbol ends, ascending [batch, length]; the first starts at 0.
        times: seconds [batch, moments].
        last: each row's last symbol [batch], where padding follows it; None where there is none.

    Returns:
        index [batch, moments], the last symbol for moments after the end, and the seconds since its start and until
        its end [batch, moments, 2], clipped to half a second.
    """
    index = torch.searchsorted(ends, times, right=True)
    index = index.clamp_max(ends.shape[1] - 1) if last is None else torch.minimum(index, last[:, None])
    starts = F.pad(ends, (1, 0))[:, :-1]
    since = times - starts.gather(1, index)
    until = ends.gather(1, index) - times
    return index, torch.stack([since, until], dim=-1).clamp(-0.5, 0.5)
