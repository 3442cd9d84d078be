"""`antiphon hear question.wav`: what was said, and nothing else, on stdout."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from antiphon.cli.common import Json, Model, Parts, load_model, progress, results, write_json


def hear(
    recording: Annotated[Path, typer.Argument(help="A recording of speech, of any length.")],
    model: Model = "mini",
    part: Parts = None,
    language: Annotated[
        str | None, typer.Option(help="That is spoken, such as ru or Russian. [found out]", show_default=False)
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Write it in English.")] = False,
    format: Annotated[
        Literal["text", "json", "verbose_json", "srt", "vtt"],
        typer.Option(help="Words alone, JSON, JSON with segments and words, or subtitles."),
    ] = "text",
    scene: Annotated[
        bool, typer.Option("--scene", help="Print also what else is heard: who, how, which sounds, and when.")
    ] = False,
    json: Json = None,
) -> None:
    """Print the words that were said in a recording, in any language that Whisper knows."""
    with results() as stdout:
        from antiphon.audio import io
        from antiphon.hub.folders import weights_dir
        from antiphon.models.asr.heard import Heard
        from antiphon.models.asr.segments import segments, written

        seconds, heard = 0.0, Heard("")
        if io.is_silent(recording):
            progress(f"{recording} is silent: no words.")
        else:
            # Any model's recognizer can have the part beside it that hears more than words.
            hears_more = [f"scene={weights_dir('scene')}"] if scene else []
            loaded, _ = load_model(model, [*hears_more, *(part or [])])
            start, timed = time.perf_counter(), json is not None or format not in ("text", "json")
            heard = loaded.hear(recording, language=language, translate=translate, words=timed, scene=scene)
            seconds = time.perf_counter() - start
        task = "translate" if translate else "transcribe"
        if format == "text":
            print(heard.text, *(str(heard.scene).split("; ") if heard.scene is not None else ()), sep="\n", file=stdout)
        else:
            found = segments(heard.passages)
            times: tuple[Literal["word", "segment"], ...] = ("segment", "word")
            print(written(found, format, heard.duration, heard.language, times, task), file=stdout, end="")
        about = {"recording": str(recording), "heard": heard.text, "language": heard.language, "task": task}
        about |= {"scene": heard.scene.to_json()} if heard.scene is not None else {}
        words = [asdict(word) for word in heard.words]
        write_json(json, {**about, "words": words, "duration": heard.duration, "seconds": seconds})
