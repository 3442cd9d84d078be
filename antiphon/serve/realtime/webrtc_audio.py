"""Sound of a WebRTC call: what the server plays, at the pace of life, and what comes from the client's microphone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from antiphon.audio.downmix import Downmix
from antiphon.audio.pcm import RATE

PACKET_SAMPLES = 480  # at 24 kHz: 20 ms
CUSHION_PACKETS = 4  # that go by before a response is played, so that one late frame leaves no hole
FADE_SAMPLES = 120  # in which sound that is cleared becomes silent: 5 ms
MAX_GAP_SECONDS = 0.2  # of lost packets that are filled with silence; after a longer break the sound just goes on


@dataclass(eq=False)
class Playing:
    """The sound of one response.

    Attributes:
        response_id, item_id: of the protocol.
        parts: float32 [N] at 24 kHz, to be played.
        waiting: samples in these.
        played: samples that were played.
        packets: that went by since there was something to play.
        ended: no more of it will come.
    """

    response_id: str
    item_id: str
    parts: deque[np.ndarray] = field(default_factory=deque)
    waiting: int = 0
    played: int = 0
    packets: int = 0
    begun: bool = False
    ended: bool = False

    @property
    def played_ms(self) -> int:
        return self.played * 1000 // RATE


class Player:
    """Plays the responses of one conversation, one after the other.

    Args:
        tell: called with "started" or "stopped" and the response's id.
    """

    def __init__(self, tell: Callable[[str, str], None]):
        self.tell = tell
        self._queue: deque[Playing] = deque()
        self._fading = np.zeros(0, np.float32)

    @property
    def playing(self) -> bool:
        """Something is being played, or will be."""
        return bool(self._queue)

    @property
    def waiting(self) -> float:
        """Seconds of sound that wait."""
        return sum(each.waiting for each in self._queue) / RATE

    def add(self, response_id: str, item_id: str, samples: np.ndarray) -> None:
        """More of a response, float32 [N] at 24 kHz."""
        found = self._find(response_id)
        if found is None:
            found = Playing(response_id, item_id)
            self._queue.append(found)
        if len(samples):
            found.parts.append(samples)
            found.waiting += len(samples)

    def end(self, response_id: str) -> None:
        """That was all of a response."""
        found = self._find(response_id)
        if found is not None:
            found.ended = True

    def clear(self) -> list[Playing]:
        """Falls silent; returns what was being played and what will never be, in order."""
        dropped = list(self._queue)
        self._queue.clear()
        if dropped and dropped[0].begun and dropped[0].parts:
            rest = np.concatenate(list(dropped[0].parts))[:FADE_SAMPLES]
            self._fading = rest * np.linspace(1, 0, len(rest), dtype=np.float32)
        return dropped

    def step(self) -> np.ndarray:
        """The next 20 ms, float32 [480]; silence where there is nothing."""
        out, at = np.zeros(PACKET_SAMPLES, np.float32), len(self._fading)
        out[:at], self._fading = self._fading, self._fading[:0]
        while self._queue and at < PACKET_SAMPLES:
            now = self._queue[0]
            if not now.begun:
                now.packets += 1
                if now.packets <= CUSHION_PACKETS and not now.ended:
                    break
                now.begun = True
                self.tell("started", now.response_id)
            while now.parts and at < PACKET_SAMPLES:
                part = now.parts[0][: PACKET_SAMPLES - at]
                out[at : at + len(part)] = part
                at += len(part)
                now.played += len(part)
                now.waiting -= len(part)
                now.parts[0] = now.parts[0][len(part) :]
                if not len(now.parts[0]):
                    now.parts.popleft()
            if now.parts or not now.ended:
                break
            self._queue.popleft()
            self.tell("stopped", now.response_id)
        return out

    def _find(self, response_id: str) -> Playing | None:
        return next((each for each in self._queue if each.response_id == response_id), None)


class Microphone:
    """Decoded packets of the client, 16-bit -> float32 at 24 kHz, one channel."""

    def __init__(self) -> None:
        self._down: soxr.ResampleStream | None = None
        self._mixer = Downmix(1, RATE)
        self._form, self._next = (0, 0), 0.0  # rate and channels; when the next packet begins

    def step(self, samples: np.ndarray, rate: int, at: float | None) -> np.ndarray:
        """The sound of a packet, float32 [N].

        Args:
            samples: int16 [N, channels].
            rate: Hz; of Opus, 48 kHz.
            at: seconds on the client's clock, of the first sample; silence stands for packets that were lost.
        """
        channels = samples.shape[1]
        if self._down is None or self._form != (rate, channels):
            self._down = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")
            self._mixer = Downmix(channels, rate, PACKET_SAMPLES / RATE)
            self._form, self._next = (rate, channels), at or 0.0
        sound = samples.T.astype(np.float32) / 32768
        at = self._next if at is None else at
        lost = at - self._next
        self._next = at + len(samples) / rate
        if 0 < lost <= MAX_GAP_SECONDS:
            sound = np.pad(sound, ((0, 0), (round(lost * rate), 0)))
        return self._down.resample_chunk(self._mixer.step(sound))
