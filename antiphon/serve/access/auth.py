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
import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.serve.access.client_secrets import ClientSecrets
from antiphon.serve.errors import ErrorResponse, RequestError
from antiphon.serve.settings import LOOPBACK, ServeConfig

log = logging.getLogger(__name__)

KEY_PROTOCOL = "openai-insecure-api-key."
CORS = {
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, openai-beta, openai-organization",
    "access-control-expose-headers": "location",
    "vary": "Origin",
}


class AuthMiddleware:
    """ASGI middleware.

    Args:
        app: what is behind it.
        config: who may come in.
        keys: that pages in browsers were given; one of them opens the routes of Realtime, and `scope` then has under
            "antiphon.session" what its session begins with.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, keys: ClientSecrets):
        self.app, self.config, self.keys = app, config, keys
        self.hosts = {name.lower() for name in (*LOOPBACK, config.host, *config.hosts)}
        self.hosts |= {name for origin in config.origins if (name := urlsplit(origin).hostname)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        problem = self._problem(headers, origin, scope)
        if problem is not None:
            await refuse(scope, receive, send, problem)
            return
        if scope["type"] == "websocket" or origin is None:
            await self.app(scope, receive, send)
            return
        cors = {"access-control-allow-origin": origin, **CORS}
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(status_code=204, headers=cors)(scope, receive, send)
            return

        async def with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(cors)
            await send(message)

        await self.app(scope, receive, with_cors)

    def _problem(self, headers: Headers, origin: str | None, scope: Scope) -> RequestError | None:
        """What is wrong, or None."""
        host = headers.get("host", "").lower()
        if "*" not in self.hosts and _name(host) not in self.hosts:
            said = "This server doesn't go by that name; see `antiphon serve --allow-host`."
            return RequestError("unknown_host", said, status=403)
        if origin is not None and not self._may(origin, host):
            said = "Pages of this origin may not call; see `antiphon serve --origin`."
            return RequestError("origin_not_allowed", said, status=403)
        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        given = _given(headers)
        key = next(filter(None, [self.keys.find(one, scope["path"]) for one in given]), None)
        if key is not None:
            scope["antiphon.session"] = key.session
        if self.config.token and not preflight and key is None and not self._knows_token(given):
            return RequestError("invalid_api_key", "A token is needed: Authorization: Bearer TOKEN.", status=401)
        return None

    def _may(self, origin: str, host: str) -> bool:
        if origin in self.config.origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host

    def _knows_token(self, given: list[str]) -> bool:
        wanted = self.config.token.encode()
        return any([hmac.compare_digest(one.encode("latin-1", "replace"), wanted) for one in given])


def _given(headers: Headers) -> list[str]:
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


class BodyLimit:
    """ASGI middleware: refuses request bodies that are too large or too slow, before and while they come, and lets go
    of clients who don't read what they asked for.

    Args:
        app: what is behind it.
        config: `body_bytes`, `body_seconds`, `body_rate` and `stall_seconds` of it.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig):
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        config, clock = self.config, asyncio.get_running_loop().time
        said = f"A request has at most {config.body_bytes} bytes."
        too_large = RequestError("too_large", said, status=413)
        too_slow = RequestError("request_timeout", "The request's body came too slowly.", status=408)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > config.body_bytes:
            await refuse(scope, receive, send, too_large)
            return
        got, waited, whole, begun = 0, 0.0, False, False
        problem: RequestError | None = None

        async def counted() -> Message:
            nonlocal got, waited, whole, problem
            left = None if whole else config.body_seconds + got / config.body_rate - waited
            since = clock()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                problem = too_slow
                raise _Refused from None
            waited += clock() - since
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > config.body_bytes:
                problem = too_large
                raise _Refused
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if problem is not None:  # whatever is made of a body that was cut off
                if not begun:
                    begun = True
                    await refuse(scope, receive, send, problem)
                return
            begun = True
            try:
                await asyncio.wait_for(send(message), config.stall_seconds)
            except TimeoutError:
                raise _Stalled from None

        try:
            await self.app(scope, counted, watched)
        except _Stalled:
            log.info("a client didn't read its answer")
        except _Refused:
            if not begun and problem is not None:
                await refuse(scope, receive, send, problem)


class _Refused(Exception):
    """A body is larger or slower than it may be."""


class _Stalled(OSError):
    """A client doesn't read."""


async def refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    """Answers a request or an upgrade with an error."""
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Basic realm="antiphon", charset="UTF-8"'
    elif error.status == 408:
        headers["connection"] = "close"
    if scope["type"] == "websocket":
        client = (scope.get("client") or ("?",))[0]
        log.info("a WebSocket of %s is refused: %d %s", client, error.status, error.code)
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await ErrorResponse(error, headers)(scope, receive, send)
