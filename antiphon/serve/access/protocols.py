"""HTTP and WebSocket as uvicorn speaks them, with an end to everything that a client may keep us waiting for.

uvicorn itself has a time for the next request of a connection alone. Here a request's head must be complete in time,
from the first byte or before; so must be what is left of a body that was answered unread; and who doesn't read what was
sent before the end is dropped. (A body that is read has its time in `auth`, a WebSocket's messages in
`realtime.connection`.)
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from antiphon.serve.access.connections import Connection, Connections
from antiphon.serve.settings import ServeConfig

TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
NO_UPGRADE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
LAST_WORDS_SECONDS = 1.0  # for what is still to be sent to a client who gives no sign of life


class HttpProtocol(H11Protocol):
    """A connection.

    Args:
        connection: counted.
        connections: where.
        limits: what of it is looked at: `header_seconds`, `body_seconds`, `stall_seconds`.
        options: uvicorn's.
    """

    def __init__(self, connection: Connection, connections: Connections, limits: ServeConfig, **options: Any):
        super().__init__(**options)
        self.connection, self.counted, self.limits = connection, connections, limits
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.counted.leave(self.connection)
        self._set_timer(None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        upgraded = self.transport.get_protocol()
        assert isinstance(upgraded, WebSocketProtocol)
        upgraded.connection, upgraded.counted = self.connection, self.counted
        if not upgraded.handshake_initiated:
            upgraded.refuse()

    def _look(self) -> None:
        """Takes note of what the client owes us."""
        if self.transport.get_protocol() is not self:  # it was upgraded
            self.counted.works(self.connection)
            self._set_timer(None)
            return
        head, body = (self.conn.their_state is state for state in (h11.IDLE, h11.SEND_BODY))
        if head or body:
            self.counted.waits(self.connection, progress=body)
        else:
            self.counted.works(self.connection)
        if head or self.transport.is_closing():
            self._set_timer(self.limits.header_seconds)
        elif body and self.cycle.response_complete:  # nobody reads it
            self._set_timer(self.limits.body_seconds)
        else:
            self._set_timer(None)

    def _set_timer(self, seconds: float | None) -> None:
        """Begins to wait, or waits no more; a wait that has begun goes on."""
        if seconds is None and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif seconds is not None and self._timer is None:
            self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(TOO_LATE)
        self.transport.close()
        self._timer = self.loop.call_later(self.limits.stall_seconds, self.transport.abort)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A connection that was upgraded; the application may drop it, by `scope["antiphon.abort"]`."""

    connection: Connection | None = None
    counted: Connections | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.counted is not None and self.connection is not None:
            self.counted.leave(self.connection)

    async def run_asgi(self) -> None:
        self.scope["antiphon.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        try:
            await super().run_asgi()
        finally:  # who doesn't read its end isn't waited for
            self.loop.call_later(self.close_timeout + LAST_WORDS_SECONDS, self.transport.abort)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # a refusal ends it as well, which uvicorn takes for a fault

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(LAST_WORDS_SECONDS, self.transport.abort)

    def refuse(self) -> None:
        """What asked for an upgrade is no request for one; there is nothing that the application could be told."""
        self.close_sent = self.handshake_complete = True
        self.transport.write(NO_UPGRADE)
        self.transport.close()
