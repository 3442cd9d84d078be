"""A report as one page: to be looked at offline, and printed."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from antiphon.evals.tables.items import SOUNDS, Item, Measured, name_of, read_items, samples
from antiphon.evals.tables.overall import OVERALL
from antiphon.evals.tables.published import Published, published_of
from antiphon.evals.tables.results import Results, compared

TITLES = {
    "text": "Text to text", "text-spoken": "The same questions, spoken", "audio": "Audio to text",
    "speech": "Speech in, speech out", "duplex": "Live conversation",
}  # fmt: skip
MOST = 600  # characters of a sample's text
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.4rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.ours td { font-weight: 600; background: #eef5fa; } small, .note { color: #666; } img { max-width: 100%; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .5rem; margin: .2rem 0; font-size: 12px; }
@media print { body { margin: 0; font-size: 10pt; } details { display: none; } table, img { break-inside: avoid; } }
"""


def write_page(folder: Path, beside: Path | None = None) -> Path:
    """Writes index.html of a report, with pictures inside.

    Args:
        folder: of the report.
        beside: another report, to be compared with.

    Raises:
        EvalError: it is none.
    """
    results = Results.load(folder)
    parts = [f"<h1>{escape(results.model)}</h1>", _about(results)]
    for row in dict.fromkeys(figure.row for figure in results.figures.values()):
        figures = [figure for figure in results.figures.values() if figure.row == row]
        parts += [f"<h2>{escape(TITLES.get(row, row))}</h2>", _picture(figures, folder / f"{row}.png")]
        parts += [_task(figure, read_items(folder / "items" / f"{figure.task}.jsonl"), folder) for figure in figures]
    if results.missing:
        rows = [(escape(task), escape(why)) for task, why in results.missing.items()]
        parts += ["<h2>Not measured</h2>", _table(("task", "why"), rows)]
    if beside is not None:
        parts.append(_comparison(folder, beside))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(results.model)}: tables</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path = folder / "index.html"
    part = path.with_name(".index.html.part")
    part.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    os.replace(part, path)
    return path


def _about(results: Results) -> str:
    seconds = sum(figure.seconds for figure in results.figures.values())
    asked = sum(figure.n for task, figure in results.figures.items() if task != OVERALL)
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items() if name != "weights")
    weights = ", ".join(f"{role} {digits}" for role, digits in results.settings["weights"].items())
    away = [str(name) for name in (results.model, results.settings.get("judge")) if "://" in str(name)]
    paid = f"and what {' and '.join(map(escape, away))} may ask for it" if away else "and no paid service"
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items() if isinstance(value, (str, int)))
    return (
        f"<p>{asked} questions in {seconds / 60:.1f} minutes of this machine, {seconds / max(asked, 1):.2f} s each, "
        f"{paid}. <small>{escape(settings)}; weights: {escape(weights)}; {escape(machine)}</small></p>"
        "<p class=note>Values are percent unless said otherwise; in brackets, where 95 of 100 resamplings of the "
        "questions lie. Published rows were measured by others, mostly on whole sets and by other prompts.</p>"
    )


def _task(figure: Measured, items: Sequence[Item], folder: Path) -> str:
    of = "" if figure.n == figure.size else f" of {figure.size}"
    rows = [_ours(figure.metric, figure.value, figure.low, figure.high, f"{figure.n}{of}", figure.seconds / figure.n)]
    rows += [_theirs(row) for row in published_of(figure.task)]
    for name, value in figure.more.items():
        rows.append(_ours(name, value, math.nan, math.nan, f"{figure.n}", math.nan))
        rows += [_theirs(row) for row in published_of(f"{figure.task}/{name}")]
    head = ("", "measure", "<th class=n>value</th>", "n", "source, date")
    header = "".join(cell if cell.startswith("<th") else f"<th>{cell}</th>" for cell in head)
    notes = [*figure.notes]
    if figure.empty:
        notes.append(f"{figure.empty} answers were empty and count as wrong")
    if figure.faults:
        notes.append(f"{figure.faults} could not be asked or judged and count as wrong")
    return (
        f'<h3 id="{escape(figure.task)}">{escape(figure.title)}</h3><table><tr>{header}</tr>{"".join(rows)}</table>'
        f"<p class=note>{escape('; '.join(notes))}</p>{_samples(figure.task, items, folder)}"
    )


def _ours(metric: str, value: float, low: float, high: float, n: str, each: float) -> str:
    spread = "" if math.isnan(low) else f" <small>[{shown(low)}, {shown(high)}]</small>"
    took = "" if math.isnan(each) else f"{each:.2f} s a question"
    return (
        f"<tr class=ours><td>this model</td><td>{escape(metric)}</td><td class=n>{shown(value)}{spread}</td>"
        f"<td>{escape(n)}</td><td>{took}</td></tr>"
    )


def shown(value: float) -> str:
    """A value as it is read: to a tenth, or to three digits where it is small, as seconds and ratings are; a dash where
    there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _theirs(row: Published) -> str:
    n = "not told" if row.n is None else str(row.n)
    return (
        f"<tr><td>{escape(row.model)}</td><td></td><td class=n>{row.value:g}</td><td>{n}</td>"
        f"<td><small>{escape(row.source)}, {escape(row.date)}</small></td></tr>"
    )


def _samples(task: str, items: Sequence[Item], folder: Path) -> str:
    """Some that are right and some that aren't, with their sounds where those are kept beside the page."""
    shown = []
    for item in samples(items):
        texts = [("asked", item.prompt[-MOST:]), ("answer", item.answer[:MOST]), ("right", item.target[:MOST])]
        texts += [("fault", item.fault)] if item.fault else []
        lines = "".join(f"<small>{name}</small><pre>{escape(text) or '(nothing)'}</pre>" for name, text in texts)
        places = [f"{SOUNDS}/{task}/{name_of(item.id)}.wav", f"talks/{task}/{item.id}/output.wav"]
        heard = "".join(
            f'<audio controls preload="none" src="{escape(quote(place), quote=True)}"></audio>'
            for place in places
            if (folder / place).is_file()
        )
        shown.append(f"<p>{escape(item.id)}: {item.score:g} {heard}</p>{lines}")
    return f"<details><summary>samples; all are in items/{escape(task)}.jsonl</summary>{''.join(shown)}</details>"


def _picture(figures: Sequence[Measured], path: Path) -> str:
    """Our values with their intervals, and the published ones, as a PNG beside the page and inside it."""
    from antiphon.evals.plots import draw_beside_published

    rows = [
        (
            figure.title,
            figure.value,
            figure.low,
            figure.high,
            {row.model: row.value for row in published_of(figure.task)},
        )
        for figure in figures
    ]
    draw_beside_published(rows, path)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _comparison(folder: Path, beside: Path) -> str:
    other = Results.load(beside).model
    rows = []
    for task, found in compared(folder, beside):
        if found is None:
            rows.append((escape(task), "", "", "no question in common", ""))
            continue
        told = f"{found.p:.3f} ({found.test})" + (", more than chance" if found.p < 0.05 else "")
        rows.append((escape(task), f"{found.first:.1f}", f"{found.second:.1f}", str(found.n), told))
    return f"<h2>Beside {escape(other)}</h2>" + _table(("task", "this model", "the other", "n", "p"), rows)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML."""
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{lines}</table>"
