"""`antiphon hear talks/*.mp3`: what was said, and nothing else, on stdout; or a file for each recording."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast, get_args

import typer

from antiphon.cli.common import Json, Model, Parts, check_devices, counted, load_model, progress, results, write_json
from antiphon.errors import AntiphonError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from antiphon.audio.places import Named
    from antiphon.models.asr.heard import Heard, HearingOptions
    from antiphon.models.asr.segments import Format, Granularity

ENDINGS = {"text": "txt", "verbose_json": "json"}  # of files, where they are called otherwise
PIPE = "-"


def hear(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recordings of any length: files, folders, patterns, addresses; - for standard input.",
            show_default=False,
        ),
    ] = None,
    model: Model = "mini",
    part: Parts = None,
    language: Annotated[
        str | None, typer.Option(help="That is spoken, such as ru or Russian. [found out]", show_default=False)
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Write it in English.")] = False,
    format: Annotated[
        str,
        typer.Option(help="txt, srt, vtt, tsv, json, verbose_json (with times); with -o several: txt,srt."),
    ] = "text",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a file for each recording into this folder.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Hear again what has its files in the folder already.")] = False,
    mic: Annotated[bool, typer.Option("--mic", help="Hear the microphone: prints each turn, until Ctrl-C.")] = False,
    scene: Annotated[
        bool, typer.Option("--scene", help="Print also what else is heard: who, how, which sounds, and when.")
    ] = False,
    json: Json = None,
) -> None:
    """Print the words that were said in recordings, in any language that Whisper knows."""
    with results() as stdout:
        from antiphon.audio.places import named

        forms, places = _forms(format), recordings or []
        if mic or PIPE in places:
            _check_live(mic, places, forms, out, scene, json)
            check_devices(mic)
            _hear_live(model, part, mic, language, translate, stdout)
            return
        wanted = named(places)
        if not wanted:
            raise typer.BadParameter("name a recording, a folder of them, - for standard input, or give --mic")
        if out is None and (len(forms) > 1 or (len(wanted) > 1 and forms != ["text"])):
            raise ConfigError("Say with -o FOLDER where the files go: one for each recording and form.")
        hearing = _Hearing(model, part, language, translate, scene, json is not None or forms != ["text"])
        about: list[dict[str, Any]] = []  # for the JSON file
        failed = 0
        for each in _going_on(wanted, forms, out, anew):
            try:
                told = hearing.heard(each)
            except AntiphonError as error:
                if len(wanted) == 1:
                    raise
                failed += 1
                progress(str(error))
                continue
            if out is None:
                print(hearing.written(told, forms[0], each.place if len(wanted) > 1 else ""), file=stdout, end="")
                stdout.flush()
            else:
                for form in forms:
                    path = _file(out, each, form)
                    _write(path, hearing.written(told, form))
                    print(path, file=stdout, flush=True)
            about += [hearing.about(told)] if json is not None else []
        write_json(json, about[0] if len(wanted) == 1 and about else {"recordings": about})
        if failed:
            raise AntiphonError(f"{failed} of {len(wanted)} recordings could not be heard; the others are done.")


def _forms(format: str) -> list[Format]:
    """The forms that are asked for, each once."""
    from antiphon.models.asr.segments import Format

    known, found = get_args(Format), []
    for name in format.split(","):
        form = {"txt": "text"}.get(name.strip(), name.strip())
        if form not in known:
            raise ConfigError(f"There is no form {name.strip()!r}. Forms: txt, {', '.join(known[1:])}.")
        found += [form] if form not in found else []
    if {"json", "verbose_json"} <= set(found):
        raise ConfigError("json and verbose_json go into the same file: ask for one of them.")
    return cast("list[Format]", found)


# Recordings that are there


class _Hearing:
    """A model that hears one recording after another; it is loaded when the first one has words."""

    def __init__(
        self, model: str, part: list[str] | None, language: str | None, translate: bool, scene: bool, timed: bool
    ):
        self.name, self.part, self.scene, self.timed = model, part, scene, timed
        self.how: dict[str, Any] = {"language": language, "translate": translate}
        self.task = "translate" if translate else "transcribe"
        self.model: Any = None

    def heard(self, recording: Named) -> tuple[Named, Heard, float]:
        """What is heard in it, and in how many seconds."""
        from antiphon.audio import io
        from antiphon.audio.places import fetched
        from antiphon.hub.folders import weights_dir
        from antiphon.models.asr.heard import Heard

        with fetched(recording) as file:
            if io.is_silent(file):
                progress(f"{recording.place} is silent: no words.")
                return recording, Heard(""), 0.0
            if self.model is None:
                # Any model's recognizer can have the part beside it that hears more than words.
                hears_more = [f"scene={weights_dir('scene')}"] if self.scene else []
                self.model, _ = load_model(self.name, [*hears_more, *(self.part or [])])
            start = time.perf_counter()
            heard = self.model.hear(file, words=self.timed, scene=self.scene, **self.how)
            return recording, heard, time.perf_counter() - start

    def written(self, told: tuple[Named, Heard, float], form: Format, place: str = "") -> str:
        """It in a form; behind the place and a tab, if one is given."""
        from antiphon.models.asr.segments import segments, written

        _, heard, _ = told
        if form != "text":
            times: tuple[Granularity, ...] = ("segment", "word")
            return written(segments(heard.passages), form, heard.duration, heard.language, times, self.task)
        more = str(heard.scene).split("; ") if heard.scene is not None else ()
        return "".join(f"{place}\t{line}\n" if place else f"{line}\n" for line in (heard.text, *more))

    def about(self, told: tuple[Named, Heard, float]) -> dict[str, Any]:
        """All of it, for programs."""
        recording, heard, seconds = told
        about = {"recording": recording.place, "heard": heard.text, "language": heard.language, "task": self.task}
        about |= {"scene": heard.scene.to_json()} if heard.scene is not None else {}
        return {
            **about, "words": [asdict(word) for word in heard.words], "duration": heard.duration, "seconds": seconds,
        }  # fmt: skip


def _going_on(wanted: Sequence[Named], forms: Sequence[Format], out: Path | None, anew: bool) -> Iterator[Named]:
    """Those that aren't done, told one by one, with how long the rest takes."""
    todo = [each for each in wanted if anew or out is None or not _is_done(each, forms, out)]
    if len(todo) < len(wanted):
        progress(f"{len(wanted) - len(todo)} of {len(wanted)} have their files already (--anew hears them again).")
    yield from counted(todo)


def _file(out: Path, recording: Named, form: Format) -> Path:
    return out / f"{recording.name}.{ENDINGS.get(form, form)}"


def _is_done(recording: Named, forms: Sequence[Format], out: Path) -> bool:
    """Whether it has its files, which are newer than itself."""
    try:
        changed = os.stat(recording.place).st_mtime
    except OSError:
        changed = 0.0  # an address; what is missing is told when it is heard
    files = [_file(out, recording, form) for form in forms]
    return all(file.is_file() and file.stat().st_mtime >= changed for file in files)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


# Sound that is coming


def _check_live(
    mic: bool, places: Sequence[str], forms: Sequence[Format], out: Path | None, scene: bool, json: Path | None
) -> None:
    """Whether it makes sense to hear what is coming."""
    if (mic and places) or len(places) > 1:
        raise ConfigError("The microphone and standard input (-) are heard alone, without other recordings.")
    if out is not None or scene or json is not None or list(forms) != ["text"]:
        raise ConfigError("Of what is coming the words are printed, turn by turn: leave out -o, --scene and the forms.")


def _hear_live(
    model: str, part: list[str] | None, mic: bool, language: str | None, translate: bool, stdout: TextIO
) -> None:
    """Prints each turn when it is over."""
    from antiphon.dialogue.transcriber import Transcriber
    from antiphon.models.asr.recognizer import RATE

    loaded, _ = load_model(model, part)
    recognizer = getattr(loaded, "recognizer", None)
    if recognizer is None:
        raise ConfigError(f"{model} has no recognizer that hears what is coming: take mini, small or base.")
    options: HearingOptions = recognizer.options(language, translate=translate)
    transcriber = Transcriber(recognizer, RATE, options=options)
    with _frames(mic, RATE) as frames:
        try:
            for frame in frames:
                if (heard := transcriber.step(frame)) is not None:
                    print(heard.heard, file=stdout, flush=True)
        except KeyboardInterrupt:
            pass
    if (heard := transcriber.finish()) is not None:
        print(heard.heard, file=stdout, flush=True)


@contextmanager
def _frames(mic: bool, sample_rate: int) -> Iterator[Iterator[Tensor]]:
    if mic:
        from antiphon.audio.devices import microphone

        with microphone(sample_rate) as frames:
            progress("Speak; Ctrl-C ends.")
            yield frames
    else:
        from antiphon.audio.piped import piped

        yield piped(sys.stdin.buffer, sample_rate)
