"""What browsers are told with every answer: to take it for nothing else, to frame it nowhere, to tell nobody where it
came from, and to keep no copy; the page may use the server's own files and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
EVERYWHERE = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Headers:
    """ASGI middleware: adds to each answer those of `EVERYWHERE` that it doesn't have.

    Args:
        app: what is behind it.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                given = list(message.get("headers", []))
                there = {name.lower() for name, _ in given}
                message = {**message, "headers": [*given, *(each for each in EVERYWHERE if each[0] not in there)]}
            await send(message)

        await self.app(scope, receive, with_headers)


class Page(StaticFiles):
    """The page's files, which a browser asks for anew each time (they may have changed with the server)."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = PAGE_POLICY
        response.headers["cache-control"] = "no-cache"
        return response
