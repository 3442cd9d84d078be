"""How many conversations are let in: as many as the machine keeps up with, and nobody waits at the door.

A place where nobody talks, for the client's connection broke or was never made, goes to the next who asks for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import torch

from antiphon.dialogue.backend import Backend
from antiphon.dialogue.events import AudioEvent
from antiphon.dialogue.half_duplex import Message

MARGIN = 0.9  # of the machine's time that may be planned with
TEST_SECONDS = 2.0  # of sound that is listened to
PATIENCE = 2.0  # seconds that a newcomer waits for a place that nobody may be in
TEST_QUESTION = "What is the capital of Italy?"


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        listening: seconds of work for a second of the user's speech.
        speaking: seconds of work for a second of the answer's.
    """

    listening: float
    speaking: float

    @property
    def capacity(self) -> int:
        """Conversations whose worst case, all speaking at once, is still made in time; at least one."""
        return max(1, math.floor(MARGIN / max(self.listening, self.speaking, 1e-6)))


def measure(backend: Backend) -> Pace:
    """Holds a short conversation with nobody. Also warms up what is loaded when first used."""
    for warming in (True, False):  # the first time is slower than all that follow: it ends with the first sound
        began = time.perf_counter()
        listener = backend.listen()
        noise = 0.01 * torch.randn(int(TEST_SECONDS * backend.sample_rate), generator=torch.Generator().manual_seed(0))
        for part in noise.split(backend.sample_rate // 10):
            listener.step(part)
        listener.finish()
        listening = (time.perf_counter() - began) / TEST_SECONDS
        began, samples = time.perf_counter(), 0
        spoken = bool(backend.voices)
        with closing(backend.chat().answer([Message("user", TEST_QUESTION)], spoken=spoken).events()) as events:
            for event in events:
                if isinstance(event, AudioEvent):
                    samples += event.audio.samples.shape[-1]
                    if warming:
                        break
        seconds = samples / backend.sample_rate
        speaking = (time.perf_counter() - began) / seconds if seconds else 0.0
    return Pace(listening, speaking)


class Full(Exception):
    """There is no room; not now."""


class Place:
    """A conversation's place.

    Args:
        admission: whose.
    """

    def __init__(self, admission: Admission):
        self.admission, self.taken = admission, True

    def lend(self, give_up: Callable[[], None], after: float = 0.0) -> None:
        """Nobody may be here: whoever needs the place gets it, and `give_up` is called.

        Args:
            give_up: ends what goes on here, soon.
            after: seconds in which it is kept all the same.
        """
        self.admission.lent[self] = (time.monotonic() + after, give_up)

    def keep(self) -> None:
        """Somebody is here."""
        self.admission.lent.pop(self, None)

    def leave(self) -> None:
        """It is free; once."""
        self.keep()
        if self.taken:
            self.taken = False
            self.admission.live -= 1


class Admission:
    """Counts who is in.

    Args:
        sessions: conversations at once.
        requests: HTTP requests that use the model, at once.
    """

    def __init__(self, sessions: int, requests: int):
        self.sessions, self.requests = sessions, requests
        self.live = self.asked = 0
        self.draining = False
        self.lent: dict[Place, tuple[float, Callable[[], None]]] = {}  # until when each is kept, how it is given up

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Place]:
        """A conversation's place. Raises Full."""
        patient_until = time.monotonic() + PATIENCE
        while not self.draining and self.live >= self.sessions and self.lent:
            place, (until, give_up) = min(self.lent.items(), key=lambda each: each[1][0])
            if until <= time.monotonic():
                place.leave()
                give_up()
            elif until > patient_until:
                break
            else:
                await asyncio.sleep(0.02)
        if self.draining or self.live >= self.sessions:
            raise Full
        self.live += 1
        place = Place(self)
        try:
            yield place
        finally:
            place.leave()

    def enter(self) -> None:
        """A request's place, until `leave`. Raises Full."""
        if self.draining or self.asked >= self.requests:
            raise Full
        self.asked += 1

    def leave(self) -> None:
        self.asked -= 1
