"""Realtime over WebRTC with a duplex model, and with a real browser."""

from __future__ import annotations

import asyncio
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("aiortc", reason="needs the extra 'webrtc'")
pytest.importorskip("httpx2")

from antiphon.audio.io import Audio, load  # noqa: E402
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent  # noqa: E402
from antiphon.serve.settings import ServeConfig  # noqa: E402
from antiphon.serve.state import LiveOnly  # noqa: E402
from tests.serve.client import until
from tests.serve.scripted import serving  # noqa: E402
from tests.serve.webrtc_client import Client, Humming, hum  # noqa: E402

QUIET, LOUD = AudioEvent(Audio(torch.zeros(1920), 24000)), hum(AudioEvent(Audio(torch.full((1920,), 0.2), 24000)))


class Hall:
    """Of a pretended duplex model: it speaks when it has heard someone, until someone speaks up for long."""

    frame_samples = 1920

    def join(self, give):
        return Seat(give)

    def close(self):
        pass


class Seat:
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

    with serving(LiveOnly("pretended"), ServeConfig(port=0), hall=Hall()) as (address, served):
        asyncio.run(scenario(address, served))


JAVASCRIPT = """async () => {
  const { value } = await (await fetch("/v1/realtime/client_secrets", {
    method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).json();

  const line = new RTCPeerConnection();
  const [microphone] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks();
  line.addTrack(microphone);
  line.ontrack = ({ streams }) => { document.querySelector("audio").srcObject = streams[0]; };
  const events = line.createDataChannel("oai-events");
  events.onmessage = ({ data }) => told.push(JSON.parse(data));
  await line.setLocalDescription();
  const answer = await fetch("/v1/realtime/calls?model=mini", {
    method: "POST", body: line.localDescription.sdp,
    headers: { authorization: `Bearer ${value}`, "content-type": "application/sdp" } });
  await line.setRemoteDescription({ type: "answer", sdp: await answer.text() });

  window.line = line;
  window.channel = events;
  return [answer.status, answer.headers.get("location")];
}"""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@pytest.mark.slow
def test_a_browser_calls_is_answered_interrupts_and_leaves(question, tmp_path):
    """The lines of the docs, in Chromium; its microphone asks, and asks again while the answer is being said."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium")
    asked = load(question, sample_rate=24000).mono().samples.reshape(-1)
    silence = torch.zeros(24000)
    Audio(torch.cat([silence, asked, *[silence] * 4, asked, *[silence] * 8]), 24000).save(tmp_path / "microphone.wav")
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}%noloop"]
    conversant = Humming([f"word{n}" for n in range(30)], hears="What is the capital of Italy?")
    config = ServeConfig(port=0)
    with serving(conversant, config) as (address, served), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=flags, ignore_default_args=["--headless"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"http://{address}/health")
        page.evaluate("document.body.append(Object.assign(document.createElement('audio'), { autoplay: true }))")
        page.evaluate("window.told = []")
        status, location = page.evaluate(JAVASCRIPT)
        assert status == 201 and location.startswith("/v1/realtime/calls/rtc_")

        def told(kind: str, count: int = 1) -> dict:
            page.wait_for_function(f"told.filter((event) => event.type == '{kind}').length >= {count}")
            return page.evaluate(f"told.filter((event) => event.type == '{kind}')[{count - 1}]")

        told("output_audio_buffer.started")
        cut = told("conversation.item.truncated")
        assert 0 < cut["audio_end_ms"] < 30 * 160
        told("output_audio_buffer.stopped")
        kinds = page.evaluate("told.map((event) => event.type)")
        assert "output_audio_buffer.cleared" in kinds and "error" not in kinds
        assert "response.output_audio.delta" not in kinds
        heard = page.evaluate(
            """async () => [...(await line.getStats()).values()].find(
                 (report) => report.type == "inbound-rtp" && report.kind == "audio")"""
        )
        assert heard["totalAudioEnergy"] > 0.1 and heard["packetsReceived"] > 100
        assert len(conversant.answers) == 2
        asking = max(float(np.abs(turn.numpy()).max()) for turn in conversant.heard)
        assert asking > 0.05  # the recorded question got here
        page.evaluate("line.close()")
        for _ in range(600):
            if not served.admission.live:
                break
            page.wait_for_timeout(50)
        assert 'antiphon_ended_total{reason="left"} 1.0' in served.metrics.page().decode()
        browser.close()
