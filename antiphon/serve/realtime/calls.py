"""`/v1/realtime/calls` and `/v1/realtime/client_secrets`: Realtime over WebRTC, and keys for the pages that call."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from antiphon.serve.access.client_secrets import TooManyKeys
from antiphon.serve.errors import RESPONSES, ApiError, full
from antiphon.serve.json_text import BadJson, read_json
from antiphon.serve.openai.bodies import FORM, BoundedRoute, content_type, read_beginning
from antiphon.serve.openai.models import served_of
from antiphon.serve.realtime.config import ProtocolError, defaults, updated
from antiphon.serve.realtime.items import new_id
from antiphon.serve.state import Served
from antiphon.serve.work.admission import Full

router = APIRouter(prefix="/v1/realtime", responses=RESPONSES, route_class=BoundedRoute)

SDP = "application/sdp"
OFFER_BYTES = 64 * 1024
SESSION_LETTERS = 100_000  # of what a key's session begins with
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
        raise ApiError(
            501, "webrtc_not_installed", "This server lacks WebRTC: install 'antiphon[webrtc]', or use the WebSocket."
        ) from None
    offer, session = await _offer(request)
    if not offer.strip() or len(offer) > OFFER_BYTES:
        raise ApiError(400, "invalid_offer", f"An SDP offer has 1 to {OFFER_BYTES} letters.", "sdp")
    bound = request.scope.get("antiphon.session")
    given = [each for each in (bound, session) if each]
    try:
        begun = await webrtc_call.begin(served, offer, request.query_params.get("model", ""), given)
    except Full:
        served.metrics.refused.labels("webrtc").inc()
        raise full(served.admission.draining) from None
    except webrtc_call.BadOffer as error:
        raise ApiError(400, "invalid_offer", str(error), "sdp") from None
    except ProtocolError as error:
        raise ApiError(400, error.code, error.message, error.param) from None
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
        raise ApiError(404, "call_not_found", f"There is no call '{call_id[:100]}'.", "call_id")
    found.hung_up.set()
    return Response()


@router.post("/client_secrets", summary="A key that lets a page in a browser call for some minutes")
async def client_secret(request: Request, asked: ClientSecretRequest) -> ClientSecret:
    served = served_of(request)
    given, voices = asked.session or {}, list(served.backend.voices)
    if len(json.dumps(given)) > SESSION_LETTERS:
        raise ApiError(400, "string_above_max_length", f"A session has at most {SESSION_LETTERS} letters.", "session")
    model = given.get("model")
    name = (model if isinstance(model, str) else "") or served.backend.name
    expires = int(time.time() + served.config.session_seconds)
    session = defaults(new_id("sess"), name[:128], voices[0], expires)
    try:
        session = updated(session, given, voices, False, served.backend.calls_functions)
    except ProtocolError as error:
        raise ApiError(400, error.code, error.message, error.param) from None
    seconds = (asked.expires_after or ExpiresAfter()).seconds
    try:
        value, until = served.keys.make(seconds, given)
    except TooManyKeys:
        raise ApiError(503, "too_many_keys", "Too many keys are valid; some must expire.", retry_after=60) from None
    return ClientSecret(value=value, expires_at=until, session=session)


async def hang_up_all(served: Served) -> None:
    """The server ends: so does every call."""
    calls = list(served.calls.values())
    for each in calls:
        each.hung_up.set()
    await asyncio.gather(*(each.task for each in calls if each.task is not None), return_exceptions=True)


async def _offer(request: Request) -> tuple[str, dict[str, Any] | None]:
    """The SDP, and what the session is to begin with."""
    kind = content_type(request)
    if kind == SDP:
        return (await read_beginning(request, OFFER_BYTES)).decode("utf-8", "replace"), None
    if kind != FORM:
        raise ApiError(400, "invalid_content_type", f"Send the offer as {SDP} or as multipart/form-data.")
    async with request.form(max_files=2, max_fields=8) as form:
        sdp, session = [await _text(form.get(name), name) for name in ("sdp", "session")]
    if session is None:
        return sdp or "", None
    try:
        parsed = read_json(session)
    except BadJson as error:
        where = ".".join(filter(None, ("session", error.param)))
        raise ApiError(400, "invalid_value", f"'session' is a JSON object. {error.message}", where) from None
    if not isinstance(parsed, dict):
        raise ApiError(400, "invalid_value", "'session' is a JSON object.", "session")
    return sdp or "", parsed


async def _text(part: UploadFile | str | None, name: str) -> str | None:
    most = OFFER_BYTES if name == "sdp" else SESSION_LETTERS
    if (len(part or "") if not isinstance(part, UploadFile) else part.size or 0) > most:
        raise ApiError(400, "string_above_max_length", f"'{name}' has at most {most} letters.", name)
    if isinstance(part, UploadFile):
        return (await part.read()).decode("utf-8", "replace")
    return part
