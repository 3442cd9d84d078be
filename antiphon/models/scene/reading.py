"""How a language model reads a scene: its notes as embeddings, and when it is told more than what is noteworthy.

A note is words, so that any language model reads it as it stands; but the words that name what was heard are *expected*
ones: their embeddings are the means of those of the labels that it may have been, weighted by how likely they are, plus
a residual that is linear in the scene's vector, and zero before it is trained. What is doubtful is read as something
between the two; and what comes of the reading leads back, by its gradient, to the network that heard it.

How the words themselves were said goes into their own embeddings, where that was learnt: see `words`. Whether a turn
asks about what is to be heard is read off the language model's own state behind the words
(`train.scene.asks`). Who doesn't ask is told what is noteworthy, mostly nothing; who does, everything.

    reading = SceneReading(model.embed, tokenizer, model.width)
    notes = reading.read(scene)                      # or None
    notes.behind(hidden)                             # [tokens, width], or None
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
from antiphon.models.scene.labels import GROUPS, label
from antiphon.models.scene.notes import Named, everything, notes, noteworthy_parts, written
from antiphon.models.scene.scene import Scene
from antiphon.models.scene.words import WordsResidual
from antiphon.nn.weights import fill

if TYPE_CHECKING:
    from tokenizers import Tokenizer

POSSIBLE = 0.1  # how likely a label has to be to have a part in an expected word
WEIGHTS = "reading-{}.safetensors"  # by the width of the language model


@dataclass(frozen=True, eq=False)
class SceneNotes:
    """What a language model may be told of what was heard in a turn besides its words.

    Attributes:
        noteworthy: [tokens, width]; None for nothing.
        everything: likewise.
        asks: from the language model's last hidden state behind the words [width] to how much they ask about what is to
            be heard, above 0 if they do; None where nobody knows.
    """

    noteworthy: Tensor | None
    everything: Tensor | None = None
    asks: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def behind(self, hidden: Tensor | None) -> Tensor | None:
        """What is read behind the words, [tokens, width]; None for nothing.

        Args:
            hidden: [width]; None where it isn't known.
        """
        if hidden is not None and self.asks is not None and self.everything is not None and self.asks(hidden) > 0:
            return self.everything
        return self.noteworthy


class SceneReading(nn.Module):
    """Notes -> embeddings.

    Args:
        embed: ids [tokens] -> [tokens, width], the language model's; no part of this module.
        tokenizer: likewise.
        width: of the embeddings.
        summary: width of a scene's vector; 0 for no residual.
        asks: tell from the language model's state whether a turn asks about what is to be heard.
        words: width of the states that say how words were said (`WordsResidual`); 0 for words as they are.
    """

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        tokenizer: Tokenizer,
        width: int,
        summary: int = 0,
        asks: bool = False,
        words: int = 0,
    ):
        super().__init__()
        self.width, self._tokenizer = width, tokenizer
        self._embed: list[Callable[[Tensor], Tensor]] = [embed]  # in a list, as it is no part of this module
        self.residual = nn.Linear(summary, width, bias=False) if summary else None
        if self.residual is not None:
            nn.init.zeros_(self.residual.weight)
        self.asks = nn.Linear(width, 1) if asks else None
        self.words = WordsResidual(words, width) if words else None

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
            summary = weights["residual.weight"].shape[1] if "residual.weight" in weights else 0
            words = weights["words.down.weight"].shape[1] // 2 if "words.down.weight" in weights else 0
            reading = cls(embed, tokenizer, width, summary, "asks.weight" in weights, words)
            fill(reading, weights)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path} holds no reading of scenes: {error}") from error
        return reading.eval()

    def save(self, folder: Path | str) -> None:
        """Writes all that is learnt into a scene's folder, in float16."""
        weights = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, Path(folder) / WEIGHTS.format(self.width), metadata={"format": "pt"})

    @torch.no_grad()
    def read(self, scene: Scene | None) -> SceneNotes | None:
        """What may be told of a scene; None for nothing."""
        if scene is None:
            return None
        vector = torch.tensor(scene.vector) if self.residual is not None and scene.vector else None
        worth = noteworthy_parts(notes(scene))
        whole = everything(scene) if self.asks is not None else []
        noteworthy, told = (self(parts, scene.chances, vector) if parts else None for parts in (worth, whole))
        return SceneNotes(noteworthy, told, self.asks) if worth or whole else None

    def forward(
        self,
        parts: Sequence[str | Named],
        chances: Mapping[str, Mapping[str, float | Tensor]],
        vector: Tensor | None = None,
    ) -> Tensor:
        """What is told, [tokens, width].

        Args:
            parts: text and names.
            chances: of labels, by group, numbers or tensors through which gradients go; of groups and labels that are
                missing, a name's own chance holds.
            vector: of the scene [summary]; None for no residual.
        """
        added = None if self.residual is None or vector is None else self.residual(vector)
        told = {(part.group, part.name) for part in parts if isinstance(part, Named)}
        read: list[Tensor] = []
        for part in parts:
            if isinstance(part, str):
                read.append(self._read(part))
            else:
                expected = self._expected(part, chances.get(part.group, {}), told)
                read.append(expected if added is None else expected + added)
        return torch.cat(read)

    def _expected(self, named: Named, chances: Mapping[str, float | Tensor], told: set[tuple[str, str]]) -> Tensor:
        """The expected words [tokens, width], as many as the likeliest label has: each token is the mean of the tokens
        in its place, of shorter ones the last. Labels that are told themselves have no part in it, nor those that are
        true of a turn beside others: who whispers may well speak slowly, which is no doubt about the whispering, and
        where there is speech there may be music."""
        options = [(named.label, chances.get(named.name, named.chance))]
        group = GROUPS.get(named.group)
        doubtful = group is None or group.exclusive or group.name == "event"
        for name, chance in chances.items() if doubtful else ():
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
