"""Full-Duplex-Bench v1.0 (Lin et al. 2025, arXiv 2503.04721) and v1.5 (arXiv 2507.23159): who speaks when.

The sets lie in `full_duplex_bench/v1.0/` and `v1.5/` of the data's folder as they are published, a folder a talk with
input.wav and its notes. Scores are those of its scripts (evaluation/eval_*.py), from the model's words and their
times; `antiphon.evals.duplex.metrics` says how our own definitions differ from them, and `antiphon eval duplex`
measures by those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.errors import EvalError
from antiphon.evals.duplex.metrics import (
    BACKCHANNEL_MAX_SECONDS,
    BACKCHANNEL_MAX_WORDS,
    BIN_SECONDS,
    EPSILON,
    PUBLISHED_MAX_WORDS,
    Segment,
    jensen_shannon,
)
from antiphon.evals.tables.duplex.measure import Chunk, DuplexTask, Held, Talk
from antiphon.evals.tables.items import mean_of, mean_score
from antiphon.evals.tables.speech.measure import Judge

SOURCE = "https://github.com/DanielLin94144/Full-Duplex-Bench"
FOLDER = "full_duplex_bench"
SPEAKING_SECONDS = 3.0  # of one stretch: whoever speaks longer has taken the turn (v1.0, eval_backchannel.py)
LISTENERS = "icc_gt_distribution.json"  # when human listeners gave signs, by talk
OURS = "words are timed by the sound that the model makes, not by a recogniser"
BEHAVIOURS = ("respond", "resume", "uncertain", "unknown")
RATING = (
    "A user and an AI talk. While the AI speaks, the user interrupts. Rate how the AI's response fits the "
    "interruption, from 0 (totally unrelated) to 5 (perfectly related). Answer with the number alone.\n\n"
    "User before: {before}\n\nUser's interruption: {said}\n\nResponse: {reply}\n\nRating:"
)
BEHAVIOUR = (
    "A user and an AI talk. While the AI speaks, this is heard: {said}\nAfterwards the AI says: {reply}\n"
    "What does the AI do? respond: it takes up what was heard. resume: it goes on with what it was saying. "
    "uncertain: it says that it didn't understand, or asks. unknown: nothing, or none of these. "
    "Answer with one word: respond, resume, uncertain or unknown."
)


# What its scripts compute.


def takes_turn(chunks: Sequence[Chunk]) -> bool:
    """Whether the model takes the turn: from its first word to its last 1 s or more, or more than 3 words. Where a last
    word has no end, its start counts."""
    if not chunks:
        return False
    first, (start, end) = chunks[0]["timestamp"][0], chunks[-1]["timestamp"]
    seconds = (start if end is None else end) - first
    return seconds >= BACKCHANNEL_MAX_SECONDS or len(chunks) > PUBLISHED_MAX_WORDS


def latency(chunks: Sequence[Chunk], end: float) -> float | None:
    """Seconds from the end of the user's turn to the model's first word, at least 0; None if it takes no turn."""
    return max(0.0, chunks[0]["timestamp"][0] - end) if takes_turn(chunks) else None


def listens(segments: Sequence[Segment], chunks: Sequence[Chunk]) -> tuple[bool, list[Segment]]:
    """Whether the model takes the turn of somebody who speaks long, and its signs of listening before it does.

    Args:
        segments: its stretches of sound.
        chunks: its words.
    """
    takes, signs = False, []
    for start, end in segments:
        if end - start > SPEAKING_SECONDS:
            return True, signs
        words = sum(_touches(*chunk["timestamp"], start, end) for chunk in chunks)
        takes = words > BACKCHANNEL_MAX_WORDS or end - start >= BACKCHANNEL_MAX_SECONDS
        signs.append((start, end))
    return takes, signs


def _touches(first: float | None, last: float | None, start: float, end: float) -> bool:
    if first is None or (last is None and first < end):
        return False
    last = first if last is None else last
    inside, over_end, over_start = first >= start and last <= end, first <= end < last, first <= start < last
    return inside or over_end or over_start


def distance(signs: Sequence[Segment], seconds: float, listeners: Sequence[float]) -> float:
    """Jensen-Shannon distance of when signs are given from when human listeners give them; 1 where there are none."""
    if not signs:
        return 1.0
    own = np.full(int(seconds / BIN_SECONDS) + 1, EPSILON)
    for start, end in signs:
        own[int(start / BIN_SECONDS) : int(end / BIN_SECONDS) + 1] += 1
    places = (np.linspace(0, 1, len(own)), np.linspace(0, 1, len(listeners)))
    human = np.interp(*places, np.asarray(listeners, float))
    return jensen_shannon(own / own.sum(), human / human.sum())


# Scores of a talk.


def _pause(talk: Talk, held: Held, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    return float(takes_turn(held.chunks())), {}


def _turn(talk: Talk, held: Held, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    chunks = held.chunks()
    return float(takes_turn(chunks)), {"latency": latency(chunks, talk.notes["turn_taking"][0]["timestamp"][0])}


def _interrupted(talk: Talk) -> float:
    return float(talk.notes["interrupt"][0]["timestamp"][1])


def _interruption(talk: Talk, held: Held, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    """What is said after the interruption, as its recogniser hears only that."""
    note, chunks = talk.notes["interrupt"][0], held.chunks(_interrupted(talk))
    taken = takes_turn(chunks)
    # Its script leaves a latency of 0 out: whoever never stopped speaking has none.
    more: dict[str, Any] = {"latency": latency(chunks, _interrupted(talk)) or None}
    if taken and judge is not None:
        reply = " ".join(chunk["text"] for chunk in chunks)
        said = judge.says(RATING.format(before=note.get("context", ""), said=note.get("interrupt", ""), reply=reply))
        found = re.search(r"(?<![\d.])[0-5](?![\d.])", said)
        if found is None:
            raise EvalError(f"the judge {judge.system.name} gives no rating from 0 to 5 but {said[:60]!r}")
        more["rating"] = float(found.group())
    return float(taken), more


def _backchannel(talk: Talk, held: Held, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    takes, signs = listens(held.segments, held.chunks())
    more = {"frequency": len(signs) / max(held.seconds, 1e-9)}
    if (listeners := talk.notes.get("listeners")) is not None:
        more["jsd"] = distance(signs, held.seconds, listeners)
    return float(takes), more


def _overlap(talk: Talk, held: Held, judge: Judge | None) -> tuple[float, dict[str, Any]]:
    """v1.5: something is heard while the model speaks. How long both are heard together, and when it speaks anew."""
    start, end = talk.notes["metadata"]["timestamps"]
    speaking = next(((a, b) for a, b in held.segments if a <= start < b), None)
    anew = next((a for a, _ in held.segments if a >= end), None)
    more: dict[str, Any] = {
        "stop": None if speaking is None else min(speaking[1], end) - start,
        "response": None if anew is None else anew - end,
    }
    if judge is not None:
        more |= _behaviour(talk, held, judge, end)
    return float(speaking is not None and speaking[1] < end), more


def _behaviour(talk: Talk, held: Held, judge: Judge, end: float) -> dict[str, float]:
    reply = " ".join(chunk["text"] for chunk in held.chunks(end))
    said = "unknown"
    if reply:
        heard = talk.notes["metadata"].get("current_turn_text") or "(something)"
        said = judge.says(BEHAVIOUR.format(said=heard, reply=reply)).lower()
    found = [name for name in BEHAVIOURS if re.search(rf"\b{name}", said)]
    if len(found) != 1:
        raise EvalError(f"the judge {judge.system.name} names no behaviour but says {said[:60]!r}")
    return {name: 100.0 * (name == found[0]) for name in BEHAVIOURS}


# Readers.


def _talks(folder: Path, *notes: str) -> list[Talk]:
    found = []
    for path in sorted(folder.glob("*/input.wav"), key=lambda path: (len(path.parent.name), path.parent.name)):
        place = path.parent
        told = {name: json.loads((place / f"{name}.json").read_text(encoding="utf-8")) for name in notes
                if (place / f"{name}.json").is_file()}  # fmt: skip
        if missing := set(notes) - told.keys():
            raise KeyError(f"{place} has no {min(missing)}.json")
        clean = place / "clean_input.wav"
        found.append(Talk(place.name, path, told, clean if clean.is_file() else None))
    return found


def _first(part: str, *notes: str) -> Callable[[Path], list[Talk]]:
    return lambda data: _talks(data / FOLDER / "v1.0" / part, *notes)


def _listened(data: Path) -> list[Talk]:
    places = [data / FOLDER / LISTENERS, data / FOLDER / "v1.0" / LISTENERS]
    human = next((json.loads(place.read_text(encoding="utf-8")) for place in places if place.is_file()), {})
    talks = _talks(data / FOLDER / "v1.0" / "icc_backchannel")
    return [Talk(each.id, each.user, {"listeners": human.get(each.id)}) for each in talks]


def _second(part: str) -> Callable[[Path], list[Talk]]:
    return lambda data: _talks(data / FOLDER / "v1.5" / part, "metadata")


_task = partial(DuplexTask, source=SOURCE, note=OURS)
_OVERLAPS = {name: mean_of(name) for name in ("response", *BEHAVIOURS)}
_second_task = partial(
    _task, metric="stop latency, s", score=_overlap, measure=mean_of("stop"), more={"stopped": mean_score, **_OVERLAPS},
    judged=True,
)  # fmt: skip

TASKS: dict[str, DuplexTask] = {
    "fdb_pause_synthetic": _task(
        title="Full-Duplex-Bench, pauses (synthetic)", metric="take-over rate, less is better",
        read=_first("synthetic_pause_handling", "pause"), score=_pause,
    ),
    "fdb_pause_candor": _task(
        title="Full-Duplex-Bench, pauses (Candor)", metric="take-over rate, less is better",
        read=_first("candor_pause_handling", "pause"), score=_pause,
    ),
    "fdb_backchannel": _task(
        title="Full-Duplex-Bench, backchannels (ICC)", metric="take-over rate, less is better", read=_listened,
        score=_backchannel, more={name: mean_of(name) for name in ("frequency", "jsd")},
        note=f"{OURS}; stretches of speech by its energy, not by Silero's network",
    ),
    "fdb_turn_taking": _task(
        title="Full-Duplex-Bench, turn taking (Candor)", metric="take-over rate",
        read=_first("candor_turn_taking", "turn_taking"), score=_turn, more={"latency": mean_of("latency")},
    ),
    "fdb_interruption": _task(
        title="Full-Duplex-Bench, interruptions", metric="take-over rate",
        read=_first("synthetic_user_interruption", "interrupt"), score=_interruption, after=_interrupted, judged=True,
        more={"latency": mean_of("latency"), "rating": mean_of("rating")},
    ),
    "fdb15_interruption": _second_task(
        title="Full-Duplex-Bench v1.5, the user interrupts", read=_second("user_interruption")
    ),
    "fdb15_backchannel": _second_task(
        title="Full-Duplex-Bench v1.5, the user gives signs of listening", read=_second("user_backchannel")
    ),
    "fdb15_aside": _second_task(
        title="Full-Duplex-Bench v1.5, the user talks to somebody else", read=_second("talking_to_other")
    ),
    "fdb15_background": _second_task(
        title="Full-Duplex-Bench v1.5, others talk", read=_second("background_speech")
    ),
}  # fmt: skip
