"""Qwen3-Omni's audio tower (AuT): convolutions over a second at a time, attention over eight of them, 13 tokens/s.

A second of log-mel goes through three convolutions over time and bands, as if it stood alone; what comes of it gets
Whisper's positions, which start anew with each second. Layers are Whisper's; a token sees those of its eight seconds
(Qwen3-Omni, Xu et al. 2025, section 2.1). A second that isn't whole is filled up with zeros, as `transformers` fills it
up beside longer ones, so that a sound is the same whatever comes with it and however it comes. Key names are those of
`transformers`, but for `conv2d1` to `conv2d3`, which are `conv1` to `conv3` here.

    tower = AudioTransformer(AudioTransformerConfig())
    tokens, counts = tower(mel, frames)                 # [batch, bands, T], [batch] -> [batch, tokens, output], [batch]
    state = tower.init_state()
    tokens = tower.step(mel, state)                     # of what is whole now
    tokens = tower.step(mel, state, last=True)          # the rest
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.encoders.whisper.encoder import EncoderConfig, EncoderLayer, attention_mask, sinusoids
from antiphon.encoders.whisper.tower import AudioTowerState
from antiphon.errors import ModelError

AT_ONCE = 100  # seconds that go through the convolutions together, which bounds the memory


@dataclass(frozen=True)
class AudioTransformerConfig:
    """Sizes; names are those of the published config.json's `audio_config`.

    Attributes:
        n_window: half of what the convolutions see, in mel frames.
        n_window_infer: mel frames whose tokens see one another.
        downsample_hidden_size: channels of the convolutions.
        output_dim: width of what it gives.
    """

    d_model: int = 1280
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    num_mel_bins: int = 128
    max_source_positions: int = 1500
    n_window: int = 50
    n_window_infer: int = 800
    downsample_hidden_size: int = 480
    output_dim: int = 3584

    @property
    def chunk(self) -> int:
        """Mel frames that the convolutions see together."""
        return 2 * self.n_window

    @property
    def block(self) -> int:
        """Mel frames that are encoded together."""
        return max(1, self.n_window_infer // self.chunk) * self.chunk

    def tokens(self, frames: int) -> int:
        """Tokens that the tower makes of so many mel frames."""
        whole, rest = divmod(frames, self.chunk)
        return whole * _halved(self.chunk) + _halved(rest)


def _halved(size: int) -> int:
    """What three convolutions with a stride of two leave of a signal."""
    for _ in range(3):
        size = (size + 1) // 2
    return size


class AudioTransformer(nn.Module):
    """Log-mel to what the language model reads; see the module."""

    def __init__(self, config: AudioTransformerConfig):
        super().__init__()
        self.config, width, channels = config, config.d_model, config.downsample_hidden_size
        self.conv1 = nn.Conv2d(1, channels, 3, 2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.conv_out = nn.Linear(channels * _halved(config.num_mel_bins), width, bias=False)
        layer = EncoderConfig(width, config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)
        self.layers = nn.ModuleList(EncoderLayer(layer) for _ in range(config.encoder_layers))
        for each in self.layers:  # a bias that all keys share changes no attention, but it was published
            each.self_attn.k_proj = nn.Linear(width, width)
        self.ln_post = nn.LayerNorm(width)
        self.proj1, self.proj2 = nn.Linear(width, width), nn.Linear(width, config.output_dim)
        self.reset()

    def reset(self) -> None:
        """Computes what is no weight; needed where the module was made without memory."""
        self.positions = sinusoids(_halved(self.config.chunk), self.config.d_model)

    def forward(self, mel: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Whole signals.

        Args:
            mel: [batch, bands, T], 100 frames a second.
            frames: of each row [batch]; None where all are whole.

        Returns:
            [batch, tokens, output_dim], zeros behind a row's own; tokens of each row [batch].

        Raises:
            ModelError: a row is empty.
        """
        counts = [mel.shape[2]] * len(mel) if frames is None else frames.tolist()
        if min(counts) < 1:
            raise ModelError("a sound of no mel frames can't be heard: one (10 ms) makes a token")
        size, tokens = self.config.chunk, self.config.tokens
        chunks, lengths = [], []
        for row, count in zip(mel, counts):
            chunks += F.pad(row[:, :count], (0, -count % size)).split(size, dim=1)
            lengths.append([tokens(min(size, count - first)) for first in range(0, count, size)])
        embedded = iter(self._embedded(torch.stack(chunks)))
        windows, per_row = [], []
        for row_lengths in lengths:
            whole = torch.cat([next(embedded)[:length] for length in row_lengths])
            parts = whole.split(tokens(self.config.block))
            windows += parts
            per_row.append(len(parts))
        encoded = iter(self._encoded(windows))
        rows = [torch.cat([next(encoded) for _ in range(count)]) for count in per_row]
        made = torch.tensor([len(row) for row in rows], device=mel.device)
        return pad_sequence(rows, batch_first=True), made

    def _embedded(self, chunks: Tensor) -> Tensor:
        """Whole chunks [chunks, bands, frames] -> [chunks, tokens, width] with their positions."""
        made = []
        for some in chunks.to(self.conv1.weight.dtype).split(AT_ONCE):
            x = F.gelu(self.conv1(some[:, None]))
            x = F.gelu(self.conv3(F.gelu(self.conv2(x))))
            made.append(self.conv_out(x.permute(0, 3, 1, 2).flatten(2)))
        return torch.cat(made) + self.positions.to(made[0])

    def _encoded(self, windows: list[Tensor]) -> list[Tensor]:
        """Windows [tokens, width] of tokens that see one another -> [tokens, output_dim] each."""
        counts = torch.tensor([len(window) for window in windows], device=windows[0].device)
        x = pad_sequence(windows, batch_first=True)
        mask = attention_mask(counts, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        x = self.proj2(F.gelu(self.proj1(self.ln_post(x))))
        return [row[:count] for row, count in zip(x, counts.tolist())]

    def init_state(self, batch: int = 1) -> AudioTowerState:
        """The state before the first mel frame."""
        return AudioTowerState(self.conv1.weight.new_zeros(batch, self.config.num_mel_bins, 0))

    def step(self, mel: Tensor, state: AudioTowerState, last: bool = False) -> Tensor:
        """What can be told of the next mel frames [batch, bands, n]: [batch, tokens, output_dim], of what is whole
        alone, or of the rest too if nothing follows. The state is changed."""
        mel = torch.cat([state.mel, mel.to(state.mel)], dim=2)
        ready = mel.shape[2] if last else mel.shape[2] // self.config.block * self.config.block
        state.mel = mel[..., ready:]
        if not ready:
            return mel.new_zeros(len(mel), 0, self.config.output_dim)
        return self(mel[..., :ready])[0]
