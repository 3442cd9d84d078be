"""How a language model reads scenes, learnt through it: the residual of a `SceneReading`, everything else frozen.

The network hears encoded examples whose labels are known; the language model reads a question about one of them, what
it is told of the scene, and the answer that the label gives. The answer's cross-entropy goes back through the language
model into the residual, which starts at nothing: so what is read is never worse than words at first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon.data.scene.encoded import EncodedSet
from antiphon.data.scene.example import Span
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder
from antiphon.models.llm.llama import Llama
from antiphon.models.llm.thinker import Thinker
from antiphon.models.scene.labels import label
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.notes import everything, written
from antiphon.models.scene.reading import SceneReading
from antiphon.models.scene.scene import Scene
from antiphon.train.config import StageConfig

QUESTIONS = Path(__file__).parents[2] / "data" / "text" / "heard.yaml"


@dataclass
class ReadingModel:
    """What stays as it is."""

    llm: str = MISSING
    """Name or folder of the language model; not a packed one, which can't be trained through."""
    scene: str = "weights/scene"
    """Folder of the network."""


@dataclass
class ReadingData:
    """What is asked about."""

    sets: list[str] = MISSING
    """Folders of encoded examples."""
    groups: list[str] = field(default_factory=lambda: ["event", "feeling", "sex", "manner", "instrument"])
    """Whose labels are asked for."""


class ReadingTask:
    """The stage's task; see the Task protocol of the engine. Its model is the reading alone."""

    Model, Data = ReadingModel, ReadingData
    optimizer_groups = {"reading": ["*"]}

    def __init__(self, config: StageConfig):
        self.config = config
        llm = folder(config.model.llm)
        base = Llama.from_pretrained(llm, torch.float32)
        base.requires_grad_(False)
        self.thinker = Thinker(base, llm)
        self.listener = SceneListener.from_pretrained(config.model.scene)
        summary = self.listener.network.config.width
        self.model = SceneReading(base.embed, self.thinker.tokenizer, base.width, summary)
        self.wordings = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
        self.asked = [
            (source, example, group)
            for source in map(EncodedSet, config.data.sets)
            for example in source.examples
            for group in config.data.groups
            if example.split == "train" and group in example.known and labels_of(example.spans, group)
        ]
        if not self.asked:
            raise ConfigError(f"data.sets: no example whose {', '.join(config.data.groups)} are known")

    def batch(self, step: int) -> list[tuple[Scene, str, str]]:
        """Scenes as the network hears them, a question about each, and its answer; by the seed and the step alone."""
        draw, rows = np.random.default_rng([self.config.seed, step]), []
        for place in draw.integers(len(self.asked), size=self.config.batch):
            source, example, group = self.asked[place]
            state = self.listener.init_state()
            self.listener.step(source(example), state)
            question, answer = (str(draw.choice(self.wordings[group][kind])) for kind in ("questions", "answers"))
            said = " and ".join(written(label(group, name)) for name in labels_of(example.spans, group))
            rows.append((self.listener.finish(state), question, answer.format(said)))
        return rows

    def losses(self, batch: list[tuple[Scene, str, str]], group: str) -> dict[str, Tensor]:
        """Of the answers' tokens, `answer`, in nats."""
        losses = [self._loss(*row) for row in batch]
        return {"answer": torch.stack(losses).mean()}

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is read of a few scenes, in words, to `folder`/<step>.txt."""
        folder.mkdir(parents=True, exist_ok=True)
        told = ["".join(map(str, everything(scene))) for scene, _, _ in self.batch(step)]
        (folder / f"{step:06d}.txt").write_text("\n".join(told) + "\n", encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes the reading, for the network's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder)

    def _loss(self, scene: Scene, question: str, answer: str) -> Tensor:
        """Cross-entropy of an answer behind its question and what is told of the scene."""
        llm, vector = self.thinker.model, torch.tensor(scene.vector) if scene.vector else None
        said = llm.embed(ids(self.thinker, self.thinker.template.opening(None)[1] + question))
        told = self.model(everything(scene), scene.chances, vector)
        x, answered = answer_row(self.thinker, said, told, answer)
        hidden = llm(x[None])[0, len(x) - len(answered) :]
        return F.cross_entropy(llm.logits(hidden), answered)


def answer_row(thinker: Thinker, said: Tensor, told: Tensor | None, answer: str) -> tuple[Tensor, Tensor]:
    """A question and its answer, as a conversation's first turns are read.

    Args:
        thinker: whose templates they are.
        said: the user's turn, with what stands before it, [tokens, width].
        told: what is told of the scene, [tokens, width]; None for nothing.
        answer: in words.

    Returns:
        Embeddings of all but the last token, [tokens, width]; the answer's tokens with what ends it, [n]: the last n
        positions are those that predict them.
    """
    template, embed = thinker.template, thinker.model.embed
    answered = ids(thinker, answer + template.assistant.after)
    if told is None:
        behind = [embed(ids(thinker, template.user.after + template.reply))]
    else:
        own = template.system
        behind = [
            embed(ids(thinker, template.user.after + own.before)), told,
            embed(ids(thinker, own.after + template.reply)),
        ]  # fmt: skip
    return torch.cat([said, *behind, embed(answered[:-1])]), answered


def ids(thinker: Thinker, text: str) -> Tensor:
    """A template's text as tokens."""
    return torch.tensor(thinker.tokenizer.encode(text, add_special_tokens=False).ids)


def labels_of(spans: Collection[Span], group: str) -> list[str]:
    """An example's labels of a group, as they came, each once."""
    own = sorted((span for span in spans if span.group == group), key=lambda span: span.start)
    return list(dict.fromkeys(span.label for span in own))
