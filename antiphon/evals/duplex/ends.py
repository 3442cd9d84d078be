"""Ends of turns: who tells them from pauses, and how soon? The network that ships, Smart Turn, and silence alone.

On the test conversations' turns with and without pauses (voices that no training has), by eot-bench's two figures: the
share of pauses taken for ends within a mean wait of 300 ms, and the wait at which 5 % are. Each way to decide says in
each silence, as it lasts, how likely the turn is over; all thresholds and waits are tried (`eot_bench.sweep`).

On recorded meetings, of which it is known who speaks when: in a silence after somebody's words, do they go on or does
somebody else speak next? That is another question than whether an assistant should answer, and the same for all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.smart_turn import SAMPLE_RATE, TurnDetector
from antiphon.data.dialogue.format import USER
from antiphon.data.recordings import recordings
from antiphon.dialogue.turn_ends import turn_detector
from antiphon.dialogue.turn_taking.default import turn_network
from antiphon.dialogue.turn_taking.network import Judgement, NetworkTurns
from antiphon.errors import EvalError
from antiphon.evals.duplex.evaluation import DuplexEvaluation
from antiphon.evals.report import Figure
from antiphon.evals.tables.duplex.eot_bench import SCORE_SECONDS, TIMEOUTS, best, by_silence, sweep

RATE = 24000
FRAME = RATE * 2 // 25
AFTER_SECONDS = 4.0  # of near silence that a turn's end is listened to
NOISE = 10 ** (-62 / 20)
NEVER = Judgement(take=(("auto", 2.0),), patience=(("auto", 1e9),))  # says how likely it is, and goes on
WITHIN, BUDGET = 0.3, 0.05  # seconds; share
MIN_SILENCE, NEXT_SECONDS = 0.3, 3.0  # in a meeting: a silence is as long; somebody goes on within so many seconds
WAYS = ("turns", "network-alone", "smart-turn", "silence")
FIGURES = (*(f"{way}-{what}" for way in WAYS for what in ("cutoffs-300ms", "latency-5pct-s")), "turn-check-ms")
MEETING_FIGURES = ("meetings-likelier", *(f"meetings-{way}{what}" for way in WAYS[:3] for what in ("", "-auc")))
Silence = tuple[float, float]  # start and end, seconds


@dataclass(frozen=True)
class Heard:
    """A turn, or a stretch of a meeting.

    Attributes:
        samples: float32 [n] at 24 kHz.
        pauses: silences after which whoever spoke goes on.
        ends: silences after which they don't.
    """

    samples: Tensor
    pauses: tuple[Silence, ...]
    ends: tuple[Silence, ...]


Scores = Callable[[Heard, Sequence[Silence]], list[list[tuple[float, float]]]]


def by_network(detector: TurnDetector | None) -> Scores:
    """The network, every 80 ms, with a turn detector's help or without."""

    def scores(heard: Heard, silences: Sequence[Silence]) -> list[list[tuple[float, float]]]:
        turns = NetworkTurns(turn_network(), RATE, detector, judgement=NEVER)
        chances = []
        for number, frame in enumerate(heard.samples.split(FRAME), 1):
            turns.step(frame, False)
            chances.append((number * FRAME / RATE, turns.chance))
        return [
            [(round(at - start, 3), chance) for at, chance in chances if start + SCORE_SECONDS <= at <= end]
            for start, end in silences
        ]

    return scores


def by_detector(detector: TurnDetector) -> Scores:
    """A turn detector, 0.2 s into each silence."""

    def scores(heard: Heard, silences: Sequence[Silence]) -> list[list[tuple[float, float]]]:
        found = []
        for start, end in silences:
            so_far = heard.samples[: int((start + SCORE_SECONDS) * RATE)]
            asked = end - start >= SCORE_SECONDS
            found.append([(SCORE_SECONDS, detector.probability(_at_16_khz(so_far)))] if asked else [])
        return found

    return scores


def _at_16_khz(samples: Tensor) -> Tensor:
    import soxr

    return torch.from_numpy(soxr.resample(samples.numpy(), RATE, SAMPLE_RATE))


def turns_of(evaluation: DuplexEvaluation, n: int) -> Iterator[Heard]:
    """The users' turns of the test conversations "pause" and "turn"."""
    noise = torch.Generator().manual_seed(0)
    for task in ("pause", "turn"):
        for scenario in evaluation.scenarios(task, n):
            (turn,) = [event for event in scenario.events if event.kind == "turn" and event.speaker == USER]
            pauses = tuple((e.start, e.end) for e in scenario.events if e.kind == "pause" and e.speaker == USER)
            samples = torch.from_numpy(scenario.user[: round(turn.end * RATE)])
            samples = torch.nn.functional.pad(samples, (0, round(AFTER_SECONDS * RATE)))
            samples = samples + NOISE * torch.randn(len(samples), generator=noise)
            yield Heard(samples, pauses, ((turn.end, turn.end + AFTER_SECONDS),))


def judged(title: str, heard: Sequence[Heard], scores: Scores) -> list[Figure]:
    """The two figures of a way to decide."""
    pauses: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for one in heard:
        silences = (*one.pauses, *one.ends)
        for (start, end), each in zip(silences, scores(one, silences), strict=True):
            if end - start >= SCORE_SECONDS:
                (pauses if (start, end) in one.pauses else ends).append({"seconds": end - start, "scores": each})
    if not pauses or not ends:
        raise EvalError("there is no pause or no end to tell apart")
    cuts, waits = sweep(pauses, ends)
    # Nothing but the longest wait keeps all within the budget where no threshold does.
    slow = min(float(TIMEOUTS[-1]), best(waits, cuts, BUDGET))
    return [
        Figure(f"{title}-cutoffs-300ms", best(cuts, waits, WITHIN), "share of pauses", None, None, len(pauses)),
        Figure(f"{title}-latency-5pct-s", slow, "s, mean", None, None, len(ends)),
    ]


def turn_ends(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """The two figures of each way to decide, and what the network takes for a frame."""
    heard, detector = list(turns_of(evaluation, n)), turn_detector()
    found = judged("turns", heard, by_network(detector))
    if detector is not None:
        found += judged("network-alone", heard, by_network(None))
        found += judged("smart-turn", heard, by_detector(detector))
    pauses = [{"seconds": end - start} for one in heard for start, end in one.pauses if end - start >= SCORE_SECONDS]
    found.append(
        Figure("silence-cutoffs-300ms", by_silence(pauses, WITHIN), "share of pauses", None, None, len(pauses))
    )
    waits = [float(wait) for wait in TIMEOUTS if by_silence_at(pauses, float(wait)) <= BUDGET]
    slow = min(waits, default=float(TIMEOUTS[-1]))
    found.append(Figure("silence-latency-5pct-s", slow, "s", None, None, len(pauses)))
    return [*found, _cost(heard[0])]


def by_silence_at(pauses: Sequence[dict[str, Any]], wait: float) -> float:
    """Share of the pauses that are longer than a wait."""
    return statistics.fmean(one["seconds"] > wait for one in pauses) if pauses else 0.0


def _cost(heard: Heard) -> Figure:
    turns, times = NetworkTurns(turn_network(), RATE), []
    for frame in heard.samples.split(FRAME):
        begun = time.thread_time()
        turns.step(frame, False)
        times.append(1000 * (time.thread_time() - begun))
    return Figure("turn-check-ms", statistics.median(times), "ms of a core, median", "<= 8", None, len(times))


def meetings(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """In the silences of recorded meetings: the share in which a way to decide says rightly whether another speaks
    next, at the threshold that is best for it; and of who always says the likelier of the two."""
    place = evaluation.config.meetings
    if place is None:
        raise EvalError("no meetings were given: --meetings FOLDER")
    detector, all_heard = turn_detector(), []
    manifest = place / "manifest.jsonl"
    for recording in recordings(str(manifest if manifest.is_file() else place)):
        spoken = sorted((float(a), float(b), str(who)) for a, b, who in recording.about.get("turns", ()))
        samples = recording.load().mono().resample(RATE).samples.flatten().float()
        all_heard.append(_meeting(samples, spoken))
    chosen = [one for one in all_heard if one.pauses or one.ends][:n]
    labels = [1] * sum(len(one.ends) for one in chosen) + [0] * sum(len(one.pauses) for one in chosen)
    if not labels:
        raise EvalError(f"{place}: no silence is told of in its manifest")
    ways = {"turns": by_network(detector), "network-alone": by_network(None)}
    if detector is not None:
        ways["smart-turn"] = by_detector(detector)
    often = max(statistics.fmean(labels), 1 - statistics.fmean(labels))
    found = [Figure("meetings-likelier", often, "share of silences", None, None, len(labels))]
    for title, scores in ways.items():
        ends: list[float] = []
        goes_on: list[float] = []
        for one in chosen:
            silences = (*one.pauses, *one.ends)
            for silence, each in zip(silences, scores(one, silences), strict=True):
                (goes_on if silence in one.pauses else ends).extend(score for _, score in each[:1])
        found.append(Figure(f"meetings-{title}", accuracy(ends, goes_on), "share of silences", None, None, len(labels)))
        found.append(Figure(f"meetings-{title}-auc", area(ends, goes_on), "area", None, None, len(labels)))
    return found


def _meeting(samples: Tensor, spoken: Sequence[tuple[float, float, str]]) -> Heard:
    """The silences of a meeting, [n] at 24 kHz, from its turns (start, end, who)."""
    pauses, ends, last = [], [], 0.0
    for number, (_, end, who) in enumerate(spoken):
        last = max(last, end)
        following = [other for other in spoken[number + 1 :] if other[0] >= end]
        overlapped = any(a < end < b for a, b, _ in spoken)
        if overlapped or end < last or not following:
            continue
        begun, _, other = following[0]
        if MIN_SILENCE <= begun - end <= NEXT_SECONDS:
            (pauses if other == who else ends).append((end, begun))
    return Heard(samples, tuple(pauses), tuple(ends))


def accuracy(ends: Sequence[float], goes_on: Sequence[float]) -> float:
    """The share told rightly, at the best threshold."""
    thresholds = [*ends, *goes_on, 2.0]
    total = len(ends) + len(goes_on)
    return max((sum(s >= t for s in ends) + sum(s < t for s in goes_on)) / total for t in thresholds) if total else 0.0


def area(ends: Sequence[float], goes_on: Sequence[float]) -> float:
    """How often of one of each kind the end has the higher score, ties by half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in ends for b in goes_on]
    return statistics.fmean(pairs) if pairs else 0.5
