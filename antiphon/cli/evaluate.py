"""`antiphon eval assistant`, `hearing`, `omni`, `codec`, `duplex`, ...: measure a model or a part of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from typer.core import TyperGroup

from antiphon.cli.common import Json, Model, Parts, overrides, progress, results
from antiphon.errors import ConfigError, EvalError

if TYPE_CHECKING:
    from antiphon.evals.hearing.evaluation import HearingEvaluation
    from antiphon.evals.report import Figure, Report

Only = Annotated[str | None, typer.Option(help="Only these figures or groups, with commas between.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep what the JSON file holds, measure the rest.")]
Plot = Annotated[Path | None, typer.Option(help="Picture of the figures (.png); beside the JSON where not given.")]


class Evaluations(TyperGroup):
    """The evaluations by name; one that there isn't is an error like any other."""

    def resolve_command(self, context, arguments):
        if arguments[0] == "mini":  # as it was called when there was one assistant
            arguments = ["assistant", "--model", "mini", *arguments[1:]]
        if self.get_command(context, arguments[0]) is None:
            known = ", ".join(self.list_commands(context))
            raise ConfigError(f"There is no evaluation {arguments[0]!r}. Evaluations: {known}.")
        return super().resolve_command(context, arguments)


app = typer.Typer(cls=Evaluations, help="Measure a model, its hearing, codecs or conversations.", no_args_is_help=True)


@app.command()
def assistant(
    model: Model = "mini",
    part: Parts = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), to say and to ask.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Set of spoken test questions; made from the texts once.")
    ] = None,
    asterisk: Annotated[
        Path | None, typer.Option(help="Where Debian's Asterisk prompts are unpacked; fetched once.")
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Folder of public question sets: gsm8k, openbookqa, arc_easy, piqa, xquad_en.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What a packed thinker was made from: a GGUF file or a folder of transformers.")
    ] = None,
    only: Only = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many items a figure: quicker, rougher.", min=1)
    ] = None,
    resume: Resume = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that share the work; one a core by default.", min=1)
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for every transcript, reply and sound.")] = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Measure an assistant; print each figure beside what it should reach and its reference."""
    check_resume(resume, json)
    check_folder("--texts", texts)
    check_folder("--benchmarks", benchmarks)
    if reference is not None and not reference.exists():
        raise ConfigError(f"--reference {reference}: there is no such file or folder.")
    with results() as stdout:
        from antiphon.evals.assistant.evaluation import AssistantConfig, AssistantEvaluation, fingerprints
        from antiphon.evals.assistant.figures import GROUPS
        from antiphon.evals.harness import run
        from antiphon.evals.machine import available_cores

        config = AssistantConfig(
            model=model,
            parts=overrides(part),
            texts=texts,
            questions=questions,
            asterisk=asterisk,
            benchmarks=benchmarks,
            reference=reference,
            only=listed(only),
            n=n,
            keep=keep,
        )
        evaluation = AssistantEvaluation(config)
        _show(
            run(evaluation, GROUPS, fingerprints(config), json, resume, jobs or available_cores()), stdout, plot, json
        )


@app.command()
def hearing(
    model: Model = "base",
    part: Parts = None,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of labelled recordings: emodb, esc10, emogator, sonic-pi, ...")
    ] = None,
    speech: Annotated[Path | None, typer.Option(help="Folder of read speech in LibriSpeech's layout.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), to say and to ask.")
    ] = None,
    sets: Annotated[
        Path | None, typer.Option(help="What `antiphon data scene` made for training; the linear probes learn from it.")
    ] = None,
    material: Annotated[Path | None, typer.Option(help="Folder of the test recordings, made and encoded once.")] = None,
    feelings: Annotated[
        Path | None, typer.Option(help="Another corpus of feelings, never trained on, to ask for four of them.")
    ] = None,
    without_emodb: Annotated[
        Path | None, typer.Option(help="A scene network trained without EmoDB, to ask it for four feelings there.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Set of spoken test questions; made from the texts once.")
    ] = None,
    asterisk: Annotated[
        Path | None, typer.Option(help="Where Debian's Asterisk prompts are unpacked; fetched once.")
    ] = None,
    only: Only = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many items a figure: quicker, rougher.", min=1)
    ] = None,
    resume: Resume = False,
    jobs: Annotated[int | None, typer.Option(help="Processes that share the work; one by default.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of what is made to be heard.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder for every transcript, scene, reply and sound.")] = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Measure what a model hears besides the words, and whether it minds it; beside linear probes and chance."""
    check_resume(resume, json)
    for option, folder in (
        ("--audio", audio), ("--speech", speech), ("--texts", texts), ("--sets", sets), ("--feelings", feelings),
        ("--without-emodb", without_emodb),
    ):  # fmt: skip
        check_folder(option, folder)
    with results() as stdout:
        from antiphon.evals.assistant.evaluation import fingerprints
        from antiphon.evals.harness import Group, run
        from antiphon.evals.hearing.evaluation import HearingConfig, HearingEvaluation
        from antiphon.evals.hearing.figures import GROUPS

        picture = picture_path(plot, json)
        pictures = picture and picture.with_name(f"{picture.stem}-confusions")
        config = HearingConfig(
            model=model,
            parts=overrides(part),
            audio=audio,
            speech=speech,
            texts=texts,
            sets=sets,
            material=material,
            feelings=feelings,
            without_emodb=without_emodb,
            questions=questions,
            asterisk=asterisk,
            pictures=pictures,
            only=listed(only),
            n=n,
            keep=keep,
            seed=seed,
        )
        groups = {**GROUPS, "speed": Group(_hear_beside_peer, 10, ("hear-vs-faster-whisper",), alone=True)}
        _show(run(HearingEvaluation(config), groups, fingerprints(config), json, resume, jobs or 1), stdout, plot, json)
        if pictures and pictures.is_dir():
            progress(f"Pictures: {pictures}")


@app.command()
def omni(
    model: Annotated[str, typer.Option(help="Folder or hub id of a Qwen2.5-Omni.")],
    part: Parts = None,
    recordings: Annotated[Path | None, typer.Option(help="Folder of ESC-10 or ESC-50, for what is heard.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), for what is said.")
    ] = None,
    only: Only = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many items a figure: quicker, rougher.", min=1)
    ] = None,
    resume: Resume = False,
    jobs: Annotated[int | None, typer.Option(help="Processes that share the work; one by default.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of what is made to be seen and heard.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder for every question and reply.")] = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Ask about generated pictures, videos and sounds that were never trained on, typed and spoken; hear what it says;
    tell whether its talker still reads its thinker."""
    check_resume(resume, json)
    check_folder("--recordings", recordings)
    check_folder("--texts", texts)
    with results() as stdout:
        from antiphon.evals.harness import run
        from antiphon.evals.omni.figures import GROUPS
        from antiphon.evals.omni.questions import OmniEvalConfig, OmniEvaluation, weights_of

        config = OmniEvalConfig(
            model=model, parts=overrides(part), recordings=recordings, texts=texts, only=listed(only), n=n, seed=seed,
            keep=keep,
        )  # fmt: skip
        evaluation = OmniEvaluation(config)
        _show(run(evaluation, GROUPS, weights_of(evaluation), json, resume, jobs or 1), stdout, plot, json)


@app.command()
def codec(
    data: Annotated[Path, typer.Argument(help="A folder of sound files, a manifest (*.jsonl) or a speech set.")],
    codecs: Annotated[
        str, typer.Option(help="Names, folders or hub ids, with commas between; label=folder names one in the table.")
    ],
    codebooks: Annotated[
        str | None, typer.Option(help="Decode with so many, e.g. 1,4,8; by default 1, 2, 4, ... and all.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Only these measures, with commas between: stoi,wer.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="At most this many recordings: quicker, rougher.", min=1)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Needs no asking: what was measured for this --json is never done again.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that share the measuring; one a core by default.", min=1)
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for every sound that the codecs make.")] = None,
    device: Annotated[str, typer.Option(help="Of the codecs: cpu or cuda.")] = "cpu",
    plot: Annotated[
        Path | None, typer.Option(help="Rate-distortion curves (.png); beside the JSON where not given.")
    ] = None,
    json: Json = None,
) -> None:
    """Measure codecs and tokenizers on recordings; print a row for each of them and each rate."""
    with results() as stdout:
        from antiphon.evals.codec.run import CodecConfig, run
        from antiphon.evals.machine import available_cores
        from antiphon.evals.plots import draw_rate_distortion

        try:
            rates = tuple(int(each) for each in listed(codebooks))
        except ValueError:
            raise ConfigError(f"--codebooks takes numbers, such as 1,4,8, not {codebooks!r}.") from None
        config = CodecConfig(listed(codecs), data, rates, listed(only), n, keep, device)
        report = run(config, json, jobs or available_cores())
        report.print(stdout)
        for doubt in report.doubts():
            progress(doubt)
        plot = picture_path(plot, json)
        if plot and any(point.values for point in report.points):
            progress(f"Picture: {draw_rate_distortion(report.points, plot)}")


@app.command()
def duplex(
    model: Model = "mini-duplex",
    part: Parts = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Measure these recorded conversations instead of a model: a folder.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), to make the test conversations from.")
    ] = None,
    material: Annotated[
        Path | None, typer.Option(help="Folder of the test conversations; made from the texts once.")
    ] = None,
    only: Only = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many conversations a task: quicker, rougher.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Conversations at once.", min=1)] = 8,
    mode: Annotated[
        str,
        typer.Option(help="Of a model that takes turns: full-duplex (simulated clock), full-duplex-live, half-duplex."),
    ] = "full-duplex",
    sounds: Annotated[Path | None, typer.Option(help="Recordings of sounds, to make the noises from.")] = None,
    meetings: Annotated[
        Path | None, typer.Option(help="Recordings whose manifest says who speaks when: do turns change or go on?")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the test conversations and of what the model draws.")] = 0,
    resume: Resume = False,
    keep: Annotated[Path | None, typer.Option(help="Folder for every outcome and the sound of every talk.")] = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Measure how a model takes turns, and whether it keeps up; or how the one in recordings took turns."""
    check_resume(resume, json)
    check_folder("--texts", texts)
    if recordings is not None and not recordings.exists():
        raise ConfigError(f"There are no recordings at {recordings}.")
    with results() as stdout:
        from antiphon.evals.duplex.evaluation import DuplexConfig
        from antiphon.evals.duplex.figures import run

        config = DuplexConfig(
            model=model,
            parts=overrides(part),
            recordings=recordings,
            texts=texts,
            material=material,
            only=listed(only),
            n=n,
            keep=keep,
            seed=seed,
            batch=batch,
            mode=mode,
            sounds=sounds,
            meetings=meetings,
        )
        plot = picture_path(plot, json)
        talks = plot and plot.with_name(f"{plot.stem}-talks.png")
        _show(run(config, json, resume, talks), stdout, plot, json)
        if talks and talks.is_file():
            progress(f"Picture: {talks}")


@app.command()
def tables(
    model: Model = "base",
    part: Parts = None,
    rows: Annotated[
        str, typer.Option(help="Of the tables, with commas between: text, text-spoken, audio, speech, duplex.")
    ] = "text",
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, with commas between: arc_easy,gsm8k.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the public sets, a folder each, in their official layouts.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", help="At most this many questions a task: quicker, rougher.", min=1)
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the report; goes on where it stopped.")
    ] = Path("report"),
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of a reply at most; the tasks' own number where not given.", min=1)
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run code that the model wrote, in a sandbox without network.")
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="Of open answers: an OpenAI endpoint, http://HOST/v1#MODEL, or self.")
    ] = None,
    utmos: Annotated[
        Path | None, typer.Option(help="UTMOS as TorchScript, to rate what is spoken; not measured where not given.")
    ] = None,
    beside: Annotated[Path | None, typer.Option(help="Another report to be compared with, on the page.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Only this share of the answers and no report, such as 2/4; then once without.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Processes that share the answers; the report is made at the end.", min=1)
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="The shards run on a Ray cluster.")] = False,
) -> None:
    """Measure a model as papers do; write a page with its rows beside published ones."""
    check_folder("--data", data)
    check_folder("--beside", beside)
    with results() as stdout:
        from antiphon.evals.report import print_tables
        from antiphon.evals.tables.page import shown, write_page
        from antiphon.evals.tables.run import TablesConfig, run, run_shard
        from antiphon.evals.tables.shards import parsed_shard, run_in_shards

        config = TablesConfig(
            model=model,
            output=output,
            parts=overrides(part),
            rows=listed(rows),
            tasks=listed(tasks),
            data=data,
            n=n,
            seed=seed,
            max_tokens=max_tokens,
            allow_code=allow_code,
            judge=judge,
            utmos=utmos,
        )
        if shard is not None:
            run_shard(replace(config, shard=parsed_shard(shard)))
            progress("Once all shards are done, the same command without --shard makes the report.")
            return
        if ray and shards is None:
            raise ConfigError("--ray needs to know how many: --shards N.")
        if shards is not None:
            run_in_shards(config, shards, ray)
        found = run(config)
        page = write_page(output, beside)
        lines = []
        for one in found.figures.values():
            spread = f"{shown(one.low)} - {shown(one.high)}"
            lines.append((one.title, shown(one.value), spread, one.metric, str(one.n), f"{one.seconds:.0f}"))
            lines += [(f"  {name}", shown(value), "", "", "", "") for name, value in one.more.items()]
        head = ("task", "value", "95 in 100", "measure", "n", "seconds")
        print_tables([(head, lines)], stdout, {"task", "measure"})
        progress(f"Page: {page}")


@app.command(name="speech-lm")
def speech_lm(
    model: Annotated[str, typer.Argument(help="Folder of a speech language model: runs/speech-lm-speech/model.")],
    texts: Annotated[
        Path | None, typer.Option(help="Folder of the text sources (*.jsonl.gz), to make our spoken pairs from.")
    ] = None,
    material: Annotated[Path | None, typer.Option(help="Folder of our spoken pairs; made from the texts once.")] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sWUGGY, sBLIMP, StoryCloze or SALMon in its official layout; may be repeated."),
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(help="Folder of a vocoder of units, to hear what the model says.")
    ] = None,
    only: Only = None,
    n: Annotated[
        int | None, typer.Option("--n", help="At most this many items a figure: quicker, rougher.", min=1)
    ] = None,
    resume: Resume = False,
    keep: Annotated[Path | None, typer.Option(help="Folder for what the model writes down and says.")] = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Measure a speech language model: words, grammar and endings by likelihood, what it writes, says and reads."""
    check_resume(resume, json)
    check_folder("--texts", texts)
    for place in pairs or ():
        check_folder("--pairs", place)
    with results() as stdout:
        from antiphon.evals.speech_lm.figures import SpeechLMConfig, run

        config = SpeechLMConfig(
            model=model, texts=texts, material=material, pairs=tuple(pairs or ()), vocoder=vocoder,
            only=listed(only), n=n, keep=keep,
        )  # fmt: skip
        _show(run(config, json, resume), stdout, plot, json)


def _hear_beside_peer(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Time for up to `n` minutes of read speech over faster-whisper's: what `antiphon bench hear` tells.

    Raises:
        EvalError: faster-whisper isn't installed.
    """
    from antiphon.bench.hear import HearBenchConfig, bench_hear

    report = bench_hear(HearBenchConfig(evaluation.place("librispeech"), float(n)), progress)
    if (figure := report.get("hear-vs-faster-whisper")) is None:
        raise EvalError("faster-whisper isn't installed: pip install faster-whisper")
    return [figure]


def _show(report: Report, stdout: TextIO, plot: Path | None, json: Path | None) -> None:
    """Prints a report, and draws it where that was asked for."""
    from antiphon.evals.plots import draw_report

    report.print(stdout)
    if plot := picture_path(plot, json):
        progress(f"Picture: {draw_report(report, plot)}")


def check_resume(resume: bool, json: Path | None) -> None:
    """Whether there is a file to go on from."""
    if resume and json is None:
        raise ConfigError("--resume goes on from the JSON file: name it with --json FILE.")


def check_folder(option: str, folder: Path | None) -> None:
    """Whether a folder that was given is there, before any work."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{option} {folder}: there is no such folder.")


def picture_path(plot: Path | None, json: Path | None) -> Path | None:
    """Where the picture goes: where it was asked for, else beside the JSON."""
    return plot or (json and json.with_suffix(".png"))


def listed(names: str | None) -> tuple[str, ...]:
    """ "a, b" -> ("a", "b"); None -> ()."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
