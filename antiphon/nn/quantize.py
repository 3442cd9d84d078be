"""Quantizers: vectors to codes and back.

Codebooks learn by moving averages (`ResidualQuantizer`; `SplitQuantizer`, Mimi's), by gradient in few dimensions
(`FactorizedResidualQuantizer`, DAC's), or are a fixed grid (`FSQ`). Where the gradient alone would let them collapse
to a few dozen codes, averages, initialisation from data and replacement of dead codes keep all of them in use (van den
Oord et al. 2017, appendix A.1; Zeghidour et al. 2021, section III-C).

Under `torchrun` the codebooks of all processes stay the same: what a step has to share (counts, sums, and vectors that
may replace dead codes) goes round in one all_reduce for all the levels of a quantizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.cpu import MAX_MKL_ROWS

MAX_REPLACED_CODES = 64  # in one step, a level


@dataclass
class Quantized:
    """What training needs of a quantizer.

    Attributes:
        latents: [batch, frames, dim], the sum of the levels in use, with a straight-through gradient.
        codes: [batch, codebooks, frames], of all levels, used or not.
        commitment: scalar, pulls the latents to their codes.
        codebook: scalar, pulls the codes to their latents where they learn by gradient (DAC); 0 where they learn by
            moving averages.
        first: [batch, frames, dim], what the first codebook alone gives, with a straight-through gradient: semantic
            distillation acts on it.
    """

    latents: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor
    first: Tensor


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

    codes: Tensor
    usage: Tensor
    total: Tensor
    ready: Tensor

    def __init__(self, size: int, dim: int, decay: float = 0.99, dead: float = 0.05):
        super().__init__()
        self.size, self.decay, self.dead = size, decay, dead
        self.register_buffer("codes", torch.randn(size, dim))
        self.register_buffer("usage", torch.ones(size))
        self.register_buffer("total", self.codes.clone())
        self.register_buffer("ready", torch.tensor(False))
        self._known: tuple[Tensor, int, Tensor] | None = None  # codes, their version, half of their squared lengths

    @torch.no_grad()
    def initialise(self, x: Tensor, rounds: int = 8) -> None:
        """A few rounds of k-means over [n, dim]; processes pool their vectors and take the first one's result."""
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
        if dist.is_initialized():
            dist.broadcast(self.codes, 0)
        self.usage.fill_(len(x) / self.size)
        self.total.copy_(self.codes * self.usage[:, None])
        self.ready.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, dim] -> (codes' vectors [n, dim], indices [n]). In training mode the codebook learns."""
        quantized, index = self.look_up(x)
        if self.training:
            update_codebooks([self], [x.detach()], [index])
        return quantized, index

    def look_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, but the codebook learns nothing, save that it is initialised where it wasn't."""
        if self.training and not self.ready:
            self.initialise(x.detach())
        index = nearest(x.detach(), self.codes)
        return F.embedding(index, self.codes), index

    @torch.no_grad()
    def search(self, x: Tensor) -> Tensor:
        """As `nearest`: [n, dim] -> [n]; quicker, since what the codes alone tell is computed only once."""
        half = self._half_norms()
        if len(x) <= MAX_MKL_ROWS:  # bound by reading the codes, which is quickest where they come first
            return torch.addmm(half, self.codes, x.contiguous().T, alpha=-1).argmin(0)
        return torch.addmm(half.T, x, self.codes.T, alpha=-1).argmin(1)

    def _half_norms(self) -> Tensor:
        """Half of each code's squared length, [size, 1]; computed again when the codes have changed."""
        codes = self.codes
        if codes.is_inference():  # nothing would tell that they have changed
            return 0.5 * codes.square().sum(-1, keepdim=True)
        if self._known is None or self._known[0] is not codes or self._known[1] != codes._version:
            self._known = (codes, codes._version, 0.5 * codes.square().sum(-1, keepdim=True))
        return self._known[2]


@torch.no_grad()
def update_codebooks(books: Sequence[Codebook], vectors: Sequence[Tensor], indices: Sequence[Tensor]) -> None:
    """A step of the moving averages of several codebooks, shared between processes by one all_reduce.

    Args:
        books: of any sizes.
        vectors: for each book, what it quantized [n, dim].
        indices: for each book, the codes that were chosen [n].
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    counts, totals, spares = [], [], []
    for book, x, index in zip(books, vectors, indices):
        x = x.to(book.total.dtype)
        counts.append(torch.zeros_like(book.usage).index_add_(0, index, torch.ones_like(x[:, 0])))
        totals.append(torch.zeros_like(book.total).index_add_(0, index, x))
        # Each process fills its share of the slots, so that the sum over processes is what they drew together.
        spare = x.new_zeros(min(MAX_REPLACED_CODES, book.size), x.shape[1])
        mine = len(spare[rank::world])
        spare[rank::world] = x[torch.randint(len(x), (mine,), device=x.device)]
        spares.append(spare)
    if world > 1:
        parts = counts + totals + spares
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        for part, summed in zip(parts, flat.split([part.numel() for part in parts])):
            part.copy_(summed.view_as(part))
    for book, count, total, spare in zip(books, counts, totals, spares):
        book.usage.lerp_(count, 1 - book.decay)
        book.total.lerp_(total, 1 - book.decay)
        mean = book.usage.mean()
        dead = (book.usage < book.dead * mean).nonzero()[: len(spare), 0]
        book.total[dead] = spare[: len(dead)] * mean
        book.usage[dead] = mean
        book.codes.copy_(book.total / book.usage[:, None].clamp_min(1e-5))


def _gathered(x: Tensor) -> Tensor:
    """The vectors of every process."""
    if not dist.is_initialized():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class ResidualQuantizer(nn.Module):
    """Quantizes what the codebooks before have left over.

    Args:
        dim: width of the input.
        inner: width in which codes live; a linear map leads there and one back. 0: codes live in the input's own space,
            without maps (EnCodec, SpeechTokenizer).
        levels, size: number of codebooks and codes in each.
        decay, dead: as in `Codebook`.
    """

    def __init__(self, dim: int, inner: int, levels: int, size: int, decay: float = 0.99, dead: float = 0.05):
        super().__init__()
        self.inward = nn.Linear(dim, inner, bias=False) if inner else nn.Identity()
        self.outward = nn.Linear(inner, dim, bias=False) if inner else nn.Identity()
        self.codebooks = nn.ModuleList(Codebook(size, inner or dim, decay, dead) for _ in range(levels))

    def quantized(self, x: Tensor, used: Tensor | None = None) -> Quantized:
        """Quantizes with a straight-through gradient. In training mode the codebooks learn, and from all rows: a level
        that a row leaves out sees what would have come to it.

        Args:
            x: [batch, frames, dim].
            used: [batch], how many levels each row uses (quantizer dropout); all when None.
        """
        result, seen, chosen = self.observe(x, used)
        if self.training:
            update_codebooks(list(self.codebooks), seen, chosen)
        return result

    def observe(self, x: Tensor, used: Tensor | None = None) -> tuple[Quantized, list[Tensor], list[Tensor]]:
        """As `quantized`, but nothing is learned yet: also what each codebook saw [n, inner] and chose [n], for
        `update_codebooks`."""
        with torch.autocast(x.device.type, enabled=False):  # as `encode`: bf16 would take near codes for the nearest
            return self._observe(x.float(), used)

    def _observe(self, x: Tensor, used: Tensor | None) -> tuple[Quantized, list[Tensor], list[Tensor]]:
        inner = self.inward(x)
        batch, frames, width = inner.shape
        residual, total, commitment = inner, torch.zeros_like(inner), inner.new_zeros(())
        seen, chosen, first = [], [], inner
        for level, codebook in enumerate(self.codebooks):
            quantized, index = codebook.look_up(residual.reshape(-1, width))
            seen.append(residual.detach().reshape(-1, width))
            chosen.append(index)
            quantized = quantized.view_as(inner)
            active = 1.0 if used is None else (used > level).float()[:, None, None]
            commitment = commitment + (active * (residual - quantized.detach()).square()).mean()
            total = total + active * quantized
            residual = residual - quantized.detach()
            if level == 0:
                first = inner + (quantized - inner).detach()
        total = inner + (total - inner).detach()
        result = Quantized(
            latents=self.outward(total),
            codes=torch.stack([index.view(batch, frames) for index in chosen], dim=1),
            commitment=commitment / len(self.codebooks),
            codebook=inner.new_zeros(()),
            first=self.outward(first),
        )
        return result, seen, chosen

    @torch.no_grad()
    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """[batch, frames, dim] -> codes [batch, levels (all when None), frames]."""
        residual = self.inward(x).flatten(0, 1)
        codes = x.new_empty((x.shape[0], len(self.codebooks[:levels]), x.shape[1]), dtype=torch.long)
        for level, codebook in enumerate(self.codebooks[:levels]):
            residual = residual.to(codebook.codes.dtype)
            index = codebook.search(residual)
            codes[:, level] = index.view(x.shape[:2])
            if level + 1 < codes.shape[1]:
                residual = residual - F.embedding(index, codebook.codes)
        return codes

    def decode(self, codes: Tensor, first: int = 0) -> Tensor:
        """codes [batch, levels, frames] of codebook `first` and those behind it -> [batch, frames, dim]."""
        books = self.codebooks[first : first + codes.shape[1]]
        return self.outward(sum(F.embedding(own, book.codes) for own, book in zip(codes.unbind(1), books)))

    def vectors(self) -> list[Tensor]:
        """What each code adds to the latent, [size, dim] a codebook."""
        return [self.outward(book.codes) for book in self.codebooks]


class SplitQuantizer(nn.Module):
    """Mimi's: one quantizer for what is said, one for how it sounds; both quantize the same latent and are summed
    (Defossez et al. 2024, section 3.3.3), so that the semantic codes owe nothing to reconstruction.

    Args:
        dim: width of the input.
        inner: width in which codes live.
        semantic, acoustic: number of codebooks of either.
        size: codes in each.
        decay, dead: as in `Codebook`.
    """

    def __init__(
        self, dim: int, inner: int, semantic: int, acoustic: int, size: int, decay: float = 0.99, dead: float = 0.05
    ):
        super().__init__()
        self.semantic = ResidualQuantizer(dim, inner, semantic, size, decay, dead)
        self.acoustic = ResidualQuantizer(dim, inner, acoustic, size, decay, dead)

    @property
    def levels(self) -> int:
        return len(self.semantic.codebooks) + len(self.acoustic.codebooks)

    def quantized(self, x: Tensor, used: Tensor | None = None) -> Quantized:
        """As `ResidualQuantizer.quantized`; `used` [batch] counts levels of both, semantic ones first and always in."""
        if not self.acoustic.codebooks:
            return self.semantic.quantized(x)
        first = len(self.semantic.codebooks)
        semantic, *told = self.semantic.observe(x)
        acoustic, *heard = self.acoustic.observe(x, None if used is None else (used - first).clamp_min(0))
        if self.training:
            books = [*self.semantic.codebooks, *self.acoustic.codebooks]
            update_codebooks(books, told[0] + heard[0], told[1] + heard[1])
        rest = acoustic.latents
        if used is not None:
            rest = torch.where((used > first)[:, None, None], rest, torch.zeros_like(rest))
        return Quantized(
            latents=semantic.latents + rest,
            codes=torch.cat([semantic.codes, acoustic.codes], dim=1),
            commitment=(semantic.commitment * first + acoustic.commitment * (self.levels - first)) / self.levels,
            codebook=semantic.codebook,
            first=semantic.first,
        )

    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """[batch, frames, dim] -> codes [batch, levels (all when None), frames]."""
        levels, first = levels or self.levels, len(self.semantic.codebooks)
        semantic = self.semantic.encode(x, min(levels, first))
        return torch.cat([semantic, self.acoustic.encode(x, levels - first)], dim=1) if levels > first else semantic

    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, levels or fewer, frames] -> [batch, frames, dim]."""
        first = len(self.semantic.codebooks)
        total = self.semantic.decode(codes[:, :first])
        return total + self.acoustic.decode(codes[:, first:]) if codes.shape[1] > first else total

    def vectors(self) -> list[Tensor]:
        """As `ResidualQuantizer.vectors`."""
        return self.semantic.vectors() + self.acoustic.vectors()


class FactorizedCodebook(nn.Module):
    """A codebook in few dimensions, searched by angle and learned by gradient (Yu et al. 2021, section 3.2).

    Args:
        dim: width of the latent.
        inner: width of the codes.
        size: number of codes.
    """

    def __init__(self, dim: int, inner: int, size: int):
        super().__init__()
        self.inward = nn.Linear(dim, inner)
        self.outward = nn.Linear(inner, dim)
        # Fresh projections are each other's inverse, so that what comes back points where what went in did; a bias
        # would send all of the small fresh latents to one code.
        nn.init.orthogonal_(self.inward.weight)
        self.outward.weight.data.copy_(self.inward.weight.mT)
        for linear in (self.inward, self.outward):
            nn.init.zeros_(linear.bias)
        self.codes = nn.Parameter(torch.randn(size, inner))

    def nearest(self, x: Tensor) -> Tensor:
        """[..., inner] -> index of the code at the smallest angle [...]."""
        return (F.normalize(x, dim=-1) @ F.normalize(self.codes, dim=-1).T).argmax(-1)

    def decode(self, index: Tensor) -> Tensor:
        """[batch, frames] -> [batch, frames, dim]."""
        return self.outward(F.embedding(index, self.codes))


class FactorizedResidualQuantizer(nn.Module):
    """Residual quantization with a projection for each codebook, as in DAC (Kumar et al. 2023, section 3.2).

    Args:
        dim, inner: width of latents, and of codes.
        levels, size: number of codebooks, and codes in each.
    """

    def __init__(self, dim: int, inner: int, levels: int, size: int):
        super().__init__()
        self.codebooks = nn.ModuleList(FactorizedCodebook(dim, inner, size) for _ in range(levels))

    def quantized(self, x: Tensor, used: Tensor | None = None) -> Quantized:
        """Quantizes with a straight-through gradient; both losses are mean squared distances, mean over the levels.

        Args:
            x: [batch, frames, dim].
            used: [batch], how many levels each row uses (quantizer dropout); all when None.
        """
        with torch.autocast(x.device.type, enabled=False):  # as `encode`: bf16 would take near codes for the nearest
            return self._quantized(x.float(), used)

    def _quantized(self, x: Tensor, used: Tensor | None) -> Quantized:
        residual, total, codes, outputs = x, torch.zeros_like(x), [], []
        commitment, moved = x.new_zeros(()), x.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            active = 1.0 if used is None else (used > level).to(x.dtype)[:, None, None]
            inner = codebook.inward(residual)
            index = codebook.nearest(inner.detach())
            code = F.embedding(index, codebook.codes)
            commitment = commitment + (active * (inner - code.detach()).square()).mean()
            moved = moved + (active * (code - inner.detach()).square()).mean()
            quantized = codebook.outward(inner + (code - inner).detach())
            total = total + active * quantized
            residual = residual - quantized
            codes.append(index)
            outputs.append(quantized)
        levels = len(self.codebooks)
        return Quantized(total, torch.stack(codes, dim=1), commitment / levels, moved / levels, outputs[0])

    @torch.no_grad()
    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """[batch, frames, dim] -> codes [batch, levels (all when None), frames]."""
        codes = []
        for codebook in self.codebooks[:levels]:
            codes.append(codebook.nearest(codebook.inward(x)))
            x = x - codebook.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, levels or fewer, frames] -> [batch, frames, dim]."""
        return sum(self.codebooks[level].decode(codes[:, level]) for level in range(codes.shape[1]))

    def vectors(self) -> list[Tensor]:
        """As `ResidualQuantizer.vectors`."""
        return [codebook.outward(codebook.codes) for codebook in self.codebooks]


class FSQ(nn.Module):
    """Finite scalar quantization: each of a few dimensions is rounded to one of a few levels (Mentzer et al. 2023).

    A grid of prod(levels) codes in len(levels) dimensions: nothing to learn, nothing to collapse. It takes the place of
    a `Codebook`.

    Args:
        levels: of each dimension, at least 2; (8, 5, 5, 5) makes 1,000 codes, eight times 3 the 6,561 of CosyVoice 2
            (Du et al. 2024, section 2.1).

    Raises:
        ValueError: a dimension with fewer than 2 levels.
    """

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels are {tuple(levels)}: each dimension needs at least 2")
        self.dim, self.size = len(levels), math.prod(levels)
        counts = torch.tensor(levels)
        self.register_buffer("levels", counts, persistent=False)
        self.register_buffer("strides", torch.cat([counts.new_ones(1), counts[:-1]]).cumprod(0), persistent=False)

    def bound(self, x: Tensor) -> Tensor:
        """Squeezes [..., dim] into the range whose rounding gives each dimension its number of levels.

        An even number of levels lies half a step off zero (section 3 of the paper, and its appendix's code).
        """
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        return torch.tanh(x + torch.atanh(offset / half)) * half - offset

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, dim] -> (grid points in [-1, 1] [n, dim] with the gradient of `bound`, indices [n])."""
        bounded = self.bound(x.float())
        steps = bounded.detach().round()
        index = ((steps.long() + self.levels // 2) * self.strides).sum(-1)
        return (bounded + (steps - bounded).detach()) / (self.levels // 2), index

    def vectors(self, index: Tensor) -> Tensor:
        """Indices of any shape [...] -> their grid points [..., dim]."""
        steps = index[..., None] // self.strides % self.levels - self.levels // 2
        return steps / (self.levels // 2)
