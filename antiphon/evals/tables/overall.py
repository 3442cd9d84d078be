"""VoiceBench's overall figure: of other figures, with no questions of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from antiphon.evals.tables.items import Measured

OVERALL = "voicebench_overall"
OVER = ("alpacaeval", "commoneval", "sd_qa", "mmsu", "openbookqa", "ifeval", "advbench")  # as published in most tables


def overall(figures: Mapping[str, Measured]) -> Measured | None:
    """The mean of VoiceBench's subsets, ratings of 1 to 5 as twenty each; of those that were measured, told which
    weren't. None where fewer than two were.

    Args:
        figures: by task.
    """
    here = {subset: figures[f"voicebench_{subset}"] for subset in OVER if f"voicebench_{subset}" in figures}
    if len(here) < 2:
        return None
    shares = [each.value * 20 if each.metric.startswith("rating") else each.value for each in here.values()]
    gone = [subset for subset in OVER if subset not in here]
    note = f"without {', '.join(gone)}, so it isn't comparable with the published ones, which have them" if gone else ""
    return Measured(
        OVERALL, "VoiceBench overall", "speech", f"mean of {len(here)} of {len(OVER)} subsets", sum(shares) / len(here),
        math.nan, math.nan, sum(each.n for each in here.values()), sum(each.size for each in here.values()), 0.0,
        notes=(note,) if note else (),
    )  # fmt: skip
