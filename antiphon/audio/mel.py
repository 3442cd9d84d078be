"""Whisper's log-mel spectrogram, whole or as the samples come.

16 kHz, windows of 25 ms every 10 ms, 80 (or 128) mel bands on Slaney's scale, log10, and Whisper's scaling (x + 4) / 4
(Radford et al. 2022, section 2.2). Two things differ from Whisper so that a live signal gives what a whole one gives:

- Whisper cuts off what lies more than 8 (80 dB) under the loudest value of the *clip*. Here it is the loudest value
  *so far*, and no less than `FLOOR`, so that silence before the first word looks like silence after it.
- After the last sample there is silence (zeros); there is no padding to 30 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16000
WINDOW = 400
HOP = 160
FLOOR = 0.0  # the least "loudest value so far": the maximum of speech that peaks at about -20 dB of full scale


def slaney_mel(hertz: float) -> float:
    """Hz to mel on Slaney's scale: linear under 1 kHz, logarithmic above."""
    return hertz * 3.0 / 200.0 if hertz < 1000.0 else 15.0 + math.log(hertz / 1000.0) * 27.0 / math.log(6.4)


def slaney_hertz(mel: Tensor) -> Tensor:
    """Mel on Slaney's scale to Hz."""
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * math.log(6.4) / 27.0))


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what was made while somebody was heard may be trained through later
def mel_filters(bands: int = 80, window: int = WINDOW, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Triangles of equal area, [bands, window // 2 + 1], up to half the sample rate (Hz); `window` in samples."""
    frequencies = torch.linspace(0.0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    edges = slaney_hertz(torch.linspace(0.0, slaney_mel(sample_rate / 2), bands + 2, dtype=torch.float64))
    widths = edges.diff()
    slopes = edges[:, None] - frequencies[None, :]
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0.0)
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float()


@dataclass(frozen=True)
class MelState:
    """Where a live spectrogram stands.

    Attributes:
        samples: [batch, n], those that windows to come still need (mirrored ones before the first included).
        loudest: [batch], the largest log10 value so far.
        started: whether the mirrored samples before the first one have been put in place.
    """

    samples: Tensor
    loudest: Tensor
    started: bool = False


def init_state(batch: int = 1, device: torch.device | str = "cpu") -> MelState:
    """The state before the first sample."""
    return MelState(torch.zeros(batch, 0, device=device), torch.full((batch,), FLOOR, device=device))


def step(samples: Tensor, state: MelState, last: bool = False, bands: int = 80) -> tuple[Tensor, MelState]:
    """Log-mel of what has come so far and was not given yet.

    Args:
        samples: [batch, n] at 16 kHz, any n, 0 too.
        state: from `init_state` or the step before; it is not changed.
        last: nothing follows: give the frames that the samples reach (one per 160 begun) with silence after them.
        bands: 80, or 128 for Whisper large-v3.

    Returns:
        ([batch, bands, frames] at 100 frames/s, the new state). A frame comes 200 samples after its centre.
    """
    pending = torch.cat([state.samples, samples], dim=1)
    started, half = state.started, WINDOW // 2
    if not started:
        if pending.shape[1] <= half and not last:
            return samples.new_zeros(samples.shape[0], bands, 0), replace(state, samples=pending)
        mirrored = pending[:, 1 : half + 1].flip(1)
        pending = torch.cat([F.pad(mirrored, (half - mirrored.shape[1], 0)), pending], dim=1)
        started = True
    if last:  # the samples proper begin `half` into the window to come
        frames = max(0, math.ceil((pending.shape[1] - half) / HOP))
        pending = F.pad(pending, (0, max(0, (frames - 1) * HOP + WINDOW - pending.shape[1])))
    else:
        frames = max(0, (pending.shape[1] - WINDOW) // HOP + 1)
    if frames == 0:
        return samples.new_zeros(samples.shape[0], bands, 0), MelState(pending, state.loudest, started)
    windows = pending.unfold(1, WINDOW, HOP)[:, :frames]
    power = torch.fft.rfft(windows * torch.hann_window(WINDOW, device=samples.device)).abs().square()
    log = torch.log10((power @ mel_filters(bands).to(samples.device).T).clamp_min(1e-10))
    loudest = torch.maximum(log.amax(-1).cummax(1).values, state.loudest[:, None])
    mel = (torch.maximum(log, loudest[:, :, None] - 8.0) + 4.0) / 4.0
    return mel.transpose(1, 2), MelState(pending[:, frames * HOP :], loudest[:, -1], started)


def log_mel(samples: Tensor, bands: int = 80) -> Tensor:
    """Log-mel of whole signals.

    Args:
        samples: [batch, n] at 16 kHz.
        bands: 80, or 128 for Whisper large-v3.

    Returns:
        [batch, bands, ceil(n / 160)].
    """
    return step(samples, init_state(samples.shape[0], samples.device), last=True, bands=bands)[0]
