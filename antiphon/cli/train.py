"""`antiphon train recipes/mini/align.yaml steps=2000`: run one stage of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.cli.common import results


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a YAML file, or the name of one that ships, e.g. mini/align.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Any field of the recipe.")
    ] = None,
) -> None:
    """Run a recipe; stopped and started again, it goes on where it was. Prints the run's folder."""
    with results() as stdout:
        from antiphon.train.config import find_recipe, load_recipe
        from antiphon.train.engine import train as run

        print(
            run(load_recipe(find_recipe(recipe), settings), {"duplex": measure_duplex, "speech-lm": measure_speech_lm}),
            file=stdout,
        )


def measure_duplex(duplex: Any) -> dict[str, float]:
    """What recipes call `measure: duplex`; imported when it is asked for, as it needs more than training does."""
    from antiphon.evals.duplex.figures import quick

    return quick(duplex)


def measure_speech_lm(given: Any) -> dict[str, float]:
    """Spoken pairs, which speech language models measure where `data.pairs` names them."""
    from antiphon.evals.speech_lm.figures import quick

    return quick(given)
