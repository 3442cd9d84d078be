"""Errors of the HTTP routes, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from antiphon.errors import AntiphonError, ToolCallError, TooLongError
from antiphon.serve.access.headers import EVERYWHERE
from antiphon.serve.refusals import refusal

log = logging.getLogger(__name__)


class AsciiResponse(JSONResponse):
    """JSON that can be sent whatever is in it: an error may quote what is no Unicode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code, message, param: for programs, for people, and the field that it is about.
    """

    def __init__(
        self, status: int, code: str | None, message: str, param: str | None = None, retry_after: int | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after


_EVERYWHERE = {name.decode(): value.decode() for name, value in EVERYWHERE}  # this answer is made outside of `Headers`


def full(draining: bool) -> ApiError:
    """No room."""
    message = "The server is stopping." if draining else "The server is full; try again later."
    return ApiError(503, "server_full", message, retry_after=1)


def unsupported(name: str, why: str) -> ApiError:
    """A parameter of OpenAI's that can't be had here."""
    return ApiError(400, "unsupported_parameter", f"Unsupported parameter: '{name}': {why}.", name)


RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "Something in the request can't be done."},
    401: {"model": ErrorBody, "description": "A token is needed."},
    403: {"model": ErrorBody, "description": "This origin or host may not call."},
    413: {"model": ErrorBody, "description": "Too much."},
    "4XX": {"model": ErrorBody, "description": "Likewise."},
    503: {"model": ErrorBody, "description": "No room; try again later."},
}


def answer(
    status: int, code: str | None, message: str, param: str | None = None, headers: dict[str, str] | None = None
):
    """An error as a response."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return AsciiResponse({"error": error}, status, headers=headers)


def described(error: AntiphonError) -> tuple[str, str, str | None]:
    """Code, message and field of what a model or a file can't do."""
    if isinstance(error, TooLongError):
        return "context_length_exceeded", str(error), "messages"
    return "model_error" if isinstance(error, ToolCallError) else "invalid_value", str(error), None


def shown_error(error: Exception) -> dict[str, Any]:
    """An error in the midst of a stream, as its last event."""
    kind, code, message, param = "server_error", "internal_error", "The server failed.", None
    if isinstance(error, ApiError):
        code, message, param = error.code, error.message, error.param
    elif isinstance(error, AntiphonError):
        code, message, param = described(error)
        kind = kind if isinstance(error, ToolCallError) else "invalid_request_error"
    else:
        log.error("a stream failed", exc_info=error)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _no_route(request: Request, routes: Sequence[BaseRoute]) -> JSONResponse:
    """What isn't there; or not with this method."""
    where = f"{request.method} {request.url.path[:200]}"
    allowed = {
        method
        for route in routes
        if route.matches(request.scope)[0] is Match.PARTIAL
        for method in getattr(route, "methods", None) or ()
    }
    if allowed:
        there = ", ".join(sorted(allowed))
        said = f"Not allowed: {where}. This URL takes: {there}."
        return answer(405, "method_not_supported", said, headers={"allow": there})
    return answer(404, "unknown_url", f"Unknown request URL: {where}. Please check the URL for typos.")


def add_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Makes every error of an application, whose API has these routes, one of this shape."""

    @app.exception_handler(ApiError)
    async def _api(_: Request, error: ApiError) -> JSONResponse:
        headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
        return answer(error.status, error.code, error.message, error.param, headers)

    @app.exception_handler(AntiphonError)
    async def _ours(_: Request, error: AntiphonError) -> JSONResponse:
        return answer(400, *described(error))

    @app.exception_handler(RequestValidationError)
    async def _shape(_: Request, error: RequestValidationError) -> JSONResponse:
        found = refusal(error.errors(), error.body)
        return answer(400, found.code, found.message, found.param)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            return _no_route(request, routes)
        return answer(error.status_code, None, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "internal_error", "The server failed.", headers=_EVERYWHERE)
