"""`antiphon bench`: how fast the parts are, beside named peers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.cli.common import Json, progress
from antiphon.errors import ConfigError

if TYPE_CHECKING:
    from antiphon.evals.report import Report

app = typer.Typer(help="Measure speed and memory beside named peers.", no_args_is_help=True)


@app.command("codec")
def codec(
    json: Json = None,
    only: Annotated[
        list[str] | None, typer.Option(help="streaming, offline, memory or long; may be repeated. [all but long]")
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(help="mimi, encodec, dac, speechtokenizer, or (long) mini; may be repeated. [all but mini]"),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Numbers of threads; may be repeated. [1 and 2]", min=1)
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of 80 ms to time, in streaming.", min=1)] = 150,
    seconds: Annotated[float, typer.Option(help="Seconds of audio, offline.", min=0.1)] = 10.0,
    rounds: Annotated[int, typer.Option(help="Rounds, offline.", min=1)] = 5,
    minutes: Annotated[float, typer.Option(help="Minutes of audio in long.", min=0.1)] = 60.0,
) -> None:
    """Time and memory of the codecs over those of moshi, rustymimi, transformers and speechtokenizer, same weights
    (random ones)."""
    from antiphon.bench.codec import bench_codec
    from antiphon.bench.codec_worker import BenchConfig

    given = _given(only=only, codecs=codec, threads=threads)
    config = BenchConfig(**given, frames=frames, seconds=seconds, rounds=rounds, minutes=minutes)
    _show(bench_codec(config, progress), json)


@app.command("duplex")
def duplex(
    json: Json = None,
    only: Annotated[list[str] | None, typer.Option(help="step or batch; may be repeated. [both]")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="mini (as mini-duplex), middle or tiny; may be repeated. [mini and middle]")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Numbers of threads; may be repeated. [1 and 2]", min=1)
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of 80 ms to time.", min=1)] = 100,
) -> None:
    """A step of Moshi over those of moshi and transformers, same weights (random ones); and many rows over one."""
    from antiphon.bench.moshi import MoshiBenchConfig, bench_moshi

    given = _given(only=only, sizes=size, threads=threads)
    _show(bench_moshi(MoshiBenchConfig(**given, frames=frames), progress), json)


@app.command("hear")
def hear(
    recordings: Annotated[Path, typer.Argument(help="Speech: a recording, or a folder of recordings.")],
    json: Json = None,
    minutes: Annotated[float, typer.Option(help="Minutes of it, at most.", min=0.5)] = 10.0,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads; may be repeated. [2]", min=1)] = None,
    rounds: Annotated[int, typer.Option(help="Times that it is heard.", min=1)] = 1,
    clips: Annotated[
        int | None,
        typer.Option(help="Instead: as many clips of 10 s by one command, over a command for each.", min=1),
    ] = None,
    alone: Annotated[int, typer.Option(help="Of these, clips that get a command each.", min=1)] = 20,
) -> None:
    """Writing down recordings over faster-whisper in int8, same weights, beam 1."""
    from antiphon.bench.hear import HearBenchConfig, bench_hear
    from antiphon.bench.hear_clips import HearClipsConfig, bench_hear_clips

    if not recordings.exists():
        raise ConfigError(f"{recordings}: there is no such file or folder.")
    if clips is not None:
        _show(bench_hear_clips(HearClipsConfig(recordings, clips, alone=alone), progress), json)
        return
    config = HearBenchConfig(recordings, minutes, rounds=rounds, **_given(threads=threads))
    _show(bench_hear(config, progress), json)


@app.command("omni")
def omni(
    json: Json = None,
    only: Annotated[list[str] | None, typer.Option(help="first, reply, memory, packed; may be repeated. [all]")] = None,
    size: Annotated[str, typer.Option(help="small, or tiny to try it.")] = "small",
    threads: Annotated[int, typer.Option(help="Of the processor.", min=1)] = 1,
    tokens: Annotated[int, typer.Option(help="Of the reply.", min=2)] = 60,
    codes: Annotated[int, typer.Option(help="Of the reply; 50 are a second.", min=1)] = 900,
    rounds: Annotated[int, typer.Option(help="Replies of each side.", min=1)] = 1,
) -> None:
    """Qwen2.5-Omni: first sound over that of a reply made part after part; time and memory over transformers', same
    weights (random ones); and what a thinker and a talker of the 3B one's sizes take, packed."""
    from antiphon.bench.omni import OmniBenchConfig, bench_omni

    sizes = {"size": size, "threads": threads, "tokens": tokens, "codes": codes, "rounds": rounds}
    _show(bench_omni(OmniBenchConfig(**sizes, **_given(only=only)), progress), json)


@app.command("conversations")
def conversations(
    json: Json = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A preset or a folder that takes turns.")] = "base",
    only: Annotated[list[str] | None, typer.Option(help="batch, late or long; may be repeated. [all]")] = None,
    at_once: Annotated[
        list[int] | None, typer.Option(help="Conversations at once; may be repeated. [1, 2, 3, 4 and 6]", min=1)
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of each of them.", min=1)] = 60.0,
    batch: Annotated[int, typer.Option(help="Replies made at once.", min=1)] = 4,
    rounds: Annotated[int, typer.Option(help="Of so many replies.", min=1)] = 3,
    turns: Annotated[int, typer.Option(help="Of the long conversation.", min=8)] = 60,
    clock: Annotated[
        str, typer.Option(help="wall, or computing: as on one core with nothing else to do, on a busy machine.")
    ] = "wall",
    threads: Annotated[int, typer.Option(help="Of the processor.", min=1)] = 2,
) -> None:
    """Many conversations with one model: replies a minute in a batch over one at a time, how many are kept without late
    sound, and what a long one costs at its end over its beginning."""
    import torch

    from antiphon.bench.conversations import ConversationsBenchConfig, bench_conversations

    torch.set_num_threads(threads)
    given = _given(only=only, at_once=at_once)
    config = ConversationsBenchConfig(
        model=model, seconds=seconds, batch=batch, rounds=rounds, turns=turns, clock=clock, **given
    )
    _show(bench_conversations(config, progress), json)


@app.command("serve")
def serve(
    json: Json = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A preset, a folder or a hub id.")] = "mini",
    clients: Annotated[
        list[int] | None, typer.Option(help="Live clients at once; may be repeated. [1, 2, 4 and 8]", min=1)
    ] = None,
    turns: Annotated[int, typer.Option(help="Turns of each client.", min=1)] = 5,
    sessions: Annotated[int | None, typer.Option(help="Conversations admitted. [as measured]", min=1)] = None,
    soak: Annotated[
        float, typer.Option(help="Minutes of steady talk by 4 clients, to see whether memory grows.", min=0)
    ] = 0.0,
    settle: Annotated[float, typer.Option(help="Minutes that they talk before memory is looked at.", min=0)] = 3.0,
) -> None:
    """First audio, late frames, refusals and memory of the server, with live clients at the pace of life; of a duplex
    model, also frames lost."""
    from antiphon.bench.serve import ServeBenchConfig, bench_serve
    from antiphon.cli.talk import example_question

    config = ServeBenchConfig(
        model=model,
        turns=turns,
        sessions=sessions,
        soak=soak,
        settle=settle,
        question=example_question(),
        **_given(clients=clients),
    )
    _show(bench_serve(config, progress), json)


@app.command("json")
def json_answers(
    json: Json = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A preset, or a thinker's folder.")] = "mini",
    prompts: Annotated[int, typer.Option(help="Answers that are looked at, of 200.", min=1, max=200)] = 200,
    timed: Annotated[int, typer.Option(help="Of those, that are timed with and without a schema.", min=0)] = 10,
    max_tokens: Annotated[int, typer.Option(help="Of an answer.", min=8)] = 128,
    rows: Annotated[int, typer.Option(help="Answers at once, where nothing is timed.", min=1)] = 10,
    threads: Annotated[int, typer.Option(help="Of the processor.", min=1)] = 1,
) -> None:
    """Answers that are held to a JSON schema: how many fit it, and the time a token takes over one that isn't held."""
    from antiphon.bench.json_answers import JsonBenchConfig, bench_json

    _show(bench_json(JsonBenchConfig(model, prompts, timed, max_tokens, rows, threads), progress), json)


@app.command("tables")
def tables(
    model: Annotated[Path, typer.Argument(help="Folder of a language model, as transformers saves it.")],
    data: Annotated[Path, typer.Option(help="Folder of the public sets, a folder each.")],
    json: Json = None,
    task: Annotated[
        list[str] | None, typer.Option(help="arc_easy, gsm8k, ...; may be repeated. [arc_easy, openbookqa, hellaswag]")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Questions of each task.", min=1)] = 50,
    batch: Annotated[int, typer.Option(help="Requests that lm-eval's own model reads at once.", min=1)] = 1,
    max_tokens: Annotated[int, typer.Option(help="Of a reply.", min=1)] = 128,
) -> None:
    """lm-eval's tasks through our thinker over lm-eval's own model, same weights in float32; whether answers are the
    same."""
    from antiphon.bench.tables import TablesBenchConfig, bench_tables

    for folder in (model, data):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder.")
    config = TablesBenchConfig(model, data, n=n, batch=batch, max_tokens=max_tokens, **_given(tasks=task))
    _show(bench_tables(config, progress), json)


@app.command("thinker")
def thinker(
    json: Json = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A preset, a folder or a GGUF file.")] = "mini",
    reference: Annotated[
        Path | None, typer.Option(help="What a packed folder was made from, for the peers: a GGUF file or a folder.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="step, rows, prompt or load; may be repeated. [all]")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Numbers of threads; may be repeated. [1 and 2]", min=1)
    ] = None,
    steps: Annotated[int, typer.Option(help="Tokens to time.", min=1)] = 30,
    rounds: Annotated[int, typer.Option(help="Prompts of each length to time.", min=1)] = 3,
) -> None:
    """Tokens a second, prompts, loading and memory of a thinker, beside transformers in float32 and llama.cpp, same
    weights."""
    from antiphon.bench.thinker import ThinkerBenchConfig, bench_thinker

    if reference is not None and not reference.exists():
        raise ConfigError(f"--reference {reference}: there is no such file or folder.")
    given = _given(only=only, threads=threads)
    config = ThinkerBenchConfig(model=model, reference=reference, steps=steps, rounds=rounds, **given)
    _show(bench_thinker(config, progress, json), json)


@app.command("train")
def train(
    json: Json = None,
    only: Annotated[list[str] | None, typer.Option(help="lm or dpo; may be repeated. [both]")] = None,
    width: Annotated[int, typer.Option(help="Of the model, a multiple of 64.", min=64)] = 256,
    layers: Annotated[int, typer.Option(help="Of the model.", min=1)] = 4,
    batch: Annotated[int, typer.Option(help="Examples or pairs of a batch.", min=1)] = 8,
    steps: Annotated[int, typer.Option(help="Of a round.", min=2)] = 5,
    rounds: Annotated[int, typer.Option(help="Of each side.", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="Of the processor.", min=1)] = 1,
) -> None:
    """Tokens a second that training learns from, over those of transformers' Trainer and TRL's DPOTrainer."""
    from antiphon.bench.train import TrainBenchConfig, bench_train

    sizes = {"width": width, "layers": layers, "batch": batch, "steps": steps, "rounds": rounds, "threads": threads}
    _show(bench_train(TrainBenchConfig(**sizes, **_given(only=only)), progress), json)


def _given(**options: list[Any] | None) -> dict[str, tuple[Any, ...]]:
    """The options that were given; the bench's own defaults hold for the others."""
    return {name: tuple(values) for name, values in options.items() if values}


def _show(report: Report, json: Path | None) -> None:
    """Prints a report and the machine, and saves it where that was asked for."""
    report.print()
    machine = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    print(f"{machine['cpu']}, {machine['cores']} cores; threads {machine['threads']}; {versions}")
    if machine.get("skipped"):
        print(f"not installed, skipped: {', '.join(machine['skipped'])}")
    if json:
        report.save(json)
