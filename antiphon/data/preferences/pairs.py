"""Which of a prompt's samples is better: pairs of the best and the worst, in a file that a person can read and change.

    write_pairs("pairs/talker", PairConfig(rank={"wer": 1.0, "pauses": 1.0}))
    pairs = PreferencePairs("pairs/talker")
    pairs[0].chosen, pairs[0].rejected                     # codes or tokens, [streams, length]

`pairs.jsonl` has a line a pair, with both texts, measures and sound files: delete a line, or swap its sides, where the
measures are wrong.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.data.preferences.samples import Sample, SampleSet
from antiphon.data.store import writing
from antiphon.errors import DataError

FILE = "pairs.jsonl"


@dataclass(frozen=True)
class PairConfig:
    """How pairs are chosen.

    Attributes:
        rank: weight of each measure in a sample's cost; above 0 where less is better, below where more is.
        margin: least difference of the costs of a pair.
        most: pairs of a prompt at most: the best sample against the worst, the next worst, ...
    """

    rank: Mapping[str, float] = field(default_factory=lambda: {"wer": 1.0})
    margin: float = 0.05
    most: int = 1

    def __post_init__(self) -> None:
        if not self.rank or not all(map(math.isfinite, self.rank.values())) or not any(self.rank.values()):
            raise DataError(f"rank is {dict(self.rank)}: name at least one measure with a weight, such as wer=1.")
        if self.margin <= 0 or self.most < 1:
            raise DataError(f"margin {self.margin} must be above 0 (equal sides teach nothing), most {self.most} too.")


def cost(sample: Sample, rank: Mapping[str, float]) -> float:
    """The weighted sum of a sample's measures; the least is best.

    Raises:
        DataError: one of the measures wasn't taken of it.
    """
    if missing := [name for name in rank if not isinstance(sample.measured.get(name), (int, float))]:
        known = ", ".join(name for name, value in sample.measured.items() if isinstance(value, (int, float)))
        raise DataError(f"Sample {sample.id} has no measure {missing[0]!r}: rank by {known or 'what was measured'}.")
    return sum(weight * float(sample.measured[name]) for name, weight in rank.items())


def choose(samples: Sequence[Sample], config: PairConfig) -> list[tuple[Sample, Sample]]:
    """(better, worse) samples of one prompt, the widest apart first; none where all are about as good."""
    ranked = sorted(samples, key=lambda sample: (cost(sample, config.rank), sample.id))
    if not ranked:
        return []
    best, least = ranked[0], cost(ranked[0], config.rank)
    worse = [sample for sample in reversed(ranked) if cost(sample, config.rank) - least >= config.margin]
    return [(best, sample) for sample in worse[: config.most]]


def write_pairs(folder: str | Path, config: PairConfig) -> int:
    """Chooses the pairs of a set of samples and writes them beside it, over those that were there; how many."""
    samples = SampleSet(folder)
    places = {sample.id: index for index, sample in enumerate(samples)}
    prompts: dict[str, list[Sample]] = {}
    for sample in samples:
        prompts.setdefault(sample.prompt, []).append(sample)
    lines = []
    for group in prompts.values():
        for better, worse in choose(group, config):
            if np.array_equal(samples.drawn(places[better.id]), samples.drawn(places[worse.id])):
                continue
            sides = {"chosen": _told(better), "rejected": _told(worse)}
            gap = cost(worse, config.rank) - cost(better, config.rank)
            line = {"prompt": better.prompt, "asked": better.asked, "gap": round(gap, 4), **sides}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    path = Path(folder) / FILE
    with writing(Path(folder)):
        part = path.with_suffix(".part")
        part.write_text("".join(lines), encoding="utf-8")
        os.replace(part, path)
    return len(lines)


def _told(sample: Sample) -> dict[str, Any]:
    """A side of a pair as its line has it."""
    told = {"id": sample.id, "answer": sample.answer, "file": sample.file, **sample.measured}
    return {name: value for name, value in told.items() if value != ""}


@dataclass(frozen=True)
class Pair:
    """A pair as training reads it.

    Attributes:
        prompt, asked: id and text of the prompt.
        about: what else training must know of it.
        chosen, rejected: what was drawn, [streams, length].
    """

    prompt: str
    asked: str
    about: dict[str, Any]
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]


class PreferencePairs(Sequence[Pair]):
    """The pairs of a folder that `antiphon data preferences` made.

    Args:
        folder: with the samples and pairs.jsonl.

    Attributes:
        samples: that the sides are from.

    Raises:
        DataError: no pairs there, a line that can't be read, a side that isn't among the samples, or two equal sides.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.samples = SampleSet(folder)
        places = {sample.id: index for index, sample in enumerate(self.samples)}
        path = self.folder / FILE
        if not path.is_file():
            raise DataError(f"{path} does not exist: choose the pairs with `antiphon data preferences pairs`.")
        self.sides: list[tuple[int, int]] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                ids = str(row["chosen"]["id"]), str(row["rejected"]["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}, line {number} is no pair ({error!r}): mend or delete it.") from None
            if lost := [each for each in ids if each not in places]:
                raise DataError(f"{path}, line {number}: there is no sample {lost[0]!r}: delete the line.")
            sides = places[ids[0]], places[ids[1]]
            if sides[0] == sides[1] or np.array_equal(*map(self.samples.drawn, sides)):
                raise DataError(f"{path}, line {number}: chosen and rejected are equal: delete the line.")
            self.sides.append(sides)
        if not self.sides:
            raise DataError(f"{path} holds no pairs: mine more prompts, or choose a smaller margin.")

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, index: int) -> Pair:
        better, worse = self.sides[index]
        sample = self.samples[better]
        return Pair(sample.prompt, sample.asked, sample.about, self.samples.drawn(better), self.samples.drawn(worse))

    def ids(self, index: int) -> tuple[str, str]:
        """Of the samples that are a pair's sides, the chosen one first."""
        better, worse = self.sides[index]
        return self.samples[better].id, self.samples[worse].id


def shuffled(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Indices of a step's pairs: every pair once an epoch, each epoch in an order of its own."""
    order = {}
    places = range(step * batch, (step + 1) * batch)
    for epoch in {place // count for place in places}:
        order[epoch] = np.random.default_rng((seed, epoch)).permutation(count)
    return [int(order[place // count][place % count]) for place in places]
