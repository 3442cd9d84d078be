"""`/api/chat`: Moshi's own WebSocket protocol, for Kyutai's clients.

Binary messages, the first byte of which says what they are: 0, a greeting; 1, a piece of an Ogg-Opus stream, both ways;
2, text of the model's inner monologue. The model hears and speaks all the time: it must be a duplex model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect

from antiphon.audio.ogg import OpusReader, OpusWriter
from antiphon.audio.pcm import RATE
from antiphon.dialogue.events import AudioEvent, LostEvent, TextEvent
from antiphon.errors import AudioError
from antiphon.serve.realtime.connection import (
    FAILED,
    FIRST_WORD_SECONDS,
    GOING_AWAY,
    POLICY,
    TICK_SECONDS,
    TRY_AGAIN,
    Closing,
    first_end,
)
from antiphon.serve.realtime.items import new_id
from antiphon.serve.work.admission import Full, Place

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

GREETING, SOUND, TEXT = b"\x00", b"\x01", b"\x02"
UNSUPPORTED, BROKEN = 1003, 1007  # close codes
MAX_AHEAD_SECONDS = 5.0  # of sound that may come faster than time goes by


async def moshi_chat(websocket: WebSocket, served: Served) -> None:
    """Serves one client from its upgrade to its end."""
    await websocket.accept()
    if served.engine is None:
        await websocket.close(UNSUPPORTED, "this model talks in turns: use /v1/realtime")
        return
    try:
        async with served.admission.session() as place:
            served.metrics.admitted.labels("moshi").inc()
            await _Chat(websocket, served, place).run()
    except Full:
        served.refuse("moshi")
        await websocket.close(TRY_AGAIN, "server full")


class _Chat:
    """One client."""

    def __init__(self, websocket: WebSocket, served: Served, place: Place):
        self.websocket, self.served, self.engine, self.place = websocket, served, served.engine, place
        self.loop, self.id = asyncio.get_running_loop(), new_id("chat")
        self.reader, self.writer = OpusReader(), OpusWriter()
        self.found: asyncio.Queue[Any] = asyncio.Queue()
        self.began = self.last = time.monotonic()
        self.heard = 0  # samples
        self.silent, self.placeless = True, False  # nothing has come yet; another has our place

    async def run(self) -> None:
        assert self.engine is not None
        log.info("chat %s begins, %d live", self.id, self.served.admission.live)
        self.place.lend(self._lose_place, FIRST_WORD_SECONDS)
        slot = self.engine.join(self._later)
        reason = "left"
        try:
            async with first_end([lambda: self._receive(slot), self._send, self._watch]) as failure:
                if isinstance(failure, TimeoutError):
                    if (abort := self.websocket.scope.get("antiphon.abort")) is not None:
                        abort()
                elif isinstance(failure, Closing):
                    reason = await self._close(failure)
                elif failure is not None and not isinstance(failure, (WebSocketDisconnect, RuntimeError, OSError)):
                    log.error("chat %s failed", self.id, exc_info=failure)
                    reason = await self._close(Closing(FAILED, "internal error"))
        finally:
            slot.leave()
            self.served.metrics.ended.labels(reason).inc()
            log.info("chat %s ends (%s) after %.1f s", self.id, reason, time.monotonic() - self.began)

    async def _close(self, why: Closing) -> str:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.websocket.close(why.code, why.reason), 2.0)
        return why.reason

    def _later(self, found: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.found.put_nowait, found)

    async def _receive(self, slot: Any) -> None:
        rest = np.zeros(0, np.float32)
        size = self.engine.frame_samples if self.engine is not None else 1920
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            data = message.get("bytes")
            if not data or data[:1] != SOUND:
                continue  # as Moshi's own server does: what isn't known is passed over
            self.last, self.silent = time.monotonic(), False
            self.place.keep()
            try:
                rest = np.concatenate([rest, self.reader.step(data[1:])])
            except AudioError as error:
                raise Closing(BROKEN, str(error)) from None
            while len(rest) >= size:
                slot.push(torch.from_numpy(rest[:size].copy()))
                rest, self.heard = rest[size:], self.heard + size
            if self.heard / RATE > self.last - self.began + MAX_AHEAD_SECONDS:
                raise Closing(POLICY, "sound comes faster than time")

    def _lose_place(self) -> None:
        self.placeless = True

    async def _send(self) -> None:
        stall = self.served.config.stall_seconds
        await self.websocket.send_bytes(GREETING)
        await self.websocket.send_bytes(SOUND + self.writer.head())
        while True:
            found = await self.found.get()
            if isinstance(found, BaseException):
                raise found
            for event in found:
                data = b""
                if isinstance(event, AudioEvent):
                    self.served.metrics.frames.inc()
                    data = self.writer.step(event.audio.samples.numpy())
                    kind = SOUND
                elif isinstance(event, LostEvent):
                    self.served.metrics.lost.inc(event.frames)
                elif isinstance(event, TextEvent):
                    kind, data = TEXT, event.text.encode()
                if data:
                    async with asyncio.timeout(stall):  # wait_for may lose a cancellation, in 3.11
                        await self.websocket.send_bytes(kind + data)

    async def _watch(self) -> None:
        config = self.served.config
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            patience = min(config.silent_seconds, config.idle_seconds) if self.silent else config.idle_seconds
            if now - self.last > patience:
                raise Closing(GOING_AWAY, "idle")
            if self.placeless:
                raise Closing(GOING_AWAY, "gave way")
            if now - self.began > config.session_seconds:
                raise Closing(GOING_AWAY, "expired")
            if self.served.admission.draining:
                raise Closing(GOING_AWAY, "stopping")
