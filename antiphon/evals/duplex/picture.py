"""A picture of conversations: who speaks when, one strip each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antiphon.data.dialogue.format import MODEL, USER
from antiphon.errors import EvalError
from antiphon.evals.duplex.metrics import speech
from antiphon.evals.duplex.simulate import Take
from antiphon.evals.report import save_picture
from antiphon.evals.timeline import LANES

COLOURS = {"pause": "#f3dcc9", "place": "#2a9d5c", "interruption": "#b00020"}


def draw(takes: Sequence[Take], path: str | Path) -> Path:
    """Draws each take as two rows of speech, the model's with its words above the user's.

    Args:
        takes: what was held.
        path: ends in .png.

    Raises:
        EvalError: nothing to draw, or the place cannot be written.
    """
    from matplotlib.figure import Figure as Canvas

    if not takes:
        raise EvalError("There is no conversation to draw.")
    canvas = Canvas(figsize=(11, 1.15 * len(takes) + 0.6), layout="constrained")
    for axes, take in zip(canvas.subplots(len(takes), 1, squeeze=False)[:, 0], takes, strict=True):
        spoken = {MODEL: take.speech(), USER: speech(take.user, take.scene.sample_rate)}
        for speaker, (row, colour, _) in LANES.items():
            axes.broken_barh([(a, b - a) for a, b in spoken[speaker]], (row + 0.15, 0.7), color=colour)
        for event in take.events:
            if event.kind == "pause":
                axes.broken_barh([(event.start, event.end - event.start)], (0.15, 0.7), color=COLOURS["pause"])
            elif event.kind == "backchannel":
                axes.broken_barh([(event.start, event.end - event.start)], (1.0, 0.1), color=COLOURS["place"])
            elif event.kind == "interruption":
                axes.axvline(event.start, color=COLOURS["interruption"], linewidth=1)
        for word in take.words:
            axes.text(word.start, 1.5, word.text, fontsize=5, va="center", clip_on=True, rotation=30)
        axes.set_xlim(0, take.seconds)
        axes.set_ylim(0, 2)
        axes.set_yticks(
            [row + 0.5 for row, _, _ in LANES.values()], [name for _, _, name in LANES.values()], fontsize=7
        )
        axes.tick_params(axis="x", labelsize=6)
        axes.set_title(f"{take.scene.id}: {' / '.join(take.scene.texts)}"[:150], fontsize=7, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    canvas.supxlabel("seconds; green: where a sign of listening would be fitting; red: an interruption", fontsize=7)
    return save_picture(canvas, path)
