"""A voice as pulses and noise through filters: the last stage of the mini codec's decoder.

The network does not have to invent a phase for every bin: the glottis gives it. It says how high the voice is, how
each frame filters a train of pulses at that pitch, and how each frame shapes noise (as in harmonic-plus-noise vocoders;
Wang et al. 2019, "Neural source-filter waveform models"). It learns in minutes what an inverse transform from scratch
needs hours for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.conv import CausalConv1d, CausalStack, ConvNeXtBlock, ConvState

HIGHEST = 11000.0  # Hz of the highest harmonic
REFERENCE = 200.0  # Hz that the pitch is a multiple of


@dataclass
class SourceState:
    """Where the pulses are, and what windows that are not complete hold.

    Attributes:
        cycles: of the fundamental so far, without whole ones [batch].
        pitch: Hz of the last frame, 0 if unvoiced [batch].
        source, sound: the last fft - hop samples of the pulses, and of the sound that later frames will add to [batch,
            fft - hop].
        noise: state of the generator of the noise, as `torch.Generator.get_state` gives it [batch, bytes].
        contour: of the network that tells the pitch.
    """

    cycles: Tensor
    pitch: Tensor
    source: Tensor
    sound: Tensor
    noise: Tensor
    contour: list[ConvState | None]


def pulses(pitch: Tensor, state: SourceState, hop: int, rate: int) -> Tensor:
    """Band-limited pulses: every harmonic below `HIGHEST` as a cosine of amplitude 1.

    Args:
        pitch: Hz of each frame, 0 where unvoiced [batch, frames]; it moves in a straight line from frame to frame.
        state: `cycles` and `pitch` are carried on.
        hop, rate: samples a frame, samples a second.

    Returns:
        [batch, frames * hop], zero where unvoiced.
    """
    before = torch.cat([state.pitch[:, None], pitch[:, :-1]], dim=1)
    start = torch.where((before > 0) & (pitch > 0), before, pitch)[..., None]
    share = torch.arange(1, hop + 1, device=pitch.device) / hop
    hertz = (start + (pitch[..., None] - start) * share).flatten(1)
    cycles = (hertz.double() / rate).cumsum(1) + state.cycles[:, None]
    state.cycles, state.pitch = cycles[:, -1] % 1.0, pitch[:, -1]
    angle = (2 * math.pi * (cycles % 1.0)).float()
    harmonics = torch.floor(HIGHEST / hertz.clamp_min(1.0)) + 0.5
    # sum of cos(h t) for h up to H is sin((H + 1/2) t) / (2 sin(t / 2)) - 1/2, and H where t is a whole turn
    half = 2 * torch.sin(angle / 2)
    whole = half.abs() < 2e-3
    train = (
        torch.where(whole, harmonics, torch.sin(harmonics * angle) / torch.where(whole, torch.ones_like(half), half))
        - 0.5
    )
    return train * (hertz > 0)


class SourceFilter(nn.Module):
    """Features to waveform. The sound comes `delay` samples after the frame that completes it.

    Args:
        width: of the features.
        fft, hop, rate: samples, samples, Hz; the window is two hops.
        contour_width: of a network of two blocks that tells the pitch from the frames before, too: told from one
            frame alone, it jitters. 0 for none.
    """

    def __init__(self, width: int, fft: int, hop: int, rate: int, contour_width: int = 0):
        super().__init__()
        if fft != 2 * hop:
            raise ValueError(f"the window must be two hops, got {fft} and {hop}")
        self.fft, self.hop, self.rate, self.delay = fft, hop, rate, fft - hop
        self.filters = nn.Linear(width, 3 * (fft // 2 + 1))
        self.pitch = nn.Linear(width, 2)
        self.contour = CausalStack()
        if contour_width:
            blocks = [ConvNeXtBlock(contour_width) for _ in range(2)]
            self.contour = CausalStack(
                CausalConv1d(width, contour_width, 1), *blocks, CausalConv1d(contour_width, 2, 1)
            )
        self.register_buffer("shape", torch.hann_window(fft).sqrt(), persistent=False)
        with torch.no_grad():  # start quiet
            self.filters.weight.mul_(0.3)
            self.filters.bias.fill_(-4.0)
            self.filters.bias[fft // 2 + 1 : fft + 2] = 0.0
            self.pitch.weight.zero_()
            if contour_width:  # a fresh one adds nothing
                self.contour[-1].conv.weight.zero_()
                self.contour[-1].conv.bias.zero_()

    def init_state(self, batch: int, seed: int = 0) -> SourceState:
        device = self.shape.device
        empty = torch.zeros(batch, self.delay, device=device)
        zero = torch.zeros(batch, device=device)
        noise = torch.Generator().manual_seed(seed).get_state().repeat(batch, 1)
        return SourceState(zero.double(), zero, empty, empty, noise, self.contour.init_state(batch))

    def height(self, x: Tensor, contour: list[ConvState | None] | None = None) -> tuple[Tensor, Tensor]:
        """[batch, width, n] -> how surely voiced (logits) and the natural logarithm of pitch / `REFERENCE`,
        [batch, n] each.

        Args:
            x: features.
            contour: `SourceState.contour`, which is changed; None where `x` is the beginning.
        """
        told = self.pitch(x.transpose(1, 2)).float()
        if len(self.contour):
            moved = self.contour(x) if contour is None else self.contour.step(x, contour)
            told = told + moved.transpose(1, 2).float()
        voiced, log_pitch = told.unbind(-1)
        return voiced, log_pitch

    def _noise(self, frames: int, state: SourceState) -> Tensor:
        """Noise of even strength and random phase [batch, frames, bins] (batch 1 where all rows draw the same), drawn
        frame by frame so that pieces and the whole draw the same.

        Gaussian noise would be stronger in one bin and weaker in the next by chance, which the ear hears and the loss
        can't mend.
        """
        together = bool((state.noise == state.noise[:1]).all())
        rows, generator, after = [], torch.Generator(), []
        for own in state.noise[:1] if together else state.noise:
            generator.set_state(own.clone())  # a view into a batch of states is read wrongly
            rows += [torch.rand(self.fft // 2 + 1, generator=generator) for _ in range(frames)]
            after.append(generator.get_state())
        state.noise = after[0].repeat(len(state.noise), 1) if together else torch.stack(after)
        drawn = torch.stack(rows).unflatten(0, (-1, frames)).to(self.shape.device)
        return torch.polar(torch.full_like(drawn, 2**0.5), 2 * math.pi * drawn)

    def step(self, x: Tensor, state: SourceState, pitch: Tensor | None = None) -> Tensor:
        """Features [batch, width, n] -> samples [batch, n * hop], `delay` samples late.

        Args:
            x: features.
            state: is changed.
            pitch: Hz of each frame [batch, n], 0 where unvoiced, in place of what the network says (in training).
        """
        if pitch is None:
            voiced, log_pitch = self.height(x, state.contour)
            # Rounded to 1/16 Hz: a difference in the last bit would grow with every cycle.
            pitch = (16 * REFERENCE * log_pitch.clamp(-1.5, 1.5).exp() * (voiced > 0)).round() / 16
        source = torch.cat([state.source, pulses(pitch, state, self.hop, self.rate)], dim=1)
        state.source = source[:, -self.delay :]
        spectrum = torch.fft.rfft(source.unfold(-1, self.fft, self.hop) * self.shape)
        voice, turn, noise = self.filters(x.transpose(1, 2)).float().chunk(3, dim=-1)
        filtered = spectrum * torch.polar(voice.clamp_max(6.0).exp(), math.pi * torch.tanh(turn))
        hiss = self._noise(x.shape[-1], state) * noise.clamp_max(6.0).exp() * (self.fft / 4) ** 0.5
        frames = torch.fft.irfft(filtered + hiss, n=self.fft) * self.shape
        batch, number, _ = frames.shape
        length = (number - 1) * self.hop + self.fft
        sound = F.fold(frames.transpose(1, 2), (1, length), (1, self.fft), stride=(1, self.hop)).view(batch, length)
        sound = sound + F.pad(state.sound, (0, length - self.delay))
        state.sound = sound[:, number * self.hop :]
        return sound[:, : number * self.hop]

    def forward(self, x: Tensor, pitch: Tensor | None = None) -> Tensor:
        """Features [batch, width, n] -> samples [batch, n * hop], not late:
        the last hop lacks what a next frame would add."""
        state = self.init_state(len(x))
        sound = self.step(x, state, pitch)
        return torch.cat([sound, state.sound], dim=1)[:, self.delay :]


def contour_of(pitch: Tensor) -> Tensor:
    """Natural logarithms of pitch / `REFERENCE`, in a straight line over frames without a voice.

    Args:
        pitch: Hz, 0 where unvoiced [batch, frames].

    Returns:
        [batch, frames]; 0 in a row without a voice.
    """
    voiced, frames = pitch > 0, torch.arange(pitch.shape[-1], device=pitch.device)
    last = pitch.shape[-1] - 1
    before = torch.where(voiced, frames, -1).cummax(-1).values
    after = torch.where(voiced, frames, last + 1).flip(-1).cummin(-1).values.flip(-1)
    before, after = torch.where(before < 0, after, before), torch.where(after > last, before, after)
    height = torch.log(pitch.clamp_min(1.0) / REFERENCE) * voiced
    left, right = (height.gather(-1, at.clamp(0, last)) for at in (before, after))
    return left + (right - left) * (frames - before) / (after - before).clamp_min(1)


def estimate_pitch(audio: Tensor, rate: int, hop: int, lowest: float = 70.0, highest: float = 420.0) -> Tensor:
    """Pitch by normalised autocorrelation, for clean speech.

    Args:
        audio: [batch, samples], whole hops.
        rate, hop: samples a second, a frame.
        lowest, highest: Hz.

    Returns:
        Hz [batch, frames], 0 where unvoiced; frame t is centred on hop t.
    """
    window, longest, shortest = 4 * hop, int(rate / lowest), int(rate / highest)
    margin = (window - hop) // 2
    frames = F.pad(audio, (margin, margin)).unfold(-1, window, hop)
    shape = torch.hann_window(window, device=audio.device)

    def correlate(x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, n=2 * window).abs().square())[..., : longest + 2]

    raw = correlate((frames - frames.mean(-1, keepdim=True)) * shape)
    score = (
        raw / raw[..., :1].clamp_min(1e-9) / (correlate(shape) / shape.square().sum())
    )  # Boersma 1993: divide by the window's own
    inner = score[..., shortest : longest + 1]
    peak = (inner >= score[..., shortest - 1 : longest]) & (inner >= score[..., shortest + 1 : longest + 2])
    best = (inner * peak).amax(-1, keepdim=True)
    lag = (peak & (inner > 0.9 * best)).float().argmax(
        -1
    ) + shortest  # the first of nearly equal peaks: no octave too low
    left, middle, right = (score.gather(-1, (lag + d)[..., None])[..., 0] for d in (-1, 0, 1))
    shift = (0.5 * (left - right) / (left - 2 * middle + right).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    loud = frames.square().mean(-1) > 1e-6
    return torch.where((best[..., 0] > 0.55) & loud, rate / (lag + shift), torch.zeros_like(shift))
