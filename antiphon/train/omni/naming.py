"""Before the thinker: a tower from scratch learns to name what is in generated pictures, or heard in sounds.

Each token of a tower is to be what the language model's embeddings of the right names add up to, so that it gets what
it nearly knows how to read: a token of the middle of a red circle is "red" plus "circle". A thing's names stand at its
middle, a sound's for as long as it lasts. Pictures are drawn anew for each batch; sounds come from a pool, so that the
frozen encoder hears each of them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio.mel import SAMPLE_RATE
from antiphon.data.omni import pictures, sounds, videos
from antiphon.data.omni.names import CHARTS, EVENTS, HEARD, SEEN, SHAPES, WORDS
from antiphon.data.speech.speak import generator_for
from antiphon.encoders.vision.pictures import patchify, scaled
from antiphon.encoders.vision.tower import patch_places
from antiphon.models.omni import weights
from antiphon.models.omni.positions import PER_SECOND
from antiphon.train.config import StageConfig
from antiphon.train.omni.start import OmniStart, TrainableOmni, build, processor_of

GROUPS = {"shapes": SHAPES, "words": WORDS, "charts": CHARTS, "events": EVENTS}
KIND_SHARES = (0.3, 0.45, 0.25)  # of `pictures.KINDS`: words are the hardest
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Batch = tuple[Tensor, ...]  # what the tower or its last layer gets; which names are true of each token; letters
ONSET = 0.12  # seconds for which a sound's "start" stands


class Namer(nn.Module):
    """A model whose tower is taught, and what tells names from a tower's tokens.

    Args:
        omni: the model.
        table: embeddings of the names [names, width].
        nothing: that of "nothing" [width].
    """

    def __init__(self, omni: TrainableOmni, table: Tensor, nothing: Tensor):
        super().__init__()
        self.omni = omni
        self.scale, self.bias = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.full((len(table),), -4.0))
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("nothing", nothing, persistent=False)
        self.register_buffer("middle", table.mean(0), persistent=False)

    def logits(self, tokens: Tensor) -> Tensor:
        """How likely each name is of tokens: [..., width] -> [..., names]."""
        names = F.normalize(self.table - self.middle, dim=-1)
        away = (tokens.float() - self.middle) / self.table.norm(dim=-1).mean()
        return self.scale * away @ names.T + self.bias

    def target(self, true: Tensor) -> Tensor:
        """What tokens are to be: [..., names] -> [..., width]."""
        count = true.sum(-1, keepdim=True)
        return torch.where(count > 0, true @ self.table / count.clamp_min(1).sqrt(), self.nothing)

    def losses(self, tokens: Tensor, true: Tensor) -> dict[str, Tensor]:
        """`names`: nats of a token's names; `near`: squared distance from the target, as a share of its square."""
        names = F.binary_cross_entropy_with_logits(self.logits(tokens), true, reduction="none").sum(-1)
        weight = 1.0 + 4.0 * (true.sum(-1) > 0).float()
        target = self.target(true)
        near = (tokens.float() - target).square().mean(-1) / target.square().mean()
        return {"names": (names * weight).mean(), "near": (near * weight).mean()}

    @torch.no_grad()
    def right(self, tokens: Tensor, true: Tensor, groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Share of tokens with all names right: of those with a name of each group, and of those with none at all."""
        same = ((self.logits(tokens) > 0) == (true > 0.5)).all(-1)
        there = {name: true[..., list(some)].sum(-1) > 0 for name, some in groups.items()}
        there["empty"] = true.sum(-1) == 0
        return {name: float(same[mine].float().mean()) for name, mine in there.items() if mine.any()}


def namer(start: OmniStart, names: Sequence[str]) -> Namer:
    """With the embeddings of these names; of a name of several tokens, their mean."""
    omni = build(start)
    encode, embed = processor_of(start, omni).plain.encode, omni.thinker.language_model.embed
    with torch.no_grad():
        rows = [embed(torch.tensor(encode(f" {name}").ids)).mean(0) for name in (*names, "nothing")]
    return Namer(omni, torch.stack(rows[:-1]), rows[-1])


@dataclass
class VisionNamesData:
    """What is drawn."""

    films: float = 0.3
    """Share of pairs of pictures of a video."""
    measured: int = 128
    """Pictures of the test split that are looked at."""


class VisionNamesTask:
    """A vision tower learns names; see the module, and the Task protocol of the engine."""

    Model, Data = OmniStart, VisionNamesData

    def __init__(self, config: StageConfig):
        self.config = config
        self.model = namer(config.model, SEEN)
        self.model.letters = nn.Linear(self.model.omni.config.thinker.vision.hidden_size, len(LETTERS))
        nn.init.constant_(self.model.letters.bias, -4.0)

    def batch(self, step: int) -> Batch:
        return self._batch("train", step * self.config.batch, self.config.batch)

    def _batch(self, split: str, first: int, count: int) -> Batch:
        made = [self._example(split, number) for number in range(first, first + count)]
        return tuple(torch.stack(each) for each in zip(*made))

    def _example(self, split: str, number: int) -> Batch:
        generator = generator_for(self.config.seed, f"seen {split} {number}")
        vision = self.model.omni.config.thinker.vision
        if generator.random() < self.config.data.films:
            shown, named, letters = *_pair(generator), []
        else:
            drawn = pictures.draw(str(generator.choice(list(pictures.KINDS), p=KIND_SHARES)), generator)
            shown, named, letters = [drawn.image], drawn.named, drawn.letters
        pixels = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)
        least = most = pictures.SIDE**2
        patches, height, width = patchify(torch.stack([scaled(each, vision, least, most) for each in pixels]), vision)
        merge = vision.spatial_merge_size
        places = patch_places(height, width, merge)
        spelt = in_cells(letters, height, width, LETTERS)[places[:, 0], places[:, 1]]
        return patches[0], in_cells(named, height // merge, width // merge).flatten(0, 1), spelt

    def losses(self, batch: Batch, group: str = "model") -> dict[str, Tensor]:
        """Those of `Namer`; and `letters`: nats of a patch's letters, which a layer half way up is to know."""
        half: list[Tensor] = []
        blocks = self.model.omni.thinker.visual.blocks
        hook = blocks[len(blocks) // 2 - 1].register_forward_hook(lambda block, given, out: half.append(out))
        try:
            found = self.model.losses(self._tokens(batch[0]), batch[1])
        finally:
            hook.remove()
        spelt = F.binary_cross_entropy_with_logits(self.model.letters(half[0]).float(), batch[2], reduction="none")
        return {**found, "letters": spelt.sum(-1).mean()}

    def _tokens(self, patches: Tensor) -> Tensor:
        side = int(patches.shape[1] ** 0.5)
        return self.model.omni.thinker.visual(patches, side, side)

    @torch.no_grad()
    def measure(self, step: int, measures: object) -> dict[str, float]:
        """Shares of right tokens of pictures never drawn in training."""
        patches, true, _ = self._batch("test", 0, self.config.data.measured)
        groups = {name: [SEEN.index(each) for each in some] for name, some in GROUPS.items()}
        return self.model.right(self._tokens(patches), true, groups)

    def sample(self, step: int, folder: Path) -> None:
        """There is nothing to look at that `measure` doesn't tell."""

    def export(self, folder: Path) -> None:
        """Writes the whole model."""
        weights.save(self.model.omni, folder)


def _pair(generator: Generator) -> tuple[list[np.ndarray], list[pictures.Named]]:
    """Two pictures of a video, one after the other, as a token of a video has them."""
    film = videos.make_film(str(generator.choice(list(videos.KINDS))), generator)
    step = videos.STEP
    first = 2 * step * int(generator.integers(videos.SECONDS / step / 2))
    return [film.picture(first), film.picture(first + step)], film.named(first, first + step)


def in_cells(named: Sequence[pictures.Named], height: int, width: int, names: Sequence[str] = SEEN) -> Tensor:
    """Which names are true of each cell of a picture that is cut into so many [height, width, names]."""
    true = torch.zeros(height, width, len(names))
    for each in named:
        row, column = (min(size - 1, max(0, int(at * size))) for at, size in ((each.y, height), (each.x, width)))
        true[row, column, [names.index(name) for name in each.names]] = 1.0
    return true


@dataclass
class HearingNamesData:
    """What is heard."""

    recordings: str = "audio/esc10"
    """Folder of ESC-10 or ESC-50."""
    pool: int = 3000
    """Sounds that are made."""
    measured: int = 300
    """Sounds of the test split that are listened to."""


class HearingNamesTask:
    """What joins an audio tower to the language model learns names; see the module."""

    Model, Data = OmniStart, HearingNamesData

    def __init__(self, config: StageConfig):
        self.config = config
        self.model = namer(config.model, HEARD)
        self.processor = processor_of(config.model, self.model.omni)
        self.bank = sounds.Bank(config.data.recordings)
        self._made: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}

    def batch(self, step: int) -> Batch:
        size = self.config.batch
        return self._batch(
            "train", [number % self.config.data.pool for number in range(step * size, (step + 1) * size)]
        )

    def _batch(self, split: str, numbers: Sequence[int]) -> Batch:
        made = [block for number in numbers for block in self._example(split, number)]
        return torch.stack([each[0] for each in made]), torch.stack([each[1] for each in made])

    @torch.no_grad()
    def _example(self, split: str, number: int) -> list[tuple[Tensor, Tensor]]:
        """Blocks of a sound: what the encoder makes of them [tokens, width], and their names."""
        if (split, number) not in self._made:
            generator = generator_for(self.config.seed, f"heard {split} {number}")
            kind = str(generator.choice(list(sounds.KINDS), p=[0.6, 0.25, 0.15]))
            heard = sounds.KINDS[kind](self.bank, split, generator)
            mel = self.processor.sound(torch.from_numpy(heard.samples), SAMPLE_RATE).mel
            size = self.model.omni.config.thinker.audio.block
            blocks = mel.unfold(1, size, size).transpose(0, 1)
            tower = self.model.omni.thinker.audio_tower
            encoded = tower.pooled(blocks, torch.full((len(blocks),), size))[0]
            true = while_heard(heard.named, encoded.shape[0] * encoded.shape[1]).view(*encoded.shape[:2], -1)
            self._made[split, number] = list(zip(encoded, true))
        return self._made[split, number]

    def losses(self, batch: Batch, group: str = "model") -> dict[str, Tensor]:
        return self.model.losses(self._tokens(batch[0]), batch[1])

    def _tokens(self, encoded: Tensor) -> Tensor:
        tower = self.model.omni.thinker.audio_tower
        return tower.proj(tower.ln_post(encoded))

    @torch.no_grad()
    def measure(self, step: int, measures: object) -> dict[str, float]:
        """Shares of right tokens, and of sounds whose likeliest name over all of their block is right, of recordings
        never heard in training."""
        encoded, true = self._batch("test", range(self.config.data.measured))
        tokens = self._tokens(encoded)
        some = len(sounds.SOUNDS)
        there = true[..., :some].sum(1)
        told = self.model.logits(tokens)[..., :some].mean(1).argmax(-1)
        sure = there.sum(-1) > 0
        block = (told == there.argmax(-1))[sure].float().mean()
        return {**self.model.right(tokens, true, {"named": range(len(HEARD))}), "block": float(block)}

    def sample(self, step: int, folder: Path) -> None:
        """There is nothing to look at that `measure` doesn't tell."""

    def export(self, folder: Path) -> None:
        """Writes the whole model."""
        weights.save(self.model.omni, folder)


def while_heard(named: Sequence[tuple[str, float, float]], tokens: int) -> Tensor:
    """Which names are true of each token of a sound [tokens, names]."""
    true = torch.zeros(tokens, len(HEARD))
    for name, start, end in named:
        first, last = int(start * PER_SECOND), max(int(start * PER_SECOND) + 1, int(end * PER_SECOND))
        true[first:last, HEARD.index(name)] = 1.0
        true[first : first + int(ONSET * PER_SECOND), HEARD.index("start")] = 1.0
    return true
