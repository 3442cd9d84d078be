"""A Realtime conversation as a WebRTC call: events on the data channel, sound as media; needs the extra `webrtc`.

    call = await begin(served, offer)            # the client's SDP; its place is held from now on
    call.answered                                # ours

What a client hears is paced by the server, so the server knows how much of an answer was played: when the user speaks
up, what waits is thrown away and the item is cut to what was heard, without a word from the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from antiphon.audio.pcm import RATE, Decoder, from_base64, pcm16
from antiphon.serve.realtime.config import ProtocolError
from antiphon.serve.realtime.connection import POLICY, TICK, Closing, Gone, RealtimeLine
from antiphon.serve.realtime.items import new_id
from antiphon.serve.realtime.webrtc_audio import FRAME, Microphone, Player
from antiphon.serve.realtime.webrtc_offer import BadOffer, checked

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0  # until a call that was answered must be connected
CONNECT_SOON = 1.5  # seconds that its place is kept from others meanwhile
ANSWER_SECONDS = 10.0  # to look for the addresses of this machine
EVENTS = 500  # of a client that wait
HIGH, LOW = 256 * 1024, 64 * 1024  # bytes on the data channel: wait from here, until there
AHEAD = 300.0  # seconds of sound that may wait to be played
ROOM = 0.2  # seconds that must be free in a buffer that was full before it takes more
SLACK = 0.2  # seconds that a packet may be late and is caught up with


class ChannelTransport:
    """Events on the client's data channel, which it opens; see `realtime_line.Transport`."""

    def __init__(self) -> None:
        self.channel: RTCDataChannel | None = None
        self.opened, self._low = asyncio.Event(), asyncio.Event()
        self._incoming: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def open(self, channel: RTCDataChannel) -> None:
        """The client has opened a channel; the first is taken."""
        if self.channel is not None:
            channel.close()
            return
        self.channel = channel
        channel.bufferedAmountLowThreshold = LOW
        channel.on("message", self._message)
        channel.on("close", lambda: self._incoming.put_nowait(Gone("left", False)))
        channel.on("bufferedamountlow", self._low.set)
        self.opened.set()

    def _message(self, data: str | bytes) -> None:
        if self._incoming.qsize() < EVENTS:
            self._incoming.put_nowait(data if isinstance(data, str) else None)
        elif self._incoming.qsize() == EVENTS:
            error = ProtocolError("rate_limit_exceeded", "Events come faster than they can be taken.")
            self._incoming.put_nowait(Closing(POLICY, "too fast", error))

    async def receive(self) -> str | None:
        item = await self._incoming.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def send(self, text: str) -> None:
        if self.channel is None:
            return
        try:
            self.channel.send(text)
        except InvalidStateError:
            raise Gone("left", False) from None
        except ValueError:  # more than the client takes in one message
            said = {"type": "server_error", "code": "event_too_large", "message": "An event is too large to be sent."}
            error = {"type": "error", "event_id": new_id("event"), "error": {**said, "param": None, "event_id": None}}
            self.channel.send(json.dumps(error))
        self._low.clear()
        if self.channel.bufferedAmount > HIGH:
            await self._low.wait()

    async def close(self, code: int, reason: str) -> None:
        until = time.monotonic() + 1.0  # what was said last is still to arrive
        while self.channel is not None and self.channel.bufferedAmount and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def abort(self) -> None:
        """The call is closed anyway."""


class Speaker(MediaStreamTrack):
    """What the player plays, a packet every 20 ms, as 16-bit sound at 24 kHz.

    Args:
        player: whose `step` is called.
    """

    kind = "audio"

    def __init__(self, player: Player):
        super().__init__()
        self.player, self._at, self._count = player, 0.0, 0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if now - self._at > SLACK:
            self._at = now
        if self._at > now:
            await asyncio.sleep(self._at - now)
        self._at += FRAME / RATE
        frame = AudioFrame.from_ndarray(np.frombuffer(pcm16(self.player.step()), np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._count
        self._count += FRAME
        return frame


class WebRtcCall(RealtimeLine):
    """One client; see the module. Arguments are those of a `RealtimeLine`."""

    transport: ChannelTransport

    def __init__(self, served: Served, model: str = "", given: Sequence[dict[str, Any]] = ()):
        super().__init__(ChannelTransport(), served, model, given=given)
        self.id, self.answered = new_id("rtc"), ""
        self.player, self.microphone = Player(self._tell), Microphone()
        self.decoders: dict[str, Decoder] = {}
        self.track: MediaStreamTrack | None = None
        self.hung_up, self.connected, self.disconnected = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.refused_sound = False
        self.task: asyncio.Task[None] | None = None
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on("datachannel", self.transport.open)
        self.connection.on("track", self._tracked)
        self.connection.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: str) -> None:
        """Takes the client's SDP, as `webrtc_offer.checked` gives it; `answered` is then ours.

        Raises:
            BadOffer: it can't be answered.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                if self.connection.getTransceivers():
                    self.connection.addTrack(Speaker(self.player))
                await self.connection.setLocalDescription(await self.connection.createAnswer())
        except Exception as error:
            log.info("an offer can't be answered: %s", type(error).__name__)
            raise BadOffer("This is no SDP offer that can be answered.") from error
        self.answered = self.connection.localDescription.sdp

    async def let_go(self) -> None:
        """Closes what carries the call."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5.0):
                await self.connection.close()

    def jobs(self) -> list[Callable[[], Awaitable[None]]]:
        return [*super().jobs(), self._take_media, self._stay, self._wait_for_hang_up]

    @property
    def first_word(self) -> float:
        return CONNECT_SOON

    @property
    def busy(self) -> bool:
        return super().busy or self.player.playing

    # The line

    def _tracked(self, track: MediaStreamTrack) -> None:
        self.track = track

    def _state_changed(self) -> None:
        if self.connection.connectionState == "connected":
            self.connected.set()
        elif self.connection.connectionState in ("failed", "closed"):
            self.disconnected.set()
            self.connected.set()

    async def _parked(self) -> bool:
        return False  # a new call is a new conversation

    async def _send(self) -> None:
        await self.transport.opened.wait()
        await super()._send()

    async def _stay(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.connected.wait()
        except TimeoutError:
            raise Gone("unconnected", False) from None
        if self.place is not None and not self.disconnected.is_set():
            self.place.keep()
        while not self.disconnected.is_set():
            await asyncio.sleep(TICK)
            if self.player.waiting > AHEAD:
                raise Closing(POLICY, "too much", ProtocolError("rate_limit_exceeded", "More is said than is played."))
            window = getattr(self.connection.sctp, "_advertised_rwnd", 0)  # less than 0: more than it may send
            if window < -self.config.message_bytes:
                raise Closing(POLICY, "too much", ProtocolError("message_too_big", "That message is too large."))
        raise Gone("left" if self.connection.connectionState == "closed" else "lost", False)

    async def _wait_for_hang_up(self) -> None:
        await self.hung_up.wait()
        raise Closing(1000, "hung up")

    # Sound

    async def _take_media(self) -> None:
        try:
            while self.track is not None:
                frame = await self.track.recv()
                assert isinstance(frame, AudioFrame)
                self.last = time.monotonic()
                channels = len(frame.layout.channels)
                pcm = frame.to_ndarray().reshape(-1, channels)
                self._take_sound(self.microphone.step(pcm, frame.sample_rate, frame.time))
                self.keep_pace()
        except MediaStreamError:
            pass
        await asyncio.Event().wait()  # a client may fall silent for good and type on

    def _take_sound(self, samples: np.ndarray) -> None:
        """Hears more; when the input buffer is full, the client is told once, and the rest is not heard."""
        try:
            self.session.now = self.last
            self.session.bound(len(samples) / RATE + (ROOM if self.refused_sound else 0.0))
            self.session.take_sound(samples)
            self.refused_sound = False
        except ProtocolError as error:
            if not self.refused_sound:
                self.session.complain(error)
            self.refused_sound = True
        self.flush()

    def forget_sound(self, response_id: str) -> None:
        """A response that is stopped is played as far as it was made; what else ends it is said in `put`."""

    def put(self, out: dict[str, Any]) -> None:
        kind = out["type"]
        if kind == "response.output_audio.delta":
            sound = self.decoders[out["response_id"]].step(from_base64(out["delta"]))
            self.player.add(out["response_id"], out["item_id"], sound)
            return
        super().put(out)
        if kind == "response.created":
            output = out["response"]["audio"].get("output")
            self.decoders[out["response"]["id"]] = Decoder(output["format"]["type"] if output else "audio/pcm")
        elif kind == "response.done":
            details = out["response"]["status_details"] or {}
            if details.get("reason") == "turn_detected":
                self.fall_silent()
            self.player.end(out["response"]["id"])
            self.decoders.pop(out["response"]["id"], None)
        elif kind == "input_audio_buffer.speech_started" and self.served.engine is None:
            detection = self.session.config["audio"]["input"]["turn_detection"]
            if detection is not None and detection["interrupt_response"]:
                self.fall_silent()

    def receive(self, event: Any) -> None:
        if isinstance(event, dict) and event.get("type") == "output_audio_buffer.clear":
            self.fall_silent()
        else:
            super().receive(event)

    def fall_silent(self) -> None:
        """Plays no more, and cuts what was said to what was heard of it."""
        dropped = self.player.clear()
        if dropped and self.recorder is not None:
            self.recorder.interrupted()
        for sound in dropped:
            self._tell("cleared", sound.response_id)
            if sound.response_id in self.session.responses:
                self.session.receive({"type": "response.cancel", "response_id": sound.response_id}, self.last)
            if self.session.conversation.get(sound.item_id) is not None:
                cut = {"item_id": sound.item_id, "content_index": 0, "audio_end_ms": sound.played_ms}
                self.session.receive({"type": "conversation.item.truncate", **cut}, self.last)

    def _tell(self, what: str, response_id: str) -> None:
        self.put({"type": f"output_audio_buffer.{what}", "event_id": new_id("event"), "response_id": response_id})


async def begin(served: Served, offer: str, model: str = "", given: Sequence[dict[str, Any]] = ()) -> WebRtcCall:
    """Answers a client's offer; the conversation goes on by itself, in a place of its own.

    Args:
        served: the server.
        offer: the client's SDP.
        model, given: as for a `RealtimeLine`.

    Raises:
        Full: there is no room.
        BadOffer: of the SDP.
        ProtocolError: of `given`.
    """
    offer = checked(offer, served.config.private_candidates)
    stack = contextlib.AsyncExitStack()
    place = await stack.enter_async_context(served.admission.session())
    call = None
    try:
        call = WebRtcCall(served, model, given)
        await call.answer(offer)
        served.metrics.admitted.labels("webrtc").inc()
    except BaseException:
        async with stack:
            if call is not None:
                await call.let_go()
        raise

    async def hold() -> None:
        async with stack:
            try:
                await call.run(place)
            finally:
                del served.calls[call.id]
                await call.let_go()

    served.calls[call.id] = call
    call.task = asyncio.create_task(hold())
    return call
