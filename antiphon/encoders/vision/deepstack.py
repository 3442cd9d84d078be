"""Qwen3-Omni's vision tower: every patch of a picture sees all of it, and layers on the way tell what they see.

Beside the tokens that the language model reads, a few layers give tokens of their own, which are added to what its
first layers gave (DeepStack, Meng et al. 2024; Qwen3-VL). Where a patch stands is told twice: by rotary positions, and
by positions learnt on a square grid, between whose points it is interpolated. Weights and key names are those of
`transformers`; patches come in its order.

    tower = DeepstackTower(DeepstackConfig())
    tokens = tower(patches, height, width)   # [pictures, height * width, values] -> [pictures, tokens, levels * output]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders.vision.tower import EPS, PatchEmbed, VisionConfig, axial_turns, checked, patch_places, turned


@dataclass(frozen=True)
class DeepstackConfig(VisionConfig):
    """Sizes; names are those of the published config.json's `vision_config`. It has no windows.

    Attributes:
        num_position_embeddings: points of the grid of learnt positions, a square number.
        deepstack_visual_indexes: layers that give tokens.
    """

    depth: int = 27
    hidden_size: int = 1152
    intermediate_size: int = 4304
    patch_size: int = 16
    num_position_embeddings: int = 2304
    deepstack_visual_indexes: tuple[int, ...] = (8, 16, 24)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)

    @property
    def levels(self) -> int:
        """Tokens that are told of each place: the last layer's, and those of the layers on the way."""
        return 1 + len(self.deepstack_visual_indexes)


class DeepstackAttention(nn.Module):
    """Attention with rotary positions of rows and columns, over whole pictures."""

    def __init__(self, config: DeepstackConfig):
        super().__init__()
        self.heads, width = config.num_heads, config.hidden_size
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """[pictures, patches, width]; `rope` cosines and sines [patches, 1, d]."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).unbind(2)
        q, k = (turned(each, *rope) for each in (q, k))
        out = F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v)))
        return self.proj(out.transpose(1, 2).flatten(2))


class DeepstackMLP(nn.Module):
    """Two layers with a GELU (its tanh form) between them."""

    def __init__(self, config: DeepstackConfig):
        super().__init__()
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_fc2(F.gelu(self.linear_fc1(x), approximate="tanh"))


class DeepstackBlock(nn.Module):
    """Attention and MLP, each normed before and added after."""

    def __init__(self, config: DeepstackConfig):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(config.hidden_size, EPS) for _ in range(2))
        self.attn, self.mlp = DeepstackAttention(config), DeepstackMLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """As `DeepstackAttention`."""
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


class DeepstackMerger(nn.Module):
    """Neighbouring patches into one token; normed patch by patch, or together."""

    def __init__(self, config: DeepstackConfig, together: bool):
        super().__init__()
        self.inner, self.together = config.hidden_size * config.spatial_merge_size**2, together
        self.ln_q = nn.LayerNorm(self.inner if together else config.hidden_size, EPS)
        self.mlp = nn.Sequential(
            nn.Linear(self.inner, self.inner), nn.GELU(), nn.Linear(self.inner, config.out_hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[pictures, patches, width] -> [pictures, tokens, output]."""
        joined = (len(x), -1, self.inner)
        return self.mlp(self.ln_q(x.reshape(joined)) if self.together else self.ln_q(x).reshape(joined))


class DeepstackTower(nn.Module):
    """See the module."""

    def __init__(self, config: DeepstackConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config, bias=True)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(DeepstackBlock(config) for _ in range(config.depth))
        self.merger = DeepstackMerger(config, together=False)
        self.merger_list = nn.ModuleList(
            DeepstackMerger(config, together=True) for _ in config.deepstack_visual_indexes
        )

    def forward(self, patches: Tensor, height: int, width: int) -> Tensor:
        """Pictures of one size.

        Args:
            patches: [pictures, height * width, values].
            height, width: in patches, both multiples of `spatial_merge_size`.

        Returns:
            [pictures, tokens, levels * output]: the last layer's, then those of `deepstack_visual_indexes`.

        Raises:
            ModelError: the patches aren't such pictures.
        """
        checked(patches, height, width, self.config)
        x = self.patch_embed(patches)
        x = x + self._learnt(height, width).to(x)
        rope, told = axial_turns(height, width, self.config, x.device), []
        mergers = dict(zip(self.config.deepstack_visual_indexes, self.merger_list))
        for number, block in enumerate(self.blocks):
            x = block(x, rope)
            if number in mergers:
                told.append(mergers[number](x))
        return torch.cat([self.merger(x), *told], dim=-1)

    def _learnt(self, height: int, width: int) -> Tensor:
        """The learnt positions at the places of patches [patches, width], as if the grid lay over all of the picture:
        between its points by distance."""
        side = round(self.config.num_position_embeddings**0.5)
        grid = self.pos_embed.weight.float().T.reshape(1, -1, side, side)
        spread = F.interpolate(grid, (height, width), mode="bilinear", align_corners=True)
        row, column = patch_places(height, width, self.config.spatial_merge_size).to(grid.device).unbind(-1)
        return spread[0, :, row, column].T
