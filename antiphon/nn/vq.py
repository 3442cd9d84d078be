"""Residual quantizers of the published codecs, with the interface of `antiphon.nn.quantize.ResidualQuantizer`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.nn.quantize import Quantized, ResidualQuantizer


class PlainResidualQuantizer(ResidualQuantizer):
    """Codes that live in the latent itself, as in EnCodec and SpeechTokenizer (Defossez et al. 2022, section 3.2).

    In training mode the codebooks learn by moving averages, see `ResidualQuantizer`.

    Args:
        dim: width of latents and codes.
        levels, size: number of codebooks, and codes in each.
    """

    def __init__(self, dim: int, levels: int, size: int):
        super().__init__(dim, 0, levels, size)

    @torch.no_grad()
    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """[batch, frames, dim] -> codes [batch, levels (all when None), frames]."""
        residual, codes = x.float().flatten(0, 1), []
        for codebook in self.codebooks[:levels]:
            # the nearest code, without the input's own length, which all codes share
            index = torch.addmm(codebook.codes.square().sum(-1), residual, codebook.codes.T, alpha=-2).argmin(-1)
            residual = residual - F.embedding(index, codebook.codes)
            codes.append(index.view(x.shape[:2]))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, first: int = 0) -> Tensor:
        """codes [batch, levels, frames] of codebook `first` and those behind it -> [batch, frames, dim]."""
        books = self.codebooks[first : first + codes.shape[1]]
        return sum(F.embedding(own, book.codes) for own, book in zip(codes.unbind(1), books))


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
