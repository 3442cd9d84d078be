"""The audio table: what a model makes of sounds, speech and music, asked in writing about a recording.

Each set lies in a folder of the data's, laid out as it is published. Recordings that a set names and that aren't there
are passed over and told: of sets that are gathered from the net, everybody has others.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.audio.io import load
from antiphon.audio.places import sound_files
from antiphon.data.scene.labelled import Labelled, named
from antiphon.data.scene.published import esc50, giantsteps, meld, musiccaps, vocalsound
from antiphon.errors import AntiphonError, ConfigError, DataError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.metrics import captions, hearing
from antiphon.evals.metrics.answers import chosen_option, last_number, plain_words
from antiphon.evals.rows import find_files, read_rows, spread
from antiphon.evals.tables.items import Item, Measure, Measured, mean_score, measured
from antiphon.evals.tables.systems.system import System

HUB = "https://huggingface.co/datasets"
MELD = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
VOCALSOUND = ("laughter", "sigh", "cough", "throat clearing", "sneeze", "sniff")
CREMA_D = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
TOKENS = 64  # of an answer that names something
CAPTION_TOKENS = 128


@dataclass(frozen=True)
class Case:
    """A recording, and what is right.

    Attributes:
        id: names it in its set.
        path: of the sound.
        target: what is right.
        prompt: what is asked; "" where the task asks the same of all.
        options: of which one is right.
    """

    id: str
    path: Path
    target: str
    prompt: str = ""
    options: tuple[str, ...] = ()


Judge = Callable[[Case, str], tuple[float, dict[str, Any]]]


@dataclass(frozen=True)
class AudioTask:
    """A set of the audio table.

    Attributes:
        title: as papers write it.
        metric: what is told.
        source: where it is to be had.
        read: its cases in a folder; None where the folder isn't laid out so.
        judge: the score of an answer, and what else there is to tell of it.
        measure: of all items; the mean of their scores by default.
        prompt: what is asked of every recording; "" writes down what is said.
        folder: of the data's, where that isn't the task's name.
        language: that is spoken.
        translate: into English.
        tokens: of an answer at most.
        more: other figures.
        note: what is other than in papers.
    """

    title: str
    metric: str
    source: str
    read: Callable[[Path], list[Case] | None]
    judge: Judge
    measure: Measure = mean_score
    prompt: str = ""
    folder: str = ""
    language: str = "en"
    translate: bool = False
    tokens: int = TOKENS
    more: Mapping[str, Measure] | None = None
    note: str = ""


# Readers: of a folder in the official layout, its cases.


def _test(found: list[Labelled] | None) -> list[Labelled] | None:
    return None if found is None else [each for each in found if each.split == "test"]


def _meld(folder: Path) -> list[Case] | None:
    found, names = _test(meld(folder)), {named("feeling", name): name for name in MELD}
    return found and [
        Case(each.recording.id, Path(each.recording.path), names[each.label("feeling")], options=MELD) for each in found
    ]


def _vocalsound(folder: Path) -> list[Case] | None:
    names = {name.replace(" ", ""): name for name in VOCALSOUND}
    return (found := _test(vocalsound(folder))) and [
        Case(each.recording.id, path := Path(each.recording.path), names[path.stem.split("_")[-1]], options=VOCALSOUND)
        for each in found
    ]


def _esc50(folder: Path) -> list[Case] | None:
    """All five folds: nothing is trained."""
    found = esc50(folder)
    if found is None:
        return None
    classes = {row["filename"]: row["category"].replace("_", " ") for row in read_rows(folder / "meta" / "esc50.csv")}
    options = tuple(sorted(set(classes.values())))
    return [
        Case(each.recording.id, Path(each.recording.path), classes[each.recording.id], options=options)
        for each in found
    ]


def _giantsteps(folder: Path) -> list[Case] | None:
    return (found := giantsteps(folder)) and [
        Case(each.recording.id, Path(each.recording.path), each.label("tempo")) for each in found
    ]


def _musiccaps(folder: Path) -> list[Case] | None:
    return (found := _test(musiccaps(folder))) and [
        Case(each.recording.id, Path(each.recording.path), each.recording.about["caption"]) for each in found
    ]


def _crema_d(folder: Path) -> list[Case] | None:
    """CREMA-D (Cao et al. 2014): AudioWAV/ACTOR_SENTENCE_FEELING_LEVEL.wav; what was acted is right."""
    pattern = re.compile(rf"\d{{4}}_[A-Z]{{3}}_({'|'.join(CREMA_D)})_[A-Z]{{2}}\.\w+")
    names = [name for name in sound_files(folder) if pattern.fullmatch(name.rsplit("/", 1)[-1])]
    return [
        Case(Path(name).stem, folder / name, CREMA_D[Path(name).stem.split("_")[2]], options=tuple(CREMA_D.values()))
        for name in names
    ] or None


def _librispeech(part: str) -> Callable[[Path], list[Case] | None]:
    """LibriSpeech (Panayotov et al. 2015): PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the sounds."""

    def read(folder: Path) -> list[Case] | None:
        tables = sorted(folder.glob(f"**/{part}/**/*.trans.txt"))
        found = []
        for table in tables:
            for line in table.read_text(encoding="utf-8").splitlines():
                name, _, words = line.partition(" ")
                found += [Case(name, path, words) for path in _sounds(table.parent, name)]
        return found if tables else None

    return read


def _common_voice(folder: Path) -> list[Case] | None:
    """Common Voice: test.tsv (path, sentence) and clips/."""
    return _tabled(folder, "test", "sentence", "en")


def _covost2(pair: str) -> Callable[[Path], list[Case] | None]:
    """CoVoST 2 (Wang et al. 2020): covost_v2.PAIR.test.tsv (path, sentence, translation) and Common Voice's clips/."""
    return lambda folder: _tabled(folder, f"covost_v2.{pair}.test", "translation", "")


def _tabled(folder: Path, table: str, column: str, language: str) -> list[Case] | None:
    place = folder / language if language and (folder / language).is_dir() else folder
    files = find_files(place, table)
    if not files:
        return None
    return [
        Case(row["path"], path, row[column])
        for row in _quoteless(files[0])
        for path in _sounds(place / "clips", Path(row["path"]).stem)
    ]


def _fleurs(folder: Path) -> list[Case] | None:
    """FLEURS (Conneau et al. 2022): LANGUAGE/test.tsv without a head (id, file, text as written, plain text, ...) and
    LANGUAGE/audio/test/."""
    place = folder / "en_us" if (folder / "en_us").is_dir() else folder
    table = place / "test.tsv"
    if not table.is_file():
        return None
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if line]
    return [Case(row[1], path, row[3]) for row in rows for path in _sounds(place / "audio" / "test", Path(row[1]).stem)]


def _mmau(folder: Path) -> list[Case] | None:
    """MMAU (Sakshi et al. 2024): mmau-test-mini.json (id, audio_id, question, choices, answer, task) and the sounds
    that audio_id names. Some copies call them audio_path and correct_answer."""
    files = find_files(folder, "mmau-test-mini*")
    found = []
    for row in read_rows(files[0]) if files else ():
        path = folder / str(row.get("audio_id") or row["audio_path"]).removeprefix("./")
        options, answer = tuple(map(str, row["choices"])), str(row.get("answer") or row["correct_answer"])
        if path.is_file():
            asked = f"{row['question']} Choose one of the following options: {'; '.join(options)}."
            found.append(Case(f"{row.get('task', '')}/{row['id']}", path, answer, asked, options))
    return found if files else None


def _air_bench(folder: Path) -> list[Case] | None:
    """AIR-Bench, foundation (Yang et al. 2024): Foundation_meta.json (path, question, choice_a to choice_d, answer_gt,
    task_name, dataset_name, uniq_id) and TASK_DATASET/PATH beside it."""
    files = find_files(folder, "Foundation/Foundation_meta", "Foundation_meta")
    found = []
    for row in read_rows(files[0]) if files else ():
        path = files[0].parent / f"{row['task_name']}_{row['dataset_name']}" / row["path"]
        options = tuple(str(row[key]) for letter in "abcd" if row.get(key := f"choice_{letter}"))
        if path.is_file():
            listed = " ".join(f"{letter}. {option}" for letter, option in zip("ABCD", options))
            asked = f"Choose the most suitable answer to: {row['question']} {listed} You may only choose A, B, C or D."
            found.append(Case(f"{row['task_name']}/{row['uniq_id']}", path, str(row["answer_gt"]), asked, options))
    return found if files else None


def _sounds(folder: Path, stem: str) -> list[Path]:
    """The sound of that name, whatever its format; none where it isn't there."""
    return [path for ending in (".wav", ".flac", ".mp3", ".ogg") if (path := folder / f"{stem}{ending}").is_file()][:1]


def _quoteless(path: Path) -> list[dict[str, str]]:
    """Rows of a table whose texts have quotation marks of their own."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


# Judges.


def _classified(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    """The class that a reply names: one of the options, in its own word or in ours for it ("angry" for anger)."""
    told = chosen_option(reply, case.options)
    if told is None:
        words = plain_words(reply)
        heard = [
            at
            for at, option in enumerate(case.options)
            for group in ("feeling", "event")
            if (name := named(group, option)) and name.replace("_", " ") in " ".join(words)
        ]
        told = heard[0] if len(set(heard)) == 1 else None
    said = "" if told is None else case.options[told]
    return float(said == case.target), {"told": said}


def _tempo(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    first, second = hearing.tempo_accuracies(last_number(reply), float(case.target))
    return float(first), {"accuracy_2": float(second)}


def _captioned(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    return captions.rouge_l([reply], [case.target]) / 100, {}


def _written_down(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    edits, words = hearing.word_edits(case.target, reply)
    return max(0.0, 1 - edits / max(words, 1)), {"edits": edits, "words": words}


def _translated(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True).sentence_score(reply, [case.target]).score / 100, {}


def _chosen(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    return float(hearing.says_option(reply, case.target, case.options)), {}


def _lettered(case: Case, reply: str) -> tuple[float, dict[str, Any]]:
    told = chosen_option(reply, case.options)
    said = "" if told is None else case.options[told]
    return float(said == case.target), {"told": said}


# Measures of all items.


def _word_errors(items: Sequence[Item]) -> float:
    words = sum(item.more.get("words", 0) for item in items)
    return 100 * sum(item.more.get("edits", 0) for item in items) / max(words, 1)


def _weighted_f1(items: Sequence[Item]) -> float:
    return hearing.weighted_f1([item.more.get("told", "") for item in items], [item.target for item in items])


def _bleu(order: int) -> Measure:
    return _captions(partial(captions.bleu, order=order))


def _captions(measure: Callable[[Sequence[str], Sequence[str]], float]) -> Measure:
    return lambda items: measure([item.answer for item in items], [item.target for item in items])


def _translation(items: Sequence[Item]) -> float:
    return hearing.translation_bleu([item.answer for item in items], [item.target for item in items])


def _accuracy_2(items: Sequence[Item]) -> float:
    return 100 * sum(item.more.get("accuracy_2", 0.0) for item in items) / len(items)


def _one_of(what: str, options: Sequence[str]) -> str:
    return f"{what} Answer with one of these alone: {', '.join(options)}."


def _speech(title: str, source: str, read: Callable[[Path], list[Case] | None], **more: Any) -> AudioTask:
    return AudioTask(title, "WER", source, read, _written_down, _word_errors, tokens=256, **more)


TASKS: dict[str, AudioTask] = {
    "meld": AudioTask(
        "MELD", "accuracy", "https://github.com/declare-lab/MELD", _meld, _classified,
        prompt=_one_of("What feeling does the speaker's voice show?", MELD), more={"weighted_f1": _weighted_f1},
    ),
    "vocalsound": AudioTask(
        "VocalSound", "accuracy", "https://github.com/YuanGongND/vocalsound", _vocalsound, _classified,
        prompt=_one_of("What sound does the person make?", VOCALSOUND),
    ),
    "giantsteps_tempo": AudioTask(
        "GiantSteps Tempo", "accuracy_1", "https://github.com/GiantSteps/giantsteps-tempo-dataset", _giantsteps, _tempo,
        prompt="How many beats a minute does this music have? Answer with the number alone.",
        more={"accuracy_2": _accuracy_2},
    ),
    "musiccaps": AudioTask(
        "MusicCaps", "bleu_1", f"{HUB}/google/MusicCaps", _musiccaps, _captioned, _bleu(1),
        prompt="Describe this music in a few sentences.", tokens=CAPTION_TOKENS,
        more={
            "bleu_2": _bleu(2), "bleu_3": _bleu(3), "bleu_4": _bleu(4), "meteor": _captions(captions.meteor),
            "rouge_l": _captions(captions.rouge_l), "cider_d": _captions(captions.cider_d),
        },
        note="METEOR counts synonyms where NLTK has WordNet; SPICE and FENSE need archives that aren't part of this",
    ),
    "esc50": AudioTask(
        "ESC-50", "accuracy", "https://github.com/karolpiczak/ESC-50", _esc50, _classified,
        prompt="What sound is heard? Answer with its name alone, such as dog, rain or door wood knock.",
    ),
    "crema_d": AudioTask(
        "CREMA-D", "accuracy", "https://github.com/CheyneyComputerScience/CREMA-D", _crema_d, _classified,
        prompt=_one_of("What feeling does the speaker's voice show?", tuple(CREMA_D.values())),
    ),
    "librispeech_clean": _speech(
        "LibriSpeech test-clean", "https://www.openslr.org/12", _librispeech("test-clean"), folder="librispeech",
    ),
    "librispeech_other": _speech(
        "LibriSpeech test-other", "https://www.openslr.org/12", _librispeech("test-other"), folder="librispeech",
    ),
    "common_voice_en": _speech(
        "Common Voice, English", "https://commonvoice.mozilla.org", _common_voice, folder="common_voice",
    ),
    "fleurs_en": _speech("FLEURS, English", f"{HUB}/google/fleurs", _fleurs, folder="fleurs"),
    "covost2_de_en": AudioTask(
        "CoVoST 2, German to English", "BLEU", "https://github.com/facebookresearch/covost", _covost2("de_en"),
        _translated, _translation, folder="covost2", language="de", translate=True, tokens=256,
    ),
    "mmau": AudioTask("MMAU test-mini", "accuracy", "https://github.com/Sakshi113/MMAU", _mmau, _chosen),
    "air_bench": AudioTask(
        "AIR-Bench, foundation", "accuracy", "https://github.com/OFA-Sys/AIR-Bench", _air_bench, _lettered,
    ),
}  # fmt: skip


def cases(name: str, data: Path) -> list[Case]:
    """The recordings of a set.

    Raises:
        ConfigError: a task that isn't known.
        DataError: the set isn't there, or another layout; tells where it is to be had.
    """
    if name not in TASKS:
        raise ConfigError(f"There is no task {name!r}. Tasks: {', '.join(TASKS)}.")
    task = TASKS[name]
    folder = data / (task.folder or name)
    if not folder.is_dir():
        raise DataError(f"{name}: not here (there is no {folder}); to be had at {task.source}.")
    try:
        found = task.read(folder)
    except (KeyError, IndexError) as error:
        raise DataError(f"{folder} isn't in the official layout ({error!r}): get it from {task.source}.") from error
    if found is None:
        raise DataError(f"{name}: {folder} isn't laid out as published; to be had at {task.source}.")
    if not found:
        raise DataError(f"{name}: none of the recordings that {folder} lists are there; to be had at {task.source}.")
    return found


def measure_audio(
    name: str,
    system: System,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    max_tokens: int | None = None,
    model: str = "",
) -> tuple[Measured, list[Item]]:
    """Asks a model about the recordings of a set.

    Args:
        name: of the task.
        system: the model.
        data: folder of the sets.
        n: recordings at most, at even distances over the whole set; None asks about all.
        seed: of nothing here, kept with the items.
        cache: of earlier answers.
        max_tokens: of an answer at most; None leaves that to the task.
        model: under which answers are kept.

    Raises:
        ConfigError, DataError: see `cases`.
    """
    task, all_cases, cache = TASKS[name], cases(name, data), cache or ResultCache()
    chosen = spread(all_cases, n) if n is not None else all_cases
    items, seconds = [], 0.0
    for case in chosen:
        prompt, start = case.prompt or task.prompt, time.perf_counter()
        tokens = min(task.tokens, max_tokens or task.tokens)
        try:
            sound = load(case.path)
            key = key_of(model or system.name, name, prompt, str(tokens), sound)
            ask = lambda _, p=prompt, s=sound, t=tokens: [_ask(system, task, p, s, t)]  # noqa: E731
            reply, fault = str(cache.get([key], ask)[0]), ""
            score, more = task.judge(case, reply)
        except AntiphonError as error:  # told, counted, and no reason to stop
            reply, fault, score, more = "", str(error), 0.0, {}
            if task.metric == "WER":
                more = {
                    "edits": hearing.word_edits(case.target, "")[0],
                    "words": hearing.word_edits(case.target, "")[1],
                }
        seconds += time.perf_counter() - start
        asked = prompt or ("(translated)" if task.translate else "(written down)")
        items.append(Item(case.id, asked, reply, case.target, score, seed, more, fault))
    figure = measured(
        items, task.measure, task=name, title=task.title, row="audio", metric=task.metric, size=len(all_cases),
        seconds=seconds, notes=(task.note,) if task.note else (),
    )  # fmt: skip
    return replace(figure, more={key: one(items) for key, one in (task.more or {}).items()}), items


def _ask(system: System, task: AudioTask, prompt: str, sound: Any, tokens: int) -> str:
    if prompt:
        return system.answer(prompt, sound, tokens)
    return system.transcribe(sound, task.language, task.translate)
