"""How many conversations are let in: as many as the machine keeps up with, and nobody waits at the door."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from antiphon.dialogue.turn import AudioEvent
from antiphon.dialogue.turns import Conversant, Message

MARGIN = 0.9  # of the machine's time that may be planned with
TEST_SECONDS = 2.0  # of sound that is listened to
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


def measure(conversant: Conversant) -> Pace:
    """Holds a short conversation with nobody. Also warms up what is loaded when first used."""
    for _ in range(2):  # the first time is slower than all that follow
        began = time.perf_counter()
        listener = conversant.listen()
        noise = 0.01 * torch.randn(
            int(TEST_SECONDS * conversant.sample_rate), generator=torch.Generator().manual_seed(0)
        )
        for part in noise.split(conversant.sample_rate // 10):
            listener.step(part)
        listener.finish()
        listening = (time.perf_counter() - began) / TEST_SECONDS
        began, samples = time.perf_counter(), 0
        for event in conversant.talk().answer([Message("user", TEST_QUESTION)]).events():
            if isinstance(event, AudioEvent):
                samples += event.audio.samples.shape[-1]
        spoken = samples / conversant.sample_rate
        speaking = (time.perf_counter() - began) / spoken if spoken else 0.0
    return Pace(listening, speaking)


class Full(Exception):
    """There is no room; not now."""


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

    @contextmanager
    def session(self) -> Iterator[None]:
        """A conversation's place. Raises Full."""
        if self.draining or self.live >= self.sessions:
            raise Full
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1

    def enter(self) -> None:
        """A request's place, until `leave`. Raises Full."""
        if self.draining or self.asked >= self.requests:
            raise Full
        self.asked += 1

    def leave(self) -> None:
        self.asked -= 1
