"""Qwen3-Omni's thinker: that of `omni.thinker` with towers, places and experts of its own, and pictures told in depth.

What is read of a picture's tokens are an embedding and, behind it, what is to be added to what each of the first layers
gave (`encoders.vision.deepstack`); of words and sounds those are zeros: `Read.x` is [tokens, levels * width].

    read = thinker.read([Words(tokens), Heard(mel), Seen(patches, 10, 12)])
    hidden, accepted = thinker.thought(read.x[None], read.places[:, None], cache, accepted=24)
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders.vision.deepstack import DeepstackTower
from antiphon.encoders.whisper.aut import AudioTransformer
from antiphon.models.lora import Lora
from antiphon.models.omni.config import ThinkerConfig
from antiphon.models.omni.positions import Part, Video
from antiphon.models.omni.qwen3.positions import angles, interleaved, positions
from antiphon.models.omni.thinker import OmniThinker
from antiphon.nn.cache import KeyValues


class Qwen3Thinker(OmniThinker):
    """See the module."""

    @staticmethod
    def _towers(config: ThinkerConfig) -> tuple[nn.Module, nn.Module]:
        return AudioTransformer(config.audio), DeepstackTower(config.vision)

    def _heard(self, frames: int) -> int:
        return self.config.audio.tokens(frames)

    def _positions(self, parts: Iterable[Part], start: float) -> tuple[Tensor, float]:
        return positions(parts, start, self.config.per_second)

    def _runs(self, video: Video) -> list[tuple[bool, int, int]]:
        return interleaved(video, self.config.per_second)

    def _angles(self, places: Tensor) -> Tensor:
        return angles(places, self.language_model.frequencies, self.config.sections)

    def _filled(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.config.vision.levels * self.width - x.shape[-1]))

    def forward(self, x: Tensor, places: Tensor, cache: KeyValues | None = None, lora: Lora | None = None) -> Tensor:
        """Last hidden states [B, T, width]; as `thought`."""
        return self.thought(x, places, cache, lora)[0]

    def thought(
        self, x: Tensor, places: Tensor, cache: KeyValues | None = None, lora: Lora | None = None,
        accepted: int | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Reads on.

        Args:
            x: of `Read`s, [B, T, levels * width]; or embeddings alone [B, T, width].
            places: [3, B, T].
            cache, lora: see `Llama.forward`.
            accepted: a number of layers.

        Returns:
            Last hidden states [B, T, width]; what so many layers gave, before a picture's depth is added to it (the
            last hidden states where they are all, or no number is given).
        """
        x, *deep = x.split(self.width, dim=-1)
        told = {0: x}

        def between(number: int, y: Tensor) -> Tensor:
            if number + 1 == accepted:
                told[number + 1] = y
            return y + deep[number] if number < len(deep) else y

        needed = bool(deep) or accepted is not None
        hidden = self.language_model(
            x, cache, lora, angles=self._angles(places), between=between if needed else None
        )  # fmt: skip
        told[self.language_model.config.num_hidden_layers] = hidden
        return hidden, told.get(accepted, hidden)
