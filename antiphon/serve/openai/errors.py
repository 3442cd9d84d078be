"""Every error of the HTTP routes in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from antiphon.errors import AntiphonError
from antiphon.serve.access.headers import EVERYWHERE
from antiphon.serve.errors import ErrorResponse, RequestError, explained
from antiphon.serve.refusals import refusal


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "Something in the request can't be done."},
    401: {"model": ErrorBody, "description": "A token is needed."},
    403: {"model": ErrorBody, "description": "This origin or host may not call."},
    413: {"model": ErrorBody, "description": "Too much."},
    "4XX": {"model": ErrorBody, "description": "Likewise."},
    503: {"model": ErrorBody, "description": "No room; try again later."},
}


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
        return ErrorResponse(RequestError("method_not_supported", said, status=405), {"allow": there})
    said = f"Unknown request URL: {where}. Please check the URL for typos."
    return ErrorResponse(RequestError("unknown_url", said, status=404))


def add_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Makes every error of an application, whose API has these routes, one of this shape."""

    @app.exception_handler(AntiphonError)
    async def _ours(_: Request, error: AntiphonError) -> JSONResponse:
        return ErrorResponse(explained(error))

    @app.exception_handler(RequestValidationError)
    async def _shape(_: Request, error: RequestValidationError) -> JSONResponse:
        return ErrorResponse(refusal(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            return _no_route(request, routes)
        said = RequestError(None, str(error.detail), status=error.status_code)
        return ErrorResponse(said, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        return ErrorResponse(explained(error), EVERYWHERE)  # it is made outside of the middleware that adds these
