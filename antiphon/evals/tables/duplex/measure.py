"""Conversations that a model holds live, for the duplex table: a recorded user plays while it listens.

What the model says is kept in the report's folder as the benchmarks' own scripts read it, `talks/TASK/ID/output.wav`
and `output.json` (its words with their times), so that those can be run on the same outputs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from antiphon.audio.io import Audio, load
from antiphon.data.dialogue.format import Word
from antiphon.errors import AntiphonError, DataError
from antiphon.evals.cache import NotOurs, ResultCache, key_of
from antiphon.evals.duplex.metrics import WORD_LEAD_SECONDS, Segment
from antiphon.evals.duplex.simulate import Scenario, simulate
from antiphon.evals.duplex.systems import system_under_test
from antiphon.evals.rows import spread
from antiphon.evals.tables.items import Item, Measure, Measured, mean_score, measured
from antiphon.evals.tables.speech.measure import Judge

AT_ONCE = 8  # talks that a full-duplex model holds together
UNSHOWN = ("transcription", "listeners")  # of a talk's notes, as they are long
UNHEARD = "..."  # stands for the words of sound of which the model tells none
Chunk = dict[str, Any]  # {"text": ..., "timestamp": [start, end]}, as recognisers of the benchmarks give words


@dataclass(frozen=True)
class Talk:
    """What a user says in a conversation.

    Attributes:
        id: of it in its set.
        user: its recording.
        notes: what the set says of it.
        clean: of v1.5, the recording without what comes between.
    """

    id: str
    user: Path
    notes: Mapping[str, Any] = field(default_factory=dict)
    clean: Path | None = None


@dataclass(frozen=True)
class Held:
    """What a model said in it.

    Attributes:
        segments: when there was sound, seconds.
        words: with the times that the model tells.
        seconds: of the conversation.
        clean: the same without what comes between.
    """

    segments: tuple[Segment, ...]
    words: tuple[Word, ...]
    seconds: float
    clean: Held | None = None

    def chunks(self, after: float = 0.0) -> list[Chunk]:
        """The words as a recogniser would time them: those that are told of a stretch of sound, spread over it; of what
        sounds after so many seconds."""
        found: list[Chunk] = []
        for start, end in self.segments:
            own = [word.text for word in self.words if max(start - WORD_LEAD_SECONDS, after) <= word.start < end]
            start = max(start, after)
            if start >= end:
                continue
            texts = own or [UNHEARD]
            step = (end - start) / len(texts)
            for number, text in enumerate(texts):
                times = [round(start + number * step, 3), round(start + (number + 1) * step, 3)]
                found.append({"text": text, "timestamp": times})
        return found


Score = Callable[[Talk, Held, "Judge | None"], tuple[float, dict[str, Any]]]


@dataclass(frozen=True)
class DuplexTask:
    """A set of the duplex table.

    Attributes:
        title, metric: as papers write them.
        source: where the set is to be had.
        read: its talks in the data's folder; None where it isn't there.
        score: of a talk.
        measure: of all.
        more: other figures of the same talks; those that have no value aren't told.
        after: seconds from which on the words of a talk count, by its notes.
        judged: a judge says more, if there is one.
        note: what is other than in the paper.
    """

    title: str
    metric: str
    source: str
    read: Callable[[Path], list[Talk] | None]
    score: Score
    measure: Measure = mean_score
    more: Mapping[str, Measure] = field(default_factory=dict)
    after: Callable[[Talk], float] = lambda talk: 0.0
    judged: bool = False
    note: str = ""


def measure_duplex(
    name: str,
    task: DuplexTask,
    model: Any,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    known_as: str = "",
    judge: Judge | None = None,
    talks: Path | None = None,
) -> tuple[Measured, list[Item]]:
    """Has a model hold a set's talks.

    Args:
        name: of the task.
        task: it.
        model: anything that `system_under_test` takes.
        data: folder of the sets.
        n: talks at most, at even distances over the set.
        seed: of the first talk of a batch; those behind it count on.
        cache: of earlier talks.
        known_as: under which they are kept.
        judge: of what is said; where there is none, that isn't judged.
        talks: folder of what is said, as the benchmark's scripts read it.

    Raises:
        DataError: the set isn't there, or not as it is published.
    """
    try:
        found = task.read(data)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{name} isn't laid out as published ({error!r}): get it from {task.source}.") from error
    if not found:
        raise DataError(f"{name}: not here ({data}); to be had at {task.source}.")
    asked, cache, start = spread(found, n or len(found)), cache or ResultCache(), time.perf_counter()
    system, at_once = system_under_test(model, AT_ONCE)
    items = []
    for first in range(0, len(asked), at_once):
        part = asked[first : first + at_once]
        users, faults = _recordings(part, system.sample_rate)
        holding = _Holding(system, at_once, seed + first, cache, known_as, (talks or data / "talks") / name)
        try:
            held = holding.held(users)
        except NotOurs as error:
            held, faults = {}, {talk.id: str(error) for talk in part}
        for talk in part:
            score, more, words = 0.0, {}, []
            fault = faults.get(talk.id, "")
            try:
                if not fault:
                    kept = replace(held[talk.id, False], clean=held.get((talk.id, True)))
                    words = kept.chunks(task.after(talk))
                    score, more = task.score(talk, kept, judge)
            except AntiphonError as error:  # told, counted, and no reason to stop
                fault = str(error)
            said = " ".join(chunk["text"] for chunk in words)
            told = json.dumps({key: value for key, value in talk.notes.items() if key not in UNSHOWN})
            items.append(Item(talk.id, talk.user.name, said, told, float(score), seed, {**more, "words": words}, fault))
    notes = [task.note] if task.note else []
    if task.judged:
        notes.append(f"judged by {judge.system.name}" if judge else "what it says isn't judged without --judge")
    if silent := sum(not item.answer and not item.fault for item in items):
        notes.append(f"the model was silent in {silent} talks")
    figure = measured(
        items, task.measure, task=name, title=task.title, row="duplex", metric=task.metric, size=len(found),
        seconds=time.perf_counter() - start, notes=tuple(notes),
    )  # fmt: skip
    more = {key: one(items) for key, one in task.more.items()}
    # To say nothing is right in some talks, so that it is told and not counted as wrong.
    return replace(figure, more={key: value for key, value in more.items() if not math.isnan(value)}, empty=0), items


def _recordings(talks: Sequence[Talk], rate: int) -> tuple[dict[tuple[str, bool], Audio], dict[str, str]]:
    """What users say, by talk and whether it is the clean one; and what is wrong with those that can't be read."""
    found: dict[tuple[str, bool], Audio] = {}
    faults = {}
    for talk in talks:
        try:
            for path, clean in ((talk.user, False), (talk.clean, True)):
                if path is not None:
                    found[talk.id, clean] = load(path, sample_rate=rate, max_seconds=None).mono()
        except AntiphonError as error:
            faults[talk.id] = str(error)
            found.pop((talk.id, False), None)
    return found, faults


@dataclass
class _Holding:
    """A batch of talks, held or remembered."""

    system: Any
    at_once: int
    seed: int
    cache: ResultCache
    known_as: str
    folder: Path

    def held(self, users: Mapping[tuple[str, bool], Audio]) -> dict[tuple[str, bool], Held]:
        """What was said in each; all of a batch are held together, whichever of them is known."""
        keys = [key_of(self.known_as, "talk", str(self.seed), name, str(clean), user)
                for (name, clean), user in users.items()]  # fmt: skip
        values = self.cache.get(keys, lambda wanted: self._hold(users, wanted), len(keys) or 1)
        return {
            which: Held(
                tuple((start, end) for start, end in value["segments"]),
                tuple(Word(text, start, end) for text, start, end in value["words"]),
                value["seconds"],
            )
            for which, value in zip(users, values, strict=True)
        }

    def _hold(self, users: Mapping[tuple[str, bool], Audio], wanted: Sequence[int]) -> list[dict[str, Any]]:
        names = {f"{name}{' clean' if clean else ''}": (name, clean) for name, clean in users}
        scenarios = [
            Scenario(label, "turn", users[which].samples.flatten().numpy(), (), self.system.sample_rate, after=(0, 0))
            for label, which in names.items()
        ]
        found = {}
        for dialogue in simulate(self.system, scenarios, self.at_once, self.seed):
            name, clean = names[dialogue.scenario.id]
            found[name, clean] = {
                "segments": [[round(time, 3) for time in segment] for segment in dialogue.speech()],
                "words": [[word.text, round(word.start, 3), round(word.end, 3)] for word in dialogue.words],
                "seconds": round(dialogue.seconds, 3),
            }
            self._keep(name, clean, dialogue)
        ordered = list(users)
        return [found[ordered[at]] for at in wanted]

    def _keep(self, name: str, clean: bool, dialogue: Any) -> None:
        """As Full-Duplex-Bench's scripts read it."""
        place, stem = self.folder / name, "clean_output" if clean else "output"
        place.mkdir(parents=True, exist_ok=True)
        Audio(torch.from_numpy(dialogue.model), dialogue.scenario.sample_rate).save(place / f"{stem}.wav")
        chunks = Held(tuple(dialogue.speech()), tuple(dialogue.words), dialogue.seconds).chunks()
        text = " ".join(chunk["text"] for chunk in chunks)
        (place / f"{stem}.json").write_text(json.dumps({"text": text, "chunks": chunks}), encoding="utf-8")
