"""From units back to sound: what a speech language model says can be listened to.

    vocoder = UnitVocoder.from_pretrained("runs/speech-lm-vocoder/model")
    audio = vocoder.speak(units)                     # [samples] at vocoder.codec.sample_rate

Units say which sounds there are, not how long each is, how high or by whom. Two causal networks make up for it: one
tells how many frames each unit lasts (Kreuk et al. 2022, section 3.2 has the same behind HuBERT's units), the other
which vector each frame of a codec has; the codec's own codes nearest to it are then decoded. So the waveform is what
the codec has learnt already, and the voice is that of the recordings that these networks were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs import load
from antiphon.codecs.base import has_codes_of
from antiphon.errors import HubError
from antiphon.hub.weights import configured, load_ours, read_config, read_weights, write
from antiphon.nn.conv import CausalConv1d, CausalStack, ConvNeXtBlock
from antiphon.nn.quantize import nearest

FAMILY = "unit-vocoder"


@dataclass
class UnitVocoderConfig:
    """Sizes, and what it stands between.

    Attributes:
        units: how many there are.
        unit_rate: of them a second, where they last.
        tokenizer: fingerprint of what makes them; "" where nobody knows.
        codec: name or folder of the codec whose codes are told.
        fingerprint: of the codec.
        frame_rate: of the codec, frames a second.
        latent: width of the codec's vectors.
        width, depth: of the network at each of the two rates.
        longest: frames that a unit lasts at most; longer runs are told as several units.
        ahead: units' frames that are looked at before a sound is told.
    """

    units: int
    unit_rate: float
    tokenizer: str
    codec: str
    fingerprint: str
    frame_rate: float
    latent: int
    width: int = 256
    depth: int = 4
    longest: int = 40
    ahead: int = 8


class Ahead(CausalStack):
    """A causal stack that answers so many steps later: it hears what comes next."""

    def __init__(self, ahead: int, *layers: nn.Module):
        super().__init__(*layers)
        self.ahead = ahead

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, n] -> the same."""
        return super().forward(F.pad(x, (0, self.ahead)))[..., self.ahead :]


class UnitVocoder(nn.Module):
    """Units to codes of a codec, and those to sound.

    Args:
        config: sizes.
    """

    def __init__(self, config: UnitVocoderConfig):
        super().__init__()
        self.config, width = config, config.width
        self.lasting = nn.Embedding(config.units + 1, width)  # 0 is none
        self.timing = Ahead(
            config.ahead // 2, *(ConvNeXtBlock(width) for _ in range(2)), CausalConv1d(width, config.longest, 1)
        )
        self.sounding = nn.Embedding(config.units + 1, width)
        self.fast = Ahead(config.ahead, *(ConvNeXtBlock(width) for _ in range(config.depth)))
        self.slow = CausalStack(
            *(ConvNeXtBlock(width) for _ in range(config.depth)), CausalConv1d(width, config.latent, 1)
        )

    @cached_property
    def codec(self) -> Any:
        """The codec that makes the sound; no part of the module, whose weights are its own.

        Raises:
            HubError: it has other weights now.
        """
        codec = load(self.config.codec)
        if not has_codes_of(codec, self.config.fingerprint):
            raise HubError(f"{self.config.codec} has other weights than this vocoder was trained for: give those back.")
        return codec

    def durations(self, units: Tensor) -> Tensor:
        """units [batch, n], -1 behind a row's end -> logits of their lengths less one [batch, n, longest]."""
        return self.timing(self.lasting(units + 1).transpose(1, 2)).transpose(1, 2)

    def latents(self, units: Tensor) -> Tensor:
        """units in their lengths [batch, n], -1 behind a row's end -> the codec's vectors [batch, frames, latent]."""
        hidden = self.fast(self.sounding(units + 1).transpose(1, 2))
        at = frame_ends(units.shape[1], self.config.unit_rate, self.config.frame_rate, units.device)
        return self.slow(hidden[..., at]).transpose(1, 2)

    @torch.inference_mode()
    def lengthened(self, units: Tensor) -> Tensor:
        """units [n] -> each as often as it probably lasts [frames]: the mean of what is likely."""
        chances = self.durations(units[None])[0].softmax(-1)
        steps = torch.arange(1, self.config.longest + 1, device=units.device, dtype=chances.dtype)
        return units.repeat_interleave((chances @ steps).round().long().clamp_min(1))

    @torch.inference_mode()
    def codes(self, units: Sequence[int] | NDArray[np.integer] | Tensor, deduplicated: bool = True) -> Tensor:
        """Codes of the codec [1, codebooks, frames].

        Args:
            units: [n].
            deduplicated: whether each stands for a run; else they are in their lengths already.

        Raises:
            ValueError: numbers that are no units.
        """
        given = torch.as_tensor(units, dtype=torch.long).to(self.lasting.weight.device)
        if given.ndim != 1 or (len(given) and not 0 <= int(given.min()) <= int(given.max()) < self.config.units):
            raise ValueError(f"units must be [n] of 0 to {self.config.units - 1}")
        if not len(given):
            return torch.zeros(1, self.codec.codebooks, 0, dtype=torch.long)
        given = self.lengthened(given) if deduplicated else given
        return nearest_codes(self.latents(given[None])[0], self.codec.codebook_vectors())[None]

    @torch.inference_mode()
    def speak(self, units: Sequence[int] | NDArray[np.integer] | Tensor, deduplicated: bool = True) -> Tensor:
        """Sound [samples] at the codec's rate; see `codes`."""
        codes = self.codes(units, deduplicated)
        return self.codec.decode(codes)[0].mean(0) if codes.shape[-1] else torch.zeros(0)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors."""
        write(folder, {"family": FAMILY, **asdict(self.config)}, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Reads what `save_pretrained` wrote.

        Raises:
            HubError: the folder holds something else.
        """
        found = read_config(folder)
        if found.get("family") != FAMILY:
            raise HubError(f"{folder} holds no vocoder of units: give the model folder of a run of speech-lm/vocoder.")
        vocoder = cls(configured(UnitVocoderConfig, found, folder))
        load_ours(vocoder, read_weights(folder), folder)
        return vocoder.eval()


def frame_ends(units: int, unit_rate: float, frame_rate: float, device: torch.device | str = "cpu") -> Tensor:
    """For each frame of a codec the last unit that begins in it: as many frames as units fill, the last one in part."""
    frames = int(np.ceil(units * frame_rate / unit_rate - 1e-6))
    ends = torch.ceil(torch.arange(1, frames + 1, device=device) * (unit_rate / frame_rate) - 1e-6).long() - 1
    return ends.clamp_max(units - 1)


def nearest_codes(latents: Tensor, books: Sequence[Tensor]) -> Tensor:
    """The codes whose vectors, one of each codebook, come nearest to latents, a codebook after the other.

    Args:
        latents: [frames, latent].
        books: [codebook_size, latent] each.

    Returns:
        [codebooks, frames].
    """
    rest, found = latents.float(), []
    for book in books:
        found.append(nearest(rest, book.float()))
        rest = rest - book[found[-1]]
    return torch.stack(found)
