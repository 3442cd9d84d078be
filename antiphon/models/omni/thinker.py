"""The thinker: what was written, heard and seen as one sequence of embeddings, and the language model that reads it.

    read = thinker.read([Words(tokens), Heard(mel), Seen(patches, 10, 12)])
    hidden = thinker(read.x[None], read.places[:, None], cache)
    logits = thinker.logits(hidden)

The language model is the one of `models/llm`: adapters go with it, and a packed one can take its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from antiphon.encoders.vision.tower import VisionTower
from antiphon.encoders.whisper.tower import AudioTower, audio_tokens
from antiphon.errors import ModelError, TooLongError
from antiphon.models.llm.llama import Llama
from antiphon.models.lora import Lora
from antiphon.models.omni.config import ThinkerConfig
from antiphon.models.omni.positions import Image, Part, Sound, Text, Video, angles, interleaved, positions, tokens_in
from antiphon.nn.cache import KeyValues


@dataclass(frozen=True)
class Words:
    """Tokens [n] of text."""

    tokens: Tensor


@dataclass(frozen=True)
class Heard:
    """A sound's log-mel [bands, frames], 100 frames a second."""

    mel: Tensor


@dataclass(frozen=True)
class Encoded:
    """A sound that the tower has heard: its tokens [n, width]."""

    features: Tensor


@dataclass(frozen=True)
class Seen:
    """A picture's patches [1, height * width, values]; `height` and `width` in patches."""

    patches: Tensor
    height: int
    width: int


@dataclass(frozen=True)
class Watched:
    """A video's patches [frames, height * width, values], `seconds` from a frame of patches to the next; with its own
    sound's log-mel [bands, frames], or without."""

    patches: Tensor
    height: int
    width: int
    seconds: float
    mel: Tensor | None = None


Given = Words | Heard | Encoded | Seen | Watched


@dataclass
class Read:
    """What the language model reads of parts.

    Attributes:
        x: embeddings [tokens, width].
        places: [3, tokens], see `positions`.
        tokens: ids [tokens]; those of placeholders where something was heard or seen.
        perceived: whether a token is of something heard or seen, [tokens].
        after: where the next part starts.
    """

    x: Tensor
    places: Tensor
    tokens: Tensor
    perceived: Tensor
    after: float

    @property
    def last(self) -> float:
        """Where a reply starts: behind all that was read."""
        return self.places.max().item() + 1 if self.places.numel() else self.after


class OmniThinker(nn.Module):
    """See the module."""

    def __init__(self, config: ThinkerConfig, language_model: Llama | None = None):
        super().__init__()
        self.config = config
        self.audio_tower, self.visual = self._towers(config)
        self.language_model = language_model or Llama(config.text)

    @property
    def width(self) -> int:
        """Of embeddings and hidden states."""
        return self.language_model.width

    # What another model of this kind has its own of.

    @staticmethod
    def _towers(config: ThinkerConfig) -> tuple[nn.Module, nn.Module]:
        return AudioTower(config.audio), VisionTower(config.vision)

    def _heard(self, frames: int) -> int:
        """Tokens of so many frames of a sound."""
        return audio_tokens(frames)

    def _positions(self, parts: Iterable[Part], start: float) -> tuple[Tensor, float]:
        return positions(parts, start, self.config.per_second, self.config.chunk_seconds)

    def _runs(self, video: Video) -> list[tuple[bool, int, int]]:
        return interleaved(video, self.config.per_second, self.config.chunk_seconds)

    def _angles(self, places: Tensor) -> Tensor:
        return angles(places, self.language_model.frequencies, self.config.sections)

    def _filled(self, x: Tensor) -> Tensor:
        """What is read of words and sounds [n, width] as wide as what is read of pictures."""
        return x

    def read(self, parts: Sequence[Given], start: float = 0, held: int = 0) -> Read:
        """Embeddings and places of parts, which come behind others that end before `start`. `held` tokens have been
        read already.

        Raises:
            ModelError: a sound or a picture that makes no token.
            TooLongError: more than the language model reads; nothing was encoded then.
        """
        length, context = held + sum(tokens_in(self.place(part)) for part in parts), self.language_model.context
        if length > context:
            raise TooLongError(
                f"{length} tokens are more than the model reads ({context}): give less, or shorter parts"
            )
        device = self.language_model.norm.device
        xs, ids, perceived = [], [], []
        for part in parts:
            tokens, features = self.tokens_of(part), self._features(part)
            tokens = tokens.to(device)
            x = self._filled(self.language_model.embed(tokens))
            own = torch.zeros(len(tokens), dtype=torch.bool, device=device)
            if features is not None:
                edge = (len(tokens) - len(features)) // 2
                own[edge : len(tokens) - edge] = True
                x = torch.cat([x[:edge], features.to(x), x[len(tokens) - edge :]])
            xs.append(x)
            ids.append(tokens)
            perceived.append(own)
        places, after = self._positions(map(self.place, parts), start)
        return Read(torch.cat(xs), places.to(device), torch.cat(ids), torch.cat(perceived), after)

    def perceived(self, features: Tensor, start: float) -> Read:
        """The next tokens [n, width] of a sound that is under way, behind what ends before `start`."""
        places, after = self._positions([Text(len(features))], start)
        ids = torch.full((len(features),), self.config.tokens.audio_token_index, device=features.device)
        return Read(features.float(), places.to(features.device), ids, torch.ones_like(ids, dtype=torch.bool), after)

    def place(self, part: Given) -> Part:
        """How long a part is."""
        if isinstance(part, Words):
            return Text(len(part.tokens))
        if isinstance(part, Heard):
            return Sound(self._heard(part.mel.shape[1]))
        if isinstance(part, Encoded):
            return Sound(len(part.features))
        merge = self.config.vision.spatial_merge_size
        height, width = part.height // merge, part.width // merge
        if isinstance(part, Seen):
            return Image(height, width)
        sound = None if part.mel is None else self._heard(part.mel.shape[1])
        return Video(len(part.patches), height, width, part.seconds, sound)

    def tokens_of(self, part: Given) -> Tensor:
        """A part's ids, markers and placeholders."""
        if isinstance(part, Words):
            return part.tokens
        ids, place = self.config.tokens, self.place(part)
        if isinstance(place, Sound):
            inside = [ids.audio_token_index] * place.tokens
            return torch.tensor([ids.audio_start_token_id, *inside, ids.audio_end_token_id])
        before, after = [ids.vision_start_token_id], [ids.vision_end_token_id]
        if isinstance(place, Image):
            inside = [ids.image_token_index] * (place.height * place.width)
        elif isinstance(place, Video) and place.sound is None:
            inside = [ids.video_token_index] * (place.frames * place.height * place.width)
        else:
            runs = self._runs(place)
            kinds = (ids.video_token_index, ids.audio_token_index)
            inside = [kinds[heard] for heard, first, end in runs for _ in range(first, end)]
            before, after = [*before, ids.audio_start_token_id], [ids.audio_end_token_id, *after]
        return torch.tensor([*before, *inside, *after])

    def _features(self, part: Given) -> Tensor | None:
        """What the towers make of a part, in the order of its placeholders [placeholders, width]; None for text."""
        if isinstance(part, Words):
            return None
        if isinstance(part, Encoded):
            return self._filled(part.features)
        device = self.language_model.norm.device
        heard = None
        if not isinstance(part, Seen) and part.mel is not None:
            heard = self._filled(self.audio_tower(part.mel[None].to(device))[0][0])
        if isinstance(part, Heard):
            return heard
        seen = self.visual(part.patches.to(device), part.height, part.width).flatten(0, 1)
        if heard is None:
            return seen
        runs = self._runs(self.place(part))
        return torch.cat([(heard if sound else seen)[first:end] for sound, first, end in runs])

    def forward(
        self, x: Tensor, places: Tensor, cache: KeyValues | None = None, lora: Lora | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Last hidden states [B, T, width] of embeddings [B, T, width] at places [3, B, T]; see `Llama.forward`."""
        return self.language_model(x, cache, lora, counts, angles=self._angles(places))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary], float32."""
        return self.language_model.logits(hidden)


def batched(reads: Sequence[Read]) -> tuple[Tensor, Tensor]:
    """Rows of a batch, filled up at their ends, which a causal model's other tokens don't see.

    Returns:
        x [B, T, width], places [3, B, T].

    Raises:
        ModelError: there are none.
    """
    if not reads:
        raise ModelError("a batch of nothing can't be read")
    x = pad_sequence([read.x for read in reads], batch_first=True)
    places = pad_sequence([read.places.T for read in reads], batch_first=True)
    return x, places.permute(2, 0, 1)
