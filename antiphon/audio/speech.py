"""Who speaks when: beginnings, pauses and ends of speech in sound that comes in pieces of any size.

    detector = SpeechDetector(SileroActivity(24000), silence=0.5)
    for event in detector.step(samples): ...           # "start", perhaps "pause"s, "stop", each with its sample

What counts as speech is the affair of an `Activity`: Silero's network, which tells voices from other sounds; or, for
sound in which there is nothing but a voice, loudness alone, over the noise or over a fixed level.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from antiphon.audio.vad import CHUNK, SAMPLE_RATE, SileroState, SileroVad

ONSET_SECONDS, ONSET_WITHIN_SECONDS = 0.08, 0.13  # a turn begins with so much speech within so much time
HYSTERESIS = 0.15  # less likely than the threshold by this is still speech, once it has begun
MIN_LEVEL = -48.0  # decibels of full scale under which nothing is loud
FLOOR_RISE = 3.0  # decibels a second by which the floor follows louder noise, so that a steady one becomes quiet


class Activity(Protocol):
    """Says of each hop of sound whether it is speech.

    Attributes:
        sample_rate: of the sound, Hz.
        hop: samples that one answer is about.
        threshold: the higher, the surer it has to be; 0 to 1, where it isn't a level.
    """

    sample_rate: int
    hop: int
    threshold: float

    def step(self, samples: NDArray[np.float32]) -> list[bool]:
        """Takes samples [N], any N; an answer for each hop that they complete."""
        ...


class SileroActivity:
    """Speech as Silero's network finds it (`SileroVad`), in hops of 32 ms.

    Args:
        sample_rate: Hz.
        threshold: 0 to 1, the probability from which a hop is speech.
    """

    def __init__(self, sample_rate: int = 24000, threshold: float = 0.5):
        self.sample_rate, self.threshold = sample_rate, threshold
        self.hop = round(CHUNK * sample_rate / SAMPLE_RATE)
        self._speech = False
        self._rest = np.zeros(0, np.float32)
        self._vad = SileroVad.shipped()
        self._state: SileroState = self._vad.init_state(1)

    def __deepcopy__(self, _: object) -> SileroActivity:
        """A snapshot: of the state alone, the network is shared."""
        twin = copy.copy(self)
        twin._state = self._state.clone()
        return twin

    def step(self, samples: NDArray[np.float32]) -> list[bool]:
        chunks, self._rest = _hops(self._rest, samples, self.hop)
        if not len(chunks):
            return []
        # Hop by hop: a stream's resampler would give its samples late, and never just a chunk's worth.
        if self.sample_rate != SAMPLE_RATE:
            chunks = np.stack([self._resampled(chunk) for chunk in chunks])
        found = []
        for chance in self._vad.step(torch.from_numpy(chunks.reshape(1, -1)), self._state)[0].tolist():
            self._speech = chance > self.threshold - (HYSTERESIS if self._speech else 0.0)
            found.append(self._speech)
        return found

    def _resampled(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        resampled = soxr.resample(chunk, self.sample_rate, SAMPLE_RATE, "LQ")[:CHUNK]
        return np.pad(resampled, (0, CHUNK - len(resampled)))


class LoudnessActivity:
    """Speech as what is louder than the noise so far, in hops of 20 ms.

    Args:
        sample_rate: Hz, a multiple of 50.
        threshold: 0 to 1; higher needs louder speech over the noise (0.5: 10 decibels).
    """

    def __init__(self, sample_rate: int = 24000, threshold: float = 0.5):
        self.sample_rate, self.hop = sample_rate, sample_rate // 50
        self.threshold, self.floor = threshold, -60.0
        self._rest = np.zeros(0, np.float32)

    def step(self, samples: NDArray[np.float32]) -> list[bool]:
        hops, self._rest = _hops(self._rest, samples, self.hop)
        return [self._loud(energy) for energy in np.square(hops).mean(1).tolist()]

    def _loud(self, energy: float) -> bool:
        level, rise = 10 * math.log10(energy + 1e-10), FLOOR_RISE * self.hop / self.sample_rate
        self.floor = min(level, self.floor + rise)
        return level > max(MIN_LEVEL, self.floor + 2 + 16 * self.threshold)


class LevelActivity:
    """Speech as what is louder than a fixed level.

    Args:
        sample_rate: Hz.
        hop: samples that one answer is about.
        threshold: decibels of full scale.
    """

    def __init__(self, sample_rate: int, hop: int, threshold: float = -42.0):
        self.sample_rate, self.hop, self.threshold = sample_rate, hop, threshold
        self._rest = np.zeros(0, np.float32)

    def step(self, samples: NDArray[np.float32]) -> list[bool]:
        hops, self._rest = _hops(self._rest, samples, self.hop)
        return (np.square(hops).mean(1) > 10 ** (self.threshold / 10)).tolist()


def _hops(
    rest: NDArray[np.float32], samples: NDArray[np.float32], hop: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What was left and what came -> whole hops [n, hop], and what is left now."""
    samples = np.concatenate([rest, samples])
    whole = len(samples) // hop * hop
    return samples[:whole].reshape(-1, hop), samples[whole:]


def activity(kind: str, sample_rate: int, threshold: float = 0.5) -> Activity:
    """ "silero" or "loudness", by name."""
    known: dict[str, Callable[[int, float], Activity]] = {"silero": SileroActivity, "loudness": LoudnessActivity}
    if kind not in known:
        raise ValueError(f"speech is found by {', '.join(known)}, not by {kind!r}")
    return known[kind](sample_rate, threshold)


@dataclass(frozen=True)
class SpeechEvent:
    """Something that was found.

    Attributes:
        kind: "start", "pause", "resume" or "stop"; of an `Endpointer` also "likely".
        at: the sample, from the beginning of the sound, that it is about: of "start" the first of the speech, of the
            others the one where it became certain.
        quiet_from: of "pause", "likely" and "stop", the sample at which the speech had ended.
    """

    kind: str
    at: int
    quiet_from: int = 0


@dataclass
class SpeechDetector:
    """Feed it samples; it gives events in order: "start", perhaps "pause"s and "resume"s, "stop".

    Attributes:
        activity: what counts as speech.
        silence: seconds without speech that end a turn.
        pause: seconds without speech that are a pause, which is told again after each as many more; None for no such
            events.
        position: samples so far.
        speaking: whether a turn is on.
        quiet: samples since there was speech.
    """

    activity: Activity = field(default_factory=SileroActivity)
    silence: float = 0.5
    pause: float | None = None
    position: int = 0
    speaking: bool = False
    quiet: int = 0
    _recent: deque[bool] = field(default_factory=deque)

    def step(self, samples: NDArray[np.float32]) -> list[SpeechEvent]:
        """Takes samples, float32 [N] at the activity's rate."""
        events: list[SpeechEvent] = []
        for speech in self.activity.step(samples):
            self._hop(speech, events)
        return events

    def ends(self, samples: NDArray[np.float32]) -> bool:
        """Takes samples; whether a turn ends with them."""
        return any(event.kind == "stop" for event in self.step(samples))

    def stop(self) -> None:
        """The turn was ended by other means."""
        self.speaking, self.quiet = False, 0
        self._recent.clear()

    def _hop(self, speech: bool, events: list[SpeechEvent]) -> None:
        hop, rate = self.activity.hop, self.activity.sample_rate
        self.position += hop
        if speech and self.speaking and self.pause is not None and self.quiet >= self.pause * rate:
            events.append(SpeechEvent("resume", self.position - hop))
        self.quiet = 0 if speech else self.quiet + hop
        if not self.speaking:
            self._recent.append(speech)
            if len(self._recent) > max(1, round(ONSET_WITHIN_SECONDS * rate / hop)):
                self._recent.popleft()
            if speech and sum(self._recent) >= max(1, round(ONSET_SECONDS * rate / hop)):
                first = len(self._recent) - self._recent.index(True)
                self.speaking = True
                events.append(SpeechEvent("start", self.position - first * hop))
                self._recent.clear()
        elif self.quiet >= self.silence * rate:
            events.append(SpeechEvent("stop", self.position, self.position - self.quiet))
            self.stop()
        elif self.pause is not None and self.quiet >= self.pause * rate and self.quiet % (self.pause * rate) < hop:
            events.append(SpeechEvent("pause", self.position, self.position - self.quiet))
