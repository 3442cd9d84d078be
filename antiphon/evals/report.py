"""A figure, and a report of figures: a table for people, JSON for programs, a picture for both.

The JSON is `{"figures": [{"name", "value", "unit", "bar", "reference", "n"}], "environment": {...}}`.
"""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from antiphon.errors import EvalError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_BAR = re.compile(r"(<=|>=) (-?\d+(?:\.\d+)?)")
_COMPARE = {"<=": operator.le, ">=": operator.ge}
PACKAGES = ("antiphon", "torch", "transformers", "onnxruntime", "numpy", "jiwer", "pystoi", "speechmos", "hibari-tts")


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

    def to_dict(self) -> dict[str, Any]:
        """What `save` writes."""
        return {"figures": [asdict(f) for f in self.figures], "environment": self.environment}

    def save(self, path: str | Path) -> Path:
        """Writes the JSON, whole or not at all: an interrupted run leaves the last complete file.

        Raises:
            EvalError: the place cannot be written.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise EvalError(f"{path} could not be written: {error.strerror}. Choose another place.") from error
        return path

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
        from rich.console import Console
        from rich.table import Table

        table = Table(title=None, header_style="bold")
        right = ("value", "reference", "bar", "n")
        for title in ("figure", "value", "reference", "bar", "unit", "n", ""):
            table.add_column(title, justify="right" if title in right else "left", no_wrap=True)
        for f in self.figures:
            mark = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}[f.met]
            table.add_row(f.name, number(f.value), number(f.reference), f.bar or "-", f.unit, str(f.n), mark)
        console = Console(file=file)
        # A pipe has no width of its own: never cut a figure's name because of that.
        (console if console.is_terminal else Console(file=file, width=120)).print(table)

    def plot(self, path: str | Path) -> Path:
        """Draws every figure against its bar, one small panel each: value, reference and bar on the figure's own scale.

        Raises:
            EvalError: nothing to draw, or the place cannot be written.
        """
        from matplotlib.figure import Figure as Canvas

        shown = [f for f in self.figures if math.isfinite(f.value)]
        if not shown:
            raise EvalError("There is no figure to draw yet.")
        height = 0.55 * len(shown) + 0.8
        canvas = Canvas(figsize=(9, height), layout="constrained")
        for axes, f in zip(canvas.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
            colour = {None: "#7f7f7f", True: "#2a9d5c", False: "#d1495b"}[f.met]
            axes.barh([0], [f.value], color=colour, height=0.6)
            ends = [0.0, f.value]
            if f.limit is not None:
                axes.axvline(f.limit, color="black", linewidth=1.5)
                ends.append(f.limit)
            if f.reference is not None:
                axes.plot([f.reference], [0], marker="D", color="#f4a259", markeredgecolor="black", markersize=6)
                ends.append(f.reference)
            low, high = min(ends), max(ends)
            span = (high - low) or 1.0
            axes.set_xlim(low - (0.05 * span if low < 0 else 0), high + 0.15 * span)
            axes.set_yticks([0], [f"{f.name}\n({f.unit})"], fontsize=7)
            axes.tick_params(axis="x", labelsize=6, pad=1, length=2)
            axes.text(1.01, 0.5, number(f.value), transform=axes.transAxes, va="center", fontsize=8, color=colour)
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
        canvas.suptitle("value (bar), what it must reach (line), reference (diamond)", fontsize=8)
        return save_picture(canvas, path)


def save_picture(canvas: Canvas, path: str | Path) -> Path:
    """Writes a matplotlib figure to a file; folders on the way are made.

    Raises:
        EvalError: the place cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=130)
    except OSError as error:
        raise EvalError(f"{path} could not be written: {error.strerror}. Choose another place.") from error
    return Path(path)


def number(value: float | None) -> str:
    """A number for the table: three decimals, fewer where they say nothing; "-" for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if math.isfinite(value) and value == round(value) and abs(value) >= 10 else f"{value:.3f}"


def environment() -> dict[str, Any]:
    """The machine and the versions: what one needs to believe a figure of speed, or to repeat one of quality."""
    import importlib.metadata

    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
