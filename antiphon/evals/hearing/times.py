"""What is heard when: kinds of sound by the second, and sounds with a beginning and an end, in made mixtures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.data.scene.example import Span, coverage
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation, Recorded
from antiphon.evals.hearing.probe import frame_probe
from antiphon.evals.report import Figure
from antiphon.models.scene.features import FRAME_SECONDS
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.listener import Thresholds, spans
from antiphon.models.scene.scene import Scene, SoundEvent
from antiphon.train.scene.calibrate import JOINED, NEAR, joined, matched

KINDS = GROUPS["kind"].names
BARS = {"kind-accuracy": ">= 0.97", "events-f1": ">= 0.8"}
HALF = 0.5  # of a second that a kind must fill, to be true of it


def kinds_and_events(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Speech, music, sound and silence second by second; and sounds that are told within 0.3 s of where they begin
    and end. The probe reads each frame of 80 ms on its own."""
    train, test = evaluation.made("mixture", "train", 300), evaluation.made("mixture", "test", n)
    labels = sorted({span.label for each in train for span in each.example.spans if span.group == "event"})
    scenes = evaluation.scenes("mixtures", test, evaluation.listener)
    told = _values(evaluation, "mixtures", scenes, test, labels) if scenes is not None else {}
    probed = _values(evaluation, "mixtures-probe", _probed(evaluation, train, test, labels), test, labels)
    truth = np.concatenate([by_second(each.example.spans, each.example.seconds) for each in test])
    chance = {"kind-accuracy": float(np.maximum(truth.mean(0), 1 - truth.mean(0)).mean())}
    chance |= {f"kind-accuracy-{kind}": float(max(share, 1 - share)) for kind, share in zip(KINDS, truth.mean(0))}
    figures = []
    for name, (reached, count) in probed.items():
        unit = "F1" if name == "events-f1" else "share"
        if name in told:
            figures.append(Figure(name, told[name][0], unit, BARS.get(name), reached, count))
        figures.append(Figure(f"{name}-probe", reached, unit, None, chance.get(name), count))
    return figures


def _values(
    evaluation: HearingEvaluation, title: str, scenes: Sequence[Scene], test: Sequence[Recorded], labels: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Each figure's value, and of how many seconds or sounds, for what was told."""
    right = np.concatenate(
        [
            by_second(each.example.spans, each.example.seconds) == by_second(_spans(scene), each.example.seconds)
            for scene, each in zip(scenes, test, strict=True)
        ]
    )
    counts = np.array([event_counts(scene, each, labels) for scene, each in zip(scenes, test, strict=True)])
    columns = {"id": [each.example.id for each in test], "told": list(map(str, scenes)), "events": counts.tolist()}
    columns |= {"there": ["; ".join(map(_written, each.example.spans)) for each in test]}
    evaluation.save_items(title, rows_of(columns))
    values = {"kind-accuracy": float(right.mean()), "kind-all-four-right": float(right.all(1).mean())}
    values |= {f"kind-accuracy-{kind}": float(share) for kind, share in zip(KINDS, right.mean(0))}
    found = {name: (value, len(right)) for name, value in values.items()}
    return found | {"events-f1": (f_measure(*counts.sum(0)), int(counts[:, 2].sum()))}


def by_second(there: Iterable[Span], seconds: float) -> NDArray[np.bool_]:
    """Which kinds fill half of each whole second, [seconds, kinds]."""
    return coverage(list(there), "kind", KINDS, max(1, int(seconds)), 1.0) >= HALF


def event_counts(scene: Scene, each: Recorded, labels: Sequence[str]) -> tuple[int, int, int]:
    """Sounds that are told right, that are told, and that there are, of labels that could be learned.

    The stretches of a label that lie closer than anybody would part them count as one.
    """
    found, told, there = 0, 0, 0
    for label in labels:
        if not each.knows("event", label):
            continue
        real = joined(each.example.spans, "event", label, JOINED)
        mine = [(event.start, event.end) for event in scene.of("event") if event.label == label]
        found, told, there = found + matched(mine, real, NEAR), told + len(mine), there + len(real)
    return found, told, there


def f_measure(found: int, told: int, there: int) -> float:
    """F1; 0 where nothing is told or there."""
    return 2 * found / (told + there) if told + there else 0.0


def _probed(
    evaluation: HearingEvaluation, train: Sequence[Recorded], test: Sequence[Recorded], labels: Sequence[str]
) -> list[Scene]:
    """What a linear probe tells, put together as the network's answers are."""
    names = [("kind", kind) for kind in KINDS] + [("event", label) for label in labels]

    def targets(each: Recorded) -> NDArray[np.bool_]:
        frames = each.example.length
        parts = [coverage(each.example.spans, "kind", KINDS, frames, FRAME_SECONDS)]
        parts.append(coverage(each.example.spans, "event", tuple(labels), frames, FRAME_SECONDS))
        return np.concatenate(parts, 1) >= HALF

    known = [each for each in train if "event" in each.example.known and "kind" in each.example.known]
    tell = frame_probe(known, targets, evaluation.config.seed)

    def scene(each: Recorded) -> Scene:
        likely, events = torch.from_numpy(tell(each)), []
        for column, (group, label) in enumerate(names):
            for first, last in spans(likely[:, column], HALF, Thresholds()):
                sure = float(likely[first:last, column].mean())
                events.append(SoundEvent(group, label, sure, first * FRAME_SECONDS, last * FRAME_SECONDS))
        return Scene(tuple(events), each.example.seconds)

    return evaluation.each("mixtures, linear probe", test, scene)


def _spans(scene: Scene) -> list[Span]:
    return [Span(event.group, event.label, event.start, event.end) for event in scene.events]


def _written(span: Span) -> str:
    return f"{span.start:.1f}-{span.end:.1f} {span.group} {span.label}"
