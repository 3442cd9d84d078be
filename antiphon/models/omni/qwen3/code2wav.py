"""Frames of codes to sound, 80 ms a frame, by a causal transformer and causal convolutions (Qwen3-Omni, section 2.5).

Nothing in it looks ahead but for a transposed convolution's next input, so each frame is heard when it is there, and
pieces give what the whole gives. As published, a transposed convolution leaves out what its first input alone and its
last input alone would give: the sound is a few milliseconds shorter than its frames.

    sound = code2wav(codes)                                # [batch, codebooks, frames] -> [batch, samples]
    state = code2wav.init_state()
    sound = code2wav.step(codes, state)                    # as they come
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.omni.qwen3.config import Code2WavConfig
from antiphon.nn.conv import CausalConv1d, CausalStack, ConvNeXtBlock, ConvState
from antiphon.nn.transformer import Transformer, TransformerState

DILATIONS = (1, 3, 9)
PIECE = 25  # frames at once, which bounds the memory: activations are a thousand times the codes


class SnakeBeta(nn.Module):
    """x + sin(a x)^2 / b with an a and a b a channel, kept as logarithms (BigVGAN, Lee et al. 2023)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, n] -> the same."""
        alpha, over = self.alpha.exp()[:, None], (self.beta.exp() + 1e-9).reciprocal()[:, None]
        return torch.addcmul(x, torch.sin(x * alpha).square(), over)

    def init_state(self, batch: int) -> None:
        return None

    def step(self, x: Tensor, state: None) -> Tensor:
        return self(x)


class TransposedConv1d(nn.Module):
    """Transposed convolution without what its first and its last input give alone: n inputs make (n - 1) * factor
    outputs where the kernel is twice the factor, and n * factor where it is the factor."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, factor: int):
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels_in, channels_out, kernel, factor)
        self.edge, self.keep = kernel - factor, (kernel - 1) // factor

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y[..., self.edge : y.shape[-1] - self.edge]

    def init_state(self, batch: int) -> ConvState:
        return ConvState(self.conv.weight.new_zeros(batch, self.conv.in_channels, 0))

    def step(self, x: Tensor, state: ConvState) -> Tensor:
        """[batch, channels_in, n] -> what is certain now, [batch, channels_out, ...]."""
        x = torch.cat([state.past, x], dim=-1)
        state.past = x[..., max(0, x.shape[-1] - self.keep) :]
        return self(x)


class ResidualUnit(nn.Module):
    """A dilated convolution and one of a single tap, after activations, added to what goes in."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.act1, self.conv1 = SnakeBeta(channels), CausalConv1d(channels, channels, 7, dilation=dilation)
        self.act2, self.conv2 = SnakeBeta(channels), CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act2(self.conv1(self.act1(x))))

    def init_state(self, batch: int) -> ConvState:
        return self.conv1.init_state(batch)

    def step(self, x: Tensor, state: ConvState) -> Tensor:
        """[batch, channels, n] -> the same."""
        return x + self.conv2(self.act2(self.conv1.step(self.act1(x), state)))


class DecoderBlock(nn.Module):
    """A stage of the decoder: upsampling, then residual units."""

    def __init__(self, channels: int, factor: int):
        super().__init__()
        units = (ResidualUnit(channels // 2, dilation) for dilation in DILATIONS)
        up = TransposedConv1d(channels, channels // 2, 2 * factor, factor)
        self.block = CausalStack(SnakeBeta(channels), up, *units)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)

    def init_state(self, batch: int) -> Any:
        return self.block.init_state(batch)

    def step(self, x: Tensor, state: Any) -> Tensor:
        """[batch, channels, n] -> [batch, channels / 2, n * factor], the first time fewer; nothing of nothing."""
        up = self.block[1].step(self.block[0](x), state[1])
        if not up.shape[-1]:
            return up
        for module, part in zip(self.block[2:], state[2:]):
            up = module.step(up, part)
        return up


@dataclass
class Code2WavState:
    """What is remembered of a stream: the transformer's, and each stage's of the convolutions."""

    transformer: TransformerState
    stages: list[Any]


class Code2Wav(nn.Module):
    """See the module."""

    codes_per_block, first_blocks = 1, 1  # frames that sound can be made of, and that there must be

    def __init__(self, config: Code2WavConfig):
        super().__init__()
        self.config, width, channels = config, config.hidden_size, config.decoder_dim
        self.code_embedding = nn.Embedding(config.codebook_size * config.num_quantizers, width)
        self.pre_transformer = Transformer(config.transformer)
        self.upsample = nn.ModuleList(
            CausalStack(TransposedConv1d(width, width, factor, factor), ConvNeXtBlock(width, 7, 4, 1e-6, 1e-6))
            for factor in config.upsampling_ratios
        )
        stages: list[nn.Module] = [CausalConv1d(width, channels, 7)]
        for factor in config.upsample_rates:
            stages.append(DecoderBlock(channels, factor))
            channels //= 2
        self.decoder = nn.ModuleList([*stages, SnakeBeta(channels), CausalConv1d(channels, 1, 7)])

    def reset(self) -> None:
        """Computes what is no weight; needed where the module was made without memory."""
        self.pre_transformer.reset()

    def init_state(self, batch: int = 1) -> Code2WavState:
        """The state before the first frame."""
        stages = [stage.init_state(batch) for stage in (*self.upsample, *self.decoder)]
        return Code2WavState(self.pre_transformer.init_state(batch), stages)

    def forward(self, codes: Tensor) -> Tensor:
        """The sound of whole codes [batch, codebooks, frames], [batch, samples] between -1 and 1."""
        x = self.pre_transformer(self._embedded(codes)).transpose(1, 2)
        for stage in (*self.upsample, *self.decoder):
            x = stage(x)
            if not x.shape[-1]:
                return x.new_zeros(len(x), 0)
        return x.clamp(-1, 1)[:, 0]

    @torch.no_grad()
    def step(self, codes: Tensor, state: Code2WavState) -> Tensor:
        """What can be told of the next codes [batch, codebooks, any number]: [batch, samples]. The state is changed."""
        sound = [self._piece(piece, state) for piece in codes.split(PIECE, dim=2)] if codes.shape[2] else []
        return torch.cat([self.code_embedding.weight.new_zeros(len(codes), 0), *sound], dim=1)

    def _piece(self, codes: Tensor, state: Code2WavState) -> Tensor:
        x = self.pre_transformer.step(self._embedded(codes), state.transformer).transpose(1, 2)
        for stage, part in zip((*self.upsample, *self.decoder), state.stages):
            x = stage.step(x, part)
            if not x.shape[-1]:
                return x.new_zeros(len(x), 0)
        return x.clamp(-1, 1)[:, 0]

    def _embedded(self, codes: Tensor) -> Tensor:
        """Means of the embeddings of all codebooks, [batch, frames, width]."""
        groups, size = self.config.num_quantizers, self.config.codebook_size
        if codes.shape[1] != groups:
            raise ModelError(f"codes of {codes.shape[1]} codebooks are given, and there are {groups}")
        first = torch.arange(groups, device=codes.device)[:, None] * size
        return self.code_embedding(codes + first).mean(1)
