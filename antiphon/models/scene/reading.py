"""What a language model reads of a scene: a few short notes beside the user's words.

    [sound: a dog barks] [the user sounds angry]

Only what is noteworthy is noted. Of plain speech, in a neutral voice, where it is quiet, nothing is, and what is read
is what was read when nothing but words was heard.

A note is words, so that any language model reads it as it stands; but the words that name what was heard are *expected*
ones: their embeddings are the means of those of the group's labels, weighted by how likely the labels are, plus a
residual that is linear in the scene's vector, and zero before it is trained. What is doubtful is read as something
between the two; and what comes of the reading leads back, by its gradient, to the network that heard it.

    reading = SceneReading(model.embed, tokenizer, model.width)
    reading.read(scene)                              # [tokens, width], or None
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.scene.labels import GROUPS, TEMPO, Label, label
from antiphon.models.scene.scene import Scene, SoundEvent
from antiphon.nn.weights import fill

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SURE = 0.5  # how likely something has to be that is said of the whole turn
POSSIBLE = 0.1  # how likely a label has to be to have a part in an expected word
RECENT_SECONDS = 60.0  # before the end, in which a sound is noted
MOST_SOUNDS, MOST_INSTRUMENTS = 3, 2  # that are noted of one turn
WEIGHTS = "reading-{}.safetensors"  # by the width of the language model
# What is nothing to speak of: how a plain voice sounds, and the place that it speaks in.
PLAIN = {("feeling", "neutral"), ("manner", "question"), ("speakers", "one"), ("age", "adult")}


@dataclass(frozen=True)
class Named:
    """Words for something that was heard.

    Attributes:
        group, name: which label it is most likely.
        chance: how likely that is.
        before: text that stands before the words, a space if nothing else.
    """

    group: str
    name: str
    chance: float
    before: str = " "

    @property
    def label(self) -> Label:
        return label(self.group, self.name)

    def __str__(self) -> str:
        return self.before + written(self.label)


Note = tuple[str | Named, ...]  # text and names, that follow one another


def written(label: Label) -> str:
    """A label as a note has it."""
    return label.phrase or label.words


def text(notes: Sequence[Note]) -> str:
    """Notes as text, with the likeliest words."""
    return " ".join("".join(map(str, note)) for note in notes)


def noted(scene: Scene | None) -> str:
    """The notes on a scene as text; "" where nothing is worth one."""
    return text(notes(scene))


def notes(scene: Scene | None) -> list[Note]:
    """What of a scene is worth a note; nothing for most turns. Who speaks, and where, is told beside something else."""
    if scene is None:
        return []
    found = [
        _note("[sound:", _sounds(scene)),
        _note("[music:", _music(scene)),
        _note("[the user", _voice(scene)),
        _note("[speaking:", _speakers(scene)),
    ]
    found = [note for note in found if note]
    return found and found + [note for note in (_note("[the user is", _about(scene)),) if note]


def _note(title: str, named: Sequence[Named]) -> Note:
    """A note of several names, parted by commas; an empty one of none."""
    return (title, *[part for each in named for part in (",", each)][1:], "]") if named else ()


def _sounds(scene: Scene) -> list[Named]:
    """The likeliest of the last sounds, in the order in which they began; the voice's own are told of the voice."""
    voiced = set(GROUPS["manner"].names) if _speaks(scene) else set()
    best: dict[str, SoundEvent] = {}
    for event in scene.of("event"):
        if event.end >= scene.duration - RECENT_SECONDS and event.label not in voiced:
            if event.label not in best or event.probability > best[event.label].probability:
                best[event.label] = event
    likeliest = sorted(best.values(), key=lambda event: -event.probability)[:MOST_SOUNDS]
    return [Named("event", event.label, event.probability) for event in sorted(likeliest, key=lambda each: each.start)]


def _music(scene: Scene) -> list[Named]:
    """Its instruments, its genre and its tempo, as far as they are known."""
    if not any(event.label == "music" for event in scene.of("kind")):
        return []
    instruments = sorted(scene.of("instrument"), key=lambda event: -event.probability)[:MOST_INSTRUMENTS]
    rest = [event for group in ("genre", TEMPO) for event in scene.of(group) if event.probability >= SURE]
    named = [Named(event.group, event.label, event.probability) for event in (*instruments, *rest)]
    return named or [Named("kind", "music", 1.0)]


def _voice(scene: Scene) -> list[Named]:
    """How the voice sounds, and what it does besides speaking."""
    if not _speaks(scene):
        return []
    manner = {event.label: event for event in (*scene.of("event"), *scene.of("manner"))}  # the latter's where both are
    names = [name for name in GROUPS["manner"].names if name in manner and ("manner", name) not in PLAIN]
    return [
        *(Named("feeling", name, chance, " sounds ") for name, chance in _likely(scene, "feeling")),
        *(Named("manner", name, manner[name].probability) for name in names),
    ]


def _speakers(scene: Scene) -> list[Named]:
    """More than one."""
    return [Named("speakers", name, chance) for name, chance in _likely(scene, "speakers")]


def _about(scene: Scene) -> list[Named]:
    """Who speaks, and where."""
    if not _speaks(scene):
        return []
    return [Named(group, name, chance) for group in ("sex", "age") for name, chance in _likely(scene, group)]


def _likely(scene: Scene, group: str) -> list[tuple[str, float]]:
    """Labels of the whole turn that are not plain, with their chances."""
    likely = {event.label: event.probability for event in scene.of(group)}
    return [(name, chance) for name, chance in likely.items() if chance >= SURE and (group, name) not in PLAIN]


def _speaks(scene: Scene) -> bool:
    return any(event.label == "speech" for event in scene.of("kind"))


class SceneReading(nn.Module):
    """Notes -> embeddings.

    Args:
        embed: ids [tokens] -> [tokens, width], the language model's; no part of this module.
        tokenizer: likewise.
        width: of the embeddings.
        summary: width of a scene's vector; 0 for no residual.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor], tokenizer: Tokenizer, width: int, summary: int = 0):
        super().__init__()
        self.width, self._tokenizer = width, tokenizer
        self._embed: list[Callable[[Tensor], Tensor]] = [embed]  # in a list, as it is no part of this module
        self.residual = nn.Linear(summary, width, bias=False) if summary else None
        if self.residual is not None:
            nn.init.zeros_(self.residual.weight)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, embed: Callable[[Tensor], Tensor], tokenizer: Tokenizer, width: int
    ) -> SceneReading:
        """The reading that was trained with a language model like this one, if a scene's folder has it; else one
        without a residual.

        Raises:
            ModelError: it can't be read.
        """
        path = Path(folder) / WEIGHTS.format(width)
        if not path.is_file():
            return cls(embed, tokenizer, width)
        try:
            weights = {name: value.float() for name, value in load_file(path).items()}
            reading = cls(embed, tokenizer, width, weights["residual.weight"].shape[1])
            fill(reading, weights)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path} holds no reading of scenes: {error}") from error
        return reading.eval()

    def save(self, folder: Path | str) -> None:
        """Writes the residual into a scene's folder, in float16."""
        weights = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, Path(folder) / WEIGHTS.format(self.width), metadata={"format": "pt"})

    @torch.no_grad()
    def read(self, scene: Scene | None) -> Tensor | None:
        """What of a scene is worth a note, [tokens, width]; None where nothing is."""
        if scene is None or not (told := notes(scene)):
            return None
        vector = torch.tensor(scene.vector) if self.residual is not None and scene.vector else None
        return self(told, scene.chances, vector)

    def forward(
        self,
        notes: Sequence[Note],
        chances: Mapping[str, Mapping[str, float | Tensor]],
        vector: Tensor | None = None,
    ) -> Tensor:
        """The notes, one after the other, each after a space: [tokens, width].

        Args:
            notes: at least one.
            chances: of labels, by group, numbers or tensors through which gradients go; of groups and labels that are
                missing, a name's own chance holds.
            vector: of the scene [summary]; None for no residual.
        """
        added = None if self.residual is None or vector is None else self.residual(vector)
        told = {(part.group, part.name) for note in notes for part in note if isinstance(part, Named)}
        parts: list[Tensor] = []
        for note in notes:
            for at, part in enumerate(note):
                if isinstance(part, str):
                    parts.append(self._read(part if at else f" {part}"))
                else:
                    expected = self._expected(part, chances.get(part.group, {}), told)
                    parts.append(expected if added is None else expected + added)
        return torch.cat(parts)

    def _expected(self, named: Named, chances: Mapping[str, float | Tensor], told: set[tuple[str, str]]) -> Tensor:
        """The expected words [tokens, width], as many as the likeliest label has: each token is the mean of the tokens
        in its place, of shorter ones the last. Labels that are told themselves have no part in it."""
        options = [(named.label, chances.get(named.name, named.chance))]
        for name, chance in chances.items():
            if (
                name != named.name
                and (named.group, name) not in told
                and float(torch.as_tensor(chance).detach()) >= POSSIBLE
            ):
                options.append((label(named.group, name), chance))
        words = [self._read(named.before + written(each)) for each, _ in options]
        weights = torch.stack([torch.as_tensor(chance, dtype=words[0].dtype) for _, chance in options])
        weights = weights / weights.sum()
        places = torch.stack([each[torch.arange(len(words[0])).clamp_max(len(each) - 1)] for each in words])
        return (weights[:, None, None] * places).sum(0)

    def _read(self, text: str) -> Tensor:
        """Text as embeddings [tokens, width]."""
        return self._embed[0](torch.tensor(self._tokenizer.encode(text, add_special_tokens=False).ids))
