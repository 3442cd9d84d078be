"""Qwen2.5-Omni's vision tower: patches of pictures to tokens, in windows of 112 pixels and in a few layers over all.

Every picture (of a video: every two) is encoded by itself, so a camera's pictures can be encoded as they come. Four
neighbouring patches become one token. Weights and key names are those of `transformers`; patches come in its order,
in which those of a token stand together (Qwen2.5-VL, Bai et al. 2025, section 2.1).

    tower = VisionTower(VisionConfig())
    tokens = tower(patches, height, width)      # [pictures, height * width, values] -> [pictures, tokens, output]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.nn.transformer import RMSNorm

EPS, ROPE_BASE = 1e-6, 10000.0
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


@dataclass(frozen=True)
class VisionConfig:
    """Sizes; names are those of the published config.json's `vision_config`.

    Attributes:
        fullatt_block_indexes: layers in which a patch sees its whole picture; in the others it sees its window.
        window_size, patch_size: in pixels.
        spatial_merge_size: so many patches in a row, and rows of them, are one token.
        temporal_patch_size: pictures of a video in a patch.
        mean, deviation: of a channel, between 0 and 1, by which pictures are scaled.
    """

    depth: int = 32
    hidden_size: int = 1280
    intermediate_size: int = 3420
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    window_size: int = 112
    out_hidden_size: int = 3584
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION

    @property
    def values(self) -> int:
        """Numbers in a patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2


def patch_places(height: int, width: int, merge: int) -> Tensor:
    """Row and column of each patch of a picture of so many, in the order in which they come, [patches, 2]."""
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), dim=-1)
    grid = grid.view(height // merge, merge, width // merge, merge, 2)
    return grid.transpose(1, 2).reshape(-1, 2)


def checked(patches: Tensor, height: int, width: int, config: VisionConfig) -> None:
    """Raises ModelError where patches aren't pictures of so many."""
    merge = config.spatial_merge_size
    if height % merge or width % merge or patches.shape[1:] != (height * width, config.values):
        raise ModelError(
            f"patches of {list(patches.shape)} aren't pictures of {height} x {width} patches (multiples of "
            f"{merge}) of {config.values} numbers"
        )


def axial_turns(height: int, width: int, config: VisionConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [patches, 1, d]: a quarter of the channels turns by the row, a quarter by the column, and the
    second half as the first."""
    half = config.hidden_size // config.num_heads // 2
    frequencies = 1.0 / ROPE_BASE ** (torch.arange(0, half, 2).float() / half)
    places = patch_places(height, width, config.spatial_merge_size).float()
    angle = (places[..., None] * frequencies).flatten(1).repeat(1, 2)[:, None].to(device)
    return angle.cos(), angle.sin()


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # who is talked to first may be trained later
def windows(height: int, width: int, merge: int, size: int) -> tuple[Tensor, Tensor]:
    """The patches of each window of `size` x `size` tokens of a picture of `height` x `width` patches.

    Returns:
        Numbers of patches [windows, most], 0 where a window at the edge has fewer; whether there is one.
    """
    places = patch_places(height, width, merge) // (merge * size)
    across = -(-width // (merge * size))
    owner = places[:, 0] * across + places[:, 1]
    counts = owner.bincount()
    index = torch.zeros(len(counts), int(counts.max()), dtype=torch.long)
    there = torch.arange(index.shape[1]) < counts[:, None]
    index[there] = owner.argsort(stable=True)
    return index, there


class VisionAttention(nn.Module):
    """Attention with rotary positions of rows and columns, within windows or a whole picture."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.heads, width = config.num_heads, config.hidden_size
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], inside: tuple[Tensor, Tensor] | None) -> Tensor:
        """[pictures, patches, width]; `rope` cosines and sines [patches, 1, d]; `inside` as `windows` gives it."""
        q, k, v = (each(x).unflatten(2, (self.heads, -1)) for each in (self.q, self.k, self.v))
        q, k = (turned(each, *rope) for each in (q, k))
        if inside is None:
            out = F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v))).transpose(1, 2)
            return self.proj(out.flatten(2))
        index, there = inside
        q, k, v = (each[:, index].flatten(0, 1).transpose(1, 2) for each in (q, k, v))
        mask = None if bool(there.all()) else there.repeat(len(x), 1)[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        out = out.view(len(x), *index.shape, -1)[:, there]
        return self.proj(torch.zeros_like(x).index_copy(1, index[there], out))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns channel i of each head with channel i + d / 2, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class GatedMLP(nn.Module):
    """A SwiGLU with biases."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, inner), nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class VisionBlock(nn.Module):
    """Attention and MLP, each normed before and added after."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.hidden_size, EPS), RMSNorm(config.hidden_size, EPS)
        self.attn = VisionAttention(config)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], inside: tuple[Tensor, Tensor] | None) -> Tensor:
        """As `VisionAttention`."""
        x = x + self.attn(self.norm1(x), rope, inside)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """A patch's numbers to its vector; the weight is kept as the convolution that it was published as."""

    def __init__(self, config: VisionConfig, bias: bool = False):
        super().__init__()
        size = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, size, size, bias=bias)

    def forward(self, patches: Tensor) -> Tensor:
        """[..., values] -> [..., width]"""
        return F.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class PatchMerger(nn.Module):
    """Neighbouring patches into one token."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.inner = config.hidden_size * config.spatial_merge_size**2
        self.ln_q = RMSNorm(config.hidden_size, EPS)
        self.mlp = nn.Sequential(
            nn.Linear(self.inner, self.inner), nn.GELU(), nn.Linear(self.inner, config.out_hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[pictures, patches, width] -> [pictures, tokens, output]."""
        return self.mlp(self.ln_q(x).reshape(len(x), -1, self.inner))


class VisionTower(nn.Module):
    """See the module."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.merger = PatchMerger(config)

    def forward(self, patches: Tensor, height: int, width: int) -> Tensor:
        """Pictures of one size.

        Args:
            patches: [pictures, height * width, values].
            height, width: in patches, both multiples of `spatial_merge_size`.

        Raises:
            ModelError: the patches aren't such pictures.
        """
        config, merge = self.config, self.config.spatial_merge_size
        checked(patches, height, width, config)
        x = self.patch_embed(patches)
        rope = axial_turns(height, width, config, x.device)
        size = config.window_size // merge // config.patch_size
        inside = tuple(each.to(x.device) for each in windows(height, width, merge, size))
        for number, block in enumerate(self.blocks):
            x = block(x, rope, None if number in config.fullatt_block_indexes else inside)
        return self.merger(x)
