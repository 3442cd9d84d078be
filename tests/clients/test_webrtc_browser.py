"""Realtime over WebRTC with a real browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("aiortc", reason="needs the extra 'webrtc'")
pytest.importorskip("httpx2")

from antiphon.audio.io import Audio, load
from antiphon.serve.settings import ServeConfig
from tests.clients.browser import chromium
from tests.serve.caller import Humming
from tests.serve.scripted import serving

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


@pytest.mark.slow
def test_a_browser_calls_is_answered_interrupts_and_leaves(question, tmp_path):
    """The lines of the docs, in Chromium; its microphone asks, and asks again while the answer is being said."""
    asked = load(question, sample_rate=24000).mono().samples.reshape(-1)
    silence = torch.zeros(24000)
    Audio(torch.cat([silence, asked, *[silence] * 4, asked, *[silence] * 8]), 24000).save(tmp_path / "microphone.wav")
    backend = Humming([f"word{n}" for n in range(30)], hears="What is the capital of Italy?")
    config = ServeConfig(port=0)
    with serving(backend, config) as (address, served), chromium(tmp_path / "microphone.wav") as browser:
        page = browser.new_page(bypass_csp=True)  # the docs' page is not the server's
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
        assert len(backend.answers) == 2
        asking = max(float(np.abs(turn.numpy()).max()) for turn in backend.heard)
        assert asking > 0.05  # the recorded question got here
        page.evaluate("line.close()")
        for _ in range(600):
            if not served.admission.live:
                break
            page.wait_for_timeout(50)
        assert 'antiphon_ended_total{reason="left"} 1.0' in served.metrics.page().decode()
