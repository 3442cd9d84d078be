"""Rate-distortion curves: what each codec keeps of a sound, by the bits that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antiphon.errors import EvalError
from antiphon.evals.codec.measures import MEASURES
from antiphon.evals.codec.report import Point
from antiphon.evals.report import save_picture

COLOURS = ("#1b6ca8", "#d1495b", "#2a9d5c", "#f4a259", "#6a4c93", "#3d3d3d", "#17a2b8", "#a0522d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot(points: Sequence[Point], path: str | Path) -> Path:
    """Draws a panel for each measure: bits a second (plain, logarithmic) against the measure, a line for each codec.

    A hollow marker stands at the rate that entropy coding of each codebook would give (left out where there are too
    few frames to tell); a dashed line is the untouched
    sound's own value or a perfect codec's.

    Args:
        points: at least one with a measure of its sound.
        path: of the PNG.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, NullFormatter

    measures = [name for name in MEASURES if any(name in p.values for p in points)]
    if not measures:
        raise EvalError("No codec makes a sound that was measured: there is no rate-distortion curve to draw.")
    codecs = list(dict.fromkeys(p.codec for p in points if p.values))
    columns = min(3, len(measures))
    rows = -(-len(measures) // columns)
    canvas = Canvas(figsize=(4.2 * columns, 3.1 * rows + 0.6), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(measures) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, measures):
        measure = MEASURES[name]
        for i, codec in enumerate(codecs):
            mine = sorted((p for p in points if p.codec == codec and name in p.values), key=lambda p: p.bitrate)
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
            heights = [p.values[name].mean for p in mine]
            panel.plot([p.bitrate for p in mine], heights, label=codec, linewidth=1.5, **style)
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
    return save_picture(canvas, path)
