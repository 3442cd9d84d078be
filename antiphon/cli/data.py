"""`antiphon data ...`: make training sets from text or recordings, and say what is in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli import preferences
from antiphon.cli.common import Json, Model, Parts, load_model, progress, results, write_json

app = typer.Typer(help="Make training sets from text or recordings, and say what is in one.", no_args_is_help=True)
app.add_typer(preferences.app, name="preferences")

Texts = Annotated[Path, typer.Option("--texts", help="Folder with the text sources (*.jsonl.gz).")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the set; one that is there is added to.")]
Voices = Annotated[
    list[str] | None,
    typer.Option(
        "--voice", help="hibari, joe, flite:NAME, or kokoro:STYLE. May be repeated: sentences are then shared out."
    ),
]
Hours = Annotated[float, typer.Option(help="Stop after as many hours by these voices; 0 is no limit.", min=0.0)]
Count = Annotated[int, typer.Option(help="Stop after as many utterances by these voices; 0 is no limit.", min=0)]
Seconds = Annotated[tuple[float, float], typer.Option(help="Shortest and longest utterance, in seconds.")]
Split = Annotated[str, typer.Option(help="train, or dev: the sentences that are kept apart for measuring.")]
Rate = Annotated[int, typer.Option(help="Sample rate of the set, in Hz.", min=8000)]
Seed = Annotated[int, typer.Option(help="The same seed makes the same set.")]
Workers = Annotated[int, typer.Option(help="Processes that share the work.", min=1)]


@app.command()
def texts(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; recipes say texts/.")] = Path("texts"),
    archives: Annotated[
        Path | None, typer.Option(help="Folder of the repositories' archives, where there is no network.")
    ] = None,
) -> None:
    """Download the public texts that recipes are made of and bring them into one form. Prints the folder."""
    with results() as stdout:
        from antiphon.data.text.sources import build_texts

        build_texts(out, archives, progress)
        print(out, file=stdout)


@app.command()
def speak(
    texts: Texts,
    out: Out,
    role: Annotated[
        list[str] | None,
        typer.Option(help="assistant, user, or both in shares: --role assistant=0.85 --role user=0.15."),
    ] = None,
    voice: Voices = None,
    hours: Hours = 0.0,
    count: Count = 0,
    seconds: Seconds = (1.0, 12.0),
    split: Split = "train",
    rate: Rate = 24000,
    seed: Seed = 0,
    workers: Workers = 1,
    times: Annotated[
        bool, typer.Option("--times/--no-times", help="Of voices that don't tell when phones sound, find it (English).")
    ] = True,
) -> None:
    """Speak sentences as clean as the voice is, with the times of phonemes and words: for codec and talker.

    Stopped and started again, it goes on where it was. Prints the set's folder.
    """
    with results() as stdout:
        from antiphon.data.speech.speak import SpeakConfig, mixed_sentences
        from antiphon.data.speech.speak import speak as run

        config = SpeakConfig(
            out=out,
            voices=tuple(voice or ["hibari"]),
            hours=hours,
            count=count,
            seconds=seconds,
            sample_rate=rate,
            seed=seed,
            times=times,
        )
        progress("Reading the texts ...")
        run(mixed_sentences(texts, shares(role or ["assistant"]), split, seed), config, workers)
        print(out, file=stdout)


@app.command("manners")
def in_manners(
    texts: Texts,
    out: Out,
    contexts: Annotated[int, typer.Option(help="How many contexts decide a manner.", min=1)] = 800,
    answers: Annotated[int, typer.Option(help="Answers that are spoken in each of them.", min=1)] = 5,
    split: Split = "train",
    seed: Seed = 0,
) -> None:
    """Speak answers in manners that their contexts decide (gently to a whisper, lively to joy): for a talker that reads
    what the thinker thinks.

    Stopped and started again, it goes on where it was. Prints the set's folder.
    """
    with results() as stdout:
        from antiphon.data.speech.manners import MannersConfig, speak_in_manners
        from antiphon.data.speech.speak import mixed_sentences

        progress("Reading the texts ...")
        users, said = (mixed_sentences(texts, {role: 1.0}, split, seed) for role in ("user", "assistant"))
        speak_in_manners(users, said, MannersConfig(out, contexts=contexts, answers=answers, split=split, seed=seed))
        print(out, file=stdout)


@app.command()
def questions(
    texts: Texts,
    out: Out,
    voice: Voices = None,
    hours: Hours = 0.0,
    count: Count = 0,
    seconds: Seconds = (0.5, 12.0),
    split: Split = "train",
    rate: Rate = 16000,
    seed: Seed = 0,
    workers: Workers = 1,
    augment: Annotated[
        bool, typer.Option("--augment/--clean", help="Gain, noise, room, telephone: as a user's microphone hears it.")
    ] = False,
    varied: Annotated[
        bool, typer.Option("--varied/--plain", help="Draw speed, pitch and throat anew for each sentence.")
    ] = True,
    only_questions: Annotated[bool, typer.Option(help="Leave out what does not end with a question mark.")] = False,
    min_words: Annotated[int, typer.Option(help="Fewest words.", min=1)] = 1,
) -> None:
    """Speak what users say, by many speakers: for the ears.

    Stopped and started again, it goes on where it was. Prints the set's folder.
    """
    with results() as stdout:
        from antiphon.data.speech.augment import Augment
        from antiphon.data.speech.speak import MANY_SPEAKERS, SpeakConfig, Variety, mixed_sentences
        from antiphon.data.speech.speak import speak as run

        config = SpeakConfig(
            out=out,
            voices=tuple(voice or ["hibari"]),
            hours=hours,
            count=count,
            seconds=seconds,
            sample_rate=rate,
            seed=seed,
            variety=MANY_SPEAKERS if varied else Variety(),
            augment=Augment() if augment else None,
        )
        progress("Reading the texts ...")
        sentences = mixed_sentences(texts, {"user": 1.0}, split, seed, (min_words, 32), only_questions)
        run(sentences, config, workers)
        print(out, file=stdout)


@app.command()
def converse(
    texts: Texts,
    out: Out,
    hours: Annotated[float, typer.Option(help="How long the set is, about.", min=0.01)] = 1.0,
    codec: Annotated[
        str | None, typer.Option(help="Write codes of this codec (mini, mimi, a folder) in place of the sound.")
    ] = None,
    keep_audio: Annotated[
        int, typer.Option(help="With --codec: keep the sound of the first ones too, in OUT/audio.", min=0)
    ] = 0,
    voice: Annotated[
        list[str] | None,
        typer.Option(help="Who the users are, with shares: --voice hibari=0.9 --voice kokoro:jf_alpha=0.1."),
    ] = None,
    late: Annotated[
        float, typer.Option(help="Share of answers that come late, after 1.9 to 2.6 s.", min=0.0, max=1.0)
    ] = 0.0,
    interrupted: Annotated[
        float, typer.Option(help="Share of answers that the user cuts into.", min=0.0, max=1.0)
    ] = 0.2,
    split: Split = "train",
    seed: Seed = 0,
) -> None:
    """Make two-channel conversations for the duplex model, with pauses, interruptions, backchannels and noise.

    Stopped and started again, it goes on where it was; another seed adds others. Prints the set's folder.
    """
    with results() as stdout:
        import antiphon.codecs
        from antiphon.data.dialogue.make import make_set
        from antiphon.data.dialogue.sample import Material, Mix

        mix = Mix(voices=tuple(shares(voice or ["hibari"]).items()), late=late, interrupted=interrupted)
        progress("Reading the texts ...")
        material = Material.read(texts, split)
        loaded = None if codec is None else antiphon.codecs.load(codec)
        make_set(out, material, mix, seed, hours, loaded, keep_audio)
        print(out, file=stdout)


@app.command()
def turns(
    texts: Texts,
    out: Out,
    hours: Annotated[float, typer.Option(help="How long the set is, about.", min=0.01)] = 1.0,
    turn: Annotated[
        list[str] | None, typer.Option(help="Recordings each of which is somebody's whole turn. May be repeated.")
    ] = None,
    speech: Annotated[
        list[str] | None, typer.Option(help="Recordings of speech: the model's channel, and somebody far away.")
    ] = None,
    sound: Annotated[list[str] | None, typer.Option(help="Recordings of sounds that nobody has to answer.")] = None,
    voice: Annotated[
        list[str] | None, typer.Option(help="Who the users are, with shares: --voice hibari=0.9 --voice joe=0.1.")
    ] = None,
    split: Split = "train",
    seed: Seed = 0,
) -> None:
    """Make conversations to learn turn taking from: pauses, interruptions, signs of listening, sounds, other people.

    One recording in five is left to the split dev. Stopped and started again, it goes on where it was; another seed
    adds others. Prints the set's folder.
    """
    with results() as stdout:
        from dataclasses import replace

        from antiphon.data.dialogue.sample import Material
        from antiphon.data.dialogue.turns import TURNS_MIX, TurnMaterial, TurnSources, make_turn_set

        progress("Reading the texts ...")
        sources = TurnSources(tuple(turn or ()), tuple(speech or ()), tuple(sound or ()))
        material = TurnMaterial(Material.read(texts, split), sources, split)
        mix = replace(TURNS_MIX, voices=tuple(shares(voice).items())) if voice else TURNS_MIX
        make_turn_set(out, material, mix, seed, hours)
        print(out, file=stdout)


@app.command()
def features(
    texts: Texts,
    out: Out,
    count: Annotated[int, typer.Option(help="Utterances wanted in all.", min=1)] = 30000,
    whisper: Annotated[str, typer.Option(help="Name or folder of the encoder.")] = "whisper-base",
    split: Split = "train",
    seed: Seed = 0,
) -> None:
    """Speak what users say, and keep what Whisper's encoder makes of it: for aligning it with the language model.

    Stopped and started again, it goes on where it was. Prints the set's folder.
    """
    with results() as stdout:
        import torch

        from antiphon import hub
        from antiphon.data.speech.features import ASR_AUGMENT, asr_sentences, make
        from antiphon.encoders.whisper.encoder import WhisperBlockEncoder

        torch.set_num_threads(1)
        encoder = WhisperBlockEncoder.from_pretrained(hub.folder(whisper))
        progress("Reading the texts ...")
        sentences = asr_sentences(texts, split)
        out.mkdir(parents=True, exist_ok=True)
        said = "".join(sentence.text + "\n" for sentence in sentences)
        (out / "sentences.txt").write_text(said, encoding="utf-8")
        make(out, sentences, encoder, seed, ASR_AUGMENT, count)
        print(out, file=stdout)


@app.command()
def scene(
    recipe: Annotated[Path, typer.Argument(help="What the sets are made of: recipes/scene/sets.yaml, or your own.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder in which each set gets a folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of the recipe: sources.recordings='[a, b]' made.mixture=100")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this set; may be repeated.")] = None,
    whisper: Annotated[str, typer.Option(help="Name or folder of the encoder.")] = "whisper-base",
) -> None:
    """Make and encode what the network that hears more than words is trained on: see docs/hearing-data.md.

    Stopped and started again, it goes on where it was. Prints the sets' folders.
    """
    with results() as stdout:
        import torch

        from antiphon import hub
        from antiphon.data.scene.encoded import encode
        from antiphon.data.scene.make import Material, SceneSets
        from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
        from antiphon.train.config import load_typed

        torch.set_num_threads(1)
        sets = load_typed(SceneSets, recipe, overrides)
        encoder = WhisperBlockEncoder.from_pretrained(hub.folder(whisper))
        material = Material(sets.sources)
        names = []
        for name, jobs in sets.examples(material):
            if only and name not in only:
                continue
            encode(out / name, jobs, encoder)
            names += [name] if name not in names else []
        for name in names:
            print(out / name, file=stdout)


@app.command()
def omni(
    out: Out,
    recordings: Annotated[Path, typer.Option(help="Folder of ESC-10 or ESC-50, of whose sounds some are made.")],
    pictures: Annotated[int, typer.Option(help="Conversations about pictures.", min=0)] = 1500,
    videos: Annotated[int, typer.Option(help="Conversations about videos, a quarter of them with sound.", min=0)] = 900,
    sounds: Annotated[int, typer.Option(help="Conversations about sounds.", min=0)] = 700,
    both: Annotated[int, typer.Option(help="Conversations about a picture and a sound at once.", min=0)] = 700,
    questions: Annotated[int, typer.Option(help="Most questions of a conversation.", min=1)] = 6,
    seed: Seed = 0,
) -> None:
    """Generate pictures, videos and sounds with questions about them, for a small model that sees: see docs/omni.md.

    A file that is there already is left as it is. Prints the files.
    """
    with results() as stdout:
        from antiphon.data.omni.make import OmniSet, write_set

        made = {"picture": pictures, "video": videos, "sound": sounds, "both": both}
        for file in write_set(out, OmniSet(str(recordings), made, questions, seed), progress):
            print(file, file=stdout)


@app.command()
def transcribe(
    folder: Annotated[Path, typer.Argument(help="A folder of sound files.")], model: Model = "mini", part: Parts = None
) -> None:
    """Write down what is said in recordings that have no text yet: NAME.txt beside each, which training reads.

    Stopped and started again, it goes on where it was. Prints the files.
    """
    with results() as stdout:
        from antiphon.audio import io
        from antiphon.data.recordings import recordings
        from antiphon.errors import AudioError

        missing = [each for each in recordings(folder) if each.row is None and not each.text]
        loaded = load_model(model, part)[0] if missing else None
        for recording in missing:
            try:
                text = "" if io.is_silent(recording.path) else loaded.hear(recording.path, scene=False).text
            except AudioError as error:
                progress(f"Skipped: {error}")
                continue
            path = Path(recording.path).with_suffix(".txt")
            path.write_text(text + "\n", encoding="utf-8")
            print(path, file=stdout)


@app.command()
def align(
    place: Annotated[Path, typer.Argument(help="Recordings with their texts: a folder of sound files, a manifest.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The manifest; aligned.jsonl beside them where not given.")
    ] = None,
    aligner: Annotated[str | None, typer.Option(help="Another aligner: its folder.")] = None,
) -> None:
    """Find when each phone sounds in recordings: a manifest for training a voice. English.

    Stopped and started again, it goes on where it was. Prints the manifest.
    """
    with results() as stdout:
        from antiphon.data.speech.align import write_aligned
        from antiphon.hub import folder
        from antiphon.hub.parts import PHONE_TIMES
        from antiphon.models.asr.phone_times import PhoneAligner

        out = out or (place if place.is_dir() else place.parent) / "aligned.jsonl"
        count, left = write_aligned(place, out, PhoneAligner.from_pretrained(folder(aligner or PHONE_TIMES)), progress)
        progress(f"{count} recordings aligned" + (f", {left} left out" if left else ""))
        print(out, file=stdout)


@app.command()
def info(folder: Annotated[Path, typer.Argument(help="Folder of a set.")], json: Json = None) -> None:
    """Say what a set holds, also while it is being written."""
    with results() as stdout:
        from antiphon.data.describe import describe

        lines = dict(describe(folder))
        for name, value in lines.items():
            print(f"{name:<30}{value}", file=stdout)
        write_json(json, lines)


def shares(roles: list[str]) -> dict[str, float]:
    """["assistant=0.85", "user=0.15"] or ["assistant"] -> {"assistant": 0.85, "user": 0.15} or {"assistant": 1.0}."""
    from antiphon.errors import ConfigError

    found = {}
    for each in roles:
        role, _, share = each.partition("=")
        try:
            found[role] = float(share or 1.0)
        except ValueError:
            raise ConfigError(f"--role takes ROLE or ROLE=SHARE, such as assistant=0.85, not {each!r}.") from None
        if found[role] < 0:
            raise ConfigError(f"--role {each}: a share must not be negative.")
    return found


@app.command()
def formats(
    model: Annotated[Path, typer.Argument(help="Folder of a speech language model, whose tokens they are.")],
    units: Annotated[Path, typer.Option(help="A set of codes with texts and times, of the model's tokenizer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture (.png).")] = Path("formats.png"),
    item: Annotated[int, typer.Option(help="Which utterance of the set.", min=0)] = 0,
    span: Annotated[tuple[int, int], typer.Option(help="Fewest and most words of an interleaved span.")] = (1, 2),
    seed: Annotated[int, typer.Option(help="Of the cuts.")] = 0,
) -> None:
    """Draw an utterance in each of the four formats, token by token. Prints the picture's path."""
    with results() as stdout:
        from antiphon.data.formats.formats import Interleaving
        from antiphon.data.formats.sources import SourceConfig, open_source
        from antiphon.evals.plots import draw_formats
        from antiphon.models.speech_lm.model import SpeechLM

        lm, rows, cuts = SpeechLM.from_pretrained(model), {}, Interleaving(span, span, "speech")
        for name in ("speech", "speech-to-text", "text-to-speech", "interleaved"):
            source = open_source(SourceConfig(name, str(units), cuts=cuts), lm, seed, 0)
            rows[name] = source.example(min(item, len(source) - 1))
        print(draw_formats(rows, lm, out), file=stdout)
