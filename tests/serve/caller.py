"""A caller over WebRTC, made of aiortc: talks, hears and takes note of what it is told. Needs the extra `webrtc`."""

from __future__ import annotations

import asyncio
import json
import re
from fractions import Fraction

import httpx2 as httpx
import numpy as np
import torch
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from av import AudioFrame

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving, speech

PATIENCE = 30  # seconds; what takes longer has not happened


class Humming(Scripted):
    """Answers with a hum, as loud as what it heard: a constant doesn't get through Opus."""

    def chat(self):
        chat = super().chat()
        answers = chat.answer

        def answer(*about):
            made = answers(*about)
            events = made.events
            made.events = lambda: map(hum, events())
            return made

        chat.answer = answer
        return chat


def hum(event):
    if not isinstance(event, AudioEvent):
        return event
    sign = torch.where(torch.arange(event.audio.samples.shape[-1]) % 48 < 24, 1.0, -1.0)
    return AudioEvent(Audio((event.audio.samples + 0.2) * sign, 24000))


class Voice(AudioStreamTrack):
    """A microphone: silent until it is given something to say."""

    def __init__(self):
        super().__init__()
        self.sound, self.count, self.began = np.zeros(0, np.int16), 0, None

    def say(self, seconds: float, level: float = 0.25) -> None:
        self.sound = np.concatenate([self.sound, np.frombuffer(speech(seconds, level), np.int16)])

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        clock = asyncio.get_running_loop().time
        self.began = self.began or clock()
        await asyncio.sleep(max(0.0, self.began + self.count / 24000 - clock()))
        packet, self.sound = np.zeros(480, np.int16), self.sound[480:] if (now := self.sound[:480]).size else self.sound
        packet[: len(now)] = now
        frame = AudioFrame.from_ndarray(packet[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 24000, Fraction(1, 24000), self.count
        self.count += 480
        return frame


class Client:
    """A caller, with what it was told and what it heard (float32, a value for each 20 ms: the loudness)."""

    def __init__(self, address: str, **how):
        self.address, self.how = address, how
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("oai-events")
        self.voice = Voice()
        self.connection.addTrack(self.voice)
        self.events: asyncio.Queue = asyncio.Queue()
        self.told, self.heard = [], []
        self.channel.on("message", self._message)
        self.channel.on("close", lambda: self.events.put_nowait({"type": "closed"}))
        self.connection.on("track", lambda track: setattr(self, "ears", asyncio.ensure_future(self._listen(track))))

    def _message(self, text: str) -> None:
        self.told.append(json.loads(text))
        self.events.put_nowait(self.told[-1])

    async def _listen(self, track) -> None:
        try:
            while True:
                frame = await track.recv()
                self.heard.append(float(np.abs(frame.to_ndarray()).mean() / 32768))
        except MediaStreamError:
            pass

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def __aenter__(self) -> Client:
        self.answer = await post(self.address, await self.offer(), **self.how)
        assert self.answer.status_code == 201, self.answer.text
        assert self.answer.headers["content-type"].startswith("application/sdp")
        self.location = self.answer.headers["location"]
        assert re.fullmatch(r"/v1/realtime/calls/rtc_\w+", self.location)
        await self.connection.setRemoteDescription(RTCSessionDescription(self.answer.text, "answer"))
        assert (await self.event())["type"] == "session.created"
        return self

    async def __aexit__(self, *_) -> None:
        await self.connection.close()

    def send(self, kind: str, **fields) -> None:
        self.channel.send(json.dumps({"type": kind, **fields}))

    def ask(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        self.send("response.create")

    async def event(self, kind: str | None = None) -> dict:
        while True:
            event = await asyncio.wait_for(self.events.get(), PATIENCE)
            if kind in (None, event["type"]):
                return event

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]


async def post(address: str, sdp: str, session: dict | None = None, key: str = "", path: str = "calls"):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=f"http://{address}/v1/realtime/", headers=headers) as http:
        if session is None:
            return await http.post(path, content=sdp, headers={"content-type": "application/sdp"})
        parts = {"sdp": (None, sdp, "application/sdp"), "session": (None, json.dumps(session), "application/json")}
        return await http.post(path, files=parts)


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def run(scenario, backend=None, **config) -> None:
    with serving(backend or Humming(), ServeConfig(port=0, **config)) as (address, served):
        asyncio.run(scenario(address, served))
