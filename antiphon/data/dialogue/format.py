"""Two-channel conversations: who speaks when, on two channels that never mix; in files that others can read, too.

    for identity, talk in read_dialogues("talks/index.jsonl"):
        talk.model, talk.user                      # float32 [samples] each, at talk.sample_rate
        talk.words, talk.events                    # what is said, and what happens, with times

The format on disk is moshi-finetune's, read and written as it is:

    index.jsonl        one line a conversation: {"path": "x.wav", "duration": 24.5}; a path that is not absolute counts
                       from the index's folder
    x.wav              stereo: left the model, right the user (flac and all that `antiphon.audio.io` reads will do)
    x.json             {"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}: times in seconds; SPEAKER_MAIN is
                       the model, everyone else the user

Ours adds keys that theirs does not read: "id" in the index; "events" in the sidecar, a list of
[kind, [start, end], speaker, note]; and "info", whatever its maker wants to remember.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.audio import io
from antiphon.data.doubts import Doubts
from antiphon.data.store import append_durably, complete_lines, cut_incomplete_line, lock
from antiphon.errors import DataError

MODEL, USER = "model", "user"
SPEAKERS = (MODEL, USER)
KINDS = ("turn", "pause", "hesitation", "backchannel", "interruption", "silence", "overlap", "noise")
MAIN_LABEL, USER_LABEL = "SPEAKER_MAIN", "SPEAKER_USER"
TOLERANCE_SECONDS = 0.1  # by which times may be off before anybody is told


@dataclass(frozen=True)
class Word:
    """A word that somebody says.

    Attributes:
        text: as it is written, with its punctuation and without spaces around it.
        start, end: seconds.
        speaker: "model" or "user".
    """

    text: str
    start: float
    end: float
    speaker: str = MODEL


@dataclass(frozen=True)
class Event:
    """Something that happens, so that it can be measured.

    Attributes:
        kind: "turn": somebody has the floor; "pause": a silence inside a turn; "hesitation": a sound without meaning
            inside a turn ("um"); "backchannel": a short sign of listening that takes no turn; "interruption": the user
            starts while the model speaks, and the model stops; "silence": nobody speaks for long; "overlap": both
            speak; "noise": a sound, or somebody far away, that is nobody's turn.
        start, end: seconds.
        speaker: whose it is, "model" or "user"; of an overlap, who came later; of a silence, who breaks it.
        note: whatever tells more about it, such as what is asked for.
    """

    kind: str
    start: float
    end: float
    speaker: str = USER
    note: str = ""


@dataclass
class Dialogue:
    """Two voices on one clock.

    Attributes:
        model, user: float32 [samples], as many in both, in [-1, 1].
        sample_rate: Hz.
        words: in the order of their starts.
        events: in the order of their starts.
        info: more about it, of what JSON can hold.

    Raises:
        DataError: channels of unequal lengths or not [samples], an unknown speaker or kind, a time that makes
            no sense.
    """

    model: NDArray[np.float32]
    user: NDArray[np.float32]
    sample_rate: int
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model, self.user = np.asarray(self.model, np.float32), np.asarray(self.user, np.float32)
        if self.model.ndim != 1 or self.model.shape != self.user.shape:
            raise DataError(
                f"A conversation has two channels [samples] of one length, not {list(self.model.shape)} and "
                f"{list(self.user.shape)}: pad the shorter one."
            )
        for item in (*self.words, *self.events):
            _check(item)
        self.words = sorted(self.words, key=lambda word: word.start)
        self.events = sorted(self.events, key=lambda event: event.start)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.model) / self.sample_rate


def _check(item: Word | Event) -> None:
    if isinstance(item, Event) and item.kind not in KINDS:
        raise DataError(f"{item}: an event is one of {', '.join(KINDS)}.")
    if item.speaker not in SPEAKERS:
        raise DataError(f"{item}: the speakers are {' and '.join(SPEAKERS)}.")
    if not (math.isfinite(item.start) and math.isfinite(item.end) and 0 <= item.start <= item.end):
        raise DataError(f"{item}: must start at 0 s or later, and not end before it starts.")


@dataclass(frozen=True)
class Entry:
    """A line of an index; its sound and its sidecar are read when asked for.

    Attributes:
        id: the "id" of the line where it has one, else its path as it stands there.
        path: of the sound.
        duration: seconds, as the line says.
        where: "index.jsonl, line 3", for messages.
    """

    id: str
    path: Path
    duration: float
    where: str = ""

    @property
    def name(self) -> str:
        """The sound's path and where it was named, for messages."""
        return f"{self.path} ({self.where})" if self.where else str(self.path)

    def notes(self) -> tuple[list[Word], list[Event], dict[str, Any]]:
        """Words, events and info from the sidecar.

        Raises:
            DataError: no sidecar, or one that is not as it should be.
        """
        return read_sidecar(self.path.with_suffix(".json"), self.where)

    def load(self, sample_rate: int | None = None, doubts: Doubts | None = None) -> Dialogue:
        """Reads it whole. Words that lie beyond the sound's end are left out.

        Args:
            sample_rate: resample to this rate; None keeps the file's.
            doubts: is told what sound, sidecar and index say differently; None tells it all.

        Raises:
            DataError: as `notes`; or a sound that does not have two channels, or that has ended before any of
                the words.
            AudioError: a sound that is missing or broken.
        """
        doubts = doubts or Doubts()
        words, events, info = self.notes()
        audio = io.load(self.path, sample_rate=sample_rate, mono=False, max_seconds=None)
        samples = audio.samples.numpy()
        if samples.ndim != 2 or len(samples) != 2:
            raise DataError(
                f"{self.name} has {1 if samples.ndim == 1 else len(samples)} channel(s): a conversation is stereo, "
                "left the model and right the user."
            )
        seconds = samples.shape[1] / audio.sample_rate
        if abs(self.duration - seconds) > TOLERANCE_SECONDS:
            doubts.tell(
                "the index gives another duration than the sound has",
                f"{self.name}: the index gives {self.duration:g} s, the sound has {seconds:.2f}; the sound counts.",
            )
        words = fitted(words, seconds, self.name, doubts)
        return Dialogue(samples[0], samples[1], audio.sample_rate, words, events, info)


def fitted(words: list[Word], seconds: float, name: str, doubts: Doubts) -> list[Word]:
    """The words that lie in a sound; tells of those that don't, of empty ones, and of times that can't all be right.

    Args:
        words: as they stand in the sidecar.
        seconds: length of the sound, at which words end at the latest.
        name: of the conversation, for messages.
        doubts: is told.

    Raises:
        DataError: all of the words lie beyond the end.
    """
    written = [word for word in words if word.text]
    if len(written) < len(words):
        doubts.tell("words without text", f"{name}: {len(words) - len(written)} words without text are left out.")
    inside = [word for word in written if word.start < seconds]
    late = [word for word in written if word.start >= seconds]
    if late:
        example = f"{late[0].text!r} at {late[0].start:g} s"
        if not inside:
            raise DataError(
                f"{name}: all of its {len(late)} words lie beyond the sound's end at {seconds:.2f} s, such as {example}"
                ": give the sidecar of this very sound, with times in seconds."
            )
        doubts.tell(
            "words beyond the sound's end",
            f"{name}: {len(late)} of {len(written)} words lie beyond the sound's end at {seconds:.2f} s, such as "
            f"{example}; they are left out.",
        )
    if over := [word for word in inside if word.end > seconds + TOLERANCE_SECONDS]:
        doubts.tell(
            "words that end beyond the sound's end",
            f"{name}: {over[0].text!r} lasts until {over[0].end:g} s, the sound {seconds:.2f} s; it ends there.",
        )
    for speaker in SPEAKERS:
        said = [word for word in inside if word.speaker == speaker]
        for before, after in itertools.pairwise(said):
            if after.start < before.end - TOLERANCE_SECONDS:
                how = "overlap" if after.start >= before.start else "are not in the order of their times"
                doubts.tell(
                    f"words of the {speaker} {how}",
                    f"{name}: words of the {speaker} {how}: {before.text!r} ({before.start:g} to {before.end:g} s) and "
                    f"then {after.text!r} ({after.start:g} to {after.end:g} s); they are taken by their starts.",
                )
                break
    return [replace(word, end=min(word.end, seconds)) for word in inside]


def read_index(index: str | Path) -> list[Entry]:
    """The lines of an index.

    Args:
        index: the file, or the folder that has it as index.jsonl.

    Raises:
        DataError: no such file, a line that is not such a row, an id that comes twice, or no rows at all.
    """
    index = Path(index)
    if index.is_dir():
        index = index / "index.jsonl"
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{index} cannot be read as an index of conversations (JSON lines): {error}.") from None
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{index}, line {number}"
        try:
            row = json.loads(line)
            path, duration = row["path"], float(row["duration"])
            entry = Entry(str(row.get("id", path)), index.parent / path, duration, where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f'{where}: not a row such as {{"path": "a.wav", "duration": 24.5}} ({error!r}).') from None
        if not (math.isfinite(duration) and duration > 0):
            raise DataError(f"{where}: a duration of {duration} s makes no sense.")
        if entry.id in entries:
            raise DataError(f"{where}: {entry.id!r} is in {entries[entry.id].where} already; give each an id.")
        entries[entry.id] = entry
    if not entries:
        raise DataError(f"{index} holds no conversations.")
    return list(entries.values())


def read_dialogues(index: str | Path, sample_rate: int | None = None) -> Iterator[tuple[str, Dialogue]]:
    """(id, conversation) of every line of an index, read one after the other. Errors as `read_index`, `Entry.load`."""
    with Doubts() as doubts:
        for entry in read_index(index):
            yield entry.id, entry.load(sample_rate, doubts)


def read_sidecar(path: Path, where: str = "") -> tuple[list[Word], list[Event], dict[str, Any]]:
    """Words, events and info beside a sound, as they stand there.

    Args:
        path: of the .json.
        where: what asked for it, for messages.

    Raises:
        DataError: no such file, or an entry that is not as it should be: the message counts them from 1.
    """
    asked = f" ({where})" if where else ""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        alignments, happened, info = rows["alignments"], rows.get("events", []), dict(rows.get("info", {}))
        if not isinstance(alignments, list) or not isinstance(happened, list):
            raise TypeError("alignments and events are lists")
    except FileNotFoundError:
        raise DataError(
            f"{path}{asked} is missing: beside each sound lies a .json with its words' times "
            '({"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}).'
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path}{asked} is not {{"alignments": [...]}}: {error!r}.') from None
    words = [_word(row, f"{path}{asked}, alignment {number}") for number, row in enumerate(alignments, 1)]
    events = [_event(row, f"{path}{asked}, event {number}") for number, row in enumerate(happened, 1)]
    return words, events, info


def _word(row: Any, where: str) -> Word:
    try:
        text, (start, end), label = row
        if not isinstance(text, str):
            raise TypeError("a word is a string")
        word = Word(text.strip(), float(start), float(end), MODEL if label == MAIN_LABEL else USER)
        _check(word)
        return word
    except (ValueError, TypeError, DataError) as error:
        raise DataError(
            f'{where}: {json.dumps(row)[:80]} is no ["word", [start, end], "SPEAKER_MAIN"] ({error}).'
        ) from None


def _event(row: Any, where: str) -> Event:
    try:
        kind, (start, end), speaker, *note = row
        event = Event(str(kind), float(start), float(end), str(speaker), str(note[0]) if note else "")
        _check(event)
        return event
    except (ValueError, TypeError, DataError) as error:
        raise DataError(
            f'{where}: {json.dumps(row)[:80]} is no ["turn", [start, end], "user", "note"] ({error}).'
        ) from None


def sidecar(words: list[Word], events: list[Event], info: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `read_sidecar` reads; times to the tenth of a millisecond."""
    labels = {MODEL: MAIN_LABEL, USER: USER_LABEL}
    rows: dict[str, Any] = {
        "alignments": [[w.text, [round(w.start, 4), round(w.end, 4)], labels[w.speaker]] for w in words],
        "events": [[e.kind, [round(e.start, 4), round(e.end, 4)], e.speaker, e.note] for e in events],
    }
    return {**rows, "info": info} if info else rows


class DialogueWriter:
    """Adds conversations to a folder, creating it where there is none; a context manager.

    A sound and its sidecar are written under other names and renamed, and only then does the index tell of them, so
    whatever it names can be read, at any time. Several processes may write one folder, as long as each has ids of its
    own.

    Args:
        folder: gets index.jsonl, and below `sounds/` the rest.
        suffix: ".wav", or ".flac" for half of the disk.

    Attributes:
        done: ids that are there already.
    """

    def __init__(self, folder: str | Path, suffix: str = ".wav") -> None:
        self.folder, self.suffix = Path(folder), suffix
        self.index = self.folder / "index.jsonl"
        io.check_writable_name(Path(f"x{suffix}"))
        (self.folder / "sounds").mkdir(parents=True, exist_ok=True)
        self._lock: int | None = None
        try:
            self._lock = lock(self.folder / ".lock")
            cut_incomplete_line(self.index)  # nobody else writes here, so it is what a kill left
            self.close()
        except BlockingIOError:
            pass
        self._lock = lock(self.folder / ".lock", shared=True)
        self.done = {str(row.get("id", row.get("path"))) for row in complete_lines(self.index)[0]}

    def add(self, identity: str, conversation: Dialogue) -> None:
        """Writes a conversation; on return it is safe.

        Raises:
            DataError: it is there already, or its id cannot be a file's name.
            AudioError: a place that cannot be written, or samples that are not numbers.
        """
        import torch

        if identity in self.done:
            raise DataError(f"{self.folder} has {identity!r} already: check `done` before making one.")
        if not identity or identity != Path(identity).name or identity.startswith("."):
            raise DataError(f"{identity!r} cannot be a file's name: choose another id.")
        name = f"sounds/{identity}{self.suffix}"
        sound, notes = self.folder / name, self.folder / f"sounds/{identity}.json"
        part = sound.with_name(f"part-{os.getpid()}{self.suffix}")
        both = torch.from_numpy(np.stack([conversation.model, conversation.user]))
        io.save(io.Audio(both, conversation.sample_rate), part)
        part.replace(sound)
        part = notes.with_name(f"part-{os.getpid()}.json")
        rows = sidecar(conversation.words, conversation.events, conversation.info)
        part.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        part.replace(notes)
        row = {"path": name, "duration": round(conversation.seconds, 4), "id": identity}
        append_durably(self.index, row)
        self.done.add(identity)

    def close(self) -> None:
        """Lets go of the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DialogueWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
