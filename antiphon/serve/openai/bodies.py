"""Bodies of requests, read within bounds before anything is made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute

from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import TextMeter, read_json

FORM = "multipart/form-data"


class BoundedRoute(APIRoute):
    """A route that takes JSON, or a form, and nothing else.

    JSON is counted while it comes (`TextMeter`): one with too much text is refused before all of it is there. The whole
    body, sound and files with it, is bounded by `auth.BodyLimit`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        is_form = isinstance(self.body_field.field_info, params.Form)

        async def handle_bounded(request: Request) -> Response:
            if is_form:
                if content_type(request) != FORM:
                    await _passed_over(request)
                    raise RequestError("invalid_content_type", f"Send this as {FORM}.")
                return await handle(request)
            return await handle(_Parsed(request, await read_json_body(request)))

        return handle_bounded


class _Parsed(Request):
    """A request whose JSON has been read."""

    def __init__(self, request: Request, value: Any):
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"(parsed)"  # not kept: it may be large

    async def json(self) -> Any:
        return self._value


def content_type(request: Request) -> str:
    """Of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json_body(request: Request) -> Any:
    """The JSON of a request.

    Raises:
        RequestError: it is none, or has too much text in it, or what isn't Unicode.
    """
    kind = content_type(request)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        await _passed_over(request)
        raise RequestError("invalid_content_type", "Send JSON, with 'Content-Type: application/json'.")
    meter, body = TextMeter(request.app.state.served.config.text_bytes), bytearray()
    try:
        async for chunk in _chunks(request):
            meter.feed(chunk)
            body += chunk
        text = body.decode("utf-8", "surrogatepass")  # halves of characters are found, and their field named
        body.clear()  # it may be large
        return read_json(text)
    except UnicodeDecodeError:
        raise RequestError(None, "We could not parse the JSON body of your request. It isn't UTF-8.") from None
    except RequestError as error:
        if error.code != "invalid_json":
            raise
        raise RequestError(None, f"We could not parse the JSON body of your request. {error.message}") from None


async def read_beginning(request: Request, max_bytes: int) -> bytes:
    """The bytes of a body; of one that has more than `max_bytes`, so many and one."""
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk[: max_bytes + 1 - len(body)]
        if len(body) > max_bytes:
            break
    return bytes(body)


async def _passed_over(request: Request) -> None:
    """Reads a body of the wrong kind, within its bounds, and keeps nothing: many clients listen when they have sent."""
    async for _ in _chunks(request):
        pass


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except Exception as error:  # it is too large, and whoever counts it answers; or the client has gone
        raise RequestError(None, "The body could not be read.") from error
