"""Who speaks when, by loudness: the beginning and the end of the user's turns on a live line.

`dialogue.session.Endpointer` finds ends of turns; a server's clients want to know beginnings as well, to stop what is
being played, and pauses, to ask whether the turn may be over.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

HOP = 480  # samples at 24 kHz: 20 ms
RATE = 24000
ONSET, WINDOW = 4, 6  # a turn begins with so many loud hops among so many
FAINT = -48.0  # decibels of full scale below which nothing counts as speech
RISE = 3.0  # decibels a second by which the floor follows louder noise, so that a steady one becomes quiet


@dataclass(frozen=True)
class Sign:
    """Something that was found. `at` is the sample, from the beginning of the line, that it is about: of "start" the
    first loud one, of "pause" and "stop" the one where it became certain.
    """

    kind: str
    at: int


@dataclass
class Vad:
    """Feed it samples; it gives signs in order: "start", perhaps "pause"s, "stop".

    Attributes:
        threshold: 0 to 1; higher needs louder speech over the noise (0.5: 10 decibels).
        silence: seconds of quiet that end a turn.
        pause: seconds of quiet that are a pause; None for no such sign.
    """

    threshold: float = 0.5
    silence: float = 0.5
    pause: float | None = None
    position: int = 0
    speaking: bool = False
    floor: float = -60.0
    quiet: int = 0  # samples since something was loud
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _rest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def step(self, samples: np.ndarray) -> list[Sign]:
        """Takes samples, float32 [N] at 24 kHz."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // HOP * HOP
        self._rest = samples[whole:]
        signs: list[Sign] = []
        for energy in np.square(samples[:whole]).reshape(-1, HOP).mean(axis=1).tolist():
            self._hop(10 * math.log10(energy + 1e-10), signs)
        return signs

    def stop(self) -> None:
        """The turn was ended by other means."""
        self.speaking, self.quiet = False, 0
        self._recent.clear()

    def _hop(self, level: float, signs: list[Sign]) -> None:
        step = RISE * HOP / RATE
        self.floor = min(level, self.floor + step) if level < self.floor else self.floor + min(level - self.floor, step)
        loud = level > max(FAINT, self.floor + 2 + 16 * self.threshold)
        self.position += HOP
        self.quiet = 0 if loud else self.quiet + HOP
        if not self.speaking:
            self._recent.append(loud)
            if loud and sum(self._recent) >= ONSET:
                first = len(self._recent) - list(self._recent).index(True)
                self.speaking = True
                signs.append(Sign("start", self.position - first * HOP))
                self._recent.clear()
        elif self.quiet >= self.silence * RATE:
            self.stop()
            signs.append(Sign("stop", self.position))
        elif self.pause is not None and 0 <= self.quiet - self.pause * RATE < HOP:
            signs.append(Sign("pause", self.position))
