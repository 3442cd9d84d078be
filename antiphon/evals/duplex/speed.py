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
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from antiphon.errors import EvalError
from antiphon.evals.duplex.scenes import duplex_scenes
from antiphon.evals.duplex.systems import Room, room_of
from antiphon.evals.report import Figure, available_cores

if TYPE_CHECKING:
    from antiphon.evals.duplex.figures import DuplexBench

THREADS = 2
BREAK = 4.0  # seconds of silence after a request, in which the model may answer
WARM = 10  # frames that pay for lazy set-up and are not counted
ROUNDS = 60  # steps that one conversation and eight take in turns


def frames(bench: DuplexBench, minutes: int) -> list[Figure]:
    """Time of a frame in so many minutes of talk: median and 95th percentile."""
    with _alone(bench) as (room, sound):
        times = [1000 * seconds for seconds in frame_times(room, sound, WARM + _count(room, minutes))][WARM:]
    p50, p95 = np.percentile(times, (50, 95)).tolist()
    return [
        Figure("frame-p50-ms", p50, "ms", "<= 60", None, len(times)),
        Figure("frame-p95-ms", p95, "ms", "<= 80", None, len(times)),
    ]


def hour(bench: DuplexBench, minutes: int) -> list[Figure]:
    """Median time of a frame in the last minute over that in the first, and memory after it over that after the fifth.

    One conversation as fast as it goes, on the frames' own clock.
    """
    with _alone(bench) as (room, sound):
        minute = _count(room, 1)
        early = 5 if minutes > 5 else 1
        handle, medians, memory = room.join(0), [], []
        for _ in range(WARM):
            room.step({handle: next(sound)})
        for number in range(max(2, minutes)):
            times = []
            for _ in range(minute):
                frame, start = next(sound), time.perf_counter()
                room.step({handle: frame})
                times.append(time.perf_counter() - start)
            medians.append(statistics.median(times))
            gc.collect()
            memory.append(resident())
            if number + 1 == early:
                before = memory[-1]
        room.leave(handle)
    return [
        Figure("hour-frame-time-ratio", medians[-1] / medians[0], "ratio", "<= 1.1", None, len(medians)),
        Figure("hour-memory-ratio", memory[-1] / before, "ratio", "<= 1.02", None, len(medians)),
    ]


def batch(bench: DuplexBench, size: int) -> list[Figure]:
    """Frames a second of so many conversations in one batch, over those of one alone; both in turns."""
    with _alone(bench, size) as (room, sound):
        value = batch_speedup(room_of(bench.model, 1)[0], room, sound, size)
    return [Figure(f"batch-{size}-speedup", value, "x", ">= 3" if size == 8 else None, None, ROUNDS)]


def batch_speedup(one: Room, many: Room, sound: Iterator[Tensor], size: int, rounds: int = ROUNDS) -> float:
    """`size` times the median time of a step of one conversation over that of a step of `size`.

    Args:
        one, many: of one model; each has conversations of its own, so that none has to be moved aside.
        sound: what they hear.
        size: conversations in the batch.
        rounds: steps of each.
    """
    alone, together = one.join(0), [many.join(seed) for seed in range(size)]
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(WARM + rounds):
        frames_now = {handle: next(sound) for handle in together}
        for name, room, given in (("alone", one, {alone: next(sound)}), ("together", many, frames_now)):
            start = time.perf_counter()
            room.step(given)
            times[name].append(time.perf_counter() - start)
    one.leave(alone)
    for handle in together:
        many.leave(handle)
    return size * statistics.median(times["alone"][WARM:]) / statistics.median(times["together"][WARM:])


def frame_times(room: Room, sound: Iterator[Tensor], count: int) -> list[float]:
    """Seconds that each of `count` frames of one conversation takes."""
    handle, times = room.join(0), []
    for _ in range(count):
        frame, start = next(sound), time.perf_counter()
        room.step({handle: frame})
        times.append(time.perf_counter() - start)
    room.leave(handle)
    return times


def talk(waves: Sequence[np.ndarray], size: int, rate: int) -> Iterator[Tensor]:
    """Frames [size] of someone who talks for ever: what is given, over and over, with silences to answer in."""
    for wave in itertools.cycle(waves):
        padded = np.pad(wave, (0, round(BREAK * rate) + (-len(wave) - round(BREAK * rate)) % size))
        yield from torch.from_numpy(padded.astype(np.float32)).split(size)


def resident() -> int:
    """Bytes of memory that this process has now; where the system doesn't tell, the most that it ever had, in the
    system's own unit: good for a ratio alone."""
    import resource

    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def _alone(bench: DuplexBench, size: int = 1) -> Iterator[tuple[Room, Iterator[Tensor]]]:
    """A room for so many conversations, and someone who talks in it, on two threads."""
    room, at_once = room_of(bench.model, max(2, size))
    if at_once == 1:
        raise EvalError("Half-duplex sessions work in their own time: time a frame has no meaning.")
    folder = bench.config.material or bench.cached("duplex")
    scenes = duplex_scenes(folder, "turn", min(20, bench.config.n or 20), bench.config.texts, bench.config.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, available_cores()))
    try:
        yield room, talk([scene.user for scene in scenes], room.frame_samples, room.sample_rate)
    finally:
        torch.set_num_threads(threads)


def _count(room: Room, minutes: int) -> int:
    return round(60 * minutes * room.sample_rate / room.frame_samples)
