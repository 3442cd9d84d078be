"""`antiphon train recipes/mini/align.yaml steps=2000`: run one stage of training, or say what it will cost."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.cli.common import Json, results


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a YAML file, or the name of one that ships, e.g. mini/align.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Any field of the recipe.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Start nothing: print parameters, FLOPs, memory and hours.")
    ] = False,
    on: Annotated[str | None, typer.Option(help="With --plan: a GPU, or several: h100, 8xa100. [this machine]")] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Start nothing: give folders of runs; says what a larger one would reach.")
    ] = False,
    loss: Annotated[str | None, typer.Option(help="With --fit: name of the loss or figure in their logs.")] = None,
    at: Annotated[list[float] | None, typer.Option(help="With --fit: FLOPs to foresee; may be repeated.")] = None,
    json: Json = None,
) -> None:
    """Run a recipe; stopped and started again, it goes on where it was. Prints the run's folder."""
    with results() as stdout:
        if fit:
            from antiphon.train.scaling import fit as fit_law
            from antiphon.train.scaling import lines, reached

            runs = [reached(run, loss) for run in [recipe, *map(Path, settings or [])]]
            print("\n".join(lines(runs, at or [])), file=stdout)
            _write(json, {"runs": [dataclasses.asdict(run) for run in runs], "law": dataclasses.asdict(fit_law(runs))})
            return
        from antiphon.train.config import find_recipe, load_recipe

        config = load_recipe(find_recipe(recipe), settings)
        if plan:
            from antiphon.train.plan import make_plan

            planned = make_plan(config, on)
            print("\n".join(planned.lines()), file=stdout)
            _write(json, dataclasses.asdict(planned) | {"memory": planned.memory, "hours": planned.hours})
            return
        from antiphon.train.engine import train as run

        print(run(config, {"duplex": measure_duplex, "speech-lm": measure_speech_lm}), file=stdout)


def _write(path: Path | None, values: dict[str, Any]) -> None:
    if path:
        path.write_text(jsonlib.dumps(values, indent=2) + "\n", encoding="utf-8")


def measure_duplex(duplex: Any) -> dict[str, float]:
    """What recipes call `measure: duplex`; imported when it is asked for, as it needs more than training does."""
    from antiphon.evals.duplex.figures import quick

    return quick(duplex)


def measure_speech_lm(given: Any) -> dict[str, float]:
    """Spoken pairs, which speech language models measure where `data.pairs` names them."""
    from antiphon.evals.speech_lm.figures import quick

    return quick(given)
