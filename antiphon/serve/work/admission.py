"""How many conversations are let in: as many as the machine keeps up with, and nobody waits at the door.

A place where nobody talks, for the client's connection broke or was never made, goes to the next who asks for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import numpy as np
import torch

from antiphon.dialogue.backend import Backend
from antiphon.dialogue.events import AudioEvent
from antiphon.dialogue.half_duplex import Message

MARGIN = 0.9  # of the machine's time that may be planned with
TEST_SECONDS = 2.0  # of sound that is listened to, and of each of several answers at once
AT_ONCE = (2, 4, 8)  # answers that are tried
PATIENCE = 2.0  # seconds that a newcomer waits for a place that nobody may be in
TEST_QUESTION = "What is the capital of Italy?"


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        listening: seconds of work for a second of the user's speech.
        speaking: seconds of work for a second of the answer's.
        together: where answers share steps, seconds of work for a second of each of so many that are spoken at once.
    """

    listening: float
    speaking: float
    together: Mapping[int, float] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        """Conversations whose worst case, all speaking at once, is still made in time; at least one."""
        heard = math.floor(MARGIN / max(self.listening, 1e-6))
        if not self.together:
            return max(1, min(heard, math.floor(MARGIN / max(self.speaking, 1e-6))))
        counts, costs = [1, *self.together], [self.speaking, *self.together.values()]
        spoken = sum(np.interp(count, counts, costs) <= MARGIN for count in range(1, counts[-1] + 1))
        return max(1, min(heard, int(spoken)))


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
    return Pace(listening, speaking, _together(backend) if backend.shares_steps and speaking <= MARGIN else {})


def _together(backend: Backend) -> dict[int, float]:
    """Seconds of work for a second of each of 2, 4 and 8 answers, up to how many the machine keeps up with."""
    found: dict[int, float] = {}
    for count in AT_ONCE:
        began = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            seconds = list(threads.map(lambda _: _spoken_seconds(backend), range(count)))
        found[count] = (time.perf_counter() - began) * count / sum(seconds)
        if found[count] > MARGIN:
            break
    return found


def _spoken_seconds(backend: Backend) -> float:
    """Makes the beginning of an answer; gives the seconds of its sound."""
    seconds = 0.0
    with closing(backend.chat().answer([Message("user", TEST_QUESTION)]).events()) as events:
        for event in events:
            seconds += event.audio.duration if isinstance(event, AudioEvent) else 0.0
            if seconds >= TEST_SECONDS:
                break
    return seconds


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
