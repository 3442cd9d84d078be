"""`antiphon eval mini --json figures.json`: measure a model, print a table, draw it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import Json, Model, Parts, overrides, progress, results
from antiphon.errors import ConfigError


def evaluate(
    suite: Annotated[str, typer.Argument(help="Which figures: mini.")],
    model: Model = "mini",
    part: Parts = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), to say and to ask.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Set of spoken test questions; made from the texts once.")
    ] = None,
    asterisk: Annotated[
        Path | None, typer.Option(help="Where Debian's Asterisk prompts are unpacked; fetched once.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Only these figures or groups, with commas between.")] = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many items a figure: quicker, rougher.", min=1)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what the JSON file holds, measure the rest.")] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that share the work; one a core by default.", min=1)
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for every transcript, reply and sound.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the figures (.png); beside the JSON where not given.")
    ] = None,
    json: Json = None,
) -> None:
    """Measure a model; print each figure beside what it should reach and its reference."""
    if suite != "mini":
        raise ConfigError(f"There is no evaluation {suite!r}. Evaluations: mini.")
    if resume and json is None:
        raise ConfigError("--resume goes on from the JSON file: name it with --json FILE.")
    with results() as stdout:
        from antiphon.evals.bench import MiniConfig
        from antiphon.evals.figures import available_cores
        from antiphon.evals.mini import run

        config = MiniConfig(
            model=model,
            parts=overrides(part),
            texts=texts,
            questions=questions,
            asterisk=asterisk,
            only=tuple(name.strip() for name in (only or "").split(",") if name.strip()),
            n=n,
            keep=keep,
        )
        report = run(config, json, resume, jobs or available_cores())
        report.print(stdout)
        plot = plot or (json and json.with_suffix(".png"))
        if plot:
            progress(f"Picture: {report.plot(plot)}")
