"""How fast music is: rendered pieces of rhythms that nothing was trained on, and real loops."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from antiphon.data.scene.example import RATE, Example, Span
from antiphon.data.scene.labelled import Labelled, load
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation, Recorded
from antiphon.evals.hearing.probe import regression
from antiphon.evals.metrics.hearing import OCTAVES, is_near
from antiphon.evals.report import Figure
from antiphon.models.scene.labels import TEMPO
from antiphon.models.scene.scene import Scene

LOOPED_SECONDS = 10.0


def tempo(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Tempo within 4 %, and up to octaves, of rendered pieces and of loops; beside it a linear regression."""
    train, pieces = evaluation.made("piece", "train", 300), evaluation.made("piece", "test", n)
    figures = _measured(evaluation, "tempo", train, pieces, ">= 0.8", ">= 0.9")
    return figures + _measured(evaluation, "tempo-loops", train, _loops(evaluation), ">= 0.8", ">= 0.9")


def _measured(
    evaluation: HearingEvaluation,
    name: str,
    train: Sequence[Recorded],
    test: Sequence[Recorded],
    bar: str,
    octaves_bar: str,
) -> list[Figure]:
    truth = [_tempo(each) for each in test]
    probed = [math.exp(v) for v in regression(train, [math.log(_tempo(each)) for each in train])(test)]
    scenes = evaluation.scenes(name, test, evaluation.listener)
    told = [told_tempo(scene) for scene in scenes] if scenes is not None else None
    columns = {"id": [each.example.id for each in test], "right": truth, "probe": probed}
    evaluation.save_items(name, rows_of(columns | ({"told": told} if told is not None else {})))
    figures, count = [], len(test)
    for title, factors, asked in (("accuracy", (1.0,), bar), ("octaves", OCTAVES, octaves_bar)):
        reached, chance = share_near(truth, probed, factors), best_guess(truth, factors)
        if told is not None:
            mine = share_near(truth, told, factors)
            figures.append(Figure(f"{name}-{title}", mine, "share", asked, reached, count))
        figures.append(Figure(f"{name}-{title}-probe", reached, "share", None, chance, count))
    return figures


def told_tempo(scene: Scene) -> float:
    """The likeliest tempo, whether it is sure enough to be told or not; 0 where no music was heard."""
    chances = scene.chances.get(TEMPO, {})
    return float(max(chances, key=lambda each: chances[each])) if chances else 0.0


def share_near(truth: Sequence[float], told: Sequence[float], factors: Sequence[float] = (1.0,)) -> float:
    """The share of tempi that are right to 4 %, or so many times as fast."""
    return sum(is_near(b, a, factors) for a, b in zip(truth, told, strict=True)) / len(truth)


def best_guess(truth: Sequence[float], factors: Sequence[float] = (1.0,)) -> float:
    """What always saying the same would get at best."""
    return max(share_near(truth, [guess] * len(truth), factors) for guess in np.geomspace(40, 240, 400))


def _tempo(each: Recorded) -> float:
    return float(next(span.label for span in each.example.spans if span.group == TEMPO))


def _loops(evaluation: HearingEvaluation) -> list[Recorded]:
    """Loops of known tempo, repeated as they are meant to be."""
    found = [each for each in evaluation.recordings("sonic-pi").found if each.label(TEMPO)]
    jobs = [(each.recording.id, functools.partial(looped, each), "test") for each in found]
    return evaluation.encoded("loops", jobs)


def looped(each: Labelled) -> Example:
    """A loop, again and again for ten seconds."""
    samples, _ = load(each, None)
    samples = np.tile(samples, math.ceil(LOOPED_SECONDS * RATE / len(samples)))[: int(LOOPED_SECONDS * RATE)]
    spans = tuple(Span(group, label, 0.0, LOOPED_SECONDS) for group, label in each.labels)
    return Example(samples.astype(np.float32), spans, each.known, source=f"{each.place}/{each.recording.id}")
