"""`antiphon bench`: how fast the parts are, beside named peers."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.cli.common import Json, progress

app = typer.Typer(help="Measure speed and memory beside named peers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `codec` a command of its own."""


@app.command("codec")
def codec(
    json: Json = None,
    only: Annotated[
        list[str] | None, typer.Option(help="streaming, offline, memory or long; may be repeated. [all but long]")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads; may be repeated. [1 and 2]")] = None,
    frames: Annotated[int, typer.Option(help="Frames of 80 ms to time, in streaming.", min=1)] = 150,
    seconds: Annotated[float, typer.Option(help="Seconds of audio, offline.", min=0.1)] = 10.0,
    rounds: Annotated[int, typer.Option(help="Rounds, offline.", min=1)] = 5,
    minutes: Annotated[float, typer.Option(help="Minutes of audio in long.", min=0.1)] = 60.0,
) -> None:
    """Time and memory of the codecs over those of moshi, rustymimi and transformers, same weights (random ones)."""
    from antiphon.evals.codec_bench import BenchConfig, bench_codec

    given = {"only": tuple(only)} if only else {}
    given |= {"threads": tuple(threads)} if threads else {}
    config = BenchConfig(**given, frames=frames, seconds=seconds, rounds=rounds, minutes=minutes)
    report = bench_codec(config, progress)
    report.print()
    machine = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    print(f"{machine['cpu']}, {machine['cores']} cores; threads {machine['threads']}; {versions}")
    if machine["skipped"]:
        print(f"not installed, skipped: {', '.join(machine['skipped'])}")
    if json:
        report.save(json)
