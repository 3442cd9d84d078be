"""Hearing, learnt through a language model from the sound on: encoder, scene network, what is read of both, answers.

    sound -> Whisper's encoder, with low-rank pairs -> scene network -> expected embeddings -> language model -> answer
                    \\-> its decoder: the words, with how each was said -----------------------/

One task for two stages. The recipe says what learns: `recipes/scene/encoder.yaml` the encoder's pairs, the network's
mixes and heads and the residuals, the language model frozen; `recipes/scene/everything.yaml` the language model's pairs
as well, held by texts of which it is to think what it thought before.

The answer's loss alone makes the network's heads worse: a language model reads its answer off whatever helps. So what
is known of an example is learnt by the heads as in `train.scene.task`, beside the answer; recipes weigh it more. And
of the answer what names what is heard counts once more: how answers are worded is learnt first, and at its cost.

Words are those that the recognizer hears, with its mistakes, as they are where the model is used; its own encoder and
decoder stay as they are. How words were said is learnt from examples of speech of which nothing else is told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.audio.io import Audio
from antiphon.data.scene.example import RATE, Example, Span
from antiphon.data.scene.make import Material, SceneSets
from antiphon.data.text.corpora import text_id
from antiphon.data.text.facts import read_chat, read_facts
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder
from antiphon.models.asr.heard import HearingOptions, SpokenWords
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.llm.llama import Llama
from antiphon.models.llm.text import as_words
from antiphon.models.llm.thinker import Thinker
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.scene.features import FRAME, SceneFeatures, extract
from antiphon.models.scene.hearing import ENCODER
from antiphon.models.scene.labels import label
from antiphon.models.scene.listener import SceneListener, likelihoods
from antiphon.models.scene.network import Readings, SceneNetwork, Summary
from antiphon.models.scene.notes import everything, written
from antiphon.models.scene.reading import SceneReading
from antiphon.models.scene.scene import Scene
from antiphon.train.config import Measures, StageConfig
from antiphon.train.scene.batches import Item, collate, features_of
from antiphon.train.scene.figures import figures
from antiphon.train.scene.reading import QUESTIONS, answer_row, ids, labels_of
from antiphon.train.scene.task import labelled_losses, spread

LLM = "lora"  # in the exported folder, that of the language model's pairs
KEPT_ONE_IN = 5  # wordings of questions, and facts, that measure
VOICE = ("sex", "age", "feeling", "manner")  # what is heard in how words are said
KEPT_WORDS = 2000  # examples whose words are remembered


@dataclass
class HearingModel:
    """What it begins with."""

    llm: str = MISSING
    """Name or folder of the language model; a packed one is unpacked."""
    whisper: str = "whisper-base"
    """Name or folder of Whisper, whose encoder's features the network was trained on."""
    scene: str = "weights/scene"
    """Folder of the network, and of what an earlier stage exported with it: its pairs and what it reads are gone on
    with."""
    encoder: LoraConfig = field(default_factory=lambda: LoraConfig(8, 16.0))
    """The encoder's pairs."""
    lora: LoraConfig | None = None
    """The language model's pairs; null for none."""
    words: bool = True
    """Whether how words were said is read."""


@dataclass
class HearingData:
    """What is heard and asked."""

    sets: SceneSets = field(default_factory=SceneSets)
    """Recordings as they are, and what is made of them: as in recipes/scene/sets.yaml, but heard anew in each batch."""
    groups: list[str] = field(default_factory=lambda: ["event", "feeling", "sex", "manner", "instrument"])
    """Whose labels are asked for."""
    seconds: float = 5.0
    """Of longer examples no more is heard."""
    words_alone: float = 0.5
    """Share of questions about a voice in which nothing is told but the words and how they were said."""
    texts: int = 0
    """Questions about the world in a batch, that the language model is to answer as before; none without its pairs."""
    held_out: str = "test"
    """The split that is measured, with wordings that are kept from training."""
    measured: int = 40
    """Examples of it that are measured, and texts."""


class HearingParts(nn.Module):
    """All that may learn.

    Args:
        scene: names what is heard.
        reading: what the language model reads of it and of words.
        encoder: the encoder's pairs.
        llm: the language model's; None for one that stays as it is.
    """

    def __init__(self, scene: SceneNetwork, reading: SceneReading, encoder: Lora, llm: Lora | None = None):
        super().__init__()
        self.scene, self.reading, self.encoder, self.llm = scene, reading, encoder, llm

    def train(self, mode: bool = True) -> HearingParts:
        """The network is trained as it is used, without dropout: the language model reads what it says."""
        super().train(mode)
        self.scene.eval()
        return self


@dataclass(frozen=True, eq=False)
class Sound:
    """An example before it is made.

    Attributes:
        id: unique.
        make: gives it, always the same.
        labels: what may be asked about it, by group.
    """

    id: str
    make: Callable[[], Example]
    labels: dict[str, list[str]]


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about an example.

    Attributes:
        samples: [n] at 16 kHz.
        spans, known: as in `Example`.
        question, answer: in words.
        said: the part of the answer that names what is heard.
        spoken: the words before the question and how they were said; None for a question alone.
        told: whether the language model is told what the network heard.
    """

    samples: Tensor
    spans: tuple[Span, ...]
    known: frozenset[str]
    question: str
    answer: str
    said: str
    spoken: SpokenWords | None
    told: bool


Batch = dict[str, list[Any]]  # "asked", and "texts": (question, reply)


class HearingTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = HearingModel, HearingData
    optimizer_groups = {"hearing": ["*"]}

    def __init__(self, config: StageConfig):
        self.config, self.data, model = config, config.data, config.model
        torch.manual_seed(config.seed)
        self.recognizer = Recognizer.from_pretrained(folder(model.whisper))
        self.encoder = copy.deepcopy(self.recognizer.encoder).requires_grad_(False)
        llm = folder(model.llm)
        self.base = Llama.from_pretrained(llm, torch.float32).requires_grad_(False)
        self.thinker = Thinker(self.base, llm)
        self.listener = SceneListener.from_pretrained(model.scene)
        self.model = self._parts(Path(model.scene))
        self.model.encoder.attach(self.encoder)
        self.wordings = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
        self.sounds, self.held = self._sounds()
        if not self.sounds:
            raise ConfigError(f"data.sets: no example to train on whose {', '.join(self.data.groups)} are known")
        facts = [(fact.questions[0], fact.replies[0]) for fact in (*read_facts(), *read_chat())]
        kept = [int(text_id(question), 16) % KEPT_ONE_IN == 0 for question, _ in facts]
        self.facts = [fact for fact, held in zip(facts, kept) if not held]
        self.held_facts = [fact for fact, held in zip(facts, kept) if held]
        self._words = lru_cache(KEPT_WORDS)(self._heard_words)

    def _parts(self, scene: Path) -> HearingParts:
        """What learns: new, or as an earlier stage left it in the network's folder."""
        model, embed, width = self.config.model, self.base.embed, self.base.width
        there = SceneReading.from_pretrained(scene, embed, self.thinker.tokenizer, width)
        network = self.listener.network.requires_grad_(True)
        words = self.encoder.config.width if model.words else 0
        asks = there.asks is not None
        reading = SceneReading(embed, self.thinker.tokenizer, width, network.config.width, asks, words)
        reading.load_state_dict(there.state_dict(), strict=False)
        pairs: list[Lora | None] = []
        for name, whole, config in ((ENCODER, self.encoder, model.encoder), (LLM, self.base, model.lora)):
            earlier = (scene / name).is_dir() and config is not None
            new = None if config is None else Lora(whole, config)
            pairs.append(Lora.from_pretrained(scene / name, whole) if earlier else new)
        assert pairs[0] is not None
        return HearingParts(network, reading, pairs[0], pairs[1])

    # Batches

    def batch(self, step: int) -> Batch:
        """Questions about examples, drawn by group, then by label, and texts; by the seed and the step alone."""
        draw = np.random.default_rng([self.config.seed, step])
        groups = sorted(self.sounds)
        asked = []
        for _ in range(self.config.batch):
            group = groups[draw.integers(len(groups))]
            by_label = self.sounds[group]
            some = by_label[sorted(by_label)[draw.integers(len(by_label))]]
            sound = some[draw.integers(len(some))]
            wording, answer = (str(draw.choice(self._questions(group)[kind])) for kind in ("train", "answers"))
            asked.append(self._asked(sound, group, wording, answer, draw.random() >= self.data.words_alone))
        count = self.data.texts if self.model.llm is not None else 0
        return {"asked": asked, "texts": [self.facts[place] for place in draw.integers(len(self.facts), size=count)]}

    def _questions(self, group: str) -> dict[str, list[str]]:
        """A group's wordings: of questions those that train and those that measure; of answers."""
        told = self.wordings[group]
        kept = told["questions"][::KEPT_ONE_IN]
        return {
            "train": [each for each in told["questions"] if each not in kept], "kept": kept, "answers": told["answers"],
        }  # fmt: skip

    def _asked(self, sound: Sound, group: str, question: str, answer: str, told: bool = True) -> Asked:
        example = sound.make()
        samples = torch.from_numpy(np.asarray(example.samples, np.float32))[: int(self.data.seconds * RATE)]
        spoken = None
        if self.model.reading.words is not None and group in VOICE:
            spoken = self._words(sound)
        said = " and ".join(written(label(group, name)) for name in sound.labels[group])
        answer, told = answer.format(said), told or spoken is None
        return Asked(samples, example.spans, example.known, question, answer, said, spoken, told)

    def _heard_words(self, sound: Sound) -> SpokenWords | None:
        """The words of an example, as the recognizer hears them; None where it hears none."""
        samples = torch.from_numpy(np.asarray(sound.make().samples, np.float32))[: int(self.data.seconds * RATE)]
        heard = self.recognizer.hear(Audio(samples, RATE), HearingOptions(states=True))
        spoken = [passage.spoken for passage in heard.passages if passage.spoken is not None]
        if not spoken:
            return None
        return SpokenWords(
            tuple(text for each in spoken for text in each.texts), torch.cat([each.states for each in spoken])
        )

    def _sounds(self) -> tuple[dict[str, dict[str, list[Sound]]], dict[str, list[Sound]]]:
        """Examples that train, by group and by label, and those that measure, by group."""
        train: dict[str, dict[str, list[Sound]]] = {}
        held: dict[str, list[Sound]] = {}
        labels = self.model.scene.config.labels
        for name, jobs in self.data.sets.examples(Material(self.data.sets.sources)):
            for identity, make, split in jobs:
                if split not in ("train", self.data.held_out):
                    continue
                example = make()
                if len(example.samples) < FRAME:
                    continue
                asks = {group: labels_of(example.spans, group) for group in self.data.groups if group in example.known}
                asks = {g: own for g, own in asks.items() if own and set(own) <= set(labels.get(g, ()))}
                sound = Sound(f"{name}/{identity}", make, asks)
                for group, own in asks.items():
                    if split == "train":
                        train.setdefault(group, {}).setdefault(own[0], []).append(sound)
                    else:
                        held.setdefault(group, []).append(sound)
        return train, held

    # Losses

    def losses(self, batch: Batch, group: str) -> dict[str, Tensor]:
        """Nats a token of the answers, `answer`, and of what in them names what is heard, `label`; of what the network
        hears, as in `train.scene.task`; and how far the language model went from what it thought of texts, `text`: nats
        a token, KL(before || now)."""
        labelled, heard, readings, summary = self._hear(batch["asked"])
        found = labelled_losses(labelled, readings, summary)
        answers, _ = self._answers(batch["asked"], heard, summary)
        found["answer"] = torch.cat(answers).mean()
        found["label"] = torch.cat([each[self._names(one)] for each, one in zip(answers, batch["asked"])]).mean()
        if batch["texts"] and self.model.llm is not None:
            found["text"] = self._texts(batch["texts"])[0]
        return found

    def _hear(self, asked: Sequence[Asked]) -> tuple[dict[str, Any], list[SceneFeatures], Readings, Summary]:
        """What encoder and network make of sounds: a labelled batch, its rows' features, and what was heard."""
        heard = [extract(one.samples[None], self.encoder, learns=True) for one in asked]
        items = [Item(features, one.spans, one.known) for features, one in zip(heard, asked)]
        labelled = collate(items, self.model.scene.config.labels)
        return labelled, heard, *self.model.scene(features_of(labelled), labelled["frames"], tempo=False)

    def _answers(
        self, asked: Sequence[Asked], heard: Sequence[SceneFeatures], summary: Summary
    ) -> tuple[list[Tensor], list[Scene]]:
        """Cross-entropy of each answer's tokens, [tokens] a row; and what was heard, as it is told."""
        labels = self.model.scene.config.labels
        likely, scenes, rows = likelihoods(summary.logits, labels), [self._scene(each) for each in heard], []
        for place, (one, scene) in enumerate(zip(asked, scenes)):
            chances = dict(scene.chances) | {g: dict(zip(labels[g], x[place].unbind())) for g, x in likely.items()}
            parts = everything(scene) if one.told else []
            told = self.model.reading(parts, chances, summary.vector[place]) if parts else None
            rows.append(answer_row(self.thinker, self._said(one), told, one.answer))
        hidden = self.base(pad_sequence([x for x, _ in rows], batch_first=True), lora=self.model.llm)
        found = []
        for (x, answered), states in zip(rows, hidden):
            logits = self.base.logits(states[len(x) - len(answered) : len(x)])
            found.append(F.cross_entropy(logits, answered, reduction="none"))
        return found, scenes

    def _scene(self, features: SceneFeatures) -> Scene:
        """What is told of a sound: which labels, no numbers that learn."""
        state = self.listener.init_state()
        self.listener.step(features, state)
        return self.listener.finish(state)

    def _said(self, one: Asked) -> Tensor:
        """The user's turn, with what stands before it: words as they were said, and the question behind them."""
        before = self.thinker.template.opening(None)[1]
        words = "" if one.spoken is None else self._as_read(" ".join(one.spoken.texts))
        question = self._as_read(one.question)
        encoding = self.thinker.tokenizer.encode(
            f"{before}{words} {question}" if words else before + question, add_special_tokens=False
        )
        x = self.base.embed(torch.tensor(encoding.ids))
        if one.spoken is None or self.model.reading.words is None:
            return x
        spans = [(start - len(before), end - len(before)) for start, end in encoding.offsets]
        return x + self.model.reading.words.of([one.spoken])(words, spans)

    def _as_read(self, said: str) -> str:
        """What a language model reads of a user's words: with pairs the words alone, as everywhere (`Thinker`)."""
        return said if self.model.llm is None else as_words(said)

    def _texts(self, texts: Sequence[tuple[str, str]]) -> tuple[Tensor, float, float]:
        """Of conversations about something else: KL(before || now) of every token; the replies' nats a token before and
        now."""
        template, first = self.thinker.template, self.thinker.template.opening(None)[1]
        whole = [
            ids(self.thinker, f"{first}{as_words(asked)}{template.user.after}{template.reply}") for asked, _ in texts
        ]
        replies = [ids(self.thinker, reply + template.assistant.after) for _, reply in texts]
        x = pad_sequence(
            [self.base.embed(torch.cat([one, reply])[:-1]) for one, reply in zip(whole, replies)], batch_first=True
        )
        with torch.no_grad():
            before = self.base(x)
        now, far, nats = self.base(x, lora=self.model.llm), [], []
        for row, (one, reply) in enumerate(zip(whole, replies)):
            length = len(one) + len(reply) - 1
            old, new = (self.base.logits(each[row, :length]).log_softmax(-1) for each in (before, now))
            far.append(F.kl_div(new, old, reduction="none", log_target=True).sum(-1))
            nats.append(torch.stack([F.nll_loss(y[-len(reply) :], reply, reduction="none") for y in (old, new)]))
        were, are = torch.cat(nats, 1).detach().mean(1).tolist()
        return torch.cat(far).mean(), were, are

    # Figures

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """On examples, wordings and facts that are kept: nats a token of the answers (`answer`), and of what in them
        names what is heard (`label`); the same where nothing is told but words and how they were said (`answer-words`,
        `label-words`); of the heads the mean loss over groups (`heads`), and what they get right; of texts the replies'
        nats a token with the language model's pairs (`text`) and without (`text-before`), and KL (`text-kl`)."""
        found, losses = [], dict[str, list[float]]()
        nats: dict[str, list[Tensor]] = {}

        def answered(one: Asked, heard: list[SceneFeatures], summary: Summary, behind: str = "") -> None:
            each = self._answers([one], heard, summary)[0][0]
            nats.setdefault(f"answer{behind}", []).append(each)
            nats.setdefault(f"label{behind}", []).append(each[self._names(one)])

        for one in self._kept():
            labelled, heard, readings, summary = self._hear([one])
            found.append((labelled | {"tempo": torch.zeros(1)}, readings, summary))  # of which nothing is learnt here
            for name, loss in labelled_losses(labelled, readings, summary).items():
                losses.setdefault(name, []).append(float(loss))
            answered(one, heard, summary)
            if one.spoken is not None:
                answered(replace(one, told=False), heard, summary, "-words")
        out = {name: float(torch.cat(each).mean()) for name, each in nats.items()}
        out["heads"] = float(np.mean([np.mean(each) for each in losses.values()]))
        out |= figures(self.model.scene, found)
        if self.model.llm is not None:
            kept = [self.held_facts[place] for place in spread(len(self.held_facts), self.data.measured)]
            far, before, now = self._texts(kept)
            out |= {"text-before": before, "text": now, "text-kl": float(far)}
        return out

    def _names(self, one: Asked) -> list[int]:
        """The answer's tokens that name what is heard."""
        first = one.answer.index(one.said)
        offsets = self.thinker.tokenizer.encode(one.answer, add_special_tokens=False).offsets
        return [at for at, (start, end) in enumerate(offsets) if start < first + len(one.said) and end > first]

    def _kept(self) -> list[Asked]:
        """What is measured: examples of each group, with wordings of their questions that don't train."""
        asked = []
        for group, sounds in sorted(self.held.items()):
            told = self._questions(group)
            for number, place in enumerate(spread(len(sounds), max(1, self.data.measured // len(self.held)))):
                question = told["kept"][number % len(told["kept"])]
                asked.append(self._asked(sounds[place], group, question, told["answers"][0]))
        if not asked:
            raise ConfigError(f"data.held_out: there is no example of the split {self.data.held_out!r} to measure")
        return asked

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is asked, told and to be answered about a few examples to `folder`/<step>.txt."""
        folder.mkdir(parents=True, exist_ok=True)
        asked, lines = self.batch(step)["asked"], []
        with torch.no_grad():
            _, heard, _, summary = self._hear(asked)
            answers, scenes = self._answers(asked, heard, summary)
        for one, nats, scene in zip(asked, answers, scenes):
            said = "" if one.spoken is None else f'"{" ".join(one.spoken.texts)}" '
            told = "".join(map(str, everything(scene))) if one.told else ""
            lines.append(f"{said}{one.question}\n  {told}\n  {one.answer} {float(nats.mean()):.2f}\n")
        (folder / f"{step:06d}.txt").write_text("".join(lines), encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes a scene network's folder, with the thresholds that it had: the network, the encoder's pairs
        (`encoder`), what is read, and the language model's pairs (`lora`)."""
        self.listener.save(folder)
        self.model.reading.save(folder)
        self.model.encoder.save(folder / ENCODER)
        if self.model.llm is not None:
            self.model.llm.save(folder / LLM)

    def describe(self) -> dict[str, Any]:
        """How many examples of each group train and measure, for a model card."""
        train = {group: sum(map(len, labels.values())) for group, labels in self.sounds.items()}
        return {"train": train, "held out": {group: len(sounds) for group, sounds in self.held.items()}}
