"""A picture of a conversation: who speaks when, two lanes on one clock, with the words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.data.dialogue.format import MODEL, USER, Word
from antiphon.errors import EvalError

LANES = {MODEL: (1.0, "#2a6f97", "model"), USER: (0.0, "#c8553d", "user")}  # height, colour, name
POINTS = 1200  # of the outline of a row


def draw_timeline(
    path: Path | str,
    spans: dict[str, Sequence[tuple[float, float]]],
    seconds: float,
    words: Sequence[Word] = (),
    sounds: dict[str, NDArray[np.float32]] | None = None,
    title: str = "",
    row_seconds: float = 20.0,
) -> Path:
    """Writes a PNG: rows of equal length, in each the model's lane above the user's.

    Args:
        path: of the picture.
        spans: "model" and "user" -> stretches of speech, (start, end) in seconds.
        seconds: length.
        words: written where they start.
        sounds: "model" and "user" -> samples, whose outline is drawn in the lane.
        title: above it.
        row_seconds: of a row, about.

    Raises:
        EvalError: no matplotlib, nothing to draw, or a place that can't be written.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise EvalError("A timeline needs matplotlib: pip install matplotlib.") from error
    if seconds <= 0:
        raise EvalError("There is no conversation to draw: it lasts no time.")
    rows = max(1, round(seconds / row_seconds))
    width = seconds / rows
    canvas = Canvas(figsize=(14, 2.1 * rows + 0.4), layout="constrained")
    for row, axes in enumerate(canvas.subplots(rows, 1, squeeze=False)[:, 0]):
        first, last = row * width, (row + 1) * width
        for speaker, (height, colour, _) in LANES.items():
            shown = [(a, b) for a, b in spans.get(speaker, ()) if b > first and a < last]
            axes.broken_barh([(a, b - a) for a, b in shown], (height - 0.36, 0.72), color=colour, alpha=0.25, lw=0)
            if sounds is not None and speaker in sounds:
                _outline(axes, sounds[speaker], seconds, first, last, height, colour)
            _write(axes, [w for w in words if w.speaker == speaker and first <= w.start < last], height, colour, width)
        axes.set_xlim(first, last)
        axes.set_ylim(-0.55, 1.55)
        axes.set_yticks(
            [height for height, _, _ in LANES.values()], [name for _, _, name in LANES.values()], fontsize=9
        )
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", alpha=0.2)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    canvas.supxlabel("seconds", fontsize=8)
    if title:
        canvas.suptitle(title, fontsize=10)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise EvalError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from error
    return Path(path)


def _outline(axes, samples: NDArray, seconds: float, first: float, last: float, height: float, colour: str) -> None:
    """How loud it is, as a band around the lane's middle."""
    rate = len(samples) / seconds
    part = np.abs(samples[int(first * rate) : int(min(last, seconds) * rate)])
    size = max(1, len(part) // POINTS)
    if not len(part) // size:
        return
    peaks = part[: len(part) // size * size].reshape(-1, size).max(1)
    times = first + (np.arange(len(peaks)) + 0.5) * size / rate
    axes.fill_between(times, height - 0.34 * peaks, height + 0.34 * peaks, color=colour, lw=0)


def _write(axes, words: Sequence[Word], height: float, colour: str, width: float) -> None:
    """Words at their times, above and below the lane's middle in turns where they would overlap."""
    free = [-math.inf, -math.inf, -math.inf]
    for word in words:
        level = next((i for i, until in enumerate(free) if word.start >= until), 0)
        axes.text(word.start, height + (0.4, -0.5, 0.52)[level], word.text, fontsize=7, color=colour, va="bottom")
        free[level] = word.start + (len(word.text) + 1) * 0.0042 * width
