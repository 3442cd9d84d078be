"""A Realtime conversation with one client, whatever carries its events, with the model on the workers.

Three things go on at once: what the client sends goes into the machine (`RealtimeSession`); what comes out of it is
sent, or done by the workers; and what the workers find goes into the machine again, always on the event loop. Events
go over a `Transport`: a WebSocket (`realtime_socket`), or the data channel of a WebRTC call (`webrtc_call`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from antiphon.serve.json_text import BadJson, check_text, read_json
from antiphon.serve.realtime.commands import Limits
from antiphon.serve.realtime.config import ProtocolError
from antiphon.serve.realtime.duplex_session import LiveSession
from antiphon.serve.realtime.items import new_id
from antiphon.serve.realtime.runner import BLOCK, ModelWork
from antiphon.serve.realtime.session import RealtimeSession
from antiphon.serve.work.admission import Place

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

TICK = 0.25  # seconds between two looks at the clock
FIRST_WORD = 10.0  # seconds that the place of a client who has sent nothing yet is kept from others
TRY_AGAIN, GOING_AWAY, POLICY = 1013, 1001, 1008  # close codes (RFC 6455; 1013: IANA's registry)


class Closing(Exception):
    """The conversation is to be closed from our side."""

    def __init__(self, code: int, reason: str, error: ProtocolError | None = None):
        super().__init__(reason)
        self.code, self.reason, self.error = code, reason, error


class Gone(Exception):
    """The client has closed the line, or it broke.

    Attributes:
        reason: for the log.
        lost: it broke; the client may come back.
    """

    def __init__(self, reason: str, lost: bool):
        super().__init__(reason)
        self.reason, self.lost = reason, lost


class Transport(Protocol):
    """Carries events, JSON texts, both ways."""

    async def receive(self) -> str | None:
        """The next text; None for a message of another kind. Raises Gone, or an OSError or RuntimeError likewise."""

    async def send(self, text: str) -> None:
        """Returns when the line can take more."""

    async def close(self, code: int, reason: str) -> None:
        """Says goodbye."""

    def abort(self) -> None:
        """Lets go at once; what is in the buffers is lost."""


class RealtimeLine(ModelWork):
    """One client.

    Args:
        transport: open.
        served: the server.
        model: as the client names it; "" for the name of what is served.
        transcribe: the client only wants words written down.
        given: `session`s as of session.update, to begin with; what is wrong with one is a ProtocolError.
    """

    def __init__(
        self,
        transport: Transport,
        served: Served,
        model: str = "",
        transcribe: bool = False,
        given: Sequence[dict[str, Any]] = (),
    ):
        self.transport, self.config = transport, served.config
        limits = Limits(
            self.config.decoded_seconds, self.config.session_seconds, self.config.idle_seconds, vad=self.config.vad
        )
        self.began = self.last = time.monotonic()
        named = [each["model"] for each in given if isinstance(each.get("model"), str)]
        name = model or next(filter(None, reversed(named)), served.backend.name)
        voices = list(served.backend.voices)
        about = (name[:128], voices, limits, self.began, time.time(), transcribe)
        session = RealtimeSession(*about) if served.engine is None else LiveSession(*about, writes=served.hears)
        session.able = served.backend.calls_functions
        for each in given:
            session.preset(each)
        super().__init__(session, served)
        self.outgoing: deque[tuple[str, str | None]] = deque()
        self.outgoing_bytes = 0
        self.ready = asyncio.Event()
        self.comeback: asyncio.Future[Transport | None] | None = None
        self.over: asyncio.Future[None] | None = None
        self.place: Place | None = None  # while the conversation goes on
        self.placeless = asyncio.Event()  # another needs the place
        self.silent = True  # the client has sent nothing yet

    async def run(self, place: Place) -> None:
        """Until either side has enough, or nobody talks here and another needs the place."""
        self.place = place
        place.lend(self._lose_place, self.first_word)
        self.served.sockets.add(self)
        log.info("session %s begins, %d live", self.session.id, self.served.admission.live)
        reason = "lost"
        try:
            self.take_slot()
            self.session.begin()
            self.flush()
            lost = True
            while lost:
                reason, lost = await self._connected()
                lost = lost and await self._parked()
        finally:
            self.stop_work()
            if self.recorder is not None:
                items = [item.wire() for item in self.session.conversation.items]
                await asyncio.shield(asyncio.to_thread(self.recorder.end, items))
            self.served.sockets.discard(self)
            self.served.metrics.ended.labels(reason).inc()
            log.info("session %s ends (%s) after %.1f s", self.session.id, reason, time.monotonic() - self.began)

    def jobs(self) -> list[Callable[[], Awaitable[None]]]:
        """What goes on while the line is there; the first that ends, by an exception, ends it."""
        return [self._receive, self._send, self._watch, self._give_way]

    async def _connected(self) -> tuple[str, bool]:
        """Serves the client until the line is closed: (why it was, whether it was merely lost)."""
        tasks = [asyncio.create_task(job()) for job in self.jobs()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failure = next(iter(done)).exception()
            if isinstance(failure, Closing):
                await self._close(failure)
                return failure.reason, False
            if isinstance(failure, Gone):
                return failure.reason, failure.lost
            if isinstance(failure, asyncio.TimeoutError):
                self._abort()
                return "slow", False
            if isinstance(failure, (RuntimeError, OSError)):  # of a connection that has gone
                return "lost", True
            log.error("session %s failed", self.session.id, exc_info=failure)
            await self._close(Closing(1011, "internal error"))
            return "failed", False
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            if self.over is not None and not self.over.done():
                self.over.set_result(None)

    async def _parked(self) -> bool:
        """Waits for a client whose line broke to come back, if that is allowed; true if it did."""
        assert self.place is not None
        until = time.monotonic() + self.config.resume_seconds
        self.place.lend(self._lose_place)
        self.comeback = self.loop.create_future()
        self.served.parked[self.session.id] = self
        try:
            while time.monotonic() < until and not self.served.admission.draining:
                await asyncio.wait({self.comeback}, timeout=TICK)
                if self.comeback.done():
                    transport = self.comeback.result()
                    if transport is None:
                        return False
                    self.transport, self.last = transport, time.monotonic()
                    log.info("session %s is resumed", self.session.id)
                    hello = {"type": "session.created", "event_id": new_id("event"), "session": self.session.config}
                    self.outgoing.appendleft((text := json.dumps(hello), None))  # then what it has missed
                    self.outgoing_bytes += len(text)
                    self.ready.set()
                    return True
            return False
        finally:
            self.served.parked.pop(self.session.id, None)

    async def come_back(self, transport: Transport) -> None:
        """Goes on with a client's new line, until that is closed."""
        if self.place is None or self.comeback is None or self.comeback.done():
            return
        self.place.keep()
        over = self.over = self.loop.create_future()
        self.comeback.set_result(transport)
        await over

    @property
    def first_word(self) -> float:
        """Seconds that the place is kept from others while nobody has said anything."""
        return FIRST_WORD

    @property
    def busy(self) -> bool:
        """An answer is being made or sent."""
        return bool(self.session.responses) or bool(self.outgoing)

    # The client

    def receive(self, event: Any) -> None:
        """Takes a client's event, as parsed from JSON."""
        self.session.receive(event, self.last)

    def keep_pace(self) -> None:
        """Raises Closing if sound comes faster than it is heard."""
        if self.backlog > 2 * self.config.decoded_seconds * BLOCK:
            error = ProtocolError("rate_limit_exceeded", "Sound comes faster than it can be heard.")
            raise Closing(POLICY, "too fast", error)

    async def _receive(self) -> None:
        while True:
            text = await self.transport.receive()
            self.last = time.monotonic()
            self._is_there()
            try:
                if text is None:
                    raise ProtocolError("invalid_event", "Events are JSON texts, not binary messages.")
                try:
                    check_text(text, self.config.text_bytes)
                    event = read_json(text)
                except BadJson as error:
                    raise ProtocolError(error.code, error.message, error.param) from None
            except ProtocolError as error:
                self.session.complain(error)
            else:
                self.receive(event)
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
        self.served.parked.pop(self.session.id, None)
        if self.comeback is not None and not self.comeback.done():
            self.comeback.set_result(None)

    async def _give_way(self) -> None:
        await self.placeless.wait()
        error = ProtocolError("session_idle", "Nothing came, and another client needs the place.")
        raise Closing(GOING_AWAY, "gave way", error)

    async def _send(self) -> None:
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
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if self.failed:
                raise Closing(1011, "failed", ProtocolError("model_error", "The model failed."))
            self.go_on(now)
            patience = self.config.silent_seconds if self.silent else self.config.idle_seconds
            if now - self.last > min(patience, self.config.idle_seconds) and not self.busy:
                error = ProtocolError("session_idle", "Nothing came for too long; the session is closed.")
                raise Closing(GOING_AWAY, "idle", error)
            if now - self.began > self.config.session_seconds:
                error = ProtocolError("session_expired", "Your session hit the maximum duration.")
                raise Closing(GOING_AWAY, "expired", error)
            if self.outgoing_bytes > self.config.send_bytes:
                raise TimeoutError
            if self.served.admission.draining and not self.busy:
                raise Closing(GOING_AWAY, "stopping", ProtocolError("server_stopping", "The server is stopping."))
            self.session.tick(now)
            self.flush()

    async def _close(self, why: Closing) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                if why.error is not None:
                    self.session.complain(why.error)
                    for out in self.session.take():
                        if isinstance(out, dict) and out["type"] == "error":
                            await self.transport.send(json.dumps(out))
                await self.transport.close(why.code, why.reason)

    def _abort(self) -> None:
        """Lets go of a client that doesn't read; what is in the buffers is lost."""
        self.transport.abort()

    # The machine

    def flush(self) -> None:
        """Sends and does what has come out of the machine."""
        while found := self.session.take():
            for out in found:
                if isinstance(out, dict):
                    self.put(out)
                else:
                    self.do(out)

    def put(self, out: dict[str, Any]) -> None:
        """Queues an event for the client."""
        delta = out["response_id"] if out["type"] == "response.output_audio.delta" else None
        text = json.dumps(out, ensure_ascii=False)
        if self.config.log_words and "transcript" in out:
            log.info("session %s: %s", self.session.id, out["transcript"])
        self.outgoing.append((text, delta))
        self.outgoing_bytes += len(text)
        self.ready.set()

    def forget_sound(self, response_id: str) -> None:
        late = [entry for entry in self.outgoing if entry[1] == response_id]
        if late:
            self.outgoing_bytes -= sum(len(text) for text, _ in late)
            self.outgoing = deque(entry for entry in self.outgoing if entry[1] != response_id)
