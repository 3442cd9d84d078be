"""Pictures: figures against their bars, confusions, rate-distortion curves, the formats, who speaks when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from antiphon.data.dialogue.format import MODEL, USER, Word
from antiphon.data.formats.example import Example
from antiphon.errors import EvalError
from antiphon.evals.codec.measures import MEASURES
from antiphon.evals.codec.report import Point
from antiphon.evals.report import Report, number

if TYPE_CHECKING:
    from antiphon.evals.duplex.simulate import RecordedDialogue
    from antiphon.models.speech_lm.model import SpeechLM

LANES = {MODEL: (1.0, "#2a6f97", "model"), USER: (0.0, "#c8553d", "user")}  # height, colour, name
OUTLINE_POINTS = 1200  # of the loudness in a row
EVENT_COLOURS = {"pause": "#f3dcc9", "place": "#2a9d5c", "interruption": "#b00020"}
CODEC_COLOURS = ("#1b6ca8", "#d1495b", "#2a9d5c", "#f4a259", "#6a4c93", "#3d3d3d", "#17a2b8", "#a0522d")
TOKEN_COLOURS = {"speech": "#2a6f97", "text": "#2a9d5c", "tag": "#c8553d"}
CODEC_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw_report(report: Report, path: str | Path) -> Path:
    """Draws every figure against its bar, one small panel each: value, reference and bar on the figure's own scale.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    shown = [f for f in report.figures if math.isfinite(f.value)]
    if not shown:
        raise EvalError("There is no figure to draw yet.")
    canvas = _canvas(9, 0.55 * len(shown) + 0.8)
    for axes, f in zip(_rows(canvas, len(shown)), shown, strict=True):
        colour = {None: "#7f7f7f", True: "#2a9d5c", False: "#d1495b"}[f.met]
        axes.barh([0], [f.value], color=colour, height=0.6)
        if f.limit is not None:
            axes.axvline(f.limit, color="black", linewidth=1.5)
        if f.reference is not None:
            axes.plot([f.reference], [0], marker="D", color="#f4a259", markeredgecolor="black", markersize=6)
        ends = [0.0, *(end for end in (f.value, f.limit, f.reference) if end is not None)]
        low, high = min(ends), max(ends)
        span = (high - low) or 1.0
        axes.set_xlim(low - (0.05 * span if low < 0 else 0), high + 0.15 * span)
        axes.set_yticks([0], [f"{f.name}\n({f.unit})"], fontsize=7)
        axes.tick_params(axis="x", labelsize=6, pad=1, length=2)
        axes.text(1.01, 0.5, number(f.value), transform=axes.transAxes, va="center", fontsize=8, color=colour)
        axes.spines[["top", "right", "left"]].set_visible(False)
    canvas.suptitle("value (bar), what it must reach (line), reference (diamond)", fontsize=8)
    return _save(canvas, path)


def draw_beside_published(
    rows: Sequence[tuple[str, float, float, float, Mapping[str, float]]], path: str | Path
) -> Path:
    """Draws a line for each task: our value with where it lies, and what others published.

    Args:
        rows: (title, value, low, high, published value by model); ends that are not numbers aren't drawn.
        path: of the PNG.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    if not rows:
        raise EvalError("There is no task to draw yet.")
    canvas = _canvas(8, 0.42 * len(rows) + 1.2)
    axes = canvas.subplots()
    for height, (_, value, low, high, others) in enumerate(rows):
        axes.plot(list(others.values()), [height] * len(others), "o", color="#c9c9c9", markersize=5)
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [height, height], color=LANES[MODEL][1], linewidth=2)
        axes.plot([value], [height], "D", color=LANES[MODEL][1], markersize=6)
    axes.set_yticks(range(len(rows)), [title for title, *_ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title("this model (diamond, with its interval) and published ones (dots)", fontsize=8)
    return _save(canvas, path)


def draw_confusion(
    truth: Sequence[str], told: Sequence[str], labels: Sequence[str], title: str, path: str | Path
) -> Path:
    """Draws what was told for what: a row for each right label, a column for each that was told, with counts; darker is
    a larger share of the row. What is none of the labels has a last column.

    Raises:
        EvalError: the place cannot be written.
    """
    columns = [*labels, *(["other"] if set(told) - set(labels) else [])]
    counts = np.zeros((len(labels), len(columns)), int)
    for right, said in zip(truth, told, strict=True):
        counts[labels.index(right), columns.index(said if said in labels else "other")] += 1
    canvas = _canvas(1.6 + 0.55 * len(columns), 1.4 + 0.42 * len(labels))
    axes = canvas.subplots()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xlabel("told", fontsize=8)
    axes.set_ylabel("right", fontsize=8)
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                dark = count > 0.6 * line.sum()
                axes.text(column, row, count, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_title(title, fontsize=8)
    return _save(canvas, path)


def draw_rate_distortion(points: Sequence[Point], path: str | Path) -> Path:
    """Draws a panel for each measure: bits a second (plain, logarithmic) against the measure, a line for each codec.

    A hollow marker stands at the rate that entropy coding of each codebook would give (left out where there are too
    few frames to tell); a dashed line is the untouched sound's own value or a perfect codec's.

    Args:
        points: at least one with a measure of its sound.
        path: of the PNG.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    measures = [name for name in MEASURES if any(name in p.values for p in points)]
    if not measures:
        raise EvalError("No codec makes a sound that was measured: there is no rate-distortion curve to draw.")
    from matplotlib.ticker import FuncFormatter, NullFormatter

    codecs = list(dict.fromkeys(p.codec for p in points if p.values))
    columns = min(3, len(measures))
    rows = -(-len(measures) // columns)
    canvas = _canvas(4.2 * columns, 3.1 * rows + 0.6)
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(measures) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, measures):
        measure = MEASURES[name]
        for i, codec in enumerate(codecs):
            mine = sorted((p for p in points if p.codec == codec and name in p.values), key=lambda p: p.bitrate)
            style = {"color": CODEC_COLOURS[i % 8], "marker": CODEC_MARKERS[i % 8], "markersize": 5}
            panel.plot([p.bitrate for p in mine], [p.values[name].mean for p in mine], label=codec, lw=1.5, **style)
            coded = [(p.coded_bitrate, p.values[name].mean) for p in mine if not p.sparse]
            if coded:
                panel.plot(*zip(*coded), linestyle="none", markerfacecolor="none", alpha=0.6, **style)
        references = [p.values[name].reference for p in points if name in p.values]
        if references and references[0] is not None:
            panel.axhline(references[0], color="#7f7f7f", linestyle="--", linewidth=1)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}" if x < 1000 else f"{x / 1000:.3g}k"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_title(f"{measure.title} ({'higher' if measure.better == 'high' else 'lower'} is better)", fontsize=9)
        panel.set_ylabel(measure.unit, fontsize=8)
        panel.set_xlabel("bit/s", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.25)
    lines, names = panels[0].get_legend_handles_labels()
    canvas.legend(lines, names, loc="outside upper center", ncols=min(4, len(names)), fontsize=8, frameon=False)
    return _save(canvas, path)


def draw_timeline(
    path: Path | str,
    spans: dict[str, Sequence[tuple[float, float]]],
    seconds: float,
    words: Sequence[Word] = (),
    sounds: dict[str, NDArray[np.float32]] | None = None,
    title: str = "",
    row_seconds: float = 20.0,
) -> Path:
    """Draws one dialogue: rows of equal length, in each the model's lane above the user's.

    Args:
        path: of the PNG.
        spans: "model" and "user" -> stretches of speech, (start, end) in seconds.
        seconds: length.
        words: written where they start.
        sounds: "model" and "user" -> samples, whose outline is drawn in the lane.
        title: above it.
        row_seconds: of a row, about.

    Raises:
        EvalError: no matplotlib, nothing to draw, or a place that can't be written.
    """
    if seconds <= 0:
        raise EvalError("There is no conversation to draw: it lasts no time.")
    rows = max(1, round(seconds / row_seconds))
    width = seconds / rows
    canvas = _canvas(14, 2.1 * rows + 0.4)
    for row, axes in enumerate(_rows(canvas, rows)):
        first, last = row * width, (row + 1) * width
        for speaker, (height, colour, _) in LANES.items():
            shown = [(a, b) for a, b in spans.get(speaker, ()) if b > first and a < last]
            axes.broken_barh([(a, b - a) for a, b in shown], (height - 0.36, 0.72), color=colour, alpha=0.25, lw=0)
            if sounds is not None and speaker in sounds:
                _outline(axes, sounds[speaker], seconds, first, last, height, colour)
            _write(axes, [w for w in words if w.speaker == speaker and first <= w.start < last], height, colour, width)
        _lanes(axes, (first, last), (-0.55, 1.55), 0.0, 9)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", alpha=0.2)
        axes.spines[["top", "right", "left"]].set_visible(False)
    canvas.supxlabel("seconds", fontsize=8)
    if title:
        canvas.suptitle(title, fontsize=10)
    return _save(canvas, path)


def draw_dialogues(dialogues: Sequence[RecordedDialogue], path: str | Path) -> Path:
    """Draws each dialogue as a strip: the model's speech with its words above the user's, and what the user did.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    if not dialogues:
        raise EvalError("There is no conversation to draw.")
    canvas = _canvas(11, 1.15 * len(dialogues) + 0.6)
    for axes, dialogue in zip(_rows(canvas, len(dialogues)), dialogues, strict=True):
        for speaker, (row, colour, _) in LANES.items():
            axes.broken_barh([(a, b - a) for a, b in dialogue.speech(speaker)], (row + 0.15, 0.7), color=colour)
        for event in dialogue.events:
            span = [(event.start, event.end - event.start)]
            if event.kind == "pause":
                axes.broken_barh(span, (0.15, 0.7), color=EVENT_COLOURS["pause"])
            elif event.kind == "backchannel":
                axes.broken_barh(span, (1.0, 0.1), color=EVENT_COLOURS["place"])
            elif event.kind == "interruption":
                axes.axvline(event.start, color=EVENT_COLOURS["interruption"], linewidth=1)
        for word in dialogue.words:
            axes.text(word.start, 1.5, word.text, fontsize=5, va="center", clip_on=True, rotation=30)
        _lanes(axes, (0, dialogue.seconds), (0, 2), 0.5, 7)
        axes.tick_params(axis="x", labelsize=6)
        scenario = dialogue.scenario
        axes.set_title(f"{scenario.id}: {' / '.join(scenario.texts)}"[:150], fontsize=7, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    canvas.supxlabel("seconds; green: where a sign of listening would be fitting; red: an interruption", fontsize=7)
    return _save(canvas, path)


def draw_formats(rows: Mapping[str, Example], model: SpeechLM, path: str | Path) -> Path:
    """Draws examples, a row each: tags, text and speech in turn, those that the loss counts full, others pale.

    Args:
        rows: by the name of their format; of one codebook.
        model: of the ids.
        path: of the PNG.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    if not rows:
        raise EvalError("There is no example to draw.")
    vocabulary, longest = model.vocabulary, max(map(len, rows.values()))
    canvas = _canvas(11, 0.75 * len(rows) + 0.5)
    for axes, (name, example) in zip(_rows(canvas, len(rows)), rows.items(), strict=True):
        for at, (token, weight) in enumerate(zip(example.tokens.tolist(), example.weights.tolist(), strict=True)):
            kind = "text" if token < vocabulary.text else "speech" if vocabulary.is_unit(token) else "tag"
            axes.broken_barh([(at + 0.04, 0.92)], (0, 1), color=TOKEN_COLOURS[kind], alpha=1.0 if weight else 0.35)
            if kind == "text":
                told = model.text_of([token]).strip()
            else:
                told = str(token - vocabulary.first_unit) if kind == "speech" else vocabulary.token_name(token)[2:-2]
            style = {"rotation": 90 if len(told) > 2 else 0, "color": "white" if weight else "black"}
            axes.text(at + 0.5, 0.5, told, fontsize=6, ha="center", va="center", **style)
        axes.set_xlim(0, longest)
        axes.set_ylim(0, 1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(name, fontsize=8, loc="left", pad=2)
        axes.spines[:].set_visible(False)
    canvas.supxlabel("blue: speech; green: text; red: tags; pale: read, not learnt", fontsize=7)
    return _save(canvas, path)


def _canvas(width: float, height: float) -> Any:
    """An empty picture, inches."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise EvalError("A picture needs matplotlib: pip install matplotlib.") from error
    return Canvas(figsize=(width, height), layout="constrained")


def _rows(canvas: Any, count: int) -> Sequence[Any]:
    return canvas.subplots(count, 1, squeeze=False)[:, 0]


def _save(canvas: Any, path: str | Path) -> Path:
    """Writes a picture; folders on the way are made."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=130)
    except (OSError, ValueError) as error:  # ValueError: an ending that no picture has
        reason = getattr(error, "strerror", None) or error
        raise EvalError(f"{path} could not be written: {reason}. Choose another place.") from error
    return Path(path)


def _lanes(axes: Any, xlim: tuple[float, float], ylim: tuple[float, float], middle: float, fontsize: int) -> None:
    """The lanes' names, `middle` above their heights."""
    axes.set_xlim(*xlim)
    axes.set_ylim(*ylim)
    heights, names = [height + middle for height, _, _ in LANES.values()], [name for _, _, name in LANES.values()]
    axes.set_yticks(heights, names, fontsize=fontsize)


def _outline(
    axes: Any, samples: NDArray, seconds: float, first: float, last: float, height: float, colour: str
) -> None:
    """How loud it is, as a band around the lane's middle."""
    rate = len(samples) / seconds
    part = np.abs(samples[int(first * rate) : int(min(last, seconds) * rate)])
    size = max(1, len(part) // OUTLINE_POINTS)
    if not len(part) // size:
        return
    peaks = part[: len(part) // size * size].reshape(-1, size).max(1)
    times = first + (np.arange(len(peaks)) + 0.5) * size / rate
    axes.fill_between(times, height - 0.34 * peaks, height + 0.34 * peaks, color=colour, lw=0)


def _write(axes: Any, words: Sequence[Word], height: float, colour: str, width: float) -> None:
    """Words at their times, above and below the lane's middle in turns where they would overlap."""
    free = [-math.inf, -math.inf, -math.inf]
    for word in words:
        level = next((i for i, until in enumerate(free) if word.start >= until), 0)
        axes.text(word.start, height + (0.4, -0.5, 0.52)[level], word.text, fontsize=7, color=colour, va="bottom")
        free[level] = word.start + (len(word.text) + 1) * 0.0042 * width
