"""Who may come in: token, origin and host, checked before anything else, on every route and every upgrade.

A token comes as `Authorization: Bearer TOKEN`; as the password of HTTP Basic, which is what a browser asks its user
for; or, where a page in a browser can set no header, as the WebSocket subprotocol `openai-insecure-api-key.TOKEN`
(OpenAI's own way). So does a key for a page (`client_secrets`), which opens Realtime alone. Without a token the server
is loopback's alone. A page of another origin may not call, and a name that isn't ours is not answered: so a web site
that the user visits can't reach the server behind the user's back, not even by pointing its own name at 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from antiphon.serve.client_secrets import ClientSecrets
from antiphon.serve.settings import LOOPBACK, ServeConfig

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

log = logging.getLogger(__name__)

KEY_PROTOCOL = "openai-insecure-api-key."
METHODS, HEADERS = "GET, POST, DELETE, OPTIONS", "authorization, content-type, openai-beta, openai-organization"


class Gate:
    """ASGI middleware.

    Args:
        app: what is behind it.
        config: who may come in.
        keys: that pages in browsers were given; one of them opens the routes of Realtime, and `scope` then has under
            "antiphon.session" what its session begins with.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], config: ServeConfig, keys: ClientSecrets
    ):
        self.app, self.config, self.keys = app, config, keys
        self.hosts = {name.lower() for name in (*LOOPBACK, config.host, *config.hosts)}
        self.hosts |= {name for origin in config.origins if (name := urlsplit(origin).hostname)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        problem = self._problem(headers, origin, scope)
        if problem is not None:
            await _refuse(scope, send, *problem)
            return
        if scope["type"] == "http" and origin is not None:
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _respond(send, 204, b"", _cors(origin))
                return

            async def with_cors(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", []), *_cors(origin)]}
                await send(message)

            await self.app(scope, receive, with_cors)
            return
        await self.app(scope, receive, send)

    def _problem(self, headers: dict[str, str], origin: str | None, scope: Scope) -> tuple[int, str, str] | None:
        """(status, code, message) of what is wrong, or None."""
        host = headers.get("host", "").lower()
        if "*" not in self.hosts and _name(host) not in self.hosts:
            return 403, "unknown_host", "This server doesn't go by that name; see `antiphon serve --allow-host`."
        if origin is not None and not self._may(origin, host):
            return 403, "origin_not_allowed", "Pages of this origin may not call; see `antiphon serve --origin`."
        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        given = _given(headers)
        key = next(filter(None, [self.keys.find(one, scope["path"]) for one in given]), None)
        if key is not None:
            scope["antiphon.session"] = key.session
        if self.config.token and not preflight and key is None and not self._knows_token(given):
            return 401, "invalid_api_key", "A token is needed: Authorization: Bearer TOKEN."
        return None

    def _may(self, origin: str, host: str) -> bool:
        if origin in self.config.origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host

    def _knows_token(self, given: list[str]) -> bool:
        wanted = self.config.token.encode()
        return any([hmac.compare_digest(one.encode("latin-1", "replace"), wanted) for one in given])


def _given(headers: dict[str, str]) -> list[str]:
    """The tokens and keys that a request comes with."""
    given = []
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        given.append(value.strip())
    elif kind.lower() == "basic":
        try:
            given.append(base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2])
        except (binascii.Error, ValueError):
            pass
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            given.append(protocol.strip().removeprefix(KEY_PROTOCOL))
    return given


def _name(host: str) -> str:
    """ "localhost:8000" -> "localhost", "[::1]:8000" -> "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", METHODS.encode()),
        (b"access-control-allow-headers", HEADERS.encode()),
        (b"access-control-expose-headers", b"location"),
        (b"vary", b"Origin"),
    ]


class Bound:
    """ASGI middleware: refuses request bodies that are too large, before and while they come, and lets go of clients
    who don't read what they asked for.

    Args:
        app: what is behind it.
        most: bytes.
        stall_seconds: that a client may leave unread what is sent.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], most: int, stall_seconds: float):
        self.app, self.most, self.stall_seconds = app, most, stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await _refuse(scope, send, 413, "too_large", f"A request has at most {self.most} bytes.")
            return
        got, begun = 0, False

        async def counted() -> dict[str, Any]:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.most:
                raise _TooLarge
            return message

        async def refuse() -> None:
            await _refuse(scope, send, 413, "too_large", f"A request has at most {self.most} bytes.")

        async def watched(message: dict[str, Any]) -> None:
            nonlocal begun
            if got > self.most:  # whatever is made of a body that was cut off
                if not begun:
                    begun = True
                    await refuse()
                return
            begun = True
            try:
                await asyncio.wait_for(send(message), self.stall_seconds)
            except TimeoutError:
                raise _Stalled from None

        try:
            await self.app(scope, counted, watched)
        except _Stalled:
            log.info("a client didn't read its answer")
        except _TooLarge:
            if not begun:
                await refuse()


class _TooLarge(Exception):
    """A body is larger than it may be."""


class _Stalled(OSError):
    """A client doesn't read."""


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="antiphon", charset="UTF-8"'))
    body = json.dumps({"error": error}).encode()
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        await _respond(send, status, body, headers, "websocket.http.response")
        return
    await _respond(send, status, body, headers)


async def _respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], kind: str = "http.response"
) -> None:
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers + length})
    await send({"type": f"{kind}.body", "body": body})
