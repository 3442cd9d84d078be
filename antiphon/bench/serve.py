"""`antiphon bench serve`: live clients, each speaking and listening at the pace of life, on one server.

The clients (`serve_clients`) are a process of their own. The same question is also put to the model inside of this
process, at the same pace and as often: what the WebSocket costs is the difference of the medians. With `soak`, clients
then talk on for minutes; once they have talked for `settle` minutes the memory of this process, which is the server's,
is read every second, and a line is laid through it (least squares through the means of twenty equal parts).
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from antiphon.bench.serve_clients import FRAME_SAMPLES, FRAME_SECONDS, LISTENING_SECONDS, Plan, Seen, clients
from antiphon.errors import ConfigError
from antiphon.evals.machine import environment, memory_bytes
from antiphon.evals.report import Figure, Report

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.model import HalfDuplexModel
    from antiphon.serve.state import Served

SOAK_PARTS = 20  # of the soak, through whose means the line is laid


@dataclass(frozen=True)
class ServeBenchConfig:
    """What is measured.

    Attributes:
        model: a preset, a folder or a hub id; `parts` of it to replace.
        clients: how many at once, one run each.
        turns: of each client.
        question: a recording of what is asked.
        sessions: how many the server admits; None measures the machine, as `antiphon serve` does.
        threads: of the model's workers; None as `antiphon serve` has them.
        soak: minutes of steady talk after that, by `soak_clients` (or as many as are admitted), to see whether memory
            grows; `settle` minutes before those they talk already.
        seed: of the clients' pauses.
    """

    model: str = "mini"
    parts: dict[str, str] = field(default_factory=dict)
    clients: tuple[int, ...] = (1, 2, 4, 8)
    turns: int = 5
    question: Path = Path("examples/question.wav")
    sessions: int | None = None
    threads: int | None = None
    soak: float = 0.0
    soak_clients: int = 4
    settle: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clients or min(self.clients) < 1 or self.turns < 1 or self.soak_clients < 1:
            raise ConfigError("The bench needs at least one client and one turn.")
        if self.soak < 0 or self.settle < 0:
            raise ConfigError("Minutes are 0 or more.")


def bench_serve(config: ServeBenchConfig, progress: Callable[[str], None] = print) -> Report:
    """Measures; see the module."""
    import antiphon
    from antiphon.audio.io import load
    from antiphon.model import DuplexModel

    progress(f"Loading {config.model} ...")
    model = antiphon.load(config.model, **config.parts)
    sound = load(config.question, sample_rate=24000).samples.numpy()
    question = (sound.clip(-1, 1) * 32767).astype("<i2").tobytes()
    plan = Plan("", question, isinstance(model, DuplexModel), config.turns, seed=config.seed)
    report = Report(environment=environment())
    with _server(model, config, report) as (url, served):
        plan = replace(plan, url=url)
        report.add(Figure("serve-admitted", served.admission.sessions, "live conversations", None, None, 1))
        progress(f"{served.admission.sessions} admitted; {config.turns} turns inside of the process ...")
        inside = _inside_live(served.engine, plan) if plan.live else _inside(model, plan)
        for count in config.clients:
            progress(f"{count} client{'s' if count > 1 else ''}, {config.turns} turns each ...")
            lost = _lost(served)
            seen = _run_clients(plan, count)
            name = f"serve-{count}-clients" if count > 1 else "serve-1-client"
            _figures(report, name, seen, served, _lost(served) - lost, progress)
            if count == 1:
                reference = median(inside)
                over = median(seen.waits) - reference
                n = len(seen.waits)
                report.add(Figure("serve-websocket-over-in-process", over, "s at the median", "<= 0.06", reference, n))
        if config.soak:
            _soak(report, plan, served, config, progress)
    return report


def _figures(
    report: Report, name: str, seen: Seen, served: Served, lost: float, progress: Callable[[str], None]
) -> None:
    """Puts what clients saw into a report. Nothing may be late if no more are let in than was measured."""
    measured = served.config.sessions is None
    for share, value in zip((50, 95, 99), percentiles(seen.waits)):
        unit = "s after the end of speech"
        report.add(Figure(f"{name}-first-audio-p{share}", value, unit, None, None, len(seen.waits)))
    bar = "<= 0" if measured else None
    report.add(Figure(f"{name}-late-frames", seen.late, "frames of 80 ms", bar, None, seen.frames))
    if served.engine is not None:
        report.add(Figure(f"{name}-lost-frames", lost, "frames of 80 ms", bar, None, seen.turns))
        report.add(Figure(f"{name}-unanswered", seen.unanswered, "questions", None, None, seen.turns))
    asked = seen.conversations + seen.refused
    report.add(Figure(f"{name}-refused", seen.refused, "conversations", None, None, asked))
    report.add(Figure(f"{name}-failed", seen.failed, "conversations", "<= 0", None, asked))
    report.add(Figure(f"{name}-memory", memory(), "MB of the server", None, None, 1))
    for problem in seen.problems[:5]:
        progress(f"failed: {problem}")


def _lost(served: Served) -> float:
    """Frames that a duplex model has passed over so far."""
    return next(sample.value for metric in served.metrics.lost.collect() for sample in metric.samples)


def _soak(
    report: Report, plan: Plan, served: Served, config: ServeBenchConfig, progress: Callable[[str], None]
) -> None:
    """Clients talk on, one conversation after another, while memory is read."""
    count = min(config.soak_clients, served.admission.sessions)
    plan = replace(plan, seconds=60 * (config.settle + config.soak), seed=config.seed + 1)
    progress(f"{count} clients for {config.soak:g} minutes, after {config.settle:g} to settle ...")
    began, lost = time.monotonic(), _lost(served)
    times: list[float] = []
    sizes: list[float] = []
    minutes: list[dict[str, float]] = []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        running = pool.apply_async(clients, (plan, count))
        while not running.ready() and (minute := (time.monotonic() - began) / 60) <= config.settle + config.soak:
            size = memory()
            if minute >= config.settle:
                times.append(minute)
                sizes.append(size)
            if minute >= len(minutes):
                minutes.append({"minute": len(minutes), "megabytes": round(size, 1)})
                progress(f"minute {len(minutes) - 1}: {size:.1f} MB, {served.admission.live} live")
            running.wait(1.0)
        seen = running.get()  # conversations that are under way are held to their end
    growth, error = slope(*part_means(times, sizes, SOAK_PARTS))
    report.add(Figure("serve-soak-clients", count, "live conversations", None, None, seen.conversations))
    report.add(Figure("serve-soak-memory-slope", growth, "MB a minute", "<= 0.5", None, len(sizes)))
    report.add(Figure("serve-soak-memory-slope-error", error, "MB a minute, standard error", None, None, len(sizes)))
    _figures(report, "serve-soak", seen, served, _lost(served) - lost, progress)
    report.environment["soak"] = {"settle": config.settle, "memory": minutes}


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 50th, 95th and 99th; of nothing, no numbers."""
    if not values:
        return (math.nan,) * 3  # type: ignore[return-value]
    return tuple(np.percentile(values, (50, 95, 99)).tolist())  # type: ignore[return-value]


def median(values: Sequence[float]) -> float:
    """Of nothing, no number."""
    return statistics.median(values) if values else math.nan


def part_means(times: Sequence[float], values: Sequence[float], parts: int) -> tuple[list[float], list[float]]:
    """The means of at most `parts` parts that follow one another, as equal as can be: what happens within one (a turn,
    an answer) is not taken for many independent readings."""
    edges = np.linspace(0, len(times), min(parts, len(times)) + 1).astype(int)
    pairs = list(zip(edges, edges[1:]))
    return [statistics.fmean(times[a:b]) for a, b in pairs], [statistics.fmean(values[a:b]) for a, b in pairs]


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The slope of the line of least squares, and its standard error; no numbers for less than three points."""
    if len(times) < 3:
        return math.nan, math.nan
    (found, _), covariance = np.polyfit(times, values, 1, cov=True)
    return float(found), math.sqrt(covariance[0, 0])


def _inside(model: HalfDuplexModel, plan: Plan) -> list[float]:
    """Seconds from the end of speech to the first sound, without a server: one conversation, as a client's is."""
    from antiphon.dialogue.events import AudioEvent, EndEvent

    waits = []
    with model.session("half-duplex") as session:
        for _ in range(plan.turns):
            began, player = time.monotonic(), 0.0
            for number, frame in enumerate(plan.frames):
                session.step(_samples(frame))
                time.sleep(max(0.0, began + (number + 1) * FRAME_SECONDS - time.monotonic()))
            asked, first, ended = time.monotonic(), math.nan, False
            session.end_of_turn()
            while not ended:
                for event in session.poll():
                    if isinstance(event, AudioEvent):
                        first = time.monotonic() if math.isnan(first) else first
                        player += event.audio.duration
                    ended = ended or isinstance(event, EndEvent)
                time.sleep(0.001)
            waits.append(first - asked)
            time.sleep(max(0.0, first + player - time.monotonic()) + 0.65)
    return waits


def _inside_live(engine: BatchedEngine | None, plan: Plan) -> list[float]:
    """The same with a duplex model: the same frames at the same times as a client sends them, into its engine."""
    from antiphon.dialogue.events import SpeakingEvent

    assert engine is not None
    began_to_speak: list[float] = []

    def give(events: Any) -> None:
        if isinstance(events, BaseException):
            raise events
        if any(isinstance(event, SpeakingEvent) and event.speaking for event in events):
            began_to_speak.append(time.monotonic())

    slot, waits = engine.join(give), []
    sound = [_samples(frame) for frame in plan.frames]
    asked = len(sound)
    sound += [torch.zeros(FRAME_SAMPLES)] * round(LISTENING_SECONDS / FRAME_SECONDS)
    began, sent = time.monotonic(), 0
    for _ in range(plan.turns):
        for number, frame in enumerate(sound):
            slot.push(frame)
            sent += 1
            time.sleep(max(0.0, began + sent * FRAME_SECONDS - time.monotonic()))
            if number + 1 == asked:
                end_of_speech = time.monotonic()
        after = [at - end_of_speech for at in began_to_speak if at > end_of_speech]
        waits += after[:1]
    slot.leave()
    return waits


def _samples(frame: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(frame, "<i2").astype(np.float32) / 32768)


@contextmanager
def _server(model: Any, config: ServeBenchConfig, report: Report) -> Iterator[tuple[str, Served]]:
    """The server on a port of its own, in a thread of this process."""
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.model import DuplexModel
    from antiphon.serve.app import create_app
    from antiphon.serve.run import listen, make_server
    from antiphon.serve.settings import ServeConfig
    from antiphon.serve.state import LiveOnly
    from antiphon.serve.work.admission import measure

    settings = ServeConfig(port=0, sessions=config.sessions, threads=config.threads)
    if isinstance(model, DuplexModel):
        engine = BatchedEngine(model.duplex)
        app = create_app(LiveOnly(config.model), settings, engine=engine)
        app.state.served.admission.sessions = config.sessions or engine.pace()
    else:
        pace = measure(model.backend)
        unit = "s for a second of speech"
        report.add(Figure("serve-listening-work", pace.listening, unit, None, None, 1))
        report.add(Figure("serve-speaking-work", pace.speaking, unit, None, None, 1))
        app = create_app(model.backend, settings, pace)
    server, sockets = make_server(app), [listen(settings)]
    logging.getLogger("antiphon.serve").setLevel(logging.WARNING)  # a line for each conversation is too many here
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=sockets)), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{sockets[0].getsockname()[1]}/v1/realtime", app.state.served
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def _run_clients(plan: Plan, count: int) -> Seen:
    """In a process of their own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(clients, (plan, count))


def memory() -> float:
    """MB that this process holds now."""
    return memory_bytes() / 2**20
