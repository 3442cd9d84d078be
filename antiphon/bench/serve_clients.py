"""The live clients of `antiphon bench serve`: each speaks and listens at the pace of life, on `/v1/realtime`.

They are run by a process of their own, so that what they cost is not the server's. A client of a model of turns speaks
a recorded question in frames of 80 ms, commits it, plays the answer as it comes, waits a little and asks again. A
client of a duplex model sends a frame every 80 ms whatever happens: the question, then silence, then the question
again. Both begin to play an answer `BUFFER_SECONDS` after its first sound arrived; a frame that isn't there when it is
to be played is late, and the player goes on from there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

FRAME_SAMPLES = 1920  # at 24 kHz
FRAME_SECONDS = FRAME_SAMPLES / 24000
BUFFER_SECONDS = 0.2  # of sound that a client gathers before it plays
MAX_WAIT_SECONDS = 60.0  # after which a client that waits for an answer gives up
LISTENING_SECONDS = 6.0  # that a client of a duplex model is silent after its question


@dataclass(frozen=True)
class Plan:
    """What the clients do.

    Attributes:
        url: of `/v1/realtime`.
        question: 16-bit samples at 24 kHz.
        live: it is a duplex model.
        turns: of each conversation.
        seconds: for which one conversation follows another; 0: one each.
        seed: of their pauses.
    """

    url: str
    question: bytes
    live: bool = False
    turns: int = 5
    seconds: float = 0.0
    seed: int = 0

    @property
    def frames(self) -> list[bytes]:
        """The question, 80 ms each, the last one filled up with silence."""
        size = 2 * FRAME_SAMPLES
        parts = [self.question[at : at + size] for at in range(0, len(self.question), size)]
        return [part.ljust(size, b"\0") for part in parts]


@dataclass
class Seen:
    """What clients have seen.

    Attributes:
        waits: seconds from the end of the question to the first sound of an answer that began after it.
        late, frames: of the answers.
        turns, unanswered: questions, and those after which no answer began (a duplex model may stay silent, or may
            have begun before the question was over).
        conversations, refused, failed: how many; `problems` says what failed.
    """

    waits: list[float] = field(default_factory=list)
    late: int = 0
    frames: int = 0
    turns: int = 0
    unanswered: int = 0
    conversations: int = 0
    refused: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: Seen) -> Seen:
        return Seen(**{name: mine + getattr(other, name) for name, mine in vars(self).items()})


def clients(plan: Plan, count: int) -> Seen:
    """Runs clients in this process and gathers what they have seen."""

    async def all_of_them() -> list[Seen]:
        return list(await asyncio.gather(*(_client(plan, plan.seed * 1000 + number) for number in range(count))))

    return sum(asyncio.run(all_of_them()), Seen())


async def _client(plan: Plan, seed: int) -> Seen:
    seen, chance, until = Seen(), random.Random(seed), time.monotonic() + plan.seconds
    await asyncio.sleep(chance.uniform(0, 2))
    while True:
        await _conversation(plan, seen, chance)
        if time.monotonic() >= until:
            return seen
        await asyncio.sleep(chance.uniform(0.3, 1.0))


async def _conversation(plan: Plan, seen: Seen, chance: random.Random) -> None:
    from websockets.asyncio.client import connect

    frames = plan.frames
    try:
        async with connect(plan.url, max_size=None, max_queue=None) as connection:
            first = json.loads(await connection.recv())
            if first["type"] == "error":
                seen.refused += first["error"]["code"] == "server_full"
                seen.failed += first["error"]["code"] != "server_full"
                return
            seen.conversations += 1
            if plan.live:
                await _live(connection, frames, plan.turns, seen)
                return
            change = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
            await connection.send(json.dumps({"type": "session.update", "session": change}))
            for _ in range(plan.turns):
                async with asyncio.timeout(MAX_WAIT_SECONDS):
                    await _turn(connection, frames, seen)
                await asyncio.sleep(chance.uniform(0.3, 1.0))
    except Exception as error:
        seen.failed += 1
        seen.problems.append(f"{type(error).__name__}: {error}")


class _Player:
    """Plays one answer, and counts what isn't there in time."""

    def __init__(self, seen: Seen):
        self.seen, self.began, self.heard = seen, 0.0, 0.0

    def arrive(self, event: dict[str, Any], now: float) -> None:
        """A piece of sound."""
        if not self.heard:
            self.began = now + BUFFER_SECONDS
        elif now > self.ends:
            self.seen.late += 1
            self.began = now - self.heard  # it waited, and goes on from here
        self.heard += len(base64.b64decode(event["delta"])) / 2 / 24000
        self.seen.frames += 1

    @property
    def ends(self) -> float:
        """When all that has come is played."""
        return self.began + self.heard


async def _append(connection: Any, frame: bytes) -> None:
    await connection.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(frame).decode()}))


async def _turn(connection: Any, frames: list[bytes], seen: Seen) -> None:
    """Asks once, and hears the answer out."""
    began, player = time.monotonic(), _Player(seen)
    for number, frame in enumerate(frames):
        await _append(connection, frame)
        await asyncio.sleep(max(0.0, began + (number + 1) * FRAME_SECONDS - time.monotonic()))
    asked = time.monotonic()
    seen.turns += 1
    await connection.send(json.dumps({"type": "input_audio_buffer.commit"}))
    await connection.send(json.dumps({"type": "response.create"}))
    while True:
        event, now = json.loads(await connection.recv()), time.monotonic()
        if event["type"] == "response.output_audio.delta":
            if not player.heard:
                seen.waits.append(now - asked)
            player.arrive(event, now)
        elif event["type"] == "response.done":
            if event["response"]["status"] != "completed" or not player.heard:
                raise RuntimeError(f"no answer: {event['response']['status']} {event['response']['status_details']}")
            await asyncio.sleep(max(0.0, player.ends - now))
            return


async def _live(connection: Any, frames: list[bytes], turns: int, seen: Seen) -> None:
    """Sends frames in time, and hears whatever is said."""
    asked: float | None = None  # since when an answer is waited for

    async def listen() -> None:
        nonlocal asked
        players: dict[str, _Player] = {}
        counts: set[str] = set()  # answers that began after the question
        async for message in connection:
            event, now = json.loads(message), time.monotonic()
            if event["type"] == "response.created" and asked is not None:
                counts.add(event["response"]["id"])
            elif event["type"] == "response.output_audio.delta":
                if event["response_id"] in counts and asked is not None:
                    seen.waits.append(now - asked)
                    asked = None
                players.setdefault(event["response_id"], _Player(seen)).arrive(event, now)
            elif event["type"] == "response.done":
                players.pop(event["response"]["id"], None)

    listening = asyncio.create_task(listen())
    sound = [*frames, *[bytes(2 * FRAME_SAMPLES)] * round(LISTENING_SECONDS / FRAME_SECONDS)]
    try:
        began, sent = time.monotonic(), 0
        for _ in range(turns):
            for number, frame in enumerate(sound):
                await _append(connection, frame)
                sent += 1
                await asyncio.sleep(max(0.0, began + sent * FRAME_SECONDS - time.monotonic()))
                if number + 1 == len(frames):
                    asked = time.monotonic()
                    seen.turns += 1
            seen.unanswered += asked is not None
            asked = None
            if listening.done():
                raise RuntimeError(f"the connection broke: {listening.exception()!r}")
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await listening
