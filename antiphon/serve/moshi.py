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
from antiphon.audio.pcm import RATE, BadAudio
from antiphon.dialogue.events import AudioEvent, LostEvent, TextEvent
from antiphon.serve.realtime.connection import FIRST_WORD
from antiphon.serve.realtime.items import new_id
from antiphon.serve.work.admission import Full, Place

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

GREETING, SOUND, TEXT = b"\x00", b"\x01", b"\x02"
TRY_AGAIN, GOING_AWAY, UNSUPPORTED, BROKEN = 1013, 1001, 1003, 1007  # close codes
AHEAD = 5.0  # seconds of sound that may come faster than time goes by


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
        served.metrics.refused.labels("moshi").inc()
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
        self.place.lend(self._lose_place, FIRST_WORD)
        slot = self.engine.join(self._later)
        tasks = [asyncio.create_task(job) for job in (self._receive(slot), self._send(), self._watch())]
        reason: tuple[int, str] | None = None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failure = next(iter(done)).exception()
            if isinstance(failure, _End):
                reason = failure.args[0], failure.args[1]
            elif isinstance(failure, TimeoutError):
                reason = None
                if (abort := self.websocket.scope.get("antiphon.abort")) is not None:
                    abort()
            elif failure is not None and not isinstance(failure, (WebSocketDisconnect, RuntimeError, OSError)):
                log.error("chat %s failed", self.id, exc_info=failure)
                reason = 1011, "internal error"
            if reason is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.websocket.close(*reason), 2.0)
        finally:
            slot.leave()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            ended = reason[1] if reason else "left"
            self.served.metrics.ended.labels(ended).inc()
            log.info("chat %s ends (%s) after %.1f s", self.id, ended, time.monotonic() - self.began)

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
            except BadAudio as error:
                raise _End(BROKEN, str(error)) from None
            while len(rest) >= size:
                slot.push(torch.from_numpy(rest[:size].copy()))
                rest, self.heard = rest[size:], self.heard + size
            if self.heard / RATE > self.last - self.began + AHEAD:
                raise _End(1008, "sound comes faster than time")

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
            await asyncio.sleep(0.25)
            now = time.monotonic()
            patience = min(config.silent_seconds, config.idle_seconds) if self.silent else config.idle_seconds
            if now - self.last > patience:
                raise _End(GOING_AWAY, "idle")
            if self.placeless:
                raise _End(GOING_AWAY, "gave way")
            if now - self.began > config.session_seconds:
                raise _End(GOING_AWAY, "expired")
            if self.served.admission.draining:
                raise _End(GOING_AWAY, "stopping")


class _End(Exception):
    """The conversation is to be closed: code, reason."""
