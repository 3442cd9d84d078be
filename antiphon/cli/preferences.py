"""`antiphon data preferences ...`: several samples of each prompt, measured, and pairs of the better and the worse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TextIO

import typer

from antiphon.cli.common import Model, Parts, load_model, overrides, progress, results
from antiphon.errors import ConfigError

app = typer.Typer(help="Mine pairs of a better and a worse answer to one prompt.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the pairs; one that is there is added to.")]
Count = Annotated[int, typer.Option(help="Prompts; 0 takes all there are.", min=0)]
Samples = Annotated[int, typer.Option(help="Answers to each prompt.", min=2)]
Temperature = Annotated[float, typer.Option(help="That answers are drawn at.", min=0.0)]
Rank = Annotated[
    list[str] | None,
    typer.Option("--rank", help="MEASURE=WEIGHT: above 0 where less is better, below where more is. May be repeated."),
]
Margin = Annotated[float, typer.Option(help="Least difference of a pair's costs.", min=1e-9)]
Most = Annotated[int, typer.Option(help="Pairs of a prompt at most.", min=1)]
Seed = Annotated[int, typer.Option(help="Of prompts and samples.")]


@app.command()
def speech(
    texts: Annotated[Path, typer.Option("--texts", help="Folder with the text sources (*.jsonl.gz).")],
    out: Out,
    model: Model = "mini",
    part: Parts = None,
    count: Count = 400,
    samples: Samples = 4,
    temperature: Temperature = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Among how many codes; 0 for all.", min=0)] = 0,
    words: Annotated[tuple[int, int], typer.Option(help="Fewest and most words of a sentence.")] = (4, 20),
    dnsmos: Annotated[bool, typer.Option("--dnsmos", help="Also measure DNSMOS, for --rank dnsmos=-0.1.")] = False,
    rank: Rank = None,
    margin: Margin = 0.05,
    most: Most = 2,
    seed: Seed = 0,
) -> None:
    """How a talker says sentences: by what Whisper hears (wer, nats), wrong pauses (pauses), and DNSMOS.

    Stopped and started again, it goes on where it was. Prints the pairs' file.
    """
    ranks = weights(rank or ["wer=1", "nats=0.25", "pauses=1"])
    with results() as stdout:
        import torch

        import antiphon.hub as hub
        from antiphon import codecs
        from antiphon.data.preferences.mine import Measure, MineConfig, Prompt, mine
        from antiphon.data.preferences.speech import TalkerDraws, measure_pauses
        from antiphon.data.speech.speak import mixed_sentences
        from antiphon.evals.asr_judge import AsrJudge
        from antiphon.evals.preferences import Hears, measure_dnsmos
        from antiphon.models.tts.phonemes import Phonemizer
        from antiphon.models.tts.synthesizer import Synthesizer
        from antiphon.models.tts.talker import Talker

        torch.set_num_threads(1)
        progress("Reading the texts ...")
        sentences = mixed_sentences(texts, {"assistant": 1.0}, "train", seed, words)
        given, preset = overrides(part), hub.preset(model)
        talker = Talker.from_pretrained(hub.folder(given.get("talker", "talker"), preset))
        codec = codecs.load(str(hub.folder(given.get("codec", "codec"), preset)))
        draws = TalkerDraws(Synthesizer(talker, codec, Phonemizer(), False), temperature, top_k, seed)
        measures: list[Measure] = [Hears(AsrJudge.from_pretrained()), measure_pauses]
        about = {"what": "speech", "temperature": temperature, "top_k": top_k, "seed": seed, "dnsmos": dnsmos}
        prompts = [Prompt(sentence.id, sentence.text) for sentence in sentences]
        config = MineConfig(out, samples, count, about=about)
        mine(prompts, draws, [*measures, measure_dnsmos] if dnsmos else measures, config)
        _pair(out, ranks, margin, most, stdout)


@app.command()
def replies(
    out: Out,
    questions: Annotated[
        Path | None,
        typer.Option(help='A jsonl of {"question", "accept": [...]}; the facts that ship where not given.'),
    ] = None,
    model: Model = "mini",
    part: Parts = None,
    count: Count = 300,
    samples: Samples = 4,
    temperature: Temperature = 0.8,
    max_tokens: Annotated[int, typer.Option(help="Of a reply.", min=1)] = 32,
    text_only: Annotated[bool, typer.Option(help="Of the plain language model, without adapters.")] = False,
    rank: Rank = None,
    margin: Margin = 0.5,
    most: Most = 2,
    seed: Seed = 0,
) -> None:
    """How a thinker answers questions: right or wrong (right), going round in circles (loops), words.

    Stopped and started again, it goes on where it was. Prints the pairs' file.
    """
    ranks = weights(rank or ["right=-1", "loops=1"])
    with results() as stdout:
        from antiphon.data.preferences.mine import MineConfig, Prompt, mine
        from antiphon.data.preferences.replies import ReplyDraws, fact_questions
        from antiphon.data.text.corpora import text_id
        from antiphon.evals.metrics.answers import read_questions
        from antiphon.evals.preferences import measure_replies

        if questions is None:
            prompts = fact_questions([row.question for row in read_questions()], seed)
        else:
            asked = read_questions(questions)
            prompts = [Prompt(text_id(row.question), row.question, {"accept": row.accept}) for row in asked]
        thinker = load_model(model, part)[0].thinker
        draws = ReplyDraws(thinker, temperature, max_tokens=max_tokens, voice=not text_only, seed=seed)
        about = {"what": "replies", "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        mine(prompts, draws, [measure_replies], MineConfig(out, samples, count, about=about | {"voice": not text_only}))
        _pair(out, ranks, margin, most, stdout)


@app.command()
def timing(
    dialogues: Annotated[Path, typer.Argument(help="Codes of conversations (antiphon data converse --codec).")],
    out: Out,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A duplex model's folder: one that hears the user by codes.")
    ],
    part: Parts = None,
    count: Count = 100,
    samples: Samples = 4,
    seconds: Annotated[float, typer.Option(help="Of each conversation, from its start.", min=1.0)] = 24.0,
    rank: Rank = None,
    margin: Margin = 0.1,
    most: Most = 2,
    seed: Seed = 0,
) -> None:
    """When a duplex model speaks while users of conversations do: early, latency (seconds), overlap.

    Stopped and started again, it goes on where it was. Prints the pairs' file.
    """
    ranks = weights(rank or ["early=1", "latency=0.25", "overlap=1"])
    with results() as stdout:
        import torch

        from antiphon.data.dialogue.codes import DialogueCodes
        from antiphon.data.preferences.mine import MineConfig, mine
        from antiphon.data.preferences.timing import TimingDraws, dialogue_prompts
        from antiphon.evals.preferences import Timing

        torch.set_num_threads(1)
        duplex = load_model(model, part)[0].duplex
        prompts = dialogue_prompts(list(DialogueCodes(dialogues, duplex.codec)))
        about = {"what": "timing", "seconds": seconds, "seed": seed}
        draws = TimingDraws(duplex, seconds, seed=seed)
        mine(prompts, draws, [Timing(duplex)], MineConfig(out, samples, count, about=about))
        _pair(out, ranks, margin, most, stdout)


@app.command()
def pairs(
    folder: Annotated[Path, typer.Argument(help="Folder with samples.")],
    rank: Rank = None,
    margin: Margin = 0.05,
    most: Most = 2,
) -> None:
    """Choose the pairs of samples anew, by other measures; what was changed by hand is lost. Prints the pairs' file."""
    with results() as stdout:
        _pair(folder, weights(rank or ["wer=1"]), margin, most, stdout)


def _pair(folder: Path, ranks: dict[str, float], margin: float, most: int, stdout: TextIO) -> None:
    from antiphon.data.preferences.pairs import FILE, PairConfig, write_pairs

    progress(f"{write_pairs(folder, PairConfig(ranks, margin, most))} pairs.")
    print(folder / FILE, file=stdout)


def weights(ranks: list[str]) -> dict[str, float]:
    """["wer=1", "dnsmos=-0.1"] -> {"wer": 1.0, "dnsmos": -0.1}."""
    found = {}
    for each in ranks:
        name, _, weight = each.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            raise ConfigError(f"--rank takes MEASURE=WEIGHT, such as wer=1 or dnsmos=-0.1, not {each!r}.") from None
    return found
