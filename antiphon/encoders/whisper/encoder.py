"""Whisper's encoder, run in blocks while the speaker is still talking.

Whisper's encoder sees 30 s at once. Here a block of frames (50 a second) sees itself, all blocks before it (through a
key-value cache) and a few frames after it, which are computed for the block's sake and then computed anew as part of
the next one. Weights and key names are those of `transformers`' WhisperEncoder; with one block that covers everything,
so are the results.

    encoder = WhisperBlockEncoder.from_pretrained(folder)
    state = encoder.init_state(batch=1)
    features = encoder.step(mel, state)              # [1, frames, 512], as many as the mel so far allows
    features = encoder.step(mel, state, last=True)   # the rest
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.nn.weights import NoInitWeights, fill

MEL_PER_FRAME = 2
_PREFIX = "model.encoder."


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder and of its blocks.

    Attributes:
        width: features per frame.
        layers: transformer layers.
        heads: attention heads.
        inner: width of the feed-forward layers.
        bands: mel bands.
        positions: frames after which the encoder starts afresh (Whisper has positions for 1,500 frames = 30 s).
        block: frames in a block; 100 = 2 s.
        right: frames after a block that it sees.
    """

    width: int = 512
    layers: int = 6
    heads: int = 8
    inner: int = 2048
    bands: int = 80
    positions: int = 1500
    block: int = 100
    right: int = 20

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.block < 1 or self.right < 0:
            raise ModelError(f"block is {self.block} and right {self.right}: at least 1 and 0 are needed")


@dataclass
class EncoderState:
    """One batch of signals under way. `step` replaces fields and never writes into a tensor: a copy is a snapshot.

    Attributes:
        mel: [batch, bands, n], from mel frame `2 * frame - 2` (the convolutions' left context) on.
        frame: frames given out since the encoder last started afresh.
        begun: whether a block was taken out; before that, the signal's left edge is in `mel`.
        keys: per layer [batch, heads, frame, width / heads].
        values: likewise.
    """

    mel: Tensor
    frame: int = 0
    begun: bool = False
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def clone(self) -> EncoderState:
        """A snapshot that can go its own way."""
        return EncoderState(self.mel, self.frame, self.begun, list(self.keys), list(self.values))


class SelfAttention(nn.Module):
    """Multi-head attention over cached and new frames; every new frame sees all of them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, width] with the cache [B, H, S, D] -> (out [B, T, width], keys and values [B, H, S + T, D])."""
        batch, time, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, time, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        if keys is not None and values is not None:
            key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(out.transpose(1, 2).reshape(batch, time, width)), key, value


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each normed before and added after."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """As `SelfAttention.forward`."""
        out, keys, values = self.self_attn(self.self_attn_layer_norm(x), keys, values)
        x = x + out
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))), keys, values


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's positions [length, width]: sines, then cosines, of wavelengths from 2 pi to 20,000 pi frames."""
    rates = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10000.0)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class WhisperBlockEncoder(nn.Module):
    """Log-mel [B, bands, 2 T] -> features [B, T, width], whole or as it comes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.bands, config.width, 3)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2)
        self.embed_positions = nn.Embedding(config.positions, config.width)
        self.embed_positions.weight.data.copy_(sinusoids(config.positions, config.width))
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)

    @classmethod
    def from_pretrained(cls, folder: Path | str, block: int = 100, right: int = 20) -> WhisperBlockEncoder:
        """The encoder of a Whisper folder (`config.json` and `model.safetensors` with `transformers`' keys), float32.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text())
            with safe_open(folder / "model.safetensors", "pt") as file:
                names = [name for name in file.keys() if name.startswith(_PREFIX)]
                weights = {name[len(_PREFIX) :]: file.get_tensor(name).float() for name in names}
            config = EncoderConfig(
                width=tree["d_model"],
                layers=tree["encoder_layers"],
                heads=tree["encoder_attention_heads"],
                inner=tree["encoder_ffn_dim"],
                bands=tree["num_mel_bins"],
                positions=tree["max_source_positions"],
                block=block,
                right=right,
            )
            with NoInitWeights():
                encoder = cls(config)
            fill(encoder, weights, assign=True)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no Whisper encoder that can be read: {error}") from error
        return encoder.eval()

    def init_state(self, batch: int = 1) -> EncoderState:
        """The state before the first mel frame."""
        # Two frames of zeros stand before the first: the convolutions' padding.
        return EncoderState(self.layer_norm.weight.new_zeros(batch, self.config.bands, MEL_PER_FRAME))

    def step(self, mel: Tensor, state: EncoderState, last: bool = False) -> Tensor:
        """Features of the blocks that are complete.

        Args:
            mel: [batch, bands, n] at 100 frames/s, any n, 0 too.
            state: changed to the state after this step.
            last: nothing follows: give everything. An odd last mel frame is doubled. The state is spent afterwards.

        Returns:
            [batch, frames, width] at 50 frames/s; often no frames.
        """
        state.mel = torch.cat([state.mel, mel], dim=2)
        if last and state.mel.shape[2] % MEL_PER_FRAME:
            state.mel = torch.cat([state.mel, state.mel[:, :, -1:]], dim=2)
        out = []
        while True:
            waiting = state.mel.shape[2] // MEL_PER_FRAME - 1
            block = min(self.config.block, self.config.positions - state.frame)
            right = min(self.config.right, self.config.positions - state.frame - block)
            # The convolutions look one mel frame ahead.
            if state.mel.shape[2] > MEL_PER_FRAME * (block + right + 1):
                out.append(self._run(state, block, right, ended=False))
            elif last and waiting > 0:
                out.append(self._run(state, min(block, waiting), min(right, max(waiting - block, 0)), ended=True))
            else:
                break
            if state.frame == self.config.positions:
                state.frame, state.keys, state.values = 0, [], []
        return torch.cat(out, dim=1) if out else self.layer_norm.weight.new_zeros(mel.shape[0], 0, self.config.width)

    def forward(self, mel: Tensor) -> Tensor:
        """Whole signals: [batch, bands, n] -> [batch, ceil(n / 2), width]."""
        return self.step(mel, self.init_state(mel.shape[0]), last=True)

    def _run(self, state: EncoderState, block: int, right: int, ended: bool) -> Tensor:
        """Takes one block out of the state."""
        x = self._stem(state, block + right)
        x = x + self.embed_positions.weight[state.frame : state.frame + block + right]
        end = state.frame + block
        keys, values = [], []
        for index, layer in enumerate(self.layers):
            cached = (state.keys[index], state.values[index]) if state.keys else (None, None)
            x, key, value = layer(x, *cached)
            keys.append(key[:, :, :end])
            values.append(value[:, :, :end])
        state.keys, state.values, state.frame, state.begun = keys, values, end, True
        state.mel = state.mel[:, :, MEL_PER_FRAME * block :]
        return self.layer_norm(x[:, :block])

    def _stem(self, state: EncoderState, frames: int) -> Tensor:
        """The two convolutions for the next frames: [B, frames, width].

        Frame j needs the first convolution's outputs 2j - 1 to 2j + 1, those mel frames 2j - 2 to 2j + 2. Outside the
        signal Whisper pads the mel, and the first convolution's output too, with zeros.
        """
        mel = state.mel[:, :, : MEL_PER_FRAME * (frames + 1) + 1]
        if mel.shape[2] == MEL_PER_FRAME * (frames + 1):
            mel = F.pad(mel, (0, 1))
        x = F.gelu(self.conv1(mel))
        if not state.begun:
            x = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:]], dim=2)
        return F.gelu(self.conv2(x)).transpose(1, 2)
