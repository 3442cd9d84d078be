"""`antiphon talk question.wav -o answer.wav`: hear, think, speak; of a folder of questions, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.cli.common import (
    Device,
    Dtype,
    Json,
    Mcp,
    ModelThatFits,
    Parts,
    Picture,
    Play,
    Seed,
    Temperature,
    TopK,
    Voice,
    check_devices,
    counted,
    describe_timings,
    load_model,
    mcp_tools,
    noted,
    progress,
    results,
    sampling,
    seen,
    tell_calls,
    write_json,
)
from antiphon.errors import AntiphonError, AudioError, ConfigError

if TYPE_CHECKING:
    from antiphon.audio.places import Named
    from antiphon.dialogue.chat import Reply


def talk(
    questions: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recorded questions: files, folders, patterns, addresses; without one, the example that ships.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Where the spoken answer goes: .wav or .flac; of several questions, a folder for NAME.wav of each.",
        ),
    ] = Path("answer.wav"),
    model: ModelThatFits = None,
    part: Parts = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    voice: Voice = None,
    picture: Picture = None,
    mcp: Mcp = None,
    play: Play = False,
    device: Device = "cpu",
    dtype: Dtype = None,
    json: Json = None,
) -> None:
    """Answer spoken questions with spoken answers, each by itself."""
    with results() as stdout:
        from antiphon.audio import io
        from antiphon.audio.places import Named, named

        wanted = named(questions or [])
        if not questions:
            example = example_question()
            wanted = [Named(str(example), example.stem)]
            progress(f"No recording named: answering the example, {example}")
        several = len(wanted) > 1
        if several and out.suffix:
            raise ConfigError(f"{len(wanted)} questions have {len(wanted)} answers: say with -o FOLDER where they go.")
        if not several and out.is_dir():
            out = out / f"{wanted[0].name}.wav"
        if not several:
            io.check_writable_name(out)
        check_devices(play)
        pictures = [seen(path) for path in picture or ()]
        answering = _Answering(
            partial(load_model, model, part, device, dtype), seed, voice, sampling(temperature, top_k), pictures
        )
        told, failed = [], 0
        with mcp_tools(mcp) as tools:
            for each in counted(wanted):
                try:
                    reply, timings = answering.answer(each, tools)
                    wav = reply.audio.save(out / f"{each.name}.wav" if several else out).absolute()
                except AntiphonError as error:
                    if not several:
                        raise
                    failed += 1
                    progress(str(error))
                    continue
                if several:
                    print(f"question: {each.place}", file=stdout)
                if reply.heard:  # a model that hears by itself writes nothing down
                    print(f"heard:    {reply.heard}{noted(reply)}", file=stdout)
                print(f"answered: {reply.text}", file=stdout)
                print(f"wav:      {wav}", file=stdout)
                print(f"timings:  {describe_timings(timings)}", file=stdout, flush=True)
                result = {"question": each.place, "heard": reply.heard, "answered": reply.text, "wav": str(wav)}
                scene = {"scene": reply.scene.to_json()} if reply.scene is not None else {}
                told.append(result | scene | {"seconds": reply.audio.duration, "seed": seed, "timings": timings})
                if play:
                    from antiphon.audio.devices import play as play_audio

                    play_audio(reply.audio)
        write_json(json, {"answers": told} if several else told[0])
        if failed:
            raise AntiphonError(f"{failed} of {len(wanted)} questions could not be answered; the others are.")


class _Answering:
    """A model that answers one question after another; it is loaded when the first one isn't silent."""

    def __init__(
        self,
        load: Callable[[], tuple[Any, float]],
        seed: int,
        voice: str | None,
        how: dict[str, Any],
        pictures: list[dict[str, str]],
    ):
        self.load, self.seed, self.voice, self.how, self.pictures = load, seed, voice, how, pictures
        self.model: Any = None

    def answer(self, question: Named, tools: list[Any]) -> tuple[Reply, dict[str, float]]:
        """The answer, and what took how long.

        Raises:
            AudioError: there is nothing in it to be answered.
        """
        from antiphon.audio import io
        from antiphon.audio.places import fetched

        place = question.place
        with fetched(question) as file:
            audio = io.load(file, sample_rate=16000)
        if audio.silent:
            raise AudioError(
                f"{place} is silent: there is no question to answer. Check the microphone and record it again."
            )
        timings = {}
        if self.model is None:
            self.model, timings["load"] = self.load()
        if tools or self.voice or self.pictures:
            from antiphon.dialogue.events import Sampling

            how = Sampling(self.seed, voice=self.voice, **self.how)
            chat = self.model.chat(how, **({"tools": tools} if tools else {}))
            reply = chat.say_spoken(audio, self.pictures)
            tell_calls(reply)
        else:
            reply = self.model.reply(audio, seed=self.seed, **self.how)
        if not (reply.heard or reply.text):
            found = f" ({found.strip()})" if (found := noted(reply)) else ""
            raise AudioError(f"No words were heard in {place}{found}, so there is no answer. Record it closer by.")
        return reply, timings | reply.timings


def example_question() -> Path:
    """The recorded question that ships."""
    from antiphon.hub.shipped import shipped

    return shipped("examples/question.wav")
