"""`antiphon hear question.wav`: what was said, and nothing else, on stdout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import Json, Model, Parts, load_model, progress, results, write_json


def hear(
    recording: Annotated[Path, typer.Argument(help="A recording of speech.")],
    model: Model = "mini",
    part: Parts = None,
    json: Json = None,
) -> None:
    """Print the words that were said in a recording."""
    with results() as stdout:
        from antiphon.audio import io

        audio = io.load(recording, sample_rate=16000, max_seconds=io.MAX_HEARD_SECONDS)
        seconds = 0.0
        if audio.silent:
            progress(f"{recording} is silent: no words.")
            text = ""
        else:
            loaded, _ = load_model(model, part)
            start = time.perf_counter()
            text = loaded.hear(audio).text
            seconds = time.perf_counter() - start
        print(text, file=stdout)
        write_json(json, {"recording": str(recording), "heard": text, "duration": audio.duration, "seconds": seconds})
