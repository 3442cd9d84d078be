"""A Realtime conversation with one client, whatever carries its events, with the model run by the scheduler.

Three things go on at once: what the client sends goes into the `RealtimeSession`; what comes out of it is sent, or done
by the `ModelRunner`; and what that finds goes into the session again, always on the event loop. Events go over a
`Transport`: a WebSocket (`websocket`), or the data channel of a WebRTC call (`webrtc`), whose sound is `Media` beside
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import check_text, read_json
from antiphon.serve.realtime.commands import Limits, ServedModel
from antiphon.serve.realtime.duplex_session import DuplexRealtimeSession
from antiphon.serve.realtime.items import new_id
from antiphon.serve.realtime.runner import BLOCK_SAMPLES, ModelRunner
from antiphon.serve.realtime.session import RealtimeSession
from antiphon.serve.work.admission import Place

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25  # between two looks at the clock
FIRST_WORD_SECONDS = 10.0  # that the place of a client who has sent nothing yet is kept from others
TRY_AGAIN, GOING_AWAY, POLICY, FAILED = 1013, 1001, 1008, 1011  # close codes (RFC 6455; 1013: IANA's registry)

Job = Callable[[], Awaitable[None]]


class Closing(Exception):
    """The conversation is to be closed from our side."""

    def __init__(self, code: int, reason: str, error: RequestError | None = None):
        super().__init__(reason)
        self.code, self.reason, self.error = code, reason, error


class Gone(Exception):
    """The client has closed the connection, or it broke.

    Attributes:
        reason: for the log.
        lost: it broke; the client may come back.
    """

    def __init__(self, reason: str, lost: bool):
        super().__init__(reason)
        self.reason, self.lost = reason, lost


class Transport(Protocol):
    """Carries events, JSON texts, both ways."""

    async def ready(self) -> None:
        """Returns when something can be sent."""

    async def receive(self) -> str | None:
        """The next text; None for a message of another kind. Raises Gone, or an OSError or RuntimeError likewise."""

    async def send(self, text: str) -> None:
        """Returns when more can be sent."""

    async def close(self, code: int, reason: str) -> None:
        """Says goodbye."""

    def abort(self) -> None:
        """Lets go at once; what is in the buffers is lost."""


class Media(Protocol):
    """Carries sound beside the events.

    Attributes:
        first_word_seconds: that the place is kept from others while nobody has said anything.
    """

    first_word_seconds: float

    @property
    def busy(self) -> bool:
        """Something is being played."""

    def jobs(self) -> list[Job]:
        """What else goes on while the connection is there."""

    def play(self, delta: dict[str, Any]) -> None:
        """Sound of a response, instead of an event."""

    def said(self, event: dict[str, Any]) -> None:
        """An event that the client is told."""

    def asked(self, event: Any) -> bool:
        """Does what a client asks of the sound; false if its event is about something else."""


def error_event(error: RequestError) -> dict[str, Any]:
    """An error as an event, where there is no session that could tell it."""
    return {"type": "error", "event_id": new_id("event"), "error": error.shown() | {"event_id": None}}


@asynccontextmanager
async def first_end(jobs: Sequence[Job]) -> AsyncIterator[BaseException | None]:
    """Runs jobs until the first of them ends, and gives its exception; the others go on until the block is left."""
    tasks = [asyncio.create_task(job()) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        yield next(iter(done)).exception()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def new_session(
    served: Served, model: str = "", transcription: bool = False, given: Sequence[dict[str, Any]] = ()
) -> RealtimeSession:
    """A session with what is served, before anybody is connected; arguments as for a `RealtimeConnection`."""
    backend, config = served.backend, served.config
    named = [each["model"] for each in given if isinstance(each.get("model"), str)]
    name = model or next(filter(None, reversed(named)), backend.name)
    can = (backend.calls_functions, served.hears, backend.languages, backend.sees, backend.writes_down)
    about = ServedModel(name[:128], list(backend.voices), *can)
    judges = served.turn_detector is not None
    limits = Limits(config.decoded_seconds, config.session_seconds, vad=config.vad, turns=served.turns, judges=judges)
    kind = RealtimeSession if served.engine is None else DuplexRealtimeSession
    session = kind(about, limits, time.monotonic(), time.time(), transcription)
    for each in given:
        session.preset(each)
    return session


class RealtimeConnection:
    """One client; a `state.LiveConnection`.

    Args:
        transport: open.
        served: the server.
        model: as the client names it; "" for the name of what is served.
        transcription: the client only wants words written down.
        given: `session`s as of session.update, to begin with; what is wrong with one is a RequestError.
        media: None if sound goes with the events.
    """

    def __init__(
        self,
        transport: Transport,
        served: Served,
        model: str = "",
        transcription: bool = False,
        given: Sequence[dict[str, Any]] = (),
        media: Media | None = None,
    ):
        self.transport, self.served, self.config, self.media = transport, served, served.config, media
        self.loop, self.task = asyncio.get_running_loop(), None
        self.began = self.last = time.monotonic()
        self.session = new_session(served, model, transcription, given)
        self.id = self.session.id
        self.runner = ModelRunner(self.session, served, self)
        self.outgoing: deque[tuple[str, str | None]] = deque()
        self.outgoing_bytes = 0
        self.ready = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.comeback: asyncio.Future[Transport | None] | None = None
        self.over: asyncio.Future[None] | None = None
        self.place: Place | None = None  # while the conversation goes on
        self.placeless = asyncio.Event()  # another needs the place
        self.silent = True  # the client has sent nothing yet

    def close(self) -> None:
        """Ends the conversation, soon."""
        self.hung_up.set()

    async def run(self, place: Place) -> None:
        """Until either side has enough, or nobody talks here and another needs the place."""
        self.place = place
        place.lend(self._lose_place, FIRST_WORD_SECONDS if self.media is None else self.media.first_word_seconds)
        self.served.live.add(self)
        log.info("session %s begins, %d live", self.id, self.served.admission.live)
        reason = "lost"
        try:
            self.runner.begin()
            self.session.begin()
            self.flush()
            lost = True
            while lost:
                reason, lost = await self._connected()
                lost = lost and self.media is None and await self._disconnected()  # a new call is a new conversation
        finally:
            self.runner.close()
            if self.runner.recorder is not None:
                items = [item.wire() for item in self.session.conversation.items]
                await asyncio.shield(asyncio.to_thread(self.runner.recorder.end, items))
            self.served.live.discard(self)
            self.served.metrics.ended.labels(reason).inc()
            log.info("session %s ends (%s) after %.1f s", self.id, reason, time.monotonic() - self.began)

    async def _connected(self) -> tuple[str, bool]:
        """Serves the client until the connection is closed: (why it was, whether it was merely lost)."""
        jobs = [self._receive, self._send, self._watch, self._give_way, self._hang_up]
        try:
            async with first_end(jobs if self.media is None else [*jobs, *self.media.jobs()]) as failure:
                if isinstance(failure, Closing):
                    await self._say_goodbye(failure)
                    return failure.reason, False
                if isinstance(failure, Gone):
                    return failure.reason, failure.lost
                if isinstance(failure, TimeoutError):
                    self.transport.abort()  # of a client that doesn't read
                    return "slow", False
                if isinstance(failure, (RuntimeError, OSError)):  # of a connection that has gone
                    return "lost", True
                log.error("session %s failed", self.id, exc_info=failure)
                await self._say_goodbye(Closing(FAILED, "internal error"))
                return "failed", False
        finally:
            if self.over is not None and not self.over.done():
                self.over.set_result(None)

    async def _disconnected(self) -> bool:
        """Waits for a client whose connection broke to come back, if that is allowed; true if it did."""
        assert self.place is not None
        until = time.monotonic() + self.config.resume_seconds
        self.place.lend(self._lose_place)
        self.comeback = self.loop.create_future()
        self.served.disconnected[self.id] = self
        try:
            while time.monotonic() < until and not self.served.admission.draining:
                await asyncio.wait({self.comeback}, timeout=TICK_SECONDS)
                if self.comeback.done():
                    transport = self.comeback.result()
                    if transport is None:
                        return False
                    self.transport, self.last = transport, time.monotonic()
                    log.info("session %s is resumed", self.id)
                    hello = {"type": "session.created", "event_id": new_id("event"), "session": self.session.config}
                    self.outgoing.appendleft((text := json.dumps(hello), None))  # then what it has missed
                    self.outgoing_bytes += len(text)
                    self.ready.set()
                    return True
            return False
        finally:
            self.served.disconnected.pop(self.id, None)

    async def resume(self, transport: Transport) -> None:
        """Goes on over a client's new transport, until that is closed."""
        if self.place is None or self.comeback is None or self.comeback.done():
            return
        self.place.keep()
        over = self.over = self.loop.create_future()
        self.comeback.set_result(transport)
        await over

    @property
    def busy(self) -> bool:
        """An answer is being made or sent."""
        playing = self.media is not None and self.media.busy
        return bool(self.session.responses) or bool(self.outgoing) or playing

    # The client

    def keep_pace(self) -> None:
        """Raises Closing if sound comes faster than it is heard."""
        if self.runner.backlog > 2 * self.config.decoded_seconds * BLOCK_SAMPLES:
            error = RequestError("rate_limit_exceeded", "Sound comes faster than it can be heard.")
            raise Closing(POLICY, "too fast", error)

    async def _receive(self) -> None:
        while True:
            text = await self.transport.receive()
            self.last = time.monotonic()
            self._is_there()
            try:
                if text is None:
                    raise RequestError("invalid_event", "Events are JSON texts, not binary messages.")
                check_text(text, self.config.text_bytes)
                event = read_json(text)
            except RequestError as error:
                self.session.complain(error)
            else:
                if self.media is None or not self.media.asked(event):
                    self.session.receive(event, self.last)
            self.flush()
            self.keep_pace()

    def _is_there(self) -> None:
        """Somebody is: the place isn't given away."""
        if self.silent and self.place is not None:
            self.silent = False
            self.place.keep()

    def _lose_place(self) -> None:
        """Another has it now."""
        self.placeless.set()
        self.served.disconnected.pop(self.id, None)
        if self.comeback is not None and not self.comeback.done():
            self.comeback.set_result(None)

    async def _give_way(self) -> None:
        await self.placeless.wait()
        error = RequestError("session_idle", "Nothing came, and another client needs the place.")
        raise Closing(GOING_AWAY, "gave way", error)

    async def _hang_up(self) -> None:
        await self.hung_up.wait()
        raise Closing(1000, "hung up")

    async def _send(self) -> None:
        await self.transport.ready()
        while True:
            await self.ready.wait()
            self.ready.clear()
            while self.outgoing:
                entry = self.outgoing[0]
                async with asyncio.timeout(self.config.stall_seconds):  # wait_for may lose a cancellation, in 3.11
                    await self.transport.send(entry[0])
                if self.outgoing and self.outgoing[0] is entry:  # not thrown away meanwhile
                    self.outgoing.popleft()
                    self.outgoing_bytes -= len(entry[0])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            if self.runner.failed:
                raise Closing(FAILED, "failed", RequestError("model_error", "The model failed."))
            self.runner.go_on(now)
            patience = self.config.silent_seconds if self.silent else self.config.idle_seconds
            if now - self.last > min(patience, self.config.idle_seconds) and not self.busy:
                error = RequestError("session_idle", "Nothing came for too long; the session is closed.")
                raise Closing(GOING_AWAY, "idle", error)
            if now - self.began > self.config.session_seconds:
                error = RequestError("session_expired", "Your session hit the maximum duration.")
                raise Closing(GOING_AWAY, "expired", error)
            if self.outgoing_bytes > self.config.send_bytes:
                raise TimeoutError
            if self.served.admission.draining and not self.busy:
                raise Closing(GOING_AWAY, "stopping", RequestError("server_stopping", "The server is stopping."))
            self.session.tick(now)
            self.flush()

    async def _say_goodbye(self, why: Closing) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                if why.error is not None:
                    self.session.complain(why.error)
                    for out in self.session.take():
                        if isinstance(out, dict) and out["type"] == "error":
                            await self.transport.send(json.dumps(out))
                await self.transport.close(why.code, why.reason)

    # The session

    def flush(self) -> None:
        """Sends and does what has come out of the session."""
        while found := self.session.take():
            for out in found:
                if isinstance(out, dict):
                    self.put(out)
                else:
                    self.runner.run(out)

    def put(self, out: dict[str, Any]) -> None:
        """Queues an event for the client."""
        is_sound = out["type"] == "response.output_audio.delta"
        if is_sound and self.media is not None:
            self.media.play(out)
            return
        text = json.dumps(out, ensure_ascii=False)
        if self.config.log_words and "transcript" in out:
            log.info("session %s: %s", self.id, out["transcript"])
        self.outgoing.append((text, out["response_id"] if is_sound else None))
        self.outgoing_bytes += len(text)
        self.ready.set()
        if self.media is not None:
            self.media.said(out)

    def forget_sound(self, response_id: str) -> None:
        """Throws away the sound of a response that hasn't been sent yet."""
        late = [entry for entry in self.outgoing if entry[1] == response_id]
        if late:
            self.outgoing_bytes -= sum(len(text) for text, _ in late)
            self.outgoing = deque(entry for entry in self.outgoing if entry[1] != response_id)
