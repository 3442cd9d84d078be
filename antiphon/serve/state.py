"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from antiphon.audio.io import Audio
from antiphon.audio.smart_turn import TurnDetector
from antiphon.dialogue.backend import Backend, ChatSession, Listener
from antiphon.dialogue.events import Sampling
from antiphon.dialogue.half_duplex import RecognizerListener
from antiphon.dialogue.turn_taking.network import NetworkTurns
from antiphon.errors import SessionError
from antiphon.models.asr.heard import ENGLISH, HearingOptions
from antiphon.serve.access.client_secrets import ClientSecrets
from antiphon.serve.access.connections import Connections
from antiphon.serve.errors import RequestError, full
from antiphon.serve.settings import ServeConfig
from antiphon.serve.work.admission import Admission, Pace
from antiphon.serve.work.scheduler import Scheduler

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.models.asr.recognizer import Recognizer
    from antiphon.serve.recordings import Recordings


FIRST_AUDIO_SECONDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class Metrics:
    """One server's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("antiphon_sessions", "Live conversations.", registry=registry)
        self.capacity = Gauge("antiphon_capacity", "Live conversations that are admitted at once.", registry=registry)
        self.load = Gauge("antiphon_load", "Share of the last seconds in which the model worked.", registry=registry)
        self.admitted = Counter("antiphon_admitted", "Conversations begun.", ["protocol"], registry=registry)
        self.refused = Counter(
            "antiphon_refused", "Refused because the server was full.", ["protocol"], registry=registry
        )
        self.ended = Counter("antiphon_ended", "Conversations ended, by reason.", ["reason"], registry=registry)
        self.frames = Counter("antiphon_frames", "Frames of 80 ms spoken in conversations.", registry=registry)
        self.late = Counter("antiphon_late_frames", "Of those, made after they were to be played.", registry=registry)
        self.lost = Counter(
            "antiphon_lost_frames", "Frames of 80 ms that a duplex model passed over, being behind.", registry=registry
        )
        self.errors = Counter("antiphon_errors", "Answers that failed.", registry=registry)
        self.first_audio = Histogram(
            "antiphon_first_audio_seconds",
            "From the end of the user's turn to the first sound of the answer.",
            buckets=FIRST_AUDIO_SECONDS,
            registry=registry,
        )
        self.requests = Counter("antiphon_requests", "HTTP requests.", ["route", "status"], registry=registry)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class LiveConnection(Protocol):
    """A live conversation, as far as others than itself know it.

    Attributes:
        id: by which a client names it.
        task: in which it goes on; None where its client's request is that.
    """

    id: str
    task: asyncio.Task[None] | None

    def close(self) -> None:
        """Ends it, soon."""

    async def resume(self, transport: Any) -> None:
        """Goes on over a new transport, whose connection broke, until that is closed."""


class LiveOnly:
    """A duplex model where a `Backend` is asked for: it can be talked to live and in no other way. With a
    recognizer beside it, what the user says is written down.

    Args:
        name: what it is called.
        recognizer: writes down; None for no words.
        sample_rate: Hz.
    """

    voices = ("heart",)
    calls_functions = False
    sees = False
    writes_down = True  # where it hears at all
    structured = shares_steps = False

    def __init__(self, name: str, recognizer: Recognizer | None = None, sample_rate: int = 24000):
        self.name, self.recognizer, self.sample_rate = name, recognizer, sample_rate

    @property
    def languages(self) -> Collection[str]:
        return (self.recognizer.languages if self.recognizer is not None else None) or (ENGLISH,)

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> Listener:
        if self.recognizer is None:
            raise SessionError("This model writes nothing down; serve it with --hear, or serve another.")
        return RecognizerListener(self.recognizer, self.sample_rate, options, live)

    def chat(self) -> ChatSession:
        raise SessionError("This model talks live alone: use /v1/realtime or /api/chat.")

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        raise SessionError("This model doesn't read aloud; it talks live: use /v1/realtime or /api/chat.")


@dataclass
class Served:
    """A model that is served.

    Attributes:
        backend: what is talked to.
        config: how.
        scheduler: where it works.
        admission: who is in.
        metrics: what is counted.
        engine: where live conversations with a duplex model are held; None for a model that talks in turns.
        recordings: where conversations are kept; None keeps none.
        pace: how quick it was when it started; None if nobody measured.
        turns: makes what decides whose turn it is, for `semantic_vad`, by eagerness; None refuses that.
        turn_detector: says besides how likely a turn is over.
        live: Realtime conversations.
        disconnected: of those, the ones whose connection broke and who may come back, by their ids.
        calls: of those, the ones by WebRTC, by their ids.
        connections: of all clients.
        keys: that pages in browsers were given.
        spoken: what was said in the latest spoken chat answers, by their ids.
    """

    backend: Backend
    config: ServeConfig
    scheduler: Scheduler
    admission: Admission
    metrics: Metrics
    pace: Pace | None = None
    engine: BatchedEngine | None = None
    recordings: Recordings | None = None
    turns: Callable[[str], NetworkTurns] | None = None
    turn_detector: TurnDetector | None = None
    live: set[LiveConnection] = field(default_factory=set)
    disconnected: dict[str, LiveConnection] = field(default_factory=dict)
    calls: dict[str, LiveConnection] = field(default_factory=dict)
    connections: Connections = field(init=False)
    keys: ClientSecrets = field(default_factory=ClientSecrets)
    spoken: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.connections = Connections(self.config.connections, self.config.connections_per_address)

    @property
    def hears(self) -> bool:
        """What the user says is turned into words."""
        return not isinstance(self.backend, LiveOnly) or self.backend.recognizer is not None

    def refuse(self, protocol: str) -> RequestError:
        """What a client is told for whom there is no room; it is counted."""
        self.metrics.refused.labels(protocol).inc()
        return full(self.admission.draining)
