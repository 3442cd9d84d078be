"""What a task of the tables gives: an item a question, a figure with its uncertainty, and what was left out."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.errors import EvalError

RESAMPLES = 1000
SOUNDS = "sounds"  # of samples, in a report's folder
Measure = Callable[[Sequence["Item"]], float]


@dataclass(frozen=True)
class Item:
    """A question, what came of it, and what it scores.

    Attributes:
        id: of the question in its set.
        prompt: as the model was asked.
        answer: as the model answered.
        target: what is right.
        score: 1 for right, 0 for wrong, or the item's share of a measure.
        seed: of what was drawn.
        more: other scores and what was made of the answer.
        fault: why the item could not be asked or judged; it counts as wrong and is told.
    """

    id: str
    prompt: str
    answer: str
    target: str
    score: float
    seed: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True)
class Measured:
    """A task's figure.

    Attributes:
        task, title, row: its name, how papers write it, and the table's part it stands in.
        metric: what was measured.
        value, low, high: in percent where it is a share; the ends hold it in 95 of 100 resamplings.
        n: questions; of how many there are in the set.
        size: of the set that is here.
        seconds: that the model took.
        empty, faults: answers without a word; questions that could not be asked or judged. Both count as wrong.
        notes: how this differs from what papers do.
        more: other figures of the same answers.
    """

    task: str
    title: str
    row: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    size: int
    seconds: float
    empty: int = 0
    faults: int = 0
    notes: tuple[str, ...] = ()
    more: dict[str, float] = field(default_factory=dict)


def mean_score(items: Sequence[Item]) -> float:
    """Percent of the items' scores."""
    return 100 * sum(item.score for item in items) / len(items)


def mean_of(name: str) -> Measure:
    """The mean of a figure over the items that have it."""

    def mean(items: Sequence[Item]) -> float:
        found = [item.more[name] for item in items if item.more.get(name) is not None]
        return sum(found) / len(found) if found else math.nan

    return mean


def interval(items: Sequence[Item], measure: Measure = mean_score, seed: int = 0) -> tuple[float, float]:
    """Between which values a figure lies in 95 of 100 resamplings of its items (bootstrap, Efron 1979)."""
    if len(items) < 2:
        return (math.nan, math.nan)
    chance = np.random.default_rng(seed)
    if measure is mean_score:
        scores = np.array([item.score for item in items])
        drawn = chance.choice(scores, (RESAMPLES, len(scores))).mean(1) * 100
    else:
        rows = chance.integers(0, len(items), (RESAMPLES // 5, len(items)))
        drawn = np.array([measure([items[i] for i in row]) for row in rows])
    if np.isnan(drawn).all():
        return (math.nan, math.nan)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def measured(items: Sequence[Item], measure: Measure = mean_score, **about: Any) -> Measured:
    """A task's figure from its items.

    Raises:
        EvalError: there are none.
    """
    if not items:
        raise EvalError(f"{about.get('task')}: not one question was asked.")
    value = measure(items)
    low, high = (math.nan, math.nan) if math.isnan(value) else interval(items, measure)
    empty = sum(not item.answer.strip() for item in items)
    faults = sum(bool(item.fault) for item in items)
    return Measured(value=value, low=low, high=high, n=len(items), empty=empty, faults=faults, **about)


def name_of(identity: str) -> str:
    """Of an item's file: its id, whatever stands in it.

    >>> name_of("openbookqa/12")
    'openbookqa_12'
    """
    return re.sub(r"[^\w.-]", "_", identity)


def samples(items: Sequence[Item], count: int = 4) -> list[Item]:
    """Some that are right and some that aren't, to be looked at and listened to."""
    right = [item for item in items if item.score >= 0.5][: count // 2]
    return [*right, *[item for item in items if item.score < 0.5][: count - len(right)]]


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Every item as JSON lines; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
    part.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    os.replace(part, path)


def read_items(path: Path) -> list[Item]:
    """What `write_items` wrote.

    Raises:
        EvalError: not such a file.
    """
    try:
        return [Item(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise EvalError(f"{path} holds no items of a report: {error}") from error
