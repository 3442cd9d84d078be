"""`/v1/realtime/calls` and `/v1/realtime/client_secrets`: Realtime over WebRTC, and keys for the pages that call."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import read_json
from antiphon.serve.openai.bodies import FORM, BoundedRoute, content_type, read_beginning
from antiphon.serve.openai.errors import RESPONSES
from antiphon.serve.openai.models import served_of
from antiphon.serve.realtime.connection import new_session
from antiphon.serve.state import Served
from antiphon.serve.work.admission import Full

router = APIRouter(prefix="/v1/realtime", responses=RESPONSES, route_class=BoundedRoute)

SDP = "application/sdp"
MAX_OFFER_BYTES = 64 * 1024
MAX_SESSION_LETTERS = 100_000  # of what a key's session begins with
OFFER = {
    SDP: {"schema": {"type": "string"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["sdp"],
            "properties": {"sdp": {"type": "string"}, "session": {"type": "string", "description": "JSON"}},
        }
    },
}


class ExpiresAfter(BaseModel):
    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(600, ge=10, le=7200)


class ClientSecretRequest(BaseModel):
    """A key for a page in a browser.

    Attributes:
        session: what its conversations begin with, as in session.update.
    """

    expires_after: ExpiresAfter | None = None
    session: dict[str, Any] | None = None


class ClientSecret(BaseModel):
    """The key, when it expires (seconds since 1970), and the session that it opens."""

    value: str
    expires_at: int
    session: dict[str, Any]


@router.post(
    "/calls",
    summary="Call by WebRTC: an SDP offer for an answer",
    status_code=201,
    response_class=Response,
    responses={
        201: {"content": {SDP: {}}, "description": "The answer; Location names the call."},
        501: {"model": RESPONSES[400]["model"], "description": "The extra `webrtc` isn't installed."},
    },
    openapi_extra={"requestBody": {"required": True, "content": OFFER}},
)
async def call(request: Request) -> Response:
    served = served_of(request)
    try:
        from antiphon.serve.realtime import webrtc as webrtc_call
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "antiphon":
            raise
        said = "This server lacks WebRTC: install 'antiphon[webrtc]', or use the WebSocket."
        raise RequestError("webrtc_not_installed", said, status=501) from None
    offer, session = await _offer(request)
    if not offer.strip() or len(offer) > MAX_OFFER_BYTES:
        raise RequestError("invalid_offer", f"An SDP offer has 1 to {MAX_OFFER_BYTES} letters.", "sdp")
    bound = request.scope.get("antiphon.session")
    given = [each for each in (bound, session) if each]
    try:
        begun = await webrtc_call.begin(served, offer, request.query_params.get("model", ""), given)
    except Full:
        raise served.refuse("webrtc") from None
    headers = {"location": f"/v1/realtime/calls/{begun.id}"}
    return Response(begun.answered, 201, headers, SDP)


@router.post(
    "/calls/{call_id}/hangup",
    summary="End a call",
    response_class=Response,
    responses={404: RESPONSES[400]},
)
async def hang_up(request: Request, call_id: str) -> Response:
    found = served_of(request).calls.get(call_id)
    if found is None:
        raise RequestError("call_not_found", f"There is no call '{call_id[:100]}'.", "call_id", status=404)
    found.close()
    return Response()


@router.post("/client_secrets", summary="A key that lets a page in a browser call for some minutes")
async def client_secret(request: Request, asked: ClientSecretRequest) -> ClientSecret:
    served = served_of(request)
    given = asked.session or {}
    if len(json.dumps(given)) > MAX_SESSION_LETTERS:
        said = f"A session has at most {MAX_SESSION_LETTERS} letters."
        raise RequestError("string_above_max_length", said, "session")
    session = new_session(served, given=[given]).config
    value, until = served.keys.make((asked.expires_after or ExpiresAfter()).seconds, given)
    return ClientSecret(value=value, expires_at=until, session=session)


async def hang_up_all(served: Served) -> None:
    """The server ends: so does every call."""
    calls = list(served.calls.values())
    for each in calls:
        each.close()
    await asyncio.gather(*(each.task for each in calls if each.task is not None), return_exceptions=True)


async def _offer(request: Request) -> tuple[str, dict[str, Any] | None]:
    """The SDP, and what the session is to begin with."""
    kind = content_type(request)
    if kind == SDP:
        return (await read_beginning(request, MAX_OFFER_BYTES)).decode("utf-8", "replace"), None
    if kind != FORM:
        raise RequestError("invalid_content_type", f"Send the offer as {SDP} or as multipart/form-data.")
    async with request.form(max_files=2, max_fields=8) as form:
        sdp, session = [await _text(form.get(name), name) for name in ("sdp", "session")]
    if session is None:
        return sdp or "", None
    try:
        parsed = read_json(session)
    except RequestError as error:
        where = ".".join(filter(None, ("session", error.param)))
        raise RequestError("invalid_value", f"'session' is a JSON object. {error.message}", where) from None
    if not isinstance(parsed, dict):
        raise RequestError("invalid_value", "'session' is a JSON object.", "session")
    return sdp or "", parsed


async def _text(part: UploadFile | str | None, name: str) -> str | None:
    limit = MAX_OFFER_BYTES if name == "sdp" else MAX_SESSION_LETTERS
    if (len(part or "") if not isinstance(part, UploadFile) else part.size or 0) > limit:
        raise RequestError("string_above_max_length", f"'{name}' has at most {limit} letters.", name)
    if isinstance(part, UploadFile):
        return (await part.read()).decode("utf-8", "replace")
    return part
