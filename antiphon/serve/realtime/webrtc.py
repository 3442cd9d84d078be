"""A Realtime conversation as a WebRTC call: events on the data channel, sound as media; needs the extra `webrtc`.

    call = await begin(served, offer)            # the client's SDP; its place is held from now on
    call.answered                                # ours

What a client hears is paced by the server, so the server knows how much of an answer was played: when the user speaks
up, what waits is thrown away and the item is cut to what was heard, without a word from the client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from antiphon.audio.pcm import RATE, Decoder, pcm16
from antiphon.serve.errors import RequestError
from antiphon.serve.realtime.connection import POLICY, TICK_SECONDS, Closing, Gone, Job, RealtimeConnection, error_event
from antiphon.serve.realtime.items import new_id
from antiphon.serve.realtime.webrtc_audio import PACKET_SAMPLES, Microphone, Player
from antiphon.serve.realtime.webrtc_offer import bad_offer, checked

if TYPE_CHECKING:
    from antiphon.serve.state import Served

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0  # until a call that was answered must be connected
CONNECT_SOON_SECONDS = 1.5  # that its place is kept from others meanwhile
ANSWER_SECONDS = 10.0  # to look for the addresses of this machine
MAX_EVENTS = 500  # of a client that wait
HIGH_BYTES, LOW_BYTES = 256 * 1024, 64 * 1024  # on the data channel: wait from here, until there
MAX_AHEAD_SECONDS = 300.0  # of sound that may wait to be played
ROOM_SECONDS = 0.2  # that must be free in a buffer that was full before it takes more
MAX_LATE_SECONDS = 0.2  # of a packet that is caught up with


class ChannelTransport:
    """Events on the client's data channel, which it opens; see `connection.Transport`."""

    def __init__(self) -> None:
        self.channel: RTCDataChannel | None = None
        self.opened, self._low = asyncio.Event(), asyncio.Event()
        self._incoming: asyncio.Queue[str | None | Exception] = asyncio.Queue()

    def open(self, channel: RTCDataChannel) -> None:
        """The client has opened a channel; the first is taken."""
        if self.channel is not None:
            channel.close()
            return
        self.channel = channel
        channel.bufferedAmountLowThreshold = LOW_BYTES
        channel.on("message", self._message)
        channel.on("close", lambda: self._incoming.put_nowait(Gone("left", False)))
        channel.on("bufferedamountlow", self._low.set)
        self.opened.set()

    def _message(self, data: str | bytes) -> None:
        if self._incoming.qsize() < MAX_EVENTS:
            self._incoming.put_nowait(data if isinstance(data, str) else None)
        elif self._incoming.qsize() == MAX_EVENTS:
            error = RequestError("rate_limit_exceeded", "Events come faster than they can be taken.")
            self._incoming.put_nowait(Closing(POLICY, "too fast", error))

    async def ready(self) -> None:
        await self.opened.wait()

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
            error = RequestError("event_too_large", "An event is too large to be sent.", status=500)
            self.channel.send(json.dumps(error_event(error)))
        self._low.clear()
        if self.channel.bufferedAmount > HIGH_BYTES:
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
        if now - self._at > MAX_LATE_SECONDS:
            self._at = now
        if self._at > now:
            await asyncio.sleep(self._at - now)
        self._at += PACKET_SAMPLES / RATE
        frame = AudioFrame.from_ndarray(np.frombuffer(pcm16(self.player.step()), np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._count
        self._count += PACKET_SAMPLES
        return frame


class WebRtcCall:
    """What carries one client's call, and the sound of it: the `Media` of its connection.

    Args:
        served: the server.
        model, given: as for a `RealtimeConnection`.
    """

    first_word_seconds = CONNECT_SOON_SECONDS

    def __init__(self, served: Served, model: str = "", given: Sequence[dict[str, Any]] = ()):
        self.id, self.answered = new_id("rtc"), ""
        self.transport = ChannelTransport()
        self.connection = RealtimeConnection(self.transport, served, model, given=given, media=self)
        self.player, self.microphone = Player(self._tell), Microphone()
        self.decoders: dict[str, Decoder] = {}
        self.track: MediaStreamTrack | None = None
        self.connected, self.disconnected = asyncio.Event(), asyncio.Event()
        self.refused_sound = False
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.on("datachannel", self.transport.open)
        self.peer.on("track", self._tracked)
        self.peer.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: str) -> None:
        """Takes the client's SDP, as `webrtc_offer.checked` gives it; `answered` is then ours.

        Raises:
            RequestError: it can't be answered.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                if self.peer.getTransceivers():
                    self.peer.addTrack(Speaker(self.player))
                await self.peer.setLocalDescription(await self.peer.createAnswer())
        except Exception as error:
            log.info("an offer can't be answered: %s", type(error).__name__)
            raise bad_offer() from error
        self.answered = self.peer.localDescription.sdp

    async def let_go(self) -> None:
        """Closes what carries the call."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5.0):
                await self.peer.close()

    # What carries it

    def _tracked(self, track: MediaStreamTrack) -> None:
        self.track = track

    def _state_changed(self) -> None:
        if self.peer.connectionState == "connected":
            self.connected.set()
        elif self.peer.connectionState in ("failed", "closed"):
            self.disconnected.set()
            self.connected.set()

    def jobs(self) -> list[Job]:
        return [self._take_media, self._stay]

    async def _stay(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.connected.wait()
        except TimeoutError:
            raise Gone("unconnected", False) from None
        if self.connection.place is not None and not self.disconnected.is_set():
            self.connection.place.keep()
        while not self.disconnected.is_set():
            await asyncio.sleep(TICK_SECONDS)
            if self.player.waiting > MAX_AHEAD_SECONDS:
                raise Closing(POLICY, "too much", RequestError("rate_limit_exceeded", "More is said than is played."))
            window = getattr(self.peer.sctp, "_advertised_rwnd", 0)  # less than 0: more than it may send
            if window < -self.connection.config.message_bytes:
                raise Closing(POLICY, "too much", RequestError("message_too_big", "That message is too large."))
        raise Gone("left" if self.peer.connectionState == "closed" else "lost", False)

    # Sound

    async def _take_media(self) -> None:
        try:
            while self.track is not None:
                frame = await self.track.recv()
                assert isinstance(frame, AudioFrame)
                self.connection.last = time.monotonic()
                channels = len(frame.layout.channels)
                pcm = frame.to_ndarray().reshape(-1, channels)
                self._take_sound(self.microphone.step(pcm, frame.sample_rate, frame.time))
                self.connection.keep_pace()
        except MediaStreamError:
            pass
        await asyncio.Event().wait()  # a client may fall silent for good and type on

    def _take_sound(self, samples: np.ndarray) -> None:
        """Hears more; when the input buffer is full, the client is told once, and the rest is not heard."""
        session = self.connection.session
        try:
            session.now = self.connection.last
            session.input.require_room(len(samples) / RATE + (ROOM_SECONDS if self.refused_sound else 0.0))
            session.take_sound(samples)
            self.refused_sound = False
        except RequestError as error:
            if not self.refused_sound:
                session.complain(error)
            self.refused_sound = True
        self.connection.flush()

    @property
    def busy(self) -> bool:
        return self.player.playing

    def play(self, delta: dict[str, Any]) -> None:
        sound = self.decoders[delta["response_id"]].step(base64.b64decode(delta["delta"]))
        self.player.add(delta["response_id"], delta["item_id"], sound)

    def said(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "response.created":
            output = event["response"]["audio"].get("output")
            self.decoders[event["response"]["id"]] = Decoder(output["format"]["type"] if output else "audio/pcm")
        elif kind == "response.done":
            details = event["response"]["status_details"] or {}
            if details.get("reason") == "turn_detected":
                self.fall_silent()
            self.player.end(event["response"]["id"])
            self.decoders.pop(event["response"]["id"], None)
        elif kind == "input_audio_buffer.speech_started":
            # What a duplex model says goes on until it gives way, and its session says so: interrupt_response is false.
            detection = self.connection.session.config["audio"]["input"]["turn_detection"]
            if detection is not None and detection["interrupt_response"]:
                self.fall_silent()

    def asked(self, event: Any) -> bool:
        clears = isinstance(event, dict) and event.get("type") == "output_audio_buffer.clear"
        if clears:
            self.fall_silent()
        return clears

    def fall_silent(self) -> None:
        """Plays no more, and cuts what was said to what was heard of it."""
        session, now = self.connection.session, self.connection.last
        dropped = self.player.clear()
        if dropped and self.connection.runner.recorder is not None:
            self.connection.runner.recorder.interrupted()
        for sound in dropped:
            self._tell("cleared", sound.response_id)
            if sound.response_id in session.responses:
                session.receive({"type": "response.cancel", "response_id": sound.response_id}, now)
            if session.conversation.get(sound.item_id) is not None:
                cut = {"item_id": sound.item_id, "content_index": 0, "audio_end_ms": sound.played_ms}
                session.receive({"type": "conversation.item.truncate", **cut}, now)

    def _tell(self, what: str, response_id: str) -> None:
        event = {"type": f"output_audio_buffer.{what}", "event_id": new_id("event"), "response_id": response_id}
        self.connection.put(event)


async def begin(served: Served, offer: str, model: str = "", given: Sequence[dict[str, Any]] = ()) -> WebRtcCall:
    """Answers a client's offer; the conversation goes on by itself, in a place of its own.

    Args:
        served: the server.
        offer: the client's SDP.
        model, given: as for a `RealtimeConnection`.

    Raises:
        Full: there is no room.
        RequestError: of the SDP, or of `given`.
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
                await call.connection.run(place)
            finally:
                del served.calls[call.id]
                await call.let_go()

    served.calls[call.id] = call.connection
    call.connection.task = asyncio.create_task(hold())
    return call
