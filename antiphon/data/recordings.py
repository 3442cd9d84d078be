"""Recordings from wherever they lie: the one door through which every task gets its data.

    for recording in recordings("corpus"):     # a folder of sound files, a manifest, a set, ... (see `recordings`)
        audio = recording.load()               # it has its id and, where somebody wrote it down, its text

A recording is small and can be sent to another process; its sound is read when asked for.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from antiphon.audio import io
from antiphon.audio.io import Audio
from antiphon.audio.places import SUFFIXES, sound_files
from antiphon.data.speech.utterances import SpeechSet, Utterance
from antiphon.data.store import kind_of
from antiphon.data.tars import Tars
from antiphon.errors import DataError

# What the columns of others' manifests are called.
PATH = ("path", "audio_filepath", "audio", "file", "file_name", "wav")
TEXT = ("text", "transcript", "transcription", "sentence")
VOICE = ("voice", "speaker", "speaker_id", "client_id")


@dataclass(frozen=True)
class Recording:
    """One of them.

    Attributes:
        id: unique among the recordings; of a file in a folder its path from there.
        path: of the sound file, or the folder of the set that it is in.
        text: what is said; empty where nobody wrote it down.
        voice: who says it; empty where not known.
        phones: (phone, start, end), in seconds, one after the other, " " between words, where that is known.
        row: its place in the speech set, the Hugging Face dataset or the tar; None for a file.
        start, seconds: the part of the sound that it is; None to the end.
        about: what else its manifest's row says (emotion, events, tempo, licence, ...), as it says it.
    """

    id: str
    path: str
    text: str = ""
    voice: str = ""
    phones: tuple[tuple[str, float, float], ...] = ()
    row: int | None = None
    start: float = 0.0
    seconds: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def stamp(self) -> str:
        """What tells whether its sound is still the same: a file's size and time of change, or its place in the speech
        set; "" of a file that is not there."""
        if self.row is not None and not _is_hugging_face(Path(self.path)) and not _is_tar(Path(self.path)):
            said = _speech_set(self.path).utterances[self.row]
            return f"{said.shard} {said.offset} {said.length}"
        try:
            file = os.stat(self.path)
        except (OSError, ValueError):
            return ""
        return f"{file.st_size} {file.st_mtime_ns}"

    def load(self, mono: bool = True, max_seconds: float | None = None) -> Audio:
        """The sound, at its own sample rate, [samples] or, if not `mono` and a file, [channels, samples].

        Raises:
            AudioError: a file that is missing, broken, empty or longer than `max_seconds`.
            DataError: a shard that cannot be read.
        """
        if self.row is None:
            audio = io.load(self.path, mono=mono, max_seconds=max_seconds)
        elif _is_hugging_face(Path(self.path)) or _is_tar(Path(self.path)):
            read = _tar_audio if _is_tar(Path(self.path)) else _hugging_face_audio
            audio = read(self.path, self.row)
            audio = audio.mono() if mono else audio
        else:
            import torch

            speech = _speech_set(self.path)
            audio = Audio(torch.from_numpy(speech.samples(self.row)), speech.sample_rate)
        first = int(self.start * audio.sample_rate)
        stop = None if self.seconds is None else first + round(self.seconds * audio.sample_rate)
        return audio if not first and stop is None else Audio(audio.samples[..., first:stop], audio.sample_rate)

    def trimmed(self, lead: float) -> Recording:
        """The same from `lead` seconds before its first phone on, if it is known when that sounds."""
        cut = max(0.0, self.phones[0][1] - lead) if self.phones else 0.0
        if not cut:
            return self
        phones = tuple((phone, start - cut, end - cut) for phone, start, end in self.phones)
        seconds = None if self.seconds is None else self.seconds - cut
        return replace(self, start=self.start + cut, seconds=seconds, phones=phones)


@functools.lru_cache(maxsize=4)
def _speech_set(folder: str) -> SpeechSet:
    return SpeechSet(folder)


def recordings(place: str | Path) -> list[Recording]:
    """Finds recordings.

    Args:
        place: one of these:
            a folder of sound files (and folders of them); beside "a.wav", "a.txt" says what is said in it;
            a manifest: JSON lines, .csv or .tsv with the columns path, text, voice and id, of which only the path must
            be there (the names that NeMo, Common Voice and Hugging Face give them are known, too);
            moshi-finetune's index: its sidecars give the words of SPEAKER_MAIN;
            a cut set of Lhotse (*.jsonl, *.jsonl.gz) whose sounds are files;
            a tar of WebDataset, or a folder of them: sounds, and beside them .txt or .json;
            a dataset that Hugging Face's `datasets` saved to disk; needs that package;
            a speech set's folder.

    Returns:
        At least one, in an order that only new ones can change.

    Raises:
        DataError: nothing there, codes in place of sound, or what cannot be read.
    """
    place = Path(place)
    if _is_tar(place):
        return list(_of_tar(place))
    if place.is_file():
        return list(read_manifest(place))
    if not place.is_dir():
        raise DataError(f"{place}: no such folder or manifest.")
    kind = kind_of(place)
    if kind == "speech":
        _speech_set.cache_clear()  # a set may have grown, or been made anew, since this process last read it
        utterances = _speech_set(str(place)).utterances
        if not utterances:
            raise DataError(f"{place} holds no utterances (yet).")
        return [
            Recording(
                u.id, str(place), u.text, u.voice, phones_of(u), i, about={"context": u.context} if u.context else {}
            )
            for i, u in enumerate(utterances)
        ]
    if kind is not None:
        raise DataError(f"{place} is a set of {kind}, in which there is no sound: give the recordings it was made of.")
    if _is_hugging_face(place):
        return list(_hugging_face(place))
    if tars := sorted(place.glob("*.tar")):
        return [replace(each, id=f"{tar.stem}/{each.id}") for tar in tars for each in _of_tar(tar)]
    found = [Recording(name, str(place / name), _sidecar_text(place / name)) for name in sound_files(place)]
    if not found:
        raise DataError(f"{place} holds no sound files ({', '.join(sorted(SUFFIXES))}).")
    return found


def _sidecar_text(sound: Path) -> str:
    """What stands in the .txt beside a sound, or in moshi-finetune's .json the words of SPEAKER_MAIN; "" without."""
    try:
        if (text := sound.with_suffix(".txt")).is_file():
            return " ".join(text.read_text(encoding="utf-8-sig").split())
        if (words := sound.with_suffix(".json")).is_file():
            rows = json.loads(words.read_text(encoding="utf-8"))["alignments"]
            return " ".join(str(word).strip() for word, _, label in rows if label == "SPEAKER_MAIN")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a .json may be anything; a text that is none is no text
    return ""


def read_manifest(path: Path) -> Iterator[Recording]:
    """The rows of a manifest.

    Raises:
        DataError: a line that is not such a row, an id that comes twice, or no rows at all.
    """
    seen: dict[str, int] = {}
    for number, row in _rows(path):
        try:
            recording = _cut(row, path.parent) if isinstance(row.get("recording"), dict) else _row(row, path.parent)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise DataError(
                f'{path}, line {number}: not a row such as {{"path": "a.wav", "text": "..."}} ({error!r}).'
            ) from None
        if recording.id in seen:
            raise DataError(
                f"{path}, line {number}: {recording.id!r} stands in line {seen[recording.id]} already; give each an id."
            )
        seen[recording.id] = number
        yield recording
    if not seen:
        raise DataError(f"{path} holds no rows.")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a manifest with the number of its line."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        # Not splitlines(), which also breaks at signs that a text may hold (U+2028, U+0085).
        lines = data.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a manifest: {error}.") from None
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = csv.DictReader(lines, delimiter="," if path.suffix.lower() == ".csv" else "\t")
        yield from ((rows.line_num, row) for row in rows)
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f'{path}, line {number}: not a row such as {{"path": "a.wav", "text": "..."}} ({error!r}).'
                ) from None


def _row(row: dict[str, Any], folder: Path) -> Recording:
    def first(names: tuple[str, ...]) -> str:
        return next((str(row[name]) for name in names if row.get(name) is not None), "")

    if not (file := first(PATH)):
        raise KeyError("path")
    phones = tuple((str(p), float(start), float(end)) for p, start, end in row.get("phones") or ())
    identity = file if row.get("id") is None else str(row["id"])
    text = first(TEXT) or _sidecar_text(folder / file)
    start, seconds = float(row.get("offset") or 0.0), row.get("duration") if row.get("offset") else None
    told = {*PATH, *TEXT, *VOICE, "id", "phones", "offset", "duration"}
    return Recording(
        identity,
        str(folder / file),
        text,
        first(VOICE),
        phones,
        None,
        start,
        None if seconds is None else float(seconds),
        {str(name): value for name, value in row.items() if name not in told and value not in (None, "")},
    )


def _cut(row: dict[str, Any], folder: Path) -> Recording:
    """A cut of Lhotse's: a stretch of a sound file, and what is said in it."""
    source = next(each["source"] for each in row["recording"]["sources"] if each["type"] == "file")
    said = row.get("supervisions") or []
    voice = next((str(each["speaker"]) for each in said if each.get("speaker")), "")
    text = " ".join(str(each["text"]) for each in said if each.get("text"))
    return Recording(
        str(row["id"]), str(folder / source), text, voice, (), None, float(row["start"]), float(row["duration"])
    )


def phones_of(utterance: Utterance) -> tuple[tuple[str, float, float], ...]:
    """(phone, start, end) of a speech set's utterance."""
    starts = [utterance.phonemes_start, *utterance.phoneme_ends[:-1]]
    return tuple(zip(utterance.phonemes, starts, utterance.phoneme_ends))


def _is_hugging_face(folder: Path) -> bool:
    """Whether `datasets` saved a dataset here."""
    return (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()


@functools.lru_cache(maxsize=2)
def _dataset(folder: str) -> Any:
    """A dataset on disk, its sounds as files or bytes.

    Raises:
        DataError: the package is not there, or no column holds sound.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"{folder} is a Hugging Face dataset: pip install datasets to read it.") from None
    rows = datasets.load_from_disk(folder)
    if "audio" not in rows.column_names:
        raise DataError(f"{folder} has no column 'audio', only {', '.join(rows.column_names)}.")
    return rows.cast_column("audio", datasets.Audio(decode=False))


def _hugging_face(folder: Path) -> Iterator[Recording]:
    rows = _dataset(str(folder)).remove_columns("audio")
    for number, row in enumerate(rows):
        text, voice = (
            next((str(row[name]) for name in names if row.get(name) is not None), "") for names in (TEXT, VOICE)
        )
        yield Recording(str(row.get("id", number)), str(folder), text, voice, (), number)


def _hugging_face_audio(folder: str, row: int) -> Audio:
    sound = _dataset(folder)[row]["audio"]
    if sound["bytes"] is None:
        return io.load(sound["path"], mono=False, max_seconds=None)
    return _from_bytes(sound["bytes"], Path(sound["path"] or "a.wav").suffix)


def _from_bytes(data: bytes, suffix: str) -> Audio:
    """A sound that lies in memory as a file would hold it."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        return io.load(file.name, mono=False, max_seconds=None)


def _is_tar(place: Path) -> bool:
    return place.suffix == ".tar" and place.is_file()


@functools.lru_cache(maxsize=64)
def _tars(path: str) -> Tars:
    return Tars(path)


def _of_tar(path: Path) -> Iterator[Recording]:
    """The items of a tar that have a sound; their text is in a .txt, or in a .json under one of its usual names."""
    _tars.cache_clear()  # it may have been written anew
    tars, found = _tars(str(path)), 0
    for row, item in enumerate(tars.items):
        if _sound_ending(item.parts) is None:
            continue
        about = {}
        if "json" in item.parts:
            try:
                about = dict(json.loads(tars.read(row, "json")))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}: {item.key}.json cannot be read ({error}).") from None
        if "txt" in item.parts:
            about["text"] = " ".join(tars.read(row, "txt").decode("utf-8", "replace").split())
        text, voice = (next((str(about[name]) for name in names if about.get(name)), "") for names in (TEXT, VOICE))
        found += 1
        yield Recording(item.key, str(path), text, voice, (), row)
    if not found:
        raise DataError(f"{path} holds no sounds ({', '.join(sorted(SUFFIXES))}).")


def _sound_ending(endings: Iterable[str]) -> str | None:
    return next((ending for ending in endings if f".{ending}" in SUFFIXES), None)


def _tar_audio(path: str, row: int) -> Audio:
    tars = _tars(path)
    ending = _sound_ending(tars.endings(row))
    assert ending is not None  # it is a recording
    return _from_bytes(tars.read(row, ending), f".{ending}")


def fitted(audio: Audio, sample_rate: int, channels: int = 1):
    """A sound as a codec takes it.

    Args:
        audio: any rate, any channels.
        sample_rate, channels: the codec's. One channel of the sound is given to all of the codec's; other differences
            go through the mean.

    Returns:
        float32 tensor [channels, samples].
    """
    if audio.samples.ndim == 2 and audio.samples.shape[0] != channels:
        audio = audio.mono()
    samples = audio.resample(sample_rate).samples.float()
    return samples if samples.ndim == 2 else samples.expand(channels, -1)
