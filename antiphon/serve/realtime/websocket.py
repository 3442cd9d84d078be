"""`/v1/realtime`: a Realtime session on a WebSocket; see `connection`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from antiphon.serve.errors import RequestError
from antiphon.serve.realtime.connection import GOING_AWAY, POLICY, TRY_AGAIN, Gone, RealtimeConnection, error_event
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

    async def ready(self) -> None:
        """It is."""

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
        disconnected = served.disconnected.get(wanted)
        if disconnected is not None:
            await disconnected.resume(SocketTransport(websocket))
        else:
            over = RequestError("session_not_found", "That session is over; begin a new one.")
            await _turn_away(websocket, over)
        return
    transcription, model = query.get("intent") == "transcription", query.get("model", "")
    given = [bound] if (bound := websocket.scope.get("antiphon.session")) else []
    try:
        async with served.admission.session() as place:
            connection = RealtimeConnection(SocketTransport(websocket), served, model, transcription, given)
            served.metrics.admitted.labels("realtime").inc()
            await connection.run(place)
    except RequestError as error:
        await _turn_away(websocket, error)
    except Full:
        await _turn_away(websocket, served.refuse("realtime"))


async def _turn_away(websocket: WebSocket, error: RequestError) -> None:
    """The protocol's error, and the connection is closed."""
    with contextlib.suppress(Exception):
        await websocket.send_text(json.dumps(error_event(error)))
        code = TRY_AGAIN if error.status == 503 else POLICY
        await websocket.close(code, (error.code or "").replace("_", " "))
