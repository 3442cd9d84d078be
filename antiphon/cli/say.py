"""`antiphon say "Hello." -o hello.wav`: text to speech."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import (
    Json,
    Model,
    Parts,
    Play,
    Seed,
    Temperature,
    TopK,
    Voice,
    check_devices,
    load_model,
    progress,
    results,
    sampling,
    write_json,
)
from antiphon.errors import ConfigError


def say(
    text: Annotated[str, typer.Argument(help="What to say.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the speech goes: .wav or .flac.")] = Path(
        "answer.wav"
    ),
    model: Model = "mini",
    part: Parts = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    voice: Voice = None,
    play: Play = False,
    json: Json = None,
) -> None:
    """Say a text; print where the wav is."""
    with results() as stdout:
        from antiphon.audio import io
        from antiphon.errors import UnsaidWarning
        from antiphon.models.tts.normalization.normalize import can_be_said

        io.check_writable_name(out)
        check_devices(play)
        if not any(letter.isalnum() for letter in text):
            raise ConfigError("There is nothing to say in that text: it has no letters and no digits.")
        if not Path(model).is_dir() and not can_be_said(text):  # a folder's voice may speak more
            raise ConfigError("The voice speaks English and can say nothing of that text: write it in English.")
        loaded, _ = load_model(model, part)
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UnsaidWarning)
            audio = loaded.say(text, seed=seed, voice=voice, **sampling(temperature, top_k))
        seconds = time.perf_counter() - start
        for warning in told:
            progress(str(warning.message))
        audio.save(out)
        print(out.absolute(), file=stdout)
        write_json(
            json,
            {"text": text, "wav": str(out.absolute()), "duration": audio.duration, "seconds": seconds, "seed": seed},
        )
        if play:
            from antiphon.audio.devices import play as play_audio

            play_audio(audio)
