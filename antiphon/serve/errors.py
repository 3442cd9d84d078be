"""Errors of the HTTP routes, in the shape that OpenAI's clients read."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from antiphon.errors import AntiphonError
from antiphon.serve.headers import EVERYWHERE

log = logging.getLogger(__name__)


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

    def __init__(self, status: int, code: str, message: str, param: str | None = None, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after


_EVERYWHERE = {name.decode(): value.decode() for name, value in EVERYWHERE}  # this answer is made outside of `Headers`


def full(draining: bool) -> ApiError:
    """No room."""
    message = "The server is stopping." if draining else "The server is full; try again later."
    return ApiError(503, "server_full", message, retry_after=1)


RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "Something in the request can't be done."},
    401: {"model": ErrorBody, "description": "A token is needed."},
    403: {"model": ErrorBody, "description": "This origin or host may not call."},
    413: {"model": ErrorBody, "description": "Too much."},
    422: {"model": ErrorBody, "description": "The request isn't of the right shape."},
    503: {"model": ErrorBody, "description": "No room; try again later."},
}


def answer(
    status: int, code: str | None, message: str, param: str | None = None, headers: dict[str, str] | None = None
):
    """An error as a response."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Makes every error of an application one of this shape."""

    @app.exception_handler(ApiError)
    async def _api(_: Request, error: ApiError) -> JSONResponse:
        headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
        return answer(error.status, error.code, error.message, error.param, headers)

    @app.exception_handler(AntiphonError)
    async def _ours(_: Request, error: AntiphonError) -> JSONResponse:
        return answer(400, "invalid_value", str(error))

    @app.exception_handler(RequestValidationError)
    async def _shape(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return answer(422, "invalid_value", f"Invalid value for '{where}': {first['msg']}.", where)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, None, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "internal_error", "The server failed.", headers=_EVERYWHERE)
