"""Training the scene network on encoded examples (`antiphon.data.scene`), each of which knows some of its labels.

The encoder stays as it is, so its layers were computed once. A batch is drawn so that every group, and within it every
label, comes as often as any other; what isn't known of an example isn't trained. Pairs of one group are mixed in some
batches (Zhang et al. 2018), and stretches of time are taken out, so that few examples go further.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.data.scene.encoded import EncodedExample, EncodedSet
from antiphon.errors import ConfigError
from antiphon.models.scene.features import FRAME_SECONDS, MEL_PER_FRAME
from antiphon.models.scene.labels import GROUPS, MAX_TEMPO, MIN_TEMPO, TEMPO, checked
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, Readings, SceneNetwork, Summary
from antiphon.train.config import Measures, StageConfig
from antiphon.train.scene.batches import Item, collate, features_of, tempo_of
from antiphon.train.scene.calibrate import calibrated, listen
from antiphon.train.scene.figures import figures
from antiphon.train.scene.linear import fit_linear
from antiphon.train.scene.noteworthy import noteworthy

STATISTICS = 400  # examples from which the encoder's means and deviations are taken


@dataclass
class SceneModel:
    """Sizes of the network; see `NetworkConfig`."""

    mixes: int = 4
    """Weighted means of the encoder's layers."""
    mixed: int = 96
    """Width that each is projected to."""
    width: int = 256
    """Of the transformer over chunks."""
    heads: int = 4
    """Its attention heads."""
    inner: int = 512
    """Width of its MLPs."""
    depth: int = 2
    """Its layers."""
    window: int = 40
    """Chunks of 0.64 s that it sees."""
    dropout: float = 0.2
    """In training."""


@dataclass
class SceneData:
    """What the network hears."""

    sets: list[str] = MISSING
    """Folders of encoded examples."""
    without: list[str] = field(default_factory=list)
    """Labels that aren't trusted, "SET/GROUP": of that group nothing is learnt from the folder of that name."""
    train_on_dev: list[str] = field(default_factory=list)
    """Sets, by their folders' names, whose "dev" split is trained on as well: small ones, when all choices are made."""
    groups: dict[str, float] = field(default_factory=dict)
    """How often a group's labels are drawn, against 1 of a group that isn't named; 0 leaves the group out."""
    refresh: int = 0
    """Steps between two looks at what has been added to the sets; 0 for none."""
    least: int = 8
    """Training examples that a label must have at the start to be learnt."""
    seconds: float = 5.0
    """Longer examples are cut to so much, from anywhere."""
    tempo_seconds: float = 12.0
    """Those from which the tempo is learnt."""
    tempo_every: int = 4
    """Every so many batches are of tempo alone, which needs longer examples and no encoder."""
    tempo_stretch: float = 0.25
    """How far they are made faster and slower, in the logarithm."""
    mix: float = 0.3
    """Share of batches in which pairs of one group are mixed."""
    mask: float = 0.2
    """Most of an example's time that is taken out."""
    measured: int = 400
    """Examples of "dev" that are measured, at most."""


class SceneTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = SceneModel, SceneData

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.data: SceneData = config.data
        self.sets = {folder: EncodedSet(folder) for folder in self.data.sets}
        self.look()
        if not self.train:
            raise ConfigError(f"data.sets: no example to train on in {', '.join(self.data.sets)}")
        labels = {
            name: tuple(each for each, sets in self.drawn[name].items() if sum(map(len, sets)) >= self.data.least)
            for name in self.drawn
            if name != TEMPO
        }
        first = self._item(*self.train[0]).features
        torch.manual_seed(config.seed)
        network = NetworkConfig(
            labels=checked(labels),
            layers=first.layers.shape[1],
            features=first.layers.shape[3],
            bands=first.mel.shape[1],
            tempo=TEMPO in self.drawn,
            **asdict(config.model),
        )
        self.model = SceneNetwork(network)
        if not config.init:
            self._take_statistics()

    def look(self, until: dict[str, int] | None = None) -> None:
        """Takes in what the sets hold by now, or held when they had so many examples."""
        self.counts: dict[str, int] = {}
        self.train: list[tuple[EncodedSet, EncodedExample]] = []
        self.dev: list[tuple[EncodedSet, EncodedExample]] = []
        for folder, each in self.sets.items():
            each.refresh()
            examples = each.examples[: None if until is None else until.get(folder)]
            self.counts[folder] = len(examples)
            name = Path(folder).name
            left_out = {group for group in GROUPS if f"{name}/{group}" in self.data.without}
            if left_out:
                examples = [replace(example, known=example.known - left_out) for example in examples]
            splits = ("train", "dev") if name in self.data.train_on_dev else ("train",)
            self.train += [(each, example) for example in examples if example.split in splits]
            self.dev += [(each, example) for example in examples if example.split == "dev"]
        self.drawn = self._index()

    def state_dict(self) -> dict[str, Any]:
        """How many examples of each set are known: a resumed run draws from the same ones until its next look."""
        return {"counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if counts := state.get("counts"):
            self.look(counts)

    # Batches

    def batch(self, step: int) -> dict[str, Any]:
        """Examples drawn by the seed and the step alone: group, then label, then example; two of each group. Every few
        steps tempo alone."""
        if self.data.refresh and step and step % self.data.refresh == 0:
            self.look()
        generator = np.random.default_rng([self.config.seed, step])
        groups = [name for name in self.drawn if name in self.model.config.labels]
        told = self.model.tempo is not None and TEMPO in self.drawn
        if told and (step % self.data.tempo_every == 0 or not groups):
            return self._tempo_batch(generator)
        shares = np.array([self.data.groups.get(name, 1.0) for name in groups])
        rows: list[int] = []
        for _ in range(-(-self.config.batch // 2)):
            by_label = self.drawn[groups[generator.choice(len(groups), p=shares / shares.sum())]]
            names = [name for name in by_label if by_label[name]]
            for _ in range(2):
                rows.append(drawn(by_label[names[generator.integers(len(names))]], generator))
        items = [self._item(*self.train[row], generator) for row in rows[: self.config.batch]]
        batch = collate(items, self.model.config.labels)
        self._take_out_time(batch, generator)
        if generator.random() < self.data.mix:
            mix_pairs(batch, float(generator.beta(0.5, 0.5)))
        return batch

    def _tempo_batch(self, generator: np.random.Generator) -> dict[str, Any]:
        """Spectrograms of music whose tempo is known, each third of an octave as often as any other; played faster or
        slower, as a spectrogram shows it."""
        by_third, bands = list(self.drawn[TEMPO].values()), []
        tempi: list[float] = []
        for _ in range(self.config.batch):
            faster = float(np.exp(generator.uniform(-1, 1) * self.data.tempo_stretch))
            row, most = drawn(by_third[generator.integers(len(by_third))], generator), self.data.tempo_seconds * faster
            item = self._item(*self.train[row], generator, int(most / FRAME_SECONDS))
            frames = item.features.frames
            spans = [span.moved(-item.start) for span in item.spans]
            size = max(1, round(frames / faster))
            tempo = tempo_of(spans, frames * FRAME_SECONDS) * frames / size
            if MIN_TEMPO <= tempo <= MAX_TEMPO:  # else it is a part after the music's end, or too fast or slow by now
                bands.append(F.interpolate(item.features.mel, size=MEL_PER_FRAME * size, mode="linear")[0].T)
                tempi.append(tempo)
        frames = torch.tensor([len(each) // MEL_PER_FRAME for each in bands])
        mel = pad_sequence(bands, batch_first=True).transpose(1, 2) if bands else torch.zeros(0)
        return {"mel": mel, "frames": frames, "tempo": torch.tensor(tempi)}

    def losses(self, batch: dict[str, Any], group: str = "model") -> dict[str, Tensor]:
        """Cross-entropy of each group where it is known: "whole/GROUP" of the turn, "times/GROUP" of each 80 ms, and
        "tempo"."""
        if "layers" not in batch:  # of tempo alone
            if not len(batch["tempo"]):
                return {TEMPO: self.model.tempo.bias.sum() * 0}
            logits = self.model.tempo(batch["mel"], MEL_PER_FRAME * batch["frames"])
            return {TEMPO: -(self.model.tempo.target(batch["tempo"]) * logits.log_softmax(-1)).sum(1).mean()}
        return labelled_losses(batch, *self.model(features_of(batch), batch["frames"], tempo=False))

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Figures on "dev"."""
        return self.figures([self.dev[place] for place in spread(len(self.dev), self.data.measured)])

    @torch.no_grad()
    def figures(self, chosen: Sequence[tuple[EncodedSet, EncodedExample]]) -> dict[str, float]:
        """What the network gets right of examples, by group; see `figures.figures`."""
        self.model.eval()
        found = []
        for first in range(0, len(chosen), 16):
            items = [self._item(*each) for each in chosen[first : first + 16]]
            batch = collate(items, self.model.config.labels)
            found.append((batch, *self.model(features_of(batch), batch["frames"])))
        return figures(self.model, found)

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is heard in some examples of "dev" beside what there is."""
        folder.mkdir(parents=True, exist_ok=True)
        listener, lines = SceneListener(self.model), []
        for place in spread(len(self.dev), 40):
            item = self._item(*self.dev[place])
            state = listener.init_state()
            listener.step(item.features, state)
            there = "; ".join(f"{each.start:.1f}-{each.end:.1f} {each.group} {each.label}" for each in item.spans)
            lines.append(f"{self.dev[place][1].id}: {there}\n  {listener.finish(state)}")
        (folder / f"dev-{step:06d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes the network's folder, with linear classifiers, and thresholds that were chosen on "dev"."""
        network, unseen = copy.deepcopy(self.model), [not self._trained_on(source) for source, _ in self.dev]
        fit_linear(network, self.train, [one for one, new in zip(self.dev, unseen, strict=True) if new])
        heard = listen(network, self.dev)
        thresholds = replace(calibrated(network, heard), noteworthy=noteworthy(network, heard, unseen))
        SceneListener(network, thresholds).save(folder)

    # Parts

    def _trained_on(self, source: EncodedSet) -> bool:
        """Whether a set's "dev" is trained on as well."""
        return any(source is self.sets[folder] for folder in self.sets if Path(folder).name in self.data.train_on_dev)

    def _index(self) -> dict[str, dict[str, list[list[int]]]]:
        """The training examples of each label of each group, by set; of tempi by thirds of an octave."""
        found: dict[str, dict[str, dict[int, list[int]]]] = {}
        for place, (source, example) in enumerate(self.train):
            for group, label in sorted({(span.group, span.label) for span in example.spans}):
                if (group not in GROUPS and group != TEMPO) or self.data.groups.get(group, 1.0) <= 0:
                    continue
                if group in example.known or f"{group}/{label}" in example.known:
                    name = f"{round(3 * np.log2(float(label)))}" if group == TEMPO else label
                    found.setdefault(group, {}).setdefault(name, {}).setdefault(id(source), []).append(place)
        return {
            group: {name: list(by_set.values()) for name, by_set in labels.items()} for group, labels in found.items()
        }

    def _item(
        self, source: EncodedSet, example: EncodedExample, generator: np.random.Generator | None = None, most: int = 0
    ) -> Item:
        """An example; `most` frames of it (0: `data.seconds`) from where `generator` says, or all of it without one."""
        most = most or int(self.data.seconds / FRAME_SECONDS)
        if generator is None or example.length <= most:
            return Item(source(example), example.spans, example.known)
        start = int(generator.integers(example.length - most + 1))
        return Item(source(example, start, start + most), example.spans, example.known, start * FRAME_SECONDS)

    def _take_out_time(self, batch: dict[str, Any], generator: np.random.Generator) -> None:
        """Sets a stretch of each row to what the encoder gives on average."""
        for row, frames in enumerate(batch["frames"].tolist()):
            size = int(generator.integers(int(self.data.mask * frames) + 1))
            start = int(generator.integers(frames - size + 1))
            batch["layers"][row, :, start : start + size] = self.model.mean.cpu()
            for _, mask in batch["times"].values():
                mask[row, start : start + size] = False

    def _take_statistics(self) -> None:
        """Sets the network's means and deviations by layer and feature, from examples of all sets."""
        count, total, squares = 0, 0.0, 0.0
        for place in spread(len(self.train), STATISTICS):
            layers = self._item(*self.train[place]).features.layers[0].double()
            count, total, squares = count + layers.shape[1], total + layers.sum(1), squares + layers.square().sum(1)
        mean = total / count
        self.model.mean.copy_(mean[:, None])
        self.model.deviation.copy_((squares / count - mean.square()).clamp_min(1e-8).sqrt()[:, None])
        print(f"means and deviations of {count} frames", file=sys.stderr, flush=True)


def labelled_losses(batch: Mapping[str, Any], readings: Readings, summary: Summary) -> dict[str, Tensor]:
    """Cross-entropy of what a network made of a batch (`batches.collate`), of each group where it is known:
    "whole/GROUP" of the turn, "times/GROUP" of each 80 ms."""
    found: dict[str, Tensor] = {}
    for kind, logits in (("whole", summary.logits), ("times", readings.frames)):
        for name, (values, mask) in batch[kind].items():
            if mask.any():
                found[f"{kind}/{name}"] = known_loss(logits[name], values, mask, GROUPS[name].exclusive)
    return found


def known_loss(logits: Tensor, values: Tensor, mask: Tensor, exclusive: bool) -> Tensor:
    """Cross-entropy where labels are known, in nats: summed over labels, averaged over rows (and frames) that know any.

    Args:
        logits, values, mask: [..., labels].
        exclusive: whether one label excludes the others.
    """
    if exclusive:
        rows = mask.all(-1)
        return -(values[rows] * logits[rows].float().log_softmax(-1)).sum(-1).mean() if rows.any() else logits.sum() * 0
    losses = F.binary_cross_entropy_with_logits(logits.float(), values, reduction="none") * mask
    return losses.sum() / mask.any(-1).sum().clamp_min(1)


def mix_pairs(batch: dict[str, Any], share: float) -> None:
    """Mixes each row with the row beside it, labels too; what one of them doesn't know is not known.

    Args:
        batch: changed; of an odd number of rows the last stays.
        share: of the row itself.
    """
    rows = len(batch["frames"])
    beside = torch.tensor([min(row ^ 1, rows - 1) for row in range(rows)])
    for name in ("layers", "mel"):
        batch[name] = share * batch[name] + (1 - share) * batch[name][beside]
    batch["frames"] = torch.minimum(batch["frames"], batch["frames"][beside])
    batch["tempo"] = torch.zeros_like(batch["tempo"])
    for kept in ("times", "whole"):
        batch[kept] = {
            name: (share * values + (1 - share) * values[beside], mask & mask[beside])
            for name, (values, mask) in batch[kept].items()
        }
    for name, (values, mask) in batch["whole"].items():
        if GROUPS[name].exclusive:
            total = values.sum(-1, keepdim=True)
            batch["whole"][name] = values / total.clamp_min(1e-6), mask & (total > 0.999)


def drawn(by_set: list[list[int]], generator: np.random.Generator) -> int:
    """An example of a label: larger sets come more often, but less than their size."""
    shares = np.sqrt([len(mine) for mine in by_set])
    mine = by_set[generator.choice(len(by_set), p=shares / shares.sum())]
    return mine[generator.integers(len(mine))]


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` places of `count`, evenly spread."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, wanted))}) if count else []
