"""Duplex models on a line: Realtime with their own turns, and Moshi's protocol."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from antiphon.audio.ogg import OpusReader, OpusWriter
from antiphon.dialogue.duplex.batched import BatchedEngine
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import LiveOnly
from tests.audio.test_ogg import tone
from tests.dialogue.duplex.tiny_duplex import tiny_duplex
from tests.serve.scripted import serving, silence, speech


@pytest.fixture(scope="module")
def duplex():
    return tiny_duplex()


def served_live(duplex, **config):
    return serving(LiveOnly("tiny"), ServeConfig(port=0, **config), engine=BatchedEngine(duplex, max_waiting=10_000))


def test_realtime_on_a_line(duplex):
    from websockets.asyncio.client import connect

    async def scenario(address, served):
        async with connect(f"ws://{address}/v1/realtime", max_queue=None) as line:
            assert json.loads(await line.recv())["type"] == "session.created"
            sound = silence(0.3) + speech(0.5) + silence(0.7)
            for at in range(0, len(sound), 3840):
                data = base64.b64encode(sound[at : at + 3840]).decode()
                await line.send(json.dumps({"type": "input_audio_buffer.append", "audio": data}))
            seen = set()
            while not {"input_audio_buffer.committed"} <= seen:
                seen.add(json.loads(await line.recv())["type"])
            before = served.metrics.frames._value.get()
            while served.metrics.frames._value.get() < before + 5:  # the model goes on when nothing is sent
                await asyncio.sleep(0.02)
        while served.admission.live:
            await asyncio.sleep(0.01)
        while served.engine._slots:
            await asyncio.sleep(0.01)

    with served_live(duplex) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address, served), 40))


def test_moshi_s_protocol_on_a_line(duplex):
    from websockets.asyncio.client import connect

    async def scenario(address, served):
        url = f"ws://{address}/api/chat"
        async with connect(url, max_queue=None) as line:
            assert await line.recv() == b"\x00"
            writer, reader, heard = OpusWriter(), OpusReader(), 0
            await line.send(b"\x01" + writer.head())
            for at in range(0, 24000, 1920):
                await line.send(b"\x01" + writer.step(tone(1)[at : at + 1920]))
            while heard < 10_000:
                message = await line.recv()
                if message[:1] == b"\x01":
                    heard += len(reader.step(message[1:]))
            async with connect(url) as second:
                with pytest.raises(Exception, match="1013"):
                    await second.recv()
        while served.admission.live:
            await asyncio.sleep(0.01)
        async with connect(url) as line:
            await line.send(b"\x01no opus at all, and not a page of Ogg")
            with pytest.raises(Exception, match="1007"):
                while True:
                    await line.recv()

    with served_live(duplex, sessions=1) as (address, served):
        asyncio.run(asyncio.wait_for(_refused_first(scenario, address, served), 40))


async def _refused_first(scenario, address, served):
    try:
        await scenario(address, served)
    finally:
        assert served.metrics.frames._value.get() >= 10


def test_a_live_model_refuses_everything_else_by_name(duplex):
    import httpx2 as httpx

    with served_live(duplex) as (address, _):
        body = {"messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(f"http://{address}/v1/chat/completions", json=body)
        assert answer.status_code == 400 and "live" in answer.json()["error"]["message"]
        answer = httpx.post(f"http://{address}/v1/audio/speech", json={"input": "x"})
        assert answer.status_code == 400
        assert httpx.get(f"http://{address}/v1/models").json()["data"][0]["id"] == "tiny"


def test_a_model_of_turns_says_so_to_moshi_s_clients():
    from websockets.asyncio.client import connect

    from tests.serve.scripted import Scripted

    async def scenario(address):
        async with connect(f"ws://{address}/api/chat") as line:
            with pytest.raises(Exception, match="1003"):
                await line.recv()

    with serving(Scripted(), ServeConfig(port=0)) as (address, _):
        asyncio.run(asyncio.wait_for(scenario(address), 20))
