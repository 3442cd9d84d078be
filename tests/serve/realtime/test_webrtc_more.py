"""Realtime over WebRTC with a duplex model."""

from __future__ import annotations

import asyncio

import pytest
import torch

pytest.importorskip("aiortc", reason="needs the extra 'webrtc'")
pytest.importorskip("httpx2")

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import LiveOnly
from tests.serve.caller import Client, hum, until
from tests.serve.scripted import serving

QUIET, LOUD = AudioEvent(Audio(torch.zeros(1920), 24000)), hum(AudioEvent(Audio(torch.full((1920,), 0.2), 24000)))


class PretendedEngine:
    """Of a pretended duplex model: it speaks when it has heard someone, until someone speaks up for long."""

    frame_samples = 1920

    def join(self, give):
        return Slot(give)

    def close(self):
        pass


class Slot:
    def __init__(self, give):
        self.give, self.loud, self.speaking, self.count = give, 0, False, 0

    def push(self, frame):
        self.count += 1
        was, self.loud = self.loud, self.loud + 1 if float(frame.abs().max()) > 0.05 else 0
        events = []
        if not self.speaking and was >= 3 and not self.loud:
            self.speaking = True
            events = [SpeakingEvent(True, self.count * 0.08), TextEvent(" Well")]
        elif self.speaking and self.loud > 6:
            self.speaking = False
            events = [SpeakingEvent(False, self.count * 0.08)]
        self.give([*events, LOUD if self.speaking else QUIET])

    def mute(self, silent):
        pass

    def leave(self):
        pass


def test_a_duplex_model_takes_its_own_turns():
    async def scenario(address, served):
        async with Client(address) as client:
            client.voice.say(0.5)
            await client.event("output_audio_buffer.started")
            await client.event("input_audio_buffer.committed")
            client.voice.say(0.2)  # a word of assent stops nothing
            await until(lambda: sum(level > 0.1 for level in client.heard) > 40)
            assert client.kinds().count("input_audio_buffer.speech_started") == 1
            client.voice.say(1.0)
            await client.event("output_audio_buffer.cleared")
            done = [event["response"] for event in client.told if event["type"] == "response.done"]
            assert [response["status_details"]["reason"] for response in done] == ["turn_detected"]
            assert (await client.event("conversation.item.truncated"))["audio_end_ms"] > 800
            assert client.kinds().count("input_audio_buffer.speech_started") == 2
            assert "error" not in client.kinds()

    with serving(LiveOnly("pretended"), ServeConfig(port=0), engine=PretendedEngine()) as (address, served):
        asyncio.run(scenario(address, served))
