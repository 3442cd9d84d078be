"""Recordings from wherever they lie: a folder of sound files, a manifest, or a speech set; one reader for the three.

    for recording in recordings("corpus"):     # or "corpus.jsonl", or a set made by `antiphon data speak`
        audio = recording.load()               # it has its id and its text, too

A manifest is a file of JSON lines, `{"path": "a.wav", "text": "what is said", "id": "a"}`: text and id may be
missing, a path that is not absolute counts from the manifest's folder. A recording is small and can be sent to
another process.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from antiphon.audio import io
from antiphon.audio.io import Audio
from antiphon.errors import DataError

SUFFIXES = frozenset(
    ".aac .aif .aiff .amr .au .caf .flac .m4a .mka .mp2 .mp3 .mp4 .oga .ogg .opus .sph .w64 .wav .webm .wma".split()
)


@dataclass(frozen=True)
class Recording:
    """One of them; its sound is read when asked for.

    Attributes:
        id: unique among the recordings; of a file in a folder its path from there.
        path: of the sound file, or the folder of the speech set that it is in.
        text: what is said; empty where nobody wrote it down.
        voice: who says it; empty where not known.
        phones: (phone, start, end), in seconds, one after the other, where that is known.
        row: its place in the speech set; None for a file.
    """

    id: str
    path: str
    text: str = ""
    voice: str = ""
    phones: tuple[tuple[str, float, float], ...] = ()
    row: int | None = None

    def stamp(self) -> str:
        """What tells whether its sound is still the same: a file's size and time of change, or its place in the speech
        set; "" of a file that is not there."""
        if self.row is not None:
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
            return io.load(self.path, mono=mono, max_seconds=max_seconds)
        import torch

        speech = _speech_set(self.path)
        return Audio(torch.from_numpy(speech.samples(self.row)), speech.sample_rate)


@functools.lru_cache(maxsize=4)
def _speech_set(folder: str):
    from antiphon.data.shards import SpeechSet

    return SpeechSet(folder)


def recordings(place: str | Path) -> list[Recording]:
    """Finds recordings.

    Args:
        place: a folder of sound files (and folders of them), a speech set's folder, or a manifest (*.jsonl).

    Returns:
        At least one, in an order that only new ones can change.

    Raises:
        DataError: nothing there, or a manifest that cannot be read.
        DataError: a broken speech set.
    """
    place = Path(place)
    if place.is_file():
        return list(read_manifest(place))
    if not place.is_dir():
        raise DataError(f"{place}: no such folder or manifest.")
    if not (place / "set.json").is_file():
        found = [Recording(name, str(place / name)) for name in sound_files(place)]
        if not found:
            raise DataError(f"{place} holds no sound files ({', '.join(sorted(SUFFIXES))}).")
        return found
    _speech_set.cache_clear()  # a set may have grown, or been made anew, since this process last read it
    utterances = _speech_set(str(place)).utterances
    if not utterances:
        raise DataError(f"{place} holds no utterances (yet).")
    return [Recording(u.id, str(place), u.text, u.voice, phones_of(u), i) for i, u in enumerate(utterances)]


def sound_files(folder: Path) -> list[str]:
    """Names of the sound files in a folder and those below it, sorted, with "/" between; hidden ones are left out."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(root) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def read_manifest(path: Path) -> Iterator[Recording]:
    """The rows of a manifest.

    Raises:
        DataError: a line that is not such a row, an id that comes twice, or no rows at all.
    """
    seen: dict[str, int] = {}
    try:
        # Not splitlines(), which also breaks at signs that a text may hold (U+2028, U+0085).
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a manifest (JSON lines): {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            file = row["path"]
            identity = str(file if row.get("id") is None else row["id"])
            phones = tuple((str(p), float(start), float(end)) for p, start, end in row.get("phones", ()))
            recording = Recording(
                identity, str(path.parent / file), str(row.get("text") or ""), str(row.get("voice") or ""), phones
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path}, line {number}: not a row such as {{"path": "a.wav", "text": "..."}} ({error!r}).'
            ) from None
        if identity in seen:
            raise DataError(
                f"{path}, line {number}: {identity!r} stands in line {seen[identity]} already; give each an id."
            )
        seen[identity] = number
        yield recording
    if not seen:
        raise DataError(f"{path} holds no rows.")


def phones_of(utterance) -> tuple[tuple[str, float, float], ...]:
    """(phone, start, end) of a speech set's utterance; the spaces between its words are left out."""
    starts = [utterance.phonemes_start, *utterance.phoneme_ends[:-1]]
    rows = zip(utterance.phonemes, starts, utterance.phoneme_ends)
    return tuple((phone, start, end) for phone, start, end in rows if not phone.isspace())


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
