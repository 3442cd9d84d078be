"""VoiceBench's overall figure."""

from __future__ import annotations

from antiphon.evals.tables.items import Measured
from antiphon.evals.tables.overall import OVERALL, overall
from antiphon.evals.tables.page import _about
from antiphon.evals.tables.results import Results


def test_the_overall_is_the_mean_of_the_subsets_and_tells_which_are_missing() -> None:
    def figure(metric: str, value: float) -> Measured:
        return Measured("", "", "speech", metric, value, 0.0, 0.0, 4, 40, 1.0)

    figures = {"voicebench_mmsu": figure("accuracy", 40.0), "voicebench_alpacaeval": figure("rating, 1 to 5", 3.0)}
    found = overall(figures | {"voicebench_bbh": figure("accuracy", 99.0)})
    assert found is not None and found.value == 50.0 and found.n == 8, "BBH isn't part of it"
    assert "openbookqa" in found.notes[0] and "mmsu" not in found.notes[0]
    assert overall({"voicebench_mmsu": figures["voicebench_mmsu"]}) is None
    assert "8 questions" in _about(Results("m", {"weights": {}}, {**figures, OVERALL: found})), "nobody was asked twice"
