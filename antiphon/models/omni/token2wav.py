"""Codes to sound: a spectrogram by solving the flow of `dit`, block by block, and its sound by `vocoder`.

The flow is solved by Runge-Kutta steps of fourth order at ten times that lie closer together near the noise (sway
sampling, F5-TTS, Chen et al. 2024, section 3.3), with classifier-free guidance.

    sound = token2wav(codes, voice)                       # [1, C] -> [1, samples]
    state = token2wav.init_state(voice)
    sound = token2wav.step(codes, state)                  # as it comes; `last=True` for the rest

A block depends on the block after it, in one layer, at every one of the steps; so strictly on all blocks that follow,
but each counts about a tenth of the one before it. A stream solves each block together with the next `ahead` ones, of
which it keeps nothing, and gives it out. What the blocks before it were at each step is remembered, so nothing is lost
there. `ahead=None` waits for the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from antiphon.models.omni.config import DiTConfig, VocoderConfig
from antiphon.models.omni.dit import DiT, Kept, Modulation
from antiphon.models.omni.vocoder import BigVGAN, State

STEPS, GUIDANCE, SWAY, AHEAD = 10, 0.5, -1.0, 2
PIECE = 48  # spectrogram frames that the vocoder gets at once


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        vector: [1, enc_emb_dim].
        reference: a spectrogram of hers, [1, frames, mel].
        token: of the text vocabulary, with which the talker is told.
    """

    vector: Tensor
    reference: Tensor
    token: int


@dataclass(frozen=True)
class Flow:
    """How the flow is solved.

    Attributes:
        steps: times, the first and the last included.
        guidance: how far away from what would be said without a condition.
        sway: how much closer together the times lie near the noise; 0 for equally far.
    """

    steps: int = STEPS
    guidance: float = GUIDANCE
    sway: float = SWAY

    def times(self) -> Tensor:
        """[steps], from 0 (noise) to 1."""
        even = torch.linspace(0, 1, self.steps)
        return even + self.sway * (torch.cos(torch.pi / 2 * even) - 1 + even)


@dataclass
class WaveState:
    """Where a stream of codes stands.

    Attributes:
        voice: what the speaker adds to every frame, [2, hidden].
        codes: those whose spectrogram isn't there yet, [1, n].
        blocks: those that are done.
        noise: from which the spectrogram starts, of the blocks that were looked at but aren't done, [1, frames, mel].
        seed: of the noise.
        before: of the last block that is done, at each evaluation of the flow.
        told: what each time says to the layers.
        sound: the vocoder's.
    """

    voice: Tensor
    codes: Tensor
    noise: Tensor
    seed: int
    told: list[Modulation]
    blocks: int = 0
    before: list[Kept] = field(default_factory=list)
    sound: State = field(default_factory=dict)


class Token2Wav(nn.Module):
    """See the module."""

    def __init__(self, dit: DiTConfig, vocoder: VocoderConfig, flow: Flow | None = None):
        super().__init__()
        self.dit, self.vocoder, self.flow = DiT(dit), BigVGAN(vocoder), flow or Flow()

    @property
    def codes_per_block(self) -> int:
        """Codes whose spectrogram is one block."""
        return self.dit.config.block_size // self.dit.config.repeats

    @property
    def first_blocks(self) -> int:
        """Blocks whose spectrogram must be there before there is sound."""
        return -(-(self.vocoder.lead + 1) // self.dit.config.block_size)

    def init_state(self, voice: Voice, seed: int = 0) -> WaveState:
        """The state before a reply's first code; the same seed gives the same sound."""
        with torch.no_grad():
            added = self.dit.voice(voice.vector, voice.reference, guided=self.flow.guidance > 0)
            told = self._told()
        empty = torch.zeros(1, 0, dtype=torch.long, device=added.device)
        return WaveState(added, empty, added.new_zeros(1, 0, self.dit.config.mel_dim), seed, told)

    @torch.no_grad()
    def step(
        self, codes: Tensor, state: WaveState, last: bool = False, ahead: int | None = AHEAD, most: int | None = None
    ) -> Tensor:
        """What can be told of the next codes.

        Args:
            codes: [1, n]; as many as there are.
            state: it is changed.
            last: nothing follows.
            ahead: blocks behind one that must be there before it is done; None for all.
            most: blocks at once, which bounds the memory; None for as many as there are.

        Returns:
            [1, samples]
        """
        mels = []
        state.codes = torch.cat([state.codes, codes.to(state.codes)], dim=1)
        while True:
            there = -(-state.codes.shape[1] // self.codes_per_block) if last else (
                state.codes.shape[1] // self.codes_per_block
            )  # fmt: skip
            ready = there if last else 0 if ahead is None else max(0, there - ahead)
            if not ready:
                break
            ready = min(ready, most or ready)
            seen = there if ahead is None else min(there, ready + ahead)
            mels.append(self._solve(state, ready, seen))
        if not mels and not last:
            return state.noise.new_zeros(1, 0)
        mel = torch.cat([state.noise.new_zeros(1, self.dit.config.mel_dim, 0), *mels], dim=2)
        pieces = mel.split(PIECE, dim=2)  # a vocoder's activations are a thousand times the spectrogram
        heard = [self.vocoder.step(piece, state.sound) for piece in pieces[:-1]]
        return torch.cat([*heard, self.vocoder.step(pieces[-1], state.sound, last)], dim=1)

    def forward(self, codes: Tensor, voice: Voice, seed: int = 0) -> Tensor:
        """The sound of whole codes [1, C], [1, samples]."""
        return self.step(codes, self.init_state(voice, seed), last=True, ahead=None)

    def _solve(self, state: WaveState, ready: int, seen: int) -> Tensor:
        """The spectrogram [1, mel, frames] of the next `ready` blocks, of which `seen` are looked at."""
        config, repeats = self.dit.config, self.dit.config.repeats
        codes = state.codes[:, : seen * self.codes_per_block]
        frames = codes.shape[1] * repeats
        while state.noise.shape[1] < frames:
            state.noise = torch.cat([state.noise, self._noise(state)], dim=1)
        condition = self.dit.condition(codes, state.voice, guided=self.flow.guidance > 0)
        start, before, kept = state.blocks * config.block_size, iter(state.before), []

        def velocity(number: int, x: Tensor) -> Tensor:
            y, own = self.dit(x, state.told[number], condition, start, next(before, None), ready - 1)
            kept.append(own)
            if self.flow.guidance > 0:
                guided, free = y.chunk(2)
                return guided + (guided - free) * self.flow.guidance
            return y

        mel = solve(velocity, state.noise[:, :frames], self.flow.times())
        done, used = ready * config.block_size, ready * self.codes_per_block
        state.before, state.blocks = kept, state.blocks + ready
        state.codes, state.noise = state.codes[:, used:], state.noise[:, done:]
        return mel[:, :done].transpose(1, 2)

    def _noise(self, state: WaveState) -> Tensor:
        """The noise of the next block that has none: a function of the seed and the block's number."""
        config = self.dit.config
        number = state.blocks + state.noise.shape[1] // config.block_size
        source = torch.Generator().manual_seed(state.seed * 1_000_003 + number)
        return torch.randn(1, config.block_size, config.mel_dim, generator=source).to(state.noise)

    def _told(self) -> list[Modulation]:
        """What the times of all evaluations say, in their order."""
        times = self.flow.times()
        device = self.dit.proj_out.weight.device
        asked = torch.stack([time for pair in zip(times, times[1:]) for time in evaluated(*pair)]).to(device)
        told = self.dit.modulation(asked)
        return [[each[number : number + 1] for each in told] for number in range(len(asked))]


def evaluated(start: Tensor, end: Tensor) -> tuple[Tensor, ...]:
    """The times at which a step asks for the velocity."""
    step = end - start
    return start, start + step / 3, start + step * 2 / 3, end


def solve(velocity: Callable[[int, Tensor], Tensor], x: Tensor, times: Tensor) -> Tensor:
    """Follows a flow through times by the 3/8 rule (Kutta 1901).

    Args:
        velocity: of the number of an evaluation, four a step at `evaluated`'s times, and of where it is asked for.
        x: where the flow starts.
        times: ascending.
    """
    for number, (start, end) in enumerate(zip(times.tolist(), times[1:].tolist())):
        step, at = end - start, 4 * number
        first = velocity(at, x)
        second = velocity(at + 1, x + step * first / 3)
        third = velocity(at + 2, x + step * (second - first / 3))
        fourth = velocity(at + 3, x + step * (first - second + third))
        x = x + (first + 3 * (second + third) + fourth) * step / 8
    return x
