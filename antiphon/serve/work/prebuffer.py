"""How much of an answer's sound is gathered before any of it is given, so that it doesn't break off later.

An answer is made faster than it is played, but not evenly: while another conversation's question is written down, or
its answer begun, this one gets little. What an answer should have gathered is known when it has been made; the next one
gathers what the last ones with as many conversations around should have. Alone on a quick machine that is nothing.

    prebuffer = Prebuffer()
    gathering = prebuffer.begin(conversations=2)
    for event in answer.events():
        for ready in gathering.take(event, time.monotonic()): ...
    for ready in gathering.end(): ...
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque

from antiphon.dialogue.events import AudioEvent, TextEvent

MOST_SECONDS = 1.5  # that are gathered: beyond that the wait is worse than a gap
REMEMBERED = 6  # answers, of which the one that should have gathered most counts
PRESUMED_SECONDS = 0.3  # for each conversation, where no answer was made among so many yet


class Prebuffer:
    """What one server has learnt."""

    def __init__(self) -> None:
        self._needed: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._lock = threading.Lock()

    def seconds(self, conversations: int) -> float:
        """Of sound to gather for an answer among so many conversations, its own included."""
        with self._lock:
            needed = self._needed.get(conversations)
            presumed = PRESUMED_SECONDS * conversations
            return min(MOST_SECONDS, max(needed) if needed else presumed)

    def begin(self, conversations: int) -> Gathering:
        """For an answer among so many conversations."""
        return Gathering(self, max(1, conversations))

    def learn(self, conversations: int, needed: float) -> None:
        """An answer among so many should have gathered so many seconds."""
        with self._lock:
            self._needed[conversations].append(needed)


class Gathering:
    """One answer's.

    Args:
        prebuffer: tells how much, and learns.
        conversations: around.
    """

    def __init__(self, prebuffer: Prebuffer, conversations: int) -> None:
        self._prebuffer, self._conversations = prebuffer, conversations
        self._wanted = prebuffer.seconds(conversations)
        self._held: list[AudioEvent] = []
        self._began: float | None = None  # when its first sound was made
        self._made = self._needed = 0.0
        self._open = True

    def take(self, event: object, now: float) -> list[object]:
        """What is to be given, now that something of the answer has been made.

        Args:
            event: text goes on at once, sound when there is enough, and what else there is behind all sound.
            now: seconds on a clock.
        """
        if not isinstance(event, AudioEvent):
            return [event] if isinstance(event, TextEvent) else [*self.end(), event]
        self._began = now if self._began is None else self._began
        self._needed = max(self._needed, now - self._began - self._made)
        self._made += event.audio.duration
        if self._open and self._made < self._wanted:
            self._held.append(event)
            return []
        return [*self._release(), event]

    def end(self) -> list[object]:
        """What is held yet: no more sound comes, or none for a while."""
        if self._began is not None:
            self._prebuffer.learn(self._conversations, self._needed)
            self._began, self._made, self._needed = None, 0.0, 0.0
        return self._release()

    def _release(self) -> list[object]:
        held, self._held, self._open = self._held, [], False
        return list(held)
