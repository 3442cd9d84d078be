"""Vector quantizers with codebooks learned by moving averages.

Gradient-trained codebooks collapse to a few dozen codes; averages, initialisation from data and replacement of dead
codes keep all of them in use (van den Oord et al. 2017, appendix A.1; Zeghidour et al. 2021, section III-C).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


def nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code, by squared Euclidean distance. [n, dim], [size, dim] -> [n]."""
    return (codebook.square().sum(-1) - 2 * x @ codebook.T).argmin(-1)


class Codebook(nn.Module):
    """One codebook of `size` vectors of `dim`, updated by exponential moving average in training.

    Args:
        size, dim: number and width of codes.
        decay: of the averages.
        dead: a code whose average use falls below this share of the mean use is replaced by a vector of the batch.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.99, dead: float = 0.05):
        super().__init__()
        self.size, self.decay, self.dead = size, decay, dead
        self.register_buffer("codes", torch.randn(size, dim))
        self.register_buffer("usage", torch.ones(size))
        self.register_buffer("total", self.codes.clone())
        self.register_buffer("ready", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor, rounds: int = 8) -> None:
        """A few rounds of k-means over [n, dim]."""
        x = _gathered(x)
        self.codes.copy_(x[torch.randint(len(x), (self.size,), device=x.device)])
        for _ in range(rounds):
            index = nearest(x, self.codes)
            count = torch.zeros(self.size, device=x.device).index_add_(0, index, torch.ones_like(index, dtype=x.dtype))
            total = torch.zeros_like(self.codes).index_add_(0, index, x)
            filled = count > 0
            self.codes[filled] = total[filled] / count[filled, None]
            empty = int((~filled).sum())
            self.codes[~filled] = x[torch.randint(len(x), (empty,), device=x.device)]
        self.usage.fill_(len(x) / self.size)
        self.total.copy_(self.codes * self.usage[:, None])
        self.ready.fill_(True)

    @torch.no_grad()
    def update(self, x: Tensor, index: Tensor) -> None:
        """Moves the averages towards the vectors [n, dim] given to each code [n]; sums are shared between processes."""
        count = torch.zeros_like(self.usage).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.total).index_add_(0, index, x)
        if dist.is_initialized():
            dist.all_reduce(count)
            dist.all_reduce(total)
        self.usage.lerp_(count, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        dead = self.usage < self.dead * self.usage.mean()
        if number := int(dead.sum()):
            self.total[dead] = _gathered(x)[torch.randint(len(x), (number,), device=x.device)]
            self.usage[dead] = self.usage.mean()
            self.total[dead] *= self.usage[dead, None]
        self.codes.copy_(self.total / self.usage[:, None].clamp_min(1e-5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, dim] -> (codes' vectors [n, dim], indices [n]). In training mode the codebook learns."""
        if self.training and not self.ready:
            self.initialise(x.detach())
        index = nearest(x.detach(), self.codes)
        quantized = F.embedding(index, self.codes)
        if self.training:
            self.update(x.detach(), index)
        return quantized, index


def _gathered(x: Tensor) -> Tensor:
    """The vectors of every process, so that all of them draw the same replacements (they share a seed)."""
    if not dist.is_initialized():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class ResidualQuantizer(nn.Module):
    """Quantizes what the codebooks before have left over.

    Args:
        dim: width of the input.
        inner: width in which codes live; a linear map leads there and one back.
        levels, size: number of codebooks and codes in each.
    """

    def __init__(self, dim: int, inner: int, levels: int, size: int):
        super().__init__()
        self.inward = nn.Linear(dim, inner, bias=False)
        self.outward = nn.Linear(inner, dim, bias=False)
        self.codebooks = nn.ModuleList(Codebook(size, inner) for _ in range(levels))

    def forward(self, x: Tensor, used: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantizes with a straight-through gradient.

        Args:
            x: [batch, frames, dim].
            used: [batch], how many levels each row uses (quantizer dropout); all when None.

        Returns:
            quantized [batch, frames, dim], codes [batch, levels, frames], commitment loss (mean squared distance).
        """
        inner = self.inward(x).float()
        batch, frames, width = inner.shape
        residual, total, codes, commitment = inner, torch.zeros_like(inner), [], inner.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            quantized, index = codebook(residual.reshape(-1, width))
            quantized = quantized.view_as(inner)
            active = 1.0 if used is None else (used > level).float()[:, None, None]
            commitment = commitment + (active * (residual - quantized.detach()).square()).mean()
            total = total + active * quantized
            residual = residual - quantized.detach()
            codes.append(index.view(batch, frames))
        total = inner + (total - inner).detach()
        return self.outward(total.to(x.dtype)), torch.stack(codes, dim=1), commitment / len(self.codebooks)

    def encode(self, x: Tensor) -> Tensor:
        """[batch, frames, dim] -> codes [batch, levels, frames]."""
        residual = self.inward(x).float()
        codes = []
        for codebook in self.codebooks:
            index = nearest(residual.reshape(-1, residual.shape[-1]), codebook.codes)
            residual = residual - F.embedding(index, codebook.codes).view_as(residual)
            codes.append(index.view(residual.shape[:2]))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, levels or fewer, frames] -> [batch, frames, dim]."""
        total = sum(F.embedding(codes[:, level], self.codebooks[level].codes) for level in range(codes.shape[1]))
        return self.outward(total)
