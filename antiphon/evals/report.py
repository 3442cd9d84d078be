"""A figure, and a report of figures: a table for people, JSON for programs (`plots.draw_report`: a picture for both).

The JSON is `{"figures": [{"name", "value", "unit", "bar", "reference", "n"}], "environment": {...}}`.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from antiphon.errors import EvalError

_BAR = re.compile(r"(<=|>=) (-?\d+(?:\.\d+)?)")
_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: kebab-case, as in the JSON.
        value: what was measured.
        unit: "WER", "share", "s", "words", ...
        bar: what it must reach, "<= 0.1" or ">= 0.5"; None if nothing is asked of it.
        reference: the same measure of the teacher, judge or bare model beside it; None where there is none.
        n: how many items were measured.
    """

    name: str
    value: float
    unit: str
    bar: str | None
    reference: float | None
    n: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(f"Figure name {self.name!r} is not kebab-case.")
        if self.bar is not None and not _BAR.fullmatch(self.bar):
            raise ValueError(f"Bar {self.bar!r} of {self.name} is neither '<= NUMBER' nor '>= NUMBER'.")

    @property
    def limit(self) -> float | None:
        """The bar's number."""
        return None if self.bar is None else float(_BAR.fullmatch(self.bar)[2])

    @property
    def met(self) -> bool | None:
        """Whether the value reaches the bar (a value that is not a number never does); None without a bar."""
        return None if self.bar is None else _COMPARE[self.bar[:2]](self.value, self.limit)


@dataclass
class Report:
    """Figures in the order in which they came, and the machine they were measured on."""

    figures: list[Figure] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def add(self, figure: Figure) -> None:
        """Adds a figure; one of the same name is replaced where it stands."""
        for i, old in enumerate(self.figures):
            if old.name == figure.name:
                self.figures[i] = figure
                return
        self.figures.append(figure)

    def get(self, name: str) -> Figure | None:
        """The figure of that name, if it was measured."""
        return next((f for f in self.figures if f.name == name), None)

    def save(self, path: str | Path) -> Path:
        """Writes the JSON, as `write_json` does."""
        return write_json(path, {"figures": [asdict(f) for f in self.figures], "environment": self.environment})

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Reads what `save` wrote.

        Raises:
            EvalError: no such file, or not a report.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls([Figure(**f) for f in data["figures"]], dict(data["environment"]))
        except OSError as error:
            raise EvalError(f"{path} could not be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise EvalError(f"{path} is not a report of figures ({error}). Delete it and measure again.") from error

    def print(self, file: TextIO | None = None) -> None:
        """Prints the table to `file`, stdout by default; a bar that is missed is marked."""
        marks = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}
        rows = [
            (f.name, number(f.value), number(f.reference), f.bar or "-", f.unit, str(f.n), marks[f.met])
            for f in self.figures
        ]
        print_tables([(("figure", "value", "reference", "bar", "unit", "n", ""), rows)], file, {"figure", "unit", ""})


def write_json(path: str | Path, content: dict[str, Any]) -> Path:
    """Writes a result, whole or not at all: an interrupted run leaves the last complete file.

    Raises:
        EvalError: the place cannot be written.
    """
    path = Path(path)
    # What a link such as /dev/stdout leads to is written to, not replaced.
    through = path.is_symlink() or (path.exists() and not path.is_file())
    part = path if through else path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise EvalError(f"{path} could not be written: {error.strerror or error}. Choose another place.") from error
    return path


def print_tables(
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]], file: TextIO | None, left: Collection[str]
) -> None:
    """Prints tables, each (titles, rows), one below the other; the columns in `left` stand to the left."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file)
    # A pipe has no width of its own: never cut a name or a number because of that.
    console = console if console.is_terminal else Console(file=file, width=140)
    for titles, rows in tables:
        table = Table(header_style="bold")
        for title in titles:
            table.add_column(title, justify="left" if title in left else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def number(value: float | None) -> str:
    """A number for the table: three decimals, fewer where they say nothing; "-" for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if math.isfinite(value) and value == round(value) and abs(value) >= 10 else f"{value:.3f}"
