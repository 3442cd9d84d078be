"""`/v1/realtime`: a Realtime session on a WebSocket; see `realtime_line`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from antiphon.serve.realtime.config import ProtocolError
from antiphon.serve.realtime.connection import GOING_AWAY, POLICY, TRY_AGAIN, Gone, RealtimeLine
from antiphon.serve.realtime.items import new_id
from antiphon.serve.work.admission import Full

if TYPE_CHECKING:
    from antiphon.serve.state import Served


class SocketTransport:
    """Events as the texts of a WebSocket.

    Args:
        websocket: accepted.
    """

    def __init__(self, websocket: WebSocket):
        self.websocket = websocket

    async def receive(self) -> str | None:
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone("left", message.get("code", 1005) not in (1000, GOING_AWAY))
        return message.get("text")

    async def send(self, text: str) -> None:
        try:
            await self.websocket.send_text(text)
        except WebSocketDisconnect as gone:
            raise Gone("left", gone.code not in (1000, GOING_AWAY)) from None

    async def close(self, code: int, reason: str) -> None:
        if self.websocket.application_state is not WebSocketState.DISCONNECTED:
            await self.websocket.close(code, reason)

    def abort(self) -> None:
        abort = self.websocket.scope.get("antiphon.abort")
        if abort is not None:
            abort()


async def realtime(websocket: WebSocket, served: Served) -> None:
    """Serves one client from its upgrade to its end."""
    asked = [name.strip() for name in websocket.headers.get("sec-websocket-protocol", "").split(",")]
    await websocket.accept(subprotocol="realtime" if "realtime" in asked else None)
    query = websocket.query_params
    wanted = query.get("resume")
    if wanted is not None:
        parked = served.parked.get(wanted)
        if parked is not None:
            await parked.come_back(SocketTransport(websocket))
        else:
            await _turn_away(websocket, POLICY, "session_not_found", "That session is over; begin a new one.")
        return
    transcribe, model = query.get("intent") == "transcription", query.get("model", "")
    given = [bound] if (bound := websocket.scope.get("antiphon.session")) else []
    try:
        async with served.admission.session() as place:
            line = RealtimeLine(SocketTransport(websocket), served, model, transcribe, given)
            served.metrics.admitted.labels("realtime").inc()
            await line.run(place)
    except ProtocolError as error:
        await _turn_away(websocket, POLICY, error.code, error.message)
    except Full:
        served.metrics.refused.labels("realtime").inc()
        stopping = served.admission.draining
        why = "The server is stopping." if stopping else "The server is full; try again later."
        await _turn_away(websocket, TRY_AGAIN, "server_full", why)


async def _turn_away(websocket: WebSocket, close: int, code: str, message: str) -> None:
    """The protocol's error, and the line is closed."""
    kind = "server_error" if close == TRY_AGAIN else "invalid_request_error"
    error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
    with contextlib.suppress(Exception):
        await websocket.send_text(json.dumps({"type": "error", "event_id": new_id("event"), "error": error}))
        await websocket.close(close, code.replace("_", " "))
