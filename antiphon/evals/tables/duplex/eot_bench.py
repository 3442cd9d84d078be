"""eot-bench (LiveKit 2026): at which silence is a user done? False cut-offs beside the wait, over all ways to decide.

The set lies in `eot_bench/` of the data's folder as it is published: parquet with id, language, audio and
silence_spans. A turn's last silence is its end, those before are pauses in it. Two things can be measured: how likely
the turn detector finds it that the turn is over, 0.2 s into a silence (`eot_bench`), and when a session takes it for
over (`eot_bench_session`): a half-duplex one by its endpointer, a full-duplex one by speaking.

Scores are those of its harness: a policy ends the turn when the score is above a threshold, after a least wait, or
after a longest one; all policies are tried, and told are the best ones within a budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.audio.io import Audio
from antiphon.errors import AntiphonError, DataError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.rows import spread
from antiphon.evals.tables.items import Item, Measure, Measured, measured
from antiphon.evals.tables.speech.measure import unpacked

SOURCE = "https://huggingface.co/datasets/livekit/eot-bench-data"
SCORE_SECONDS = 0.2  # of silence after which the detector is asked, as its harness asks Smart Turn
HOLD_SECONDS = (0.2, 5.0)  # of pauses that count
MIN_SILENCE = 0.1
EPSILON = 1e-9
THRESHOLDS = np.round(np.arange(0.0, 1.01, 0.01), 2)
DELAYS = np.round(np.arange(0.2, 1.01, 0.1), 2)  # least waits, seconds
TIMEOUTS = np.round(np.arange(1.0, 3.51, 0.5), 2)  # longest waits
Float = NDArray[np.float64]
Fire = Callable[[Audio, Sequence[tuple[float, float]]], list[list[tuple[float, float]]]]


def sweep(pauses: Sequence[dict[str, Any]], ends: Sequence[dict[str, Any]]) -> tuple[Float, Float]:
    """False cut-offs and mean waits of all policies.

    Args:
        pauses, ends: silences, {"seconds": how long, "scores": [[seconds into it, likelihood of the end], ...]}.

    Returns:
        Two arrays [policies]: share of the pauses in which the user is cut off; mean seconds from the true end.
    """
    timed = [one["scores"] for one in (*pauses, *ends)]
    # By threshold, when a score is first above it: [thresholds, silences].
    fires = np.array([[min((at for at, score in scores if score > threshold), default=math.inf) for scores in timed]
                      for threshold in THRESHOLDS])  # fmt: skip
    lengths = np.array([one["seconds"] for one in pauses])
    found_cuts, found_waits = [], []
    for fire in fires:
        at = np.maximum(DELAYS[:, None, None], fire)  # [delays, 1, silences]
        own, late = at[..., : len(pauses)], at[..., len(pauses) :]
        cut = (lengths > TIMEOUTS[:, None] + EPSILON) | (lengths > own + EPSILON)
        wait = np.where(late <= TIMEOUTS[:, None] + EPSILON, late, TIMEOUTS[:, None])
        sensible = TIMEOUTS[None] + EPSILON >= DELAYS[:, None]
        found_cuts.append(cut.mean(-1)[sensible])
        found_waits.append(wait.mean(-1)[sensible])
    return np.concatenate(found_cuts), np.concatenate(found_waits)


def best(minimize: Float, within: Float, budget: float) -> float:
    """The least of one where the other is within its budget; not a number where that can't be had."""
    allowed = minimize[within <= budget + EPSILON]
    return float(allowed.min()) if len(allowed) else math.nan


def by_silence(pauses: Sequence[dict[str, Any]], budget: float) -> float:
    """False cut-offs of whoever waits for so many seconds of silence, within a budget of wait."""
    lengths = np.array([one["seconds"] for one in pauses])
    waits = [wait for wait in np.unique(np.concatenate((DELAYS, TIMEOUTS))) if wait <= budget + EPSILON]
    return min((float((lengths > wait + EPSILON).mean()) for wait in waits), default=math.nan)


def _silences(items: Sequence[Item]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pauses that count, and ends of turns."""
    least, most = HOLD_SECONDS
    pauses = [one for item in items for one in item.more.get("pauses", ())
              if least - EPSILON <= one["seconds"] <= most + EPSILON]  # fmt: skip
    return pauses, [item.more["end"] for item in items if "end" in item.more]


def _cutoffs(budget: float) -> Measure:
    def measure(items: Sequence[Item]) -> float:
        pauses, ends = _silences(items)
        if not pauses or not ends:
            return math.nan
        cuts, waits = sweep(pauses, ends)
        return 100 * best(cuts, waits, budget)

    return measure


def _wait(budget: float) -> Measure:
    def measure(items: Sequence[Item]) -> float:
        pauses, ends = _silences(items)
        if not pauses or not ends:
            return math.nan
        cuts, waits = sweep(pauses, ends)
        return 1000 * best(waits, cuts, budget)

    return measure


MORE: dict[str, Measure] = {
    "cutoffs at 600 ms": _cutoffs(0.6), "latency at 5 %, ms": _wait(0.05), "latency at 10 %, ms": _wait(0.1),
    "cutoffs at 300 ms by silence alone": lambda items: 100 * by_silence(_silences(items)[0], 0.3),
}  # fmt: skip


def rows(data: Path, language: str = "en") -> list[dict[str, Any]]:
    """The turns of a language.

    Raises:
        DataError: not here, or in another layout.
    """
    import pyarrow.parquet

    tables = sorted((data / "eot_bench").glob("**/*.parquet"))
    found = [row for path in tables for row in pyarrow.parquet.read_table(path).to_pylist()]
    if not tables:
        raise DataError(f"eot_bench: not here (no {data / 'eot_bench'}); to be had at {SOURCE}.")
    for row in found:
        if missing := {"id", "language", "audio", "silence_spans"} - row.keys():
            raise DataError(f"{tables[0]} has no {min(missing)}: get the set from {SOURCE}.")
    return [row for row in found if str(row["language"]).strip().lower() == language]


def measure_ends(
    name: str,
    title: str,
    fire: Fire,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    known_as: str = "",
    note: str = "",
) -> tuple[Measured, list[Item]]:
    """Looks for the ends of a set's turns.

    Args:
        name, title: of the task.
        fire: takes a turn's sound and its silences (start, end; seconds), gives the scores in each, with their times.
        data: folder of the sets.
        n: turns at most, at even distances over the set.
        seed: kept with the items.
        cache: of earlier turns.
        known_as: under which they are kept.
        note: what was measured.

    Raises:
        DataError: the set isn't there, or not as it is published.
    """
    found, cache, start = rows(data), cache or ResultCache(), time.perf_counter()
    if not found:
        raise DataError(f"{name}: no turn is in English; get the set from {SOURCE}.")
    items = []
    for row in spread(found, n or len(found)):
        spans = [(float(span["start"]), float(span["end"])) for span in row["silence_spans"]]
        counted = [span for span in spans if span[1] - span[0] >= MIN_SILENCE - 1e-6]
        more: dict[str, Any] = {}
        try:
            if not counted or counted[-1] != spans[-1]:
                raise DataError(f"{row['id']} doesn't end in silence")
            sound = unpacked(row["audio"]["bytes"])
            key = key_of(known_as, name, sound, str(counted))
            scores = cache.get([key], lambda _, sound=sound, spans=counted: [fire(sound, spans)])[0]
            silences = [{"seconds": round(end - begin, 6), "scores": one} for (begin, end), one in zip(counted, scores)]
            if not silences[-1]["scores"] and note != SESSION:
                raise DataError(f"{row['id']} ends in less silence than a score needs")
            more, fault = {"pauses": silences[:-1], "end": silences[-1]}, ""
        except AntiphonError as error:
            fault = str(error)
        told = max((score for _, score in more["end"]["scores"]), default=0.0) if more else 0.0
        items.append(Item(str(row["id"]), "turn", f"{told:.3f}", "end", float(told > 0.5), seed, more, fault))
    figure = measured(
        items, _cutoffs(0.3), task=name, title=title, row="duplex", metric="false cut-offs at 300 ms, %",
        size=len(found), seconds=time.perf_counter() - start, notes=(note,) if note else (),
    )  # fmt: skip
    more = {key: one(items) for key, one in MORE.items()}
    return replace(figure, more={key: value for key, value in more.items() if not math.isnan(value)}), items


# What finds ends.

DETECTOR = "the turn detector's likelihood 0.2 s into each silence"
SESSION = "when a session takes the turn for over"


def by_detector() -> Fire:
    """The turn detector that sessions have.

    Raises:
        DataError: it can't be had.
    """
    from antiphon.dialogue.turn_ends import turn_detector

    detector = turn_detector()
    if detector is None:
        raise DataError("the turn detector can't be had: antiphon fetch smart-turn")

    def fire(sound: Audio, spans: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
        from antiphon.audio.smart_turn import SAMPLE_RATE

        samples = sound.mono().resample(SAMPLE_RATE).samples.flatten()
        return [
            [(SCORE_SECONDS, detector.probability(samples[: int((start + SCORE_SECONDS) * SAMPLE_RATE + 1e-6)]))]
            if end - start >= SCORE_SECONDS - EPSILON else []
            for start, end in spans
        ]  # fmt: skip

    return fire


def by_session(model: Any) -> Fire:
    """When a session of a model takes turns for over: where its endpointer says so, the words being looked at where it
    looks at them; or where a full-duplex model speaks."""

    def fire(sound: Audio, spans: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
        times = _spoken_at(model, sound) if not hasattr(model, "backend") else _ended_at(model, sound)
        return [[(round(time - start, 3), 1.0) for time in times if start < time <= end][:1] for start, end in spans]

    return fire


def _ended_at(model: Any, sound: Audio) -> list[float]:
    """Seconds at which the endpointer of a half-duplex session ends a turn; from there on another one begins."""
    from antiphon.dialogue.turn_ends import endpointer
    from antiphon.evals.assistant.turns import FRAME, RATE

    samples, chat = sound.mono().resample(RATE).samples.flatten(), model.backend.chat()
    finder = endpointer(RATE)
    finder.worded = True
    found, begun = [], 0
    for number, frame in enumerate(samples.split(FRAME), 1):
        for event in finder.step(frame.numpy()):
            if event.kind == "stop":
                found.append(number * FRAME / RATE)
                begun = number * FRAME
            elif event.kind == "likely":
                said = model.hear(Audio(samples[begun : number * FRAME], RATE)).text.strip()
                for _ in chat.read_ahead([], said):
                    pass
                finder.judge_words(chat.sounds_over())
    return found


def _spoken_at(model: Any, sound: Audio) -> list[float]:
    """Seconds at which a full-duplex model begins to speak."""
    from antiphon.evals.duplex.simulate import Scenario, simulate
    from antiphon.evals.duplex.systems import system_under_test

    system, _ = system_under_test(model, 1)
    user = sound.mono().resample(system.sample_rate).samples.flatten().numpy()
    (talk,) = simulate(system, [Scenario("turn", "turn", user, (), system.sample_rate, after=(0, 0))], 1)
    return [start for start, _ in talk.speech()]
