"""What the routes of one server share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from antiphon.audio.io import Audio
from antiphon.dialogue.events import Sampling
from antiphon.dialogue.half_duplex import Backend, ChatSession, Listener, RecognizerListener
from antiphon.errors import SessionError
from antiphon.serve.access.client_secrets import ClientSecrets
from antiphon.serve.access.connections import Connections
from antiphon.serve.metrics import Metrics
from antiphon.serve.settings import ServeConfig
from antiphon.serve.work.admission import Admission, Pace
from antiphon.serve.work.scheduler import Workers

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.models.asr.recognizer import Recognizer
    from antiphon.serve.realtime.connection import RealtimeLine
    from antiphon.serve.realtime.webrtc import WebRtcCall
    from antiphon.serve.recordings import Recordings


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

    def __init__(self, name: str, recognizer: Recognizer | None = None, sample_rate: int = 24000):
        self.name, self.recognizer, self.sample_rate = name, recognizer, sample_rate

    def listen(self) -> Listener:
        if self.recognizer is None:
            raise SessionError("This model writes nothing down; serve it with --hear, or serve another.")
        return RecognizerListener(self.recognizer, self.sample_rate)

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
        workers: where it works.
        admission: who is in.
        metrics: what is counted.
        engine: where live conversations with a duplex model are held; None for a model that talks in turns.
        recordings: where conversations are kept; None keeps none.
        pace: how quick it was when it started; None if nobody measured.
        sockets: live conversations.
        parked: of those, the ones whose line broke and who may come back, by their ids.
        calls: of those, the ones by WebRTC, by their ids.
        connections: of all clients.
        keys: that pages in browsers were given.
        spoken: what was said in the latest spoken chat answers, by their ids.
    """

    backend: Backend
    config: ServeConfig
    workers: Workers
    admission: Admission
    metrics: Metrics
    pace: Pace | None = None
    engine: BatchedEngine | None = None
    recordings: Recordings | None = None
    sockets: set[RealtimeLine] = field(default_factory=set)
    parked: dict[str, RealtimeLine] = field(default_factory=dict)
    calls: dict[str, WebRtcCall] = field(default_factory=dict)
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
