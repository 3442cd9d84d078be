"""What a client is told of what went wrong, over HTTP and in a Realtime session alike."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.responses import JSONResponse

from antiphon.errors import AntiphonError, ToolCallError, TooLongError

log = logging.getLogger(__name__)


class RequestError(AntiphonError):
    """A request or an event that can't be done. A Realtime session goes on after it.

    Args:
        code: what went wrong, for programs.
        message: likewise, for people.
        param: the field that it is about.
        status: of HTTP.
        retry_after: seconds.
    """

    def __init__(
        self,
        code: str | None,
        message: str,
        param: str | None = None,
        status: int = 400,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.code, self.message, self.param, self.status, self.retry_after = code, message, param, status, retry_after

    def shown(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}


class ErrorResponse(JSONResponse):
    """An error as an answer. It can be sent whatever is in it: an error may quote what is no Unicode."""

    def __init__(self, error: RequestError, headers: dict[str, str] | None = None):
        if error.retry_after is not None:
            headers = {**(headers or {}), "retry-after": str(error.retry_after)}
        super().__init__({"error": error.shown()}, error.status, headers)

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def unsupported(name: str, why: str) -> RequestError:
    """A parameter of OpenAI's that can't be had here."""
    return RequestError("unsupported_parameter", f"Unsupported parameter: '{name}': {why}.", name)


def missing(name: str) -> RequestError:
    """A parameter that there must be."""
    return RequestError("missing_required_parameter", f"Missing required parameter: '{name}'.", name)


def full(draining: bool) -> RequestError:
    """No room; not now."""
    message = "The server is stopping." if draining else "The server is full; try again later."
    return RequestError("server_full", message, status=503, retry_after=1)


def explained(error: BaseException) -> RequestError:
    """What a client may know of any error. What is no fault of the client's goes into the log, with where it was."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, TooLongError):
        return RequestError("context_length_exceeded", str(error), "messages")
    if isinstance(error, AntiphonError):  # what a model or a file can't do
        return RequestError("model_error" if isinstance(error, ToolCallError) else "invalid_value", str(error))
    log.error("a request failed", exc_info=error)
    return RequestError("internal_error", "The server failed.", status=500)
