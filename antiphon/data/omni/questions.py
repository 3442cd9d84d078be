"""Ways to ask: five or more of a kind, of which every fifth is kept for measuring."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from numpy.random import Generator

from antiphon.data.omni.pictures import Ask

WORDINGS, HELD_OUT = Path(__file__).with_name("questions.yaml"), 5


@cache
def wordings(split: str) -> dict[str, list[str]]:
    """Those of a split, "train" or "test", by kind of question."""
    import yaml

    every: dict[str, list[str]] = yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))
    test = split == "test"
    return {
        kind: [each for place, each in enumerate(some) if (place % HELD_OUT == HELD_OUT - 1) == test]
        for kind, some in every.items()
    }


def worded(ask: Ask, split: str, generator: Generator) -> str:
    """A question as it is asked."""
    some = wordings(split)[ask.kind]
    return some[int(generator.integers(len(some)))].format(**ask.slots)
