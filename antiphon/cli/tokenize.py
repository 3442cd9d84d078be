"""`antiphon tokenize corpus -o codes --codec mimi` and back: `antiphon detokenize codes -o folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import progress, results

Workers = Annotated[int, typer.Option(help="Processes that share the work.", min=1)]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


def tokenize(
    source: Annotated[Path, typer.Argument(help="A folder of sound files, a manifest or a speech set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the set of codes; one that is there goes on.")],
    codec: Annotated[str, typer.Option(help="A codec's name, its folder or its hub id.")],
    codebooks: Annotated[int | None, typer.Option(help="Keep only the first ones.", min=1)] = None,
    workers: Workers = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Work on the Ray cluster that this machine belongs to; --workers of it.")
    ] = False,
    device: Device = "cpu",
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was skipped before.")] = False,
    lead: Annotated[
        float | None,
        typer.Option(help="Cut so many seconds before the first phone, where it is known when that sounds.", min=0.0),
    ] = None,
) -> None:
    """Encode recordings into a set of codes, which training reads.

    Stopped and started again, it goes on where it was. What cannot be read is skipped and listed in the set's
    skipped.jsonl. Prints the set's folder.
    """
    with results() as stdout:
        from antiphon.data.tokenize.encode import TokenizeConfig
        from antiphon.data.tokenize.encode import tokenize as run

        skipped = run(TokenizeConfig(source, out, codec, codebooks, workers, ray, device, retry, lead))
        if skipped:
            progress(f"Skipped {skipped}: see {out / 'skipped.jsonl'}.")
        print(out, file=stdout)


def detokenize(
    source: Annotated[Path, typer.Argument(help="Folder of a set of codes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sound files and their manifest.jsonl.")],
    codec: Annotated[
        str | None, typer.Option(help="The codec that made the codes, where it isn't where the set says.")
    ] = None,
    codebooks: Annotated[int | None, typer.Option(help="Decode only the first ones.", min=1)] = None,
    ending: Annotated[str, typer.Option("--format", help="wav or flac.")] = "wav",
    workers: Workers = 1,
    device: Device = "cpu",
) -> None:
    """Decode a set of codes into sound files.

    Stopped and started again, it goes on where it was. Prints the folder.
    """
    with results() as stdout:
        from antiphon.data.tokenize.decode import DetokenizeConfig
        from antiphon.data.tokenize.decode import detokenize as run

        failed = run(DetokenizeConfig(source, out, codec, codebooks, ending, workers, device))
        if failed:
            progress(f"Skipped {len(failed)}: {', '.join(row.id for row, _ in failed[:5])}{' ...' * (len(failed) > 5)}")
        print(out, file=stdout)
