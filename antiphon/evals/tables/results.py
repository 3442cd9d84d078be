"""What a report holds, and how two of them differ."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antiphon.errors import EvalError
from antiphon.evals.report import write_json
from antiphon.evals.tables.compare import Difference, difference
from antiphon.evals.tables.items import Measured, read_items


@dataclass
class Results:
    """What a report holds.

    Attributes:
        model: what was measured, in words, with the fingerprints of its weights.
        settings: that its figures depend on.
        figures: by task.
        missing: what was not measured: by task, why.
        machine: on which.
    """

    model: str
    settings: dict[str, Any]
    figures: dict[str, Measured] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes results.json."""
        write_json(folder / "results.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Reads results.json.

        Raises:
            EvalError: it isn't there, or is none.
        """
        path = folder / "results.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            figures = {name: Measured(**{**one, "notes": tuple(one["notes"])}) for name, one in held["figures"].items()}
            return cls(**{**held, "figures": figures})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvalError(
                f"{path} is no report of tables ({error}): name a folder that this command wrote."
            ) from error


def compared(first: Path, second: Path) -> list[tuple[str, Difference | None]]:
    """Of two reports, the differences task by task.

    Raises:
        EvalError: one is none.
    """
    ours, theirs = Results.load(first), Results.load(second)
    found: list[tuple[str, Difference | None]] = []
    for task in ours.figures:
        if task in theirs.figures:
            items = [read_items(folder / "items" / f"{task}.jsonl") for folder in (first, second)]
            found.append((task, difference(*items)))
    return found
