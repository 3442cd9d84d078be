"""From which probability on a label is told, chosen on examples that the network wasn't trained on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from antiphon.data.scene.encoded import EncodedExample, EncodedSet
from antiphon.data.scene.example import Span, coverage
from antiphon.models.scene.features import FRAME_SECONDS
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.listener import Thresholds, likelihoods, spans
from antiphon.models.scene.network import SceneNetwork

JOINED = 0.3  # seconds of a pause that nobody would count
NEAR = 0.3  # seconds by which a start and an end may be off
SEVERAL = " + "  # between the sources of an example that has several
ENOUGH = 20  # examples in which a label is there that give it a threshold of its own
GRID = tuple(step / 20 for step in range(1, 20))
LOWEST = 0.1  # of the whole: what is less likely isn't told, however rare it is
# How far a label may fall once it was told, for how many seconds, and how long it must last: what is tried.
RELEASES, GAPS, SHORTEST = (0.3, 0.5, 0.7, 0.9), (0.16, 0.32, 0.48), (0.08, 0.2)
# Of these groups something is always there: right is what is told of each moment, not where it begins and ends.
FILLING = ("kind",)


@dataclass(frozen=True)
class Listened:
    """What the network makes of an example, by group: probabilities over time [T, labels] and of the whole [labels]."""

    example: EncodedExample
    times: dict[str, Tensor]
    whole: dict[str, Tensor]


@torch.no_grad()
def listen(network: SceneNetwork, chosen: Sequence[tuple[EncodedSet, EncodedExample]]) -> list[Listened]:
    """What the network makes of examples, one by one."""
    network.eval()
    out = []
    for source, example in chosen:
        readings, summary = network(source(example))
        times = {name: logits[0].sigmoid() for name, logits in readings.frames.items()}
        whole = likelihoods(summary.logits, network.config.labels)
        out.append(Listened(example, times, {name: likely[0] for name, likely in whole.items()}))
    return out


def calibrated(network: SceneNetwork, heard: Sequence[Listened], thresholds: Thresholds | None = None) -> Thresholds:
    """The thresholds that tell best: of labels with times by F1 of stretches whose start and end are right (kinds, of
    which one or another is always there, by the share of the time), of others by the mean of what is right where the
    label is true and where it isn't. Labels that few examples have share their group's.

    Stretches are chosen on what was put together of several recordings, where there is such: of a sound that is all
    there is they would be told too easily, as nothing else is taken for it.

    Args:
        network: whose probabilities they are.
        heard: `listen`'s.
        thresholds: what else to keep; None for what is usual.
    """
    mixed = [each for each in heard if SEVERAL in each.example.source] or heard
    thresholds = _hysteresis(network, mixed, thresholds or Thresholds())
    times: dict[str, float] = {}
    whole: dict[str, float] = {}
    for name, names in network.config.labels.items():
        if name in FILLING:
            counts = [_moments(heard, name, column, label) for column, label in enumerate(names)]
            times |= _best(name, names, counts, lambda c: c[:, 0] / c[:, 1].clamp_min(1))
        elif GROUPS[name].timed:
            counts = [_stretches(mixed, name, column, label, thresholds) for column, label in enumerate(names)]
            times |= _best(name, names, counts, _gain(torch.stack(counts)))
        elif not GROUPS[name].exclusive:
            counts = [_examples(heard, name, column, label) for column, label in enumerate(names)]
            whole |= _best(
                name, names, counts, lambda c: c[:, 0] / c[:, 2].clamp_min(1) + 1 - c[:, 1] / c[:, 3].clamp_min(1)
            )
    return replace(thresholds, times=times, whole={name: max(least, LOWEST) for name, least in whole.items()})


def _f1(counts: Tensor) -> Tensor:
    return 2 * counts[..., 0] / (counts[..., 1] + counts[..., 2]).clamp_min(1)


def _gain(counts: Tensor) -> Callable[[Tensor], Tensor]:
    """What the stretches of one label do for the F1 of all labels together.

    At the best F1 a stretch more is worth telling if it is right with at least half that chance (Lipton et al. 2014,
    "Optimal thresholding of classifiers to maximize F1 measure"). A label that is told badly is then hardly told at
    all, where by its own F1 it would be told all the time.

    Args:
        counts: [labels, thresholds, 4], of `_stretches`.
    """
    reached = float(_f1(counts.sum(0)).max())
    for _ in range(10):
        chosen = (2 * counts[..., 0] - reached * counts[..., 1]).argmax(1)
        reached = float(_f1(counts[torch.arange(len(counts)), chosen].sum(0)))
    return lambda each: 2 * each[:, 0] - reached * each[:, 1]


def _hysteresis(network: SceneNetwork, heard: Sequence[Listened], thresholds: Thresholds) -> Thresholds:
    """With the release, the gap and the shortest stretch by which labels with times are told best, all together."""
    best, reached = thresholds, -1.0
    names = [name for name in network.config.timed if name not in FILLING]
    for release, gap, shortest in itertools.product(RELEASES, GAPS, SHORTEST) if names else ():
        tried = replace(thresholds, release=release, max_gap=gap, min_seconds=shortest)
        counts = sum(
            _stretches(heard, name, column, label, tried)
            for name in names
            for column, label in enumerate(network.config.labels[name])
        )
        if (score := float(_f1(counts).max())) > reached:
            best, reached = tried, score
    return best


def matched(told: Sequence[tuple[float, float]], there: Sequence[tuple[float, float]], near: float = NEAR) -> int:
    """How many of the stretches there are told, each by one whose start and end are at most `near` seconds off."""
    left, found = list(told), 0
    for start, end in there:
        for each in left:
            if abs(each[0] - start) <= near and abs(each[1] - end) <= near:
                left.remove(each)
                found += 1
                break
    return found


def joined(there: Sequence[Span], group: str, label: str, gap: float) -> list[tuple[float, float]]:
    """The stretches of a label, those that lie no further apart than `gap` seconds as one."""
    out: list[tuple[float, float]] = []
    for start, end in sorted((s.start, s.end) for s in there if s.group == group and s.label == label):
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _knows(example: EncodedExample, group: str, label: str) -> bool:
    return group in example.known or f"{group}/{label}" in example.known


def _stretches(heard: Sequence[Listened], group: str, column: int, label: str, thresholds: Thresholds) -> Tensor:
    """Of each threshold: stretches that are right, told, there, and examples that have any, [thresholds, 4]."""
    counts = torch.zeros(len(GRID), 4)
    for each in heard:
        if not _knows(each.example, group, label):
            continue
        there = joined(each.example.spans, group, label, JOINED)
        likely = each.times[group][:, column]
        highest = float(likely.max())
        for row, least in enumerate(GRID):
            told = spans(likely, least, thresholds) if highest >= least else []
            told = [(first * FRAME_SECONDS, last * FRAME_SECONDS) for first, last in told]
            counts[row] += torch.tensor([matched(told, there), len(told), len(there), bool(there)])
    return counts


def _moments(heard: Sequence[Listened], group: str, column: int, label: str) -> Tensor:
    """Of each threshold: frames that are right, frames, none, and examples that have the label, [thresholds, 4]."""
    counts = torch.zeros(len(GRID), 4)
    for each in heard:
        if _knows(each.example, group, label):
            likely = each.times[group][:, column]
            true = torch.from_numpy(coverage(each.example.spans, group, (label,), len(likely), FRAME_SECONDS))[:, 0]
            right = (likely >= torch.tensor(GRID)[:, None]) == (true >= 0.5)
            counts += torch.stack(
                [right.sum(1), *torch.tensor([[len(likely), 0, bool(true.any())]]).expand(len(GRID), 3).T], 1
            )
    return counts


def _examples(heard: Sequence[Listened], group: str, column: int, label: str) -> Tensor:
    """Of each threshold: examples with the label that are told so, those without it that are, and how many of both."""
    counts = torch.zeros(len(GRID), 4)
    for each in heard:
        if not _knows(each.example, group, label):
            continue
        there = any(span.group == group and span.label == label for span in each.example.spans)
        told = torch.tensor([float(each.whole[group][column]) >= least for least in GRID]).float()
        counts[:, 0 if there else 1] += told
        counts[:, 2 if there else 3] += 1
    return counts


def _best(
    group: str, names: Sequence[str], counts: list[Tensor], score: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Each label's best threshold, or its group's where few examples have it; the middle one of those as good."""
    together = _middle(score(torch.stack(counts).sum(0)))
    out = {}
    for label, each in zip(names, counts):
        has = each[0, 3] if GROUPS[group].timed else torch.minimum(each[0, 2], each[0, 3])
        out[f"{group}/{label}"] = _middle(score(each)) if has >= ENOUGH else together
    return out


def _middle(scores: Tensor) -> float:
    best = (scores >= scores.max() - 1e-6).nonzero()[:, 0]
    return GRID[int(best[len(best) // 2])]
