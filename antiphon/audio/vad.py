"""Voice activity: whether somebody speaks, told from sound that comes in pieces of any size.

    vad = SileroVad.shipped()
    state = vad.init_state()
    chances = vad.step(samples, state)        # [chunks] of 32 ms each, 0 to 1

Silero VAD 6 (MIT licence, Silero Team, https://github.com/snakers4/silero-vad), its 16 kHz network: a short-time
Fourier transform, four convolutions over each chunk alone, and an LSTM over the chunks. The weights beside this file
are those of `silero_vad_16k_op15.onnx` in the package silero-vad 6.2.3, under names of our own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16000
CHUNK = 512  # samples that one answer is about: 32 ms
CONTEXT = 64  # samples of the chunk before that the network sees again
WINDOW, HOP, PADDING = 256, 128, 64  # of the Fourier transform, samples; the padding mirrors the chunk's end
LOUD, FAINT = 0.1, 1e-3  # peaks: sound that never got to the one is raised to it, as if it had reached the other
WEIGHTS = Path(__file__).with_name("silero_vad.safetensors")


@dataclass
class SileroState:
    """One batch of signals under way. `step` replaces fields and never writes into a tensor: a copy is a snapshot.

    Attributes:
        pending: [batch, n < CHUNK], samples that don't fill a chunk yet.
        context: [batch, CONTEXT], the end of the last chunk.
        hidden, cell: [1, batch, width], the LSTM's.
        peak: [batch], of the loudest sample so far.
    """

    pending: Tensor
    context: Tensor
    hidden: Tensor
    cell: Tensor
    peak: Tensor

    def clone(self) -> SileroState:
        """A snapshot that can go its own way."""
        return replace(self)


class SileroVad(nn.Module):
    """Samples at 16 kHz -> how likely each 32 ms of them are speech."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, WINDOW + 2, WINDOW, stride=HOP, bias=False)
        shapes = ((WINDOW // 2 + 1, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.convs = nn.ModuleList(nn.Conv1d(width, out, 3, stride, padding=1) for width, out, stride in shapes)
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        self.head = nn.Conv1d(128, 1, 1)

    @classmethod
    @lru_cache(maxsize=1)
    def shipped(cls) -> SileroVad:
        """The network with its published weights; one for the whole process, as it keeps no state."""
        vad = cls().eval().requires_grad_(False)
        vad.load_state_dict(load_file(WEIGHTS))
        return vad

    def init_state(self, batch: int = 1) -> SileroState:
        """The state before the first sample."""
        zeros = self.head.weight.new_zeros
        lstm = zeros(1, batch, self.lstm.hidden_size)
        return SileroState(zeros(batch, 0), zeros(batch, CONTEXT), lstm, lstm, zeros(batch))

    @torch.no_grad()
    def step(self, samples: Tensor, state: SileroState) -> Tensor:
        """The probability of speech in each chunk that the samples complete.

        The network hardly hears speech whose peaks stay under -40 dB of full scale; such sound is raised first, by what
        was loudest so far. Louder sound it gets as it is.

        Args:
            samples: float [batch, N] in [-1, 1] at 16 kHz, any N.
            state: changed.

        Returns:
            [batch, chunks]; chunk i is about the samples from i * CHUNK on, counted over all calls.
        """
        samples = torch.cat([state.pending, samples], dim=1)
        batch, count = samples.shape[0], samples.shape[1] // CHUNK
        state.pending = samples[:, count * CHUNK :]
        if not count:
            return samples.new_zeros(batch, 0)
        samples = torch.cat([state.context, samples[:, : count * CHUNK]], dim=1)
        state.context = samples[:, -CONTEXT:]
        chunks = samples.unfold(1, CONTEXT + CHUNK, CHUNK).flatten(0, 1)
        peaks = chunks.abs().amax(1).view(batch, count).cummax(1).values.maximum(state.peak[:, None])
        state.peak = peaks[:, -1]
        chunks = chunks * (LOUD / peaks.clamp(FAINT, LOUD)).view(-1, 1)
        features = self._features(chunks).unflatten(0, (batch, count))
        out, (state.hidden, state.cell) = self.lstm(features, (state.hidden, state.cell))
        return self.head(F.relu(out).transpose(1, 2))[:, 0].sigmoid()

    def _features(self, chunks: Tensor) -> Tensor:
        """[n, CONTEXT + CHUNK] -> [n, 128]: each chunk alone."""
        spectrum = self.stft(F.pad(chunks[:, None], (0, PADDING), mode="reflect"))
        x = spectrum.unflatten(1, (2, -1)).square().sum(1).sqrt()
        for conv in self.convs:
            x = F.relu(conv(x))
        return x[:, :, 0]
