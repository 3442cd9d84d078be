"""Labelled recordings from wherever they lie: our manifests, and sets laid out as they were published.

    for each in labelled("MELD.Raw"):
        each.labels, each.split          # (("kind", "speech"), ("feeling", "angry"), ...), "test": as MELD says

Each reader looks whether a folder is its set and returns its recordings, or None. Splits are the set's own, so that
figures compare with others'; where a set has none, `splits.split_of` decides. Files that are named and aren't there are
passed over: of sets that are gathered from the net, everybody has others.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from antiphon.audio.places import SUFFIXES, sound_files
from antiphon.data.recordings import Recording, recordings
from antiphon.data.scene.labelled import Labelled, from_manifest, named
from antiphon.data.scene.splits import split_of
from antiphon.errors import DataError
from antiphon.models.scene.labels import GROUPS, MAX_TEMPO, MIN_TEMPO

Labels = tuple[tuple[str, str], ...]
SPEECH = frozenset({"kind", "event", "instrument", "speakers"})
VIDEO = (".mp4", ".mkv", ".avi", ".mov")
# MELD's three folders of utterances, by the name of the table that lists them.
MELD = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
VOCALSOUND = {"tr": "train", "val": "dev", "te": "test"}


def labelled(place: str | Path) -> list[Labelled]:
    """Recordings of a folder with a manifest.jsonl, of a manifest, or of a set that is laid out as it was published.

    Published sets: MELD, VocalSound, ESC-50, GiantSteps Tempo, MusicCaps, AudioSet, LibriSpeech.

    Raises:
        DataError: nothing there, or it cannot be read.
    """
    place = Path(place)
    manifest = place / "manifest.jsonl"
    if place.is_dir() and not manifest.is_file():
        for read in (meld, vocalsound, esc50, giantsteps, musiccaps, audioset, librispeech):
            if (found := read(place)) is not None:
                if not found:
                    raise DataError(f"{place} is laid out as {read.__name__}, but none of its recordings are there.")
                return found
    name = place.parent.name if place.is_file() else place.name
    return [from_manifest(each, name) for each in recordings(manifest if manifest.is_file() else place)]


def meld(place: Path) -> list[Labelled] | None:
    """MELD (Poria et al. 2019): SPLIT_sent_emo.csv, and diaD_uttU.mp4 in a folder a split. Films' own sound: no licence
    to train what is given away. Several speak or laugh in many of them: of the number of speakers nothing is known."""
    tables = {split: _first(place, f"{split}_sent_emo.csv") for split in MELD}
    if not any(tables.values()):
        return None
    found = []
    for split, table in tables.items():
        folders = [place / MELD[split], place / split / MELD[split], place / split]
        folder = next((each for each in folders if each.is_dir()), place)
        for row in _table(table) if table else ():
            name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            if (path := _sound(folder, name)) is None:
                continue
            labels = [("kind", "speech"), ("feeling", named("feeling", row["Emotion"]))]
            recording = Recording(f"{split}/{name}", str(path), " ".join(row["Utterance"].split()), row["Speaker"])
            known = frozenset({"feeling"})
            found.append(Labelled(recording, tuple(labels), known, split, "meld", row["Speaker"], "research only"))
    return found


def vocalsound(place: Path) -> list[Labelled] | None:
    """VocalSound (Gong et al. 2022): audio_16k/SEXNUMBER_SESSION_CLASS.wav; datafiles/tr.json, val.json and te.json, or
    meta/tr_meta.csv and so on, say who belongs to which split."""
    pattern = re.compile(r"([fm]\d+)_\d+_([a-z]+)\.wav")
    files = [(name, match) for name in sound_files(place) if (match := pattern.fullmatch(name.rsplit("/", 1)[-1]))]
    if not files:
        return None
    splits: dict[str, str] = {}
    for short, split in VOCALSOUND.items():
        if (table := _first(place, f"{short}.json")) is not None:
            rows = _json(table)["data"]
            splits |= {Path(row["wav"]).name.split("_")[0]: split for row in rows}
        elif (table := _first(place, f"{short}_meta.csv")) is not None:
            splits |= {row[0]: split for row in csv.reader(table.read_text(encoding="utf-8").splitlines()) if row}
    found = []
    for name, match in files:
        speaker, sound = match[1], named("event", match[2])
        labels = [("kind", "sound"), ("event", sound), ("sex", named("sex", speaker[0]))]
        if sound in GROUPS["manner"].names:
            labels.append(("manner", sound))
        known = frozenset({"kind", "event", "instrument", "sex"})
        split = splits.get(speaker) or split_of(f"vocalsound_{speaker}")
        recording = Recording(name, str(place / name), voice=speaker)
        found.append(Labelled(recording, tuple(labels), known, split, "vocalsound", speaker, "CC BY-SA 4.0"))
    return found


def esc50(place: Path) -> list[Labelled] | None:
    """ESC-50 (Piczak 2015): meta/esc50.csv and audio/. Its folds keep clips of one recording together; the same one as
    in our own copy of ESC-10 is for measuring."""
    table = place / "meta" / "esc50.csv"
    if not table.is_file():
        return None
    found = []
    for row in _table(table):
        if (path := _sound(place / "audio", Path(row["filename"]).stem)) is None:
            continue
        labels = (("kind", "sound"), ("event", named("event", row["category"])))
        licence = "CC BY 3.0" if row["esc10"] == "True" else "CC BY-NC 3.0"
        split = split_of(row["src_file"], "esc50", int(row["fold"]))
        recording = Recording(row["filename"], str(path))
        found.append(Labelled(recording, labels, SPEECH, split, "esc50", row["src_file"], licence))
    return found


def giantsteps(place: Path) -> list[Labelled] | None:
    """GiantSteps Tempo (Knees et al. 2015; newer tempos by Schreiber and Müller 2018): NUMBER.LOFI.bpm in
    annotations_v2/tempo or annotations/, NUMBER.LOFI.mp3 in audio/. All of it is for measuring, as everybody does."""
    tempos: dict[str, float] = {}
    for folder in ("annotations/giantsteps", "annotations/tempo", "annotations_v2/tempo"):
        for path in sorted((place / folder).glob("*.bpm")):
            try:
                tempos[path.stem] = float(path.read_text().split()[0])
            except (OSError, ValueError, IndexError) as error:
                raise DataError(f"{path} holds no tempo ({error}).") from None
    if not tempos:
        return None
    found = []
    for name, tempo in sorted(tempos.items()):
        path = _sound(place / "audio", name)
        if path is None or not MIN_TEMPO <= tempo <= MAX_TEMPO:  # 0 where nobody could tell
            continue
        labels: Labels = (("kind", "music"), ("tempo", f"{tempo:g}"))
        known = frozenset({"kind", "tempo", "event"})
        recording = Recording(path.name, str(path))
        found.append(Labelled(recording, labels, known, "test", "giantsteps-tempo", name, "previews of sold music"))
    return found


def musiccaps(place: Path) -> list[Labelled] | None:
    """MusicCaps (Agostinelli et al. 2023): musiccaps-public.csv, and each clip of 10 s as YTID.wav (or with its start
    behind). Instruments and genres are read from the aspects, which name some of what is heard, not all."""
    table = _first(place, "musiccaps-public.csv")
    if table is None:
        return None
    files, found = _by_video(place), []
    for row in _table(table):
        if (path := files.get(row["ytid"])) is None:
            continue
        try:
            aspects = [str(each).lower() for each in ast.literal_eval(row["aspect_list"])]
        except (ValueError, SyntaxError) as error:
            raise DataError(f"{table}: the aspects of {row['ytid']} cannot be read ({error}).") from None
        labels = [("kind", "music")]
        for group in ("instrument", "genre"):
            words = {each.words: each.name for each in GROUPS[group].labels}
            heard = {name for word, name in words.items() if any(re.search(rf"\b{word}s?\b", a) for a in aspects)}
            labels += [(group, name) for name in GROUPS[group].names if name in heard]
        known = {"kind"} | {f"instrument/{label}" for group, label in labels if group == "instrument"}
        if sum(group == "genre" for group, _ in labels) == 1:
            known.add("genre")
        split = "test" if row.get("is_audioset_eval", "").lower() == "true" else split_of(row["ytid"])
        recording = Recording(row["ytid"], str(path), about={"caption": row["caption"]})
        found.append(
            Labelled(recording, tuple(labels), frozenset(known), split, "musiccaps", row["ytid"], "YouTube's own")
        )
    return found


def audioset(place: Path) -> list[Labelled] | None:
    """AudioSet (Gemmeke et al. 2017): *_segments.csv with the labels of each 10 s, ontology.json with their names, and
    clips named by video, in folders or not. A label counts as the nearest one over it that we have a name for. What
    isn't labelled may still be heard: only what is, is known."""
    tables = sorted(place.glob("*_segments.csv"))
    if not tables or _first(place, "ontology.json") is None:
        return None
    ours = _names_of_ontology(_json(_first(place, "ontology.json")))
    files, found = _by_video(place), []
    for table in tables:
        for video, marks in _segments(table):
            labels = tuple(dict.fromkeys(each for mark in marks for each in ours.get(mark, ())))
            if (path := files.get(video)) is None or not labels:
                continue
            kinds = {label for group, label in labels if group == "kind"}
            known = frozenset(f"{group}/{label}" for group, label in labels) | ({"kind"} if kinds else set())
            split = "test" if table.name.startswith("eval") else split_of(video)
            found.append(
                Labelled(Recording(video, str(path)), labels, known, split, "audioset", video, "YouTube's own")
            )
    return found


def librispeech(place: Path) -> list[Labelled] | None:
    """LibriSpeech: SPEAKER-CHAPTER-UTTERANCE.flac, in folders or not; SPEAKERS.TXT says who is a woman, who a man."""
    names = [name for name in sound_files(place) if re.fullmatch(r"\d+-\d+-\d{4}\.\w+", name.rsplit("/", 1)[-1])]
    if not names:
        return None
    table = next((path for path in (place / "SPEAKERS.TXT", place.parent / "SPEAKERS.TXT") if path.is_file()), None)
    rows = [] if table is None else [row.split("|") for row in table.read_text(encoding="utf-8").splitlines()]
    sexes = {row[0].strip(): named("sex", row[1]) for row in rows if len(row) > 2 and not row[0].startswith(";")}
    found = []
    for name in names:
        speaker = name.rsplit("/", 1)[-1].split("-")[0]
        original, sex = f"librispeech_{speaker}", sexes.get(speaker, "")
        labels = (("kind", "speech"), ("speakers", "one"), *([("sex", sex)] if sex else []))
        known = SPEECH | ({"sex"} if sex else set())
        recording = Recording(name, str(place / name), voice=original)
        found.append(Labelled(recording, labels, known, split_of(original), place.name, original, "CC BY 4.0"))
    return found


def _names_of_ontology(nodes: list[dict[str, Any]]) -> dict[str, Labels]:
    """(group, label) of each of AudioSet's marks: by its own name, else by those over it."""
    parents: dict[str, list[str]] = {}
    for node in nodes:
        for child in node["child_ids"]:
            parents.setdefault(child, []).append(node["id"])
    titles = {node["id"]: node["name"] for node in nodes}

    def over(mark: str) -> Iterator[str]:
        """The mark's title and those over it, nearest first."""
        layer, seen = [mark], set()
        while layer:
            yield from (titles[each] for each in layer)
            seen |= set(layer)
            layer = [each for mark in layer for each in parents.get(mark, []) if each not in seen]

    found: dict[str, Labels] = {}
    for mark in titles:
        path = list(over(mark))
        kind = (
            "speech"
            if "Speech" in path
            else "music"
            if "Music" in path
            else "silence"
            if "Silence" in path
            else "sound"
        )
        groups = {"music": ("instrument", "genre"), "sound": ("event",)}.get(kind, ())
        labels: list[tuple[str, str]] = [("kind", kind)]
        for group in groups:
            label = next((ours for title in path if (ours := named(group, title.removesuffix(" music")))), "")
            labels += [(group, label)] if label else []
        found[mark] = tuple(labels)
    return found


def _segments(table: Path) -> Iterator[tuple[str, list[str]]]:
    """Video and marks of each of AudioSet's rows: YTID, start, end, "mark,mark,...", after lines of comments."""
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.reader((line for line in file if not line.startswith("#")), skipinitialspace=True):
            if len(row) < 4:
                raise DataError(f'{table}: {row} is not such a row as: YTID, 0.000, 10.000, "/m/0bt9lr,/m/04rlf".')
            yield row[0], row[3].split(",")


def _by_video(place: Path) -> dict[str, Path]:
    """Sound files by the YouTube id in their names: ID.wav, YID.wav, ID_30.wav, [ID]-[30-40].wav, ID_30_40.flac."""
    found = {}
    for name in sound_files(place):
        stem = Path(name).stem
        if match := re.fullmatch(r"\[?Y?([\w-]{11})\]?(?:[-_]\[?[\d.]+(?:[-_][\d.]+)?\]?)?", stem):
            found[match[1]] = place / name
    return found


def _first(place: Path, name: str) -> Path | None:
    """The first file of that name in a folder or those one below it."""
    return next(iter([*place.glob(name), *sorted(place.glob(f"*/{name}"))]), None)


def _sound(folder: Path, stem: str) -> Path | None:
    """The sound (or the video) of that name, whatever it ends with."""
    suffixes: Iterable[str] = (".wav", ".mp3", ".flac", *sorted(SUFFIXES), *VIDEO)
    return next((path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()), None)


def _table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _json(path: Path | None) -> Any:
    try:
        return json.loads(Path(path or "").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
