"""Does a full-duplex model keep up: time a frame, in five minutes of talk and after an hour, and many in one batch.

Every time is of the whole: the user's frame encoded, text and codes predicted, the model's frame decoded. A frame is
80 ms, and it must be done before the next one is there. Two threads, as the promise is about two cores.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from antiphon.errors import EvalError
from antiphon.evals.duplex.evaluation import DuplexEvaluation
from antiphon.evals.duplex.systems import System, system_under_test
from antiphon.evals.machine import available_cores, memory_bytes
from antiphon.evals.report import Figure

THREADS = 2
SILENCE_SECONDS = 4.0  # after a request, in which the model may answer
WARMUP_FRAMES = 10  # that pay for lazy set-up and are not counted
ROUNDS = 60  # steps that one dialogue and eight take in turns


def frames(evaluation: DuplexEvaluation, minutes: int) -> list[Figure]:
    """Time of a frame in so many minutes of talk: median and 95th percentile."""
    with _alone(evaluation) as (system, sound):
        times = [1000 * seconds for seconds in frame_times(system, sound, WARMUP_FRAMES + _count(system, minutes))][
            WARMUP_FRAMES:
        ]
    p50, p95 = np.percentile(times, (50, 95)).tolist()
    return [
        Figure("frame-p50-ms", p50, "ms", "<= 60", None, len(times)),
        Figure("frame-p95-ms", p95, "ms", "<= 80", None, len(times)),
    ]


def hour(evaluation: DuplexEvaluation, minutes: int) -> list[Figure]:
    """Median time of a frame in the last minute over that in the first, and memory after it over that after the fifth.

    One dialogue as fast as it goes, on the frames' own clock.
    """
    with _alone(evaluation) as (system, sound):
        minute = _count(system, 1)
        early = 5 if minutes > 5 else 1
        handle, medians, memory = system.join(0), [], []
        for _ in range(WARMUP_FRAMES):
            system.step({handle: next(sound)})
        for number in range(max(2, minutes)):
            medians.append(statistics.median(_seconds(system, {handle: next(sound)}) for _ in range(minute)))
            gc.collect()
            memory.append(memory_bytes())
            if number + 1 == early:
                before = memory[-1]
        system.leave(handle)
    return [
        Figure("hour-frame-time-ratio", medians[-1] / medians[0], "ratio", "<= 1.1", None, len(medians)),
        Figure("hour-memory-ratio", memory[-1] / before, "ratio", "<= 1.02", None, len(medians)),
    ]


def batch(evaluation: DuplexEvaluation, size: int) -> list[Figure]:
    """Frames a second of so many dialogues in one batch, over those of one alone; both in turns."""
    with _alone(evaluation, size) as (system, sound):
        value = batch_speedup(system_under_test(evaluation.model, 1)[0], system, sound, size)
    return [Figure(f"batch-{size}-speedup", value, "x", ">= 3" if size == 8 else None, None, ROUNDS)]


def batch_speedup(one: System, many: System, sound: Iterator[Tensor], size: int, rounds: int = ROUNDS) -> float:
    """`size` times the median time of a step of one dialogue over that of a step of `size`.

    Args:
        one, many: of one model; each has dialogues of its own, so that none has to be moved aside.
        sound: what they hear.
        size: dialogues in the batch.
        rounds: steps of each.
    """
    alone, together = one.join(0), [many.join(seed) for seed in range(size)]
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(WARMUP_FRAMES + rounds):
        frames_now = {handle: next(sound) for handle in together}
        for name, system, given in (("alone", one, {alone: next(sound)}), ("together", many, frames_now)):
            times[name].append(_seconds(system, given))
    one.leave(alone)
    for handle in together:
        many.leave(handle)
    return (
        size * statistics.median(times["alone"][WARMUP_FRAMES:]) / statistics.median(times["together"][WARMUP_FRAMES:])
    )


def frame_times(system: System, sound: Iterator[Tensor], count: int) -> list[float]:
    """Seconds that each of `count` frames of one dialogue takes."""
    handle = system.join(0)
    times = [_seconds(system, {handle: next(sound)}) for _ in range(count)]
    system.leave(handle)
    return times


def _seconds(system: System, frames: Mapping[int, Tensor]) -> float:
    """That a step takes."""
    start = time.perf_counter()
    system.step(frames)
    return time.perf_counter() - start


def talk(waves: Sequence[np.ndarray], size: int, rate: int) -> Iterator[Tensor]:
    """Frames [size] of someone who talks for ever: what is given, over and over, with silences to answer in."""
    for wave in itertools.cycle(waves):
        padded = np.pad(wave, (0, round(SILENCE_SECONDS * rate) + (-len(wave) - round(SILENCE_SECONDS * rate)) % size))
        yield from torch.from_numpy(padded.astype(np.float32)).split(size)


@contextlib.contextmanager
def _alone(evaluation: DuplexEvaluation, size: int = 1) -> Iterator[tuple[System, Iterator[Tensor]]]:
    """A system for so many dialogues, and someone who talks to it, on two threads."""
    system, at_once = system_under_test(evaluation.model, max(2, size))
    if at_once == 1:
        raise EvalError("Half-duplex sessions work in their own time: time a frame has no meaning.")
    scenarios = evaluation.scenarios("turn", min(20, evaluation.config.n or 20))
    threads = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, available_cores()))
    try:
        yield system, talk([scenario.user for scenario in scenarios], system.frame_samples, system.sample_rate)
    finally:
        torch.set_num_threads(threads)


def _count(system: System, minutes: int) -> int:
    return round(60 * minutes * system.sample_rate / system.frame_samples)
