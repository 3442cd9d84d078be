"""`antiphon talk question.wav -o answer.wav`: hear, think, speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import (
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
from antiphon.errors import AudioError


def talk(
    question: Annotated[
        Path | None, typer.Argument(help="A recorded question; without one, the example that ships.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the spoken answer goes: .wav or .flac.")] = Path(
        "answer.wav"
    ),
    model: ModelThatFits = None,
    part: Parts = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    voice: Voice = None,
    picture: Picture = None,
    mcp: Mcp = None,
    play: Play = False,
    json: Json = None,
) -> None:
    """Answer a spoken question with a spoken answer."""
    with results() as stdout:
        from antiphon.audio import io

        io.check_writable_name(out)
        check_devices(play)
        if question is None:
            question = example_question()
            progress(f"No recording named: answering the example, {question}")
        audio = io.load(question, sample_rate=16000)
        if audio.silent:
            raise AudioError(
                f"{question} is silent: there is no question to answer. Check the microphone and record it again."
            )
        pictures = [seen(path) for path in picture or ()]
        loaded, seconds = load_model(model, part)
        with mcp_tools(mcp) as tools:
            if tools or voice or pictures:
                from antiphon.dialogue.events import Sampling

                how = Sampling(seed, voice=voice, **sampling(temperature, top_k))
                chat = loaded.chat(how, **({"tools": tools} if tools else {}))
                reply = chat.say_spoken(audio, pictures)
                tell_calls(reply)
            else:
                reply = loaded.reply(audio, seed=seed, **sampling(temperature, top_k))
        if not (reply.heard or reply.text):
            found = f" ({found.strip()})" if (found := noted(reply)) else ""
            raise AudioError(f"No words were heard in {question}{found}, so there is no answer. Record it closer by.")
        reply.audio.save(out)
        timings = {"load": seconds, **reply.timings}
        if reply.heard:  # a model that hears by itself writes nothing down
            print(f"heard:    {reply.heard}{noted(reply)}", file=stdout)
        print(f"answered: {reply.text}", file=stdout)
        print(f"wav:      {out.absolute()}", file=stdout)
        print(f"timings:  {describe_timings(timings)}", file=stdout)
        result = {"question": str(question), "heard": reply.heard, "answered": reply.text, "wav": str(out.absolute())}
        scene = {"scene": reply.scene.to_json()} if reply.scene is not None else {}
        write_json(json, result | scene | {"seconds": reply.audio.duration, "seed": seed, "timings": timings})
        if play:
            from antiphon.audio.devices import play as play_audio

            play_audio(reply.audio)


def example_question() -> Path:
    """The recorded question that ships."""
    from antiphon.hub.shipped import shipped

    return shipped("examples/question.wav")
