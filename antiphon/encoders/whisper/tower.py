"""Qwen2.5-Omni's audio tower: Whisper's encoder in blocks of 2 s that don't see one another, pooled to 25 frames/s.

Each block is encoded as if it stood alone (its positions start anew), so a live signal gives what a whole one gives,
a block at a time (Qwen2.5-Omni, Xu et al. 2025, section 2.2). Weights and key names are those of `transformers`.

    tower = AudioTower(AudioTowerConfig())
    tokens, counts = tower(mel, frames)                 # [batch, bands, T], [batch] -> [batch, tokens, output], [batch]
    state = tower.init_state()
    tokens = tower.step(mel, state)                     # of the blocks that are whole now
    tokens = tower.step(mel, state, last=True)          # the rest
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders.base import length_mask
from antiphon.encoders.whisper.encoder import EncoderConfig, EncoderLayer, attention_mask, sinusoids
from antiphon.errors import ModelError


@dataclass(frozen=True)
class AudioTowerConfig:
    """Sizes; names are those of the published config.json's `audio_config`.

    Attributes:
        n_window: half a block, in mel frames.
        output_dim: width of what it gives.
    """

    d_model: int = 1280
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    num_mel_bins: int = 128
    max_source_positions: int = 1500
    n_window: int = 100
    output_dim: int = 3584

    @property
    def block(self) -> int:
        """Mel frames that are encoded together."""
        return 2 * self.n_window


def audio_tokens(frames: int) -> int:
    """Tokens that the tower makes of so many mel frames: one of four, the last of which needn't be whole."""
    return ((frames - 1) // 2 + 1) // 2


@dataclass
class AudioTowerState:
    """Mel frames that are waiting for their block to be whole, [batch, bands, fewer than a block]."""

    mel: Tensor


class AudioTower(nn.Module):
    """Log-mel to what the language model reads, 25 a second; see the module."""

    def __init__(self, config: AudioTowerConfig):
        super().__init__()
        self.config, width = config, config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        layer = EncoderConfig(width, config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)
        self.layers = nn.ModuleList(EncoderLayer(layer) for _ in range(config.encoder_layers))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Linear(width, config.output_dim)
        # Published beside the rest; the markers around a sound are text tokens, so nothing reads it.
        self.audio_bos_eos_token = nn.Embedding(2, config.output_dim).requires_grad_(False)
        self.reset()

    def reset(self) -> None:
        """Computes what is no weight; needed where the module was made without memory."""
        self.positions = sinusoids(min(self.config.max_source_positions, self.config.n_window), self.config.d_model)

    def forward(self, mel: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Whole signals.

        Args:
            mel: [batch, bands, T], 100 frames a second.
            frames: of each row [batch]; None where all are whole.

        Returns:
            [batch, tokens, output_dim], zeros behind a row's own; tokens of each row [batch].

        Raises:
            ModelError: a row is too short to make one token.
        """
        size = self.config.block
        frames = torch.full((len(mel),), mel.shape[2]) if frames is None else frames.cpu()
        if int(frames.min()) < 3:
            raise ModelError(f"a sound of {int(frames.min())} mel frames is too short: 3 (30 ms) make one token")
        blocks, lengths, rows = [], [], []
        for row, count in enumerate(frames.tolist()):
            for first in range(0, count, size):
                length = min(size, count - first)
                blocks.append(F.pad(mel[row, :, first : first + length], (0, size - length)))
                lengths.append(length)
                rows.append(row)
        longest = max(lengths)
        encoded, made = self._encode(torch.stack(blocks)[..., :longest], torch.tensor(lengths, device=mel.device))
        counts = torch.tensor([audio_tokens(count) for count in frames.tolist()], device=mel.device)
        out = encoded.new_zeros(len(mel), int(counts.max()), encoded.shape[2])
        parts: list[list[Tensor]] = [[] for _ in range(len(mel))]
        for row, values, count in zip(rows, encoded, made.tolist()):
            parts[row].append(values[:count])
        for row, own in enumerate(parts):
            whole = torch.cat(own)
            out[row, : len(whole)] = whole
        return out, counts

    def _encode(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks [blocks, bands, T] of so many frames each -> [blocks, tokens, output_dim], tokens of each."""
        x, counts = self.pooled(mel, lengths)
        return self.proj(self.ln_post(x)), counts

    def pooled(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The same before it is brought to the language model's width: [blocks, tokens, d_model]."""
        x = F.gelu(self.conv1(mel.to(self.conv1.weight.dtype))) * length_mask(lengths, mel.shape[2])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[: x.shape[1]].to(x)
        frames = (lengths - 1) // 2 + 1
        mask = attention_mask(frames, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return x[:, : x.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2), frames // 2

    def init_state(self, batch: int = 1) -> AudioTowerState:
        """The state before the first mel frame."""
        return AudioTowerState(self.conv1.weight.new_zeros(batch, self.config.num_mel_bins, 0))

    def step(self, mel: Tensor, state: AudioTowerState, last: bool = False) -> Tensor:
        """What can be told of the next mel frames [batch, bands, n]: [batch, tokens, output_dim], of whole blocks
        alone, or of the rest too if nothing follows. The state is changed."""
        mel = torch.cat([state.mel, mel.to(state.mel)], dim=2)
        ready = mel.shape[2] if last else mel.shape[2] // self.config.block * self.config.block
        state.mel = mel[..., ready:]
        if audio_tokens(ready) < 1:
            return mel.new_zeros(len(mel), 0, self.config.output_dim)
        return self(mel[..., :ready])[0]
