"""What others published, each row with where it was read, when it was published, and of how many questions it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROWS = Path(__file__).with_name("published.jsonl")


@dataclass(frozen=True)
class Published:
    """A published figure.

    Attributes:
        task: as ours is named; behind a stroke, another figure of it ("musiccaps/bleu_2").
        model: whose it is.
        value: in percent, but for VoiceBench's scores of 1 to 5.
        source: where it was read.
        date: when it was published.
        n: questions of the whole set, or of the part that the source names; None where neither is known.
    """

    task: str
    model: str
    value: float
    source: str
    date: str
    n: int | None


@cache
def published() -> tuple[Published, ...]:
    """All of them, in the order of the file."""
    return tuple(Published(**json.loads(line)) for line in ROWS.read_text(encoding="utf-8").splitlines())


def published_of(task: str) -> list[Published]:
    """Those of a task."""
    return [row for row in published() if row.task == task]
