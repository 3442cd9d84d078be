"""The diffusion transformer that makes a spectrogram of codes, by flow matching, in blocks of 24 frames.

A frame sees the frames of its block; in a few layers also those of the block before, in one those of the block after
(Qwen2.5-Omni, Xu et al. 2025, section 2.4). So attention is computed block by block, and what a stream must remember of
the past is the keys and values of one block. Names of weights are the published ones.

    condition = dit.condition(codes, speaker, reference, guided=True)        # [2 * batch, frames, hidden]
    velocity, kept = dit(x, dit.modulation(time), condition)                 # of noise x [batch, frames, mel]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.models.omni.config import DiTConfig
from antiphon.models.omni.speaker_encoder import SpeakerEncoder
from antiphon.nn.transformer import rotate, rotations

TIME_WIDTH, EPS, ROPE_BASE = 256, 1e-6, 10000.0
Modulation = list[Tensor]
Kept = list[Tensor]
"""Keys and values of one block, of each layer that looks back: [2, rows, heads, frames, width]."""


@dataclass(frozen=True)
class Places:
    """Where frames lie.

    Attributes:
        turn: rotations of each frame, [blocks * block, 1, width / 2].
        missing: how many frames the last block lacks.
    """

    turn: Tensor
    missing: int


class Norm(nn.Module):
    """Layer norm, scaled and shifted by the time's embedding through `linear`."""

    def __init__(self, width: int, parts: int):
        super().__init__()
        self.linear = nn.Linear(width, width * parts)


class Attention(nn.Module):
    """Attention among the frames of a block, and perhaps of its neighbours; the first head has rotary positions."""

    def __init__(self, config: DiTConfig, back: bool, ahead: bool):
        super().__init__()
        inner = config.num_attention_heads * config.head_dim
        self.heads, self.block, self.back, self.ahead = config.num_attention_heads, config.block_size, back, ahead
        self.to_q, self.to_k, self.to_v = (nn.Linear(config.hidden_size, inner) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(inner, config.hidden_size)])

    def forward(self, x: Tensor, places: Places, before: Tensor | None, keep: int) -> tuple[Tensor, Tensor | None]:
        """[rows, blocks * block, hidden]; `before` keys and values of the block before the first; `keep` the block
        whose own are given back."""
        rows, frames, _ = x.shape
        blocks = frames // self.block
        q, k, v = (each(x).unflatten(2, (self.heads, -1)) for each in (self.to_q, self.to_k, self.to_v))
        q, k = (torch.cat([rotate(each[:, :, :1], places.turn, False), each[:, :, 1:]], dim=2) for each in (q, k))
        # [rows, blocks, heads, block, width]
        q, k, v = (each.unflatten(1, (blocks, self.block)).transpose(2, 3) for each in (q, k, v))
        there = torch.ones(blocks, self.block, dtype=torch.bool, device=x.device)
        if places.missing:
            there[-1, -places.missing :] = False
        kept = torch.stack([k[:, keep], v[:, keep]]) if self.back else None
        sides, masks = [(k, v)], [there]
        nothing = torch.zeros_like(there[:1])
        if self.back:
            edge = (torch.zeros_like(k[:, 0]),) * 2 if before is None else tuple(before)
            sides.insert(0, tuple(torch.cat([e[:, None], s[:, :-1]], dim=1) for e, s in zip(edge, (k, v))))
            masks.insert(0, torch.cat([nothing if before is None else ~nothing, there[:-1]]))
        if self.ahead:
            sides.append(tuple(torch.cat([s[:, 1:], torch.zeros_like(s[:, :1])], dim=1) for s in (k, v)))
            masks.append(torch.cat([there[1:], nothing]))
        k, v = (torch.cat(each, dim=3) for each in zip(*sides))
        seen = torch.cat(masks, dim=1)
        mask = None if bool(seen.all()) else seen[None, :, None, None].expand(rows, -1, 1, 1, -1).flatten(0, 1)
        y = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask)
        y = y.unflatten(0, (rows, blocks)).transpose(2, 3).reshape(rows, frames, -1)
        return self.to_out[0](y), kept


class FeedForward(nn.Module):
    """A GELU MLP; `ff` has the places of the published list, in which the second and third have no weights."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.ff = nn.ModuleDict({"0": nn.Linear(width, inner), "3": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        return self.ff["3"](F.gelu(self.ff["0"](x), approximate="tanh"))


class Layer(nn.Module):
    """Attention and MLP, normed, scaled and gated by the time."""

    def __init__(self, config: DiTConfig, number: int):
        super().__init__()
        back, ahead = number in config.look_backward_layers, number in config.look_ahead_layers
        self.attn_norm = Norm(config.hidden_size, 6)
        self.attn = Attention(config, back, ahead)
        self.ff = FeedForward(config.hidden_size, config.hidden_size * config.ff_mult)

    def forward(
        self, x: Tensor, modulation: Tensor, places: Places, before: Tensor | None, keep: int
    ) -> tuple[Tensor, Tensor | None]:
        """As `Attention`, with what the time says [rows or 1, 1, 6 * hidden]."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, dim=-1)
        y, kept = self.attn(normed(x) * (1 + scale) + shift, places, before, keep)
        x = x + gate * y
        return x + gate_mlp * self.ff(normed(x) * (1 + scale_mlp) + shift_mlp), kept


def normed(x: Tensor) -> Tensor:
    """Layer norm without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


class TimeEmbedding(nn.Module):
    """A time between 0 and 1 to a vector."""

    def __init__(self, width: int):
        super().__init__()
        self.time_mlp = nn.ModuleDict({"0": nn.Linear(TIME_WIDTH, width), "2": nn.Linear(width, width)})

    def forward(self, time: Tensor) -> Tensor:
        """[n] -> [n, width]"""
        half = TIME_WIDTH // 2
        rates = torch.exp(torch.arange(half, device=time.device).float() * -(math.log(10000) / (half - 1)))
        angle = 1000 * time[:, None] * rates
        return self.time_mlp["2"](F.silu(self.time_mlp["0"](torch.cat((angle.sin(), angle.cos()), dim=-1))))


class DiT(nn.Module):
    """See the module."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config, width = config, config.hidden_size
        inputs = config.mel_dim + config.enc_dim + config.emb_dim + config.enc_emb_dim
        self.time_embed = TimeEmbedding(width)
        self.text_embed = nn.ModuleDict({"codec_embed": nn.Embedding(config.num_embeds + 1, config.emb_dim)})
        self.input_embed = nn.ModuleDict({"proj": nn.Linear(inputs, width), "spk_encoder": SpeakerEncoder(config)})
        self.transformer_blocks = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.norm_out = Norm(width, 2)
        self.proj_out = nn.Linear(width, config.mel_dim)

    def condition(self, codes: Tensor, voice: Tensor, dropped: Tensor | None = None, guided: bool = False) -> Tensor:
        """What is the same at every time: all but the noise, as it comes into the first layer.

        Args:
            codes: [batch, C].
            voice: from `voice`, [batch, or 2 * batch where `guided`, hidden].
            dropped: whether a row's codes are left out, [batch], as in training; None for none.
            guided: rows without codes come behind those with them.

        Returns:
            [batch, or twice that, repeats * C, hidden].
        """
        if dropped is not None:
            codes = codes * ~dropped[:, None]
        if guided:
            codes = torch.cat([codes, torch.zeros_like(codes)])
        weight = self.input_embed["proj"].weight
        start = self.config.mel_dim + self.config.enc_dim
        part = F.linear(self.text_embed["codec_embed"](codes), weight[:, start : start + self.config.emb_dim])
        return part.repeat_interleave(self.config.repeats, dim=1) + voice[:, None]

    def voice(self, speaker: Tensor, reference: Tensor, dropped: Tensor | None = None, guided: bool = False) -> Tensor:
        """What a speaker adds to every frame.

        Args:
            speaker: vector [batch, enc_emb_dim].
            reference: a spectrogram of hers [batch, frames, mel].
            dropped, guided: as in `condition`.

        Returns:
            [batch, or twice that, hidden].
        """
        if dropped is not None:
            speaker, reference = speaker * ~dropped[:, None], reference * ~dropped[:, None, None]
        if guided:
            speaker, reference = (torch.cat([each, torch.zeros_like(each)]) for each in (speaker, reference))
        proj, mel, emb = self.input_embed["proj"], self.config.mel_dim, self.config.emb_dim
        encoded = self.input_embed["spk_encoder"](reference)
        weight = torch.cat([proj.weight[:, mel : mel + self.config.enc_dim],
                            proj.weight[:, mel + self.config.enc_dim + emb :]], dim=1)  # fmt: skip
        return F.linear(torch.cat([encoded, speaker], dim=1), weight, proj.bias)

    def modulation(self, time: Tensor) -> Modulation:
        """What a time [n] says to each layer, and to the last norm: [n, 1, parts * hidden]."""
        y = F.silu(self.time_embed(time))[:, None]
        return [layer.attn_norm.linear(y) for layer in self.transformer_blocks] + [self.norm_out.linear(y)]

    def forward(
        self, x: Tensor, modulation: Modulation, condition: Tensor, start: int = 0, before: Kept | None = None,
        keep: int = -1,
    ) -> tuple[Tensor, Kept]:  # fmt: skip
        """The velocity at x.

        Args:
            x: [batch, frames, mel]: whole blocks, but for the last one of a signal.
            modulation: of the time.
            condition: [batch, or twice that, frames, hidden].
            start: number of x's first frame in its signal.
            before: what was kept of the block before x; None where the signal starts.
            keep: the block of x that is to be kept.

        Returns:
            [batch, or twice that, frames, mel]; what the next block needs to know of the kept one.
        """
        block, frames = self.config.block_size, x.shape[1]
        missing = -frames % block
        x = F.linear(x, self.input_embed["proj"].weight[:, : self.config.mel_dim])
        x = x.repeat(len(condition) // len(x), 1, 1) + condition
        if missing:
            x = F.pad(x, (0, 0, 0, missing))
        pairs = self.config.head_dim // 2
        frequencies = ROPE_BASE ** (-torch.arange(pairs, device=x.device) / pairs)
        at = torch.arange(start, start + frames + missing, device=x.device)
        places, kept = Places(rotations(at, frequencies)[:, None], missing), []
        earlier = iter(before or [])
        for layer, told in zip(self.transformer_blocks, modulation):
            x, own = layer(x, told, places, next(earlier, None) if layer.attn.back else None, keep)
            kept += [] if own is None else [own]
        scale, shift = modulation[-1].chunk(2, dim=-1)
        return self.proj_out(normed(x[:, :frames]) * (1 + scale) + shift), kept
