"""The command, the bench, and the real model behind the real server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from antiphon.dialogue.events import AudioEvent, TextEvent
from antiphon.dialogue.half_duplex import Message
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from antiphon.serve.work.admission import Pace, measure
from tests.serve.client import append, connect, send
from tests.serve.scripted import Scripted, serving, silence


def test_capacity_is_what_the_machine_keeps_up_with():
    assert Pace(listening=0.1, speaking=0.2).capacity == 4
    assert Pace(listening=0.5, speaking=0.1).capacity == 1
    assert Pace(listening=3.0, speaking=3.0).capacity == 1  # one is always let in
    app = create_app(Scripted(), ServeConfig(), Pace(0.1, 0.2))
    assert app.state.served.admission.sessions == 4
    assert create_app(Scripted(), ServeConfig(sessions=7), Pace(0.1, 0.2)).state.served.admission.sessions == 7


def test_measuring_holds_a_conversation_with_nobody():
    backend = Scripted(pace=0.002)
    pace = measure(backend)
    assert pace.speaking > 0.002 / 0.16 and len(backend.answers) == 2
    warming, whole = (answer.text for answer in backend.answers)
    assert warming == whole.split()[0]  # as long as what is loaded when first used takes, and no longer


def test_the_command_refuses_what_cannot_be():
    from antiphon.cli import app

    result = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0"], env={"ANTIPHON_TOKEN": ""})
    assert result.exit_code == 1 and "token" in str(result.exception)
    with serving(Scripted(), ServeConfig(port=0)) as (address, _):
        result = CliRunner().invoke(app, ["serve", "--port", address.split(":")[1]])
        assert result.exit_code == 1 and "can't be listened on" in str(result.exception)


@pytest.mark.slow
def test_the_real_model_is_talked_to_over_the_wire(mini, question):
    from antiphon.audio.io import Audio, load
    from antiphon.dialogue.turn_taking.default import network_turns

    samples = load(question, sample_rate=24000).samples
    sound = (samples.numpy() * 32767).astype("<i2").tobytes() + silence(2.5)  # more than the patience

    async def scenario(url: str, detection: dict) -> tuple[str, str, bytes]:
        async with connect(url) as line:
            audio = {"input": {"turn_detection": detection, "transcription": {"model": "x"}}}
            change = {"type": "realtime", "audio": audio}
            await send(line, "session.update", session=change)
            for at in range(0, len(sound), 3840):
                await append(line, sound[at : at + 3840])
            heard, spoken = "", b""
            while True:
                event = json.loads(await asyncio.wait_for(line.recv(), 120))
                if event["type"].endswith("transcription.completed"):
                    heard = event["transcript"]
                elif event["type"] == "response.output_audio.delta":
                    spoken += base64.b64decode(event["delta"])
                elif event["type"] == "response.done":
                    return heard, event["response"]["output"][0]["content"][0]["transcript"], spoken

    with serving(mini.backend, ServeConfig(port=0), turns=network_turns) as (address, _):
        for detection in ({"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "high"}):
            heard, said, spoken = asyncio.run(scenario(f"ws://{address}/v1/realtime", detection))
            assert "italy" in heard.lower() and "Rome" in said
            answer = Audio(torch.from_numpy(np.frombuffer(spoken, "<i2").astype(np.float32) / 32768), 24000)
            assert "rome" in mini.hear(answer).text.lower()


@pytest.mark.slow
def test_conversations_that_are_made_in_turn_are_as_if_alone(mini):
    """The real model, step by step for three at once over one set of weights: the same words and the same sound."""
    backend = mini.backend
    pasts = [[Message("user", f"What is the capital of {country}?")] for country in ("Italy", "France", "Japan")]

    def made(streams: list) -> list[tuple[str, torch.Tensor]]:
        words, sounds, going = [""] * len(streams), [[] for _ in streams], set(range(len(streams)))
        while going:
            for number in sorted(going):
                event = next(streams[number], "end")
                if event == "end":
                    going.discard(number)
                elif isinstance(event, TextEvent):
                    words[number] += event.text
                elif isinstance(event, AudioEvent):
                    sounds[number].append(event.audio.samples)
        return [(text, torch.cat(pieces)) for text, pieces in zip(words, sounds)]

    alone = [made([backend.chat().answer(past).events()])[0] for past in pasts]
    together = made([backend.chat().answer(past).events() for past in pasts])
    assert len({text for text, _ in alone}) == 3
    for (text, sound), (other_text, other_sound) in zip(alone, together):
        assert text == other_text and torch.equal(sound, other_sound)


@pytest.mark.slow
def test_the_command_serves_and_stops(tmp_path):
    program = [sys.executable, "-m", "antiphon.cli", "serve", "--port", "0", "--sessions", "1"]
    server = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        shown = "".join(server.stdout.readline() for _ in range(3))
        url = re.search(r"clients:\s+(\S+)/v1", shown)[1]
        import httpx2 as httpx

        assert httpx.get(f"{url}/health", timeout=20).json()["capacity"] == 1
        server.terminate()
        server.wait(timeout=30)
    finally:
        server.kill()
        server.wait()
