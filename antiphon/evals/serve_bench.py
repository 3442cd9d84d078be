"""`antiphon bench serve`: live clients, each speaking and listening at the pace of life, on one server.

The clients are a process of their own. Each speaks a recorded question in frames of 80 ms, commits it, plays the
answer as it comes (the first frame `CUSHION` seconds after it arrived, the others at their time), waits a little and
asks again.
A frame that isn't there when it is to be played is late. The same question is also put to a session inside of this
process, which tells what the WebSocket costs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from antiphon.errors import ConfigError
from antiphon.evals.figures import Figure, Report, available_cores

FRAME = 1920  # samples at 24 kHz
CUSHION = 0.2  # seconds of sound that a client gathers before it plays
ROOM = 60.0  # seconds after which a client that waits for an answer gives up


@dataclass(frozen=True)
class ServeBenchConfig:
    """What is measured.

    Attributes:
        model: a preset, a folder or a hub id; `parts` of it to replace.
        clients: how many at once, one run each.
        turns: of each client.
        question: a recording of what is asked.
        sessions: how many the server admits; None measures the machine, as `antiphon serve` does.
        threads: of the model's workers.
        soak: minutes of steady talk after that, by `soak_clients`, to see whether memory grows.
        seed: of the clients' pauses.
    """

    model: str = "mini"
    parts: dict[str, str] = field(default_factory=dict)
    clients: tuple[int, ...] = (1, 2, 4, 8)
    turns: int = 5
    question: Path = Path("examples/question.wav")
    sessions: int | None = None
    threads: int = 1
    soak: float = 0.0
    soak_clients: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clients or min(self.clients) < 1 or self.turns < 1:
            raise ConfigError("The bench needs at least one client and one turn.")


def bench_serve(config: ServeBenchConfig, progress: Callable[[str], None] = print) -> Report:
    """Measures; see the module."""
    import antiphon
    from antiphon.audio.io import load
    from antiphon.dialogue.turns import Turns
    from antiphon.serve.admission import measure

    model = antiphon.load(config.model, **config.parts)
    conversant = Turns(model, config.model)
    pace = measure(conversant)
    samples = load(config.question, sample_rate=24000).samples
    report = Report(environment=_environment())
    report.add(Figure("serve-listening-work", pace.listening, "s for a second of speech", None, None, 1))
    report.add(Figure("serve-speaking-work", pace.speaking, "s for a second of speech", None, None, 1))
    inside = [_in_process(model, samples) for _ in range(config.turns + 1)][1:]
    with _server(conversant, pace, config) as (url, served):
        report.add(Figure("serve-admitted", served.admission.sessions, "live conversations", None, None, 1))
        admitted = served.admission.sessions
        for count in config.clients:
            progress(f"{count} client{'s' if count > 1 else ''}, {config.turns} turns each ...")
            found = _run_clients(url, count, samples.numpy().tobytes(), config)
            waits = sorted(wait for client in found for wait in client["waits"])
            name, n = f"serve-{count}-clients" if count > 1 else "serve-1-client", len(waits)
            for share, value in zip((50, 95, 99), _percentiles(waits)):
                report.add(Figure(f"{name}-first-audio-p{share}", value, "s after the end of speech", None, None, n))
            late, frames = (sum(client[key] for client in found) for key in ("late", "frames"))
            bar = "<= 0" if count <= admitted else None
            report.add(Figure(f"{name}-late-frames", late, "frames of 80 ms", bar, None, frames))
            refused = sum(client["refused"] for client in found)
            report.add(Figure(f"{name}-refused", refused, "clients", None, None, count))
            failed = sum(client["failed"] for client in found)
            report.add(Figure(f"{name}-failed", failed, "clients", "<= 0", None, count))
            report.add(Figure(f"{name}-memory", _memory(), "MB of the server", None, None, 1))
            if count == 1 and waits:
                over = _percentiles(waits)[0] - _percentiles(sorted(inside))[0]
                reference = _percentiles(sorted(inside))[0]
                report.add(Figure("serve-websocket-over-in-process", over, "s at the median", "<= 0.06", reference, n))
        if config.soak:
            count = min(config.soak_clients, admitted)
            progress(f"{count} clients for {config.soak:g} minutes ...")
            slope, n = _soak(url, count, samples.numpy().tobytes(), config)
            report.add(Figure("serve-soak-memory-slope", slope, "MB a minute", "<= 0.5", None, n))
    return report


def _soak(url: str, count: int, question: bytes, config: ServeBenchConfig) -> tuple[float, int]:
    """The slope of memory in MB a minute (least squares, after the first fifth) while clients talk, and its points."""
    import numpy as np

    context = multiprocessing.get_context("spawn")
    until, points = time.monotonic() + 60 * config.soak, []
    with context.Pool(1) as pool:
        while time.monotonic() < until:
            running = pool.apply_async(clients, (url, count, question, config.turns, config.seed + len(points)))
            while not running.ready():
                points.append((time.monotonic() / 60, _memory()))
                running.wait(5.0)
            running.get()
    settled = points[len(points) // 5 :]
    if len(settled) < 3:
        return float("nan"), len(settled)
    times, sizes = zip(*settled)
    return float(np.polyfit(times, sizes, 1)[0]), len(settled)


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    """The 50th, 95th and 99th; of nothing, no numbers."""
    if len(values) < 2:
        return (values * 3)[:3] or (float("nan"),) * 3  # type: ignore[return-value]
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def _in_process(model: Any, samples: Any) -> float:
    """Seconds from the end of speech to the first sound, without a server."""
    from antiphon.dialogue.turn import AudioEvent, EndEvent

    with model.session("half-duplex") as session:
        began = time.monotonic()
        for number, frame in enumerate(samples.split(FRAME)):
            session.step(frame)
            time.sleep(max(0.0, began + (number + 1) * FRAME / 24000 - time.monotonic()))
        asked, first, ended = time.monotonic(), float("nan"), False
        session.end_of_turn()
        while not ended:
            for event in session.poll():
                if isinstance(event, AudioEvent) and first != first:
                    first = time.monotonic() - asked
                ended = ended or isinstance(event, EndEvent)
            time.sleep(0.001)
    return first


@contextmanager
def _server(conversant: Any, pace: Any, config: ServeBenchConfig) -> Iterator[tuple[str, Any]]:
    """The server on a port of its own, in a thread of this process."""
    from antiphon.serve.app import create_app
    from antiphon.serve.run import listen, make_server
    from antiphon.serve.settings import ServeConfig

    settings = ServeConfig(port=0, sessions=config.sessions, threads=config.threads)
    app = create_app(conversant, settings, pace)
    server, sockets = make_server(app), [listen(settings)]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=sockets)), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{sockets[0].getsockname()[1]}/v1/realtime", app.state.served
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def _run_clients(url: str, count: int, question: bytes, config: ServeBenchConfig) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(clients, (url, count, question, config.turns, config.seed))


def clients(url: str, count: int, question: bytes, turns: int, seed: int) -> list[dict[str, Any]]:
    """Runs clients in this process. What each has seen: waits, late, frames, refused, failed.

    Args:
        question: float32 samples at 24 kHz.
    """
    import numpy as np

    pcm = (np.frombuffer(question, np.float32).clip(-1, 1) * 32767).astype("<i2").tobytes()
    frames = [pcm[at : at + 2 * FRAME] for at in range(0, len(pcm), 2 * FRAME)]

    async def all_of_them() -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(_client(url, frames, turns, seed * 1000 + n) for n in range(count))))

    return asyncio.run(all_of_them())


async def _client(url: str, frames: list[bytes], turns: int, seed: int) -> dict[str, Any]:
    from websockets.asyncio.client import connect

    chance = random.Random(seed)
    seen: dict[str, Any] = {"waits": [], "late": 0, "frames": 0, "refused": 0, "failed": 0}
    await asyncio.sleep(chance.uniform(0, 2))
    try:
        async with connect(url, max_size=None) as line:
            first = json.loads(await line.recv())
            if first["type"] == "error":
                seen["refused"] += first["error"]["code"] == "server_full"
                return seen
            change = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
            await line.send(json.dumps({"type": "session.update", "session": change}))
            for _ in range(turns):
                async with asyncio.timeout(ROOM):
                    await _turn(line, frames, seen)
                await asyncio.sleep(chance.uniform(0.3, 1.0))
    except Exception:
        seen["failed"] += 1
    return seen


async def _turn(line: Any, frames: list[bytes], seen: dict[str, Any]) -> None:
    began = time.monotonic()
    for number, frame in enumerate(frames):
        event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(frame).decode()}
        await line.send(json.dumps(event))
        await asyncio.sleep(max(0.0, began + (number + 1) * 0.08 - time.monotonic()))
    asked = time.monotonic()
    await line.send(json.dumps({"type": "input_audio_buffer.commit"}))
    await line.send(json.dumps({"type": "response.create"}))
    playing, heard = 0.0, 0.0
    while True:
        event = json.loads(await line.recv())
        now = time.monotonic()
        if event["type"] == "response.output_audio.delta":
            if not heard:
                seen["waits"].append(now - asked)
                playing = now + CUSHION
            elif now > playing + heard:
                seen["late"] += 1
                playing = now - heard  # the player waited, and goes on from here
            heard += len(event["delta"]) * 3 / 4 / 2 / 24000
            seen["frames"] += 1
        elif event["type"] == "response.done":
            if event["response"]["status"] != "completed" or not heard:
                raise RuntimeError("no answer")
            await asyncio.sleep(max(0.0, playing + heard - now))
            return


def _memory() -> float:
    """MB that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError):  # no such place on this system: the most it ever held
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _environment() -> dict[str, Any]:
    import torch

    return {
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
