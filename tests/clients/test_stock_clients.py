"""Clients that others wrote, unmodified: they connect, talk, hear, interrupt, call again and run functions."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable

import pytest

from tests.serve.scripted import Scripted, serving, silence, speech

LONG = "say " + " ".join(f"word{n}" for n in range(60))
QUESTION = silence(0.3) + speech(0.6) + silence(0.8)


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    assert "OPENAI_API_KEY" not in os.environ


def pieces(sound: bytes, size: int = 1920 * 2) -> list[bytes]:
    return [sound[at : at + size] for at in range(0, len(sound), size)]


def twice(scenario: Callable[[str, Scripted], Awaitable[None]]) -> None:
    """Plays a scenario with a client, and then once more on the same server."""
    backend = Scripted(pace=0.03)
    with serving(backend) as (address, served):
        for _ in range(2):
            asyncio.run(asyncio.wait_for(scenario(address, backend), 60))
            for _ in range(200):
                if not served.admission.live:
                    break
                asyncio.run(asyncio.sleep(0.02))
            assert served.admission.live == 0


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it didn't happen"
        await asyncio.sleep(0.01)


def test_openai_sdk():
    openai = pytest.importorskip("openai")

    async def scenario(address: str, backend: Scripted) -> None:
        client = openai.AsyncOpenAI(api_key="x", base_url=f"http://{address}/v1")
        async with client.realtime.connect(model="gpt-realtime") as connection:
            for part in pieces(QUESTION):
                await connection.input_audio_buffer.append(audio=base64.b64encode(part).decode())
            said, sound = "", b""
            async for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_audio.delta":
                    sound += base64.b64decode(event.delta)
                elif event.type == "response.output_audio_transcript.delta":
                    said += event.delta
                elif event.type == "response.done":
                    assert event.response.status == "completed"
                    break
            assert said == "Rome is the capital of Italy." and len(sound) == 6 * 2 * 1920 * 2
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": LONG}]}
            await connection.conversation.item.create(item=item)
            await connection.response.create()
            heard = None
            async for event in connection:
                if event.type == "response.output_audio.delta" and heard is None:
                    heard = event.item_id
                    await connection.input_audio_buffer.append(audio=base64.b64encode(speech(0.4)).decode())
                elif event.type == "response.done":
                    assert event.response.status == "cancelled"
                    assert event.response.status_details.reason == "turn_detected"
                    break
            await connection.conversation.item.truncate(item_id=heard, content_index=0, audio_end_ms=100)
            async for event in connection:
                assert event.type not in ("error", "response.output_audio.delta")
                if event.type == "conversation.item.truncated":
                    break

    twice(scenario)


def test_openai_agents():
    realtime = pytest.importorskip("agents.realtime")

    async def scenario(address: str, backend: Scripted) -> None:
        agent = realtime.RealtimeAgent(name="a", instructions="Be brief.")
        settings = {"model_name": "gpt-realtime", "input_audio_transcription": {"model": "whisper-1"}}
        settings["turn_detection"] = {"type": "server_vad", "interrupt_response": True}
        runner = realtime.RealtimeRunner(agent, config={"model_settings": settings})
        url = f"ws://{address}/v1/realtime?model=gpt-realtime"
        events: list = []
        async with await runner.run(model_config={"url": url, "api_key": "x"}) as session:

            async def listen() -> None:
                async for event in session:
                    events.append(event)

            listening = asyncio.create_task(listen())

            def seen(kind: str) -> list:
                return [event for event in events if event.type == kind]

            for part in pieces(QUESTION):
                await session.send_audio(part)
            await until(lambda: seen("audio_end"))
            assert sum(len(event.audio.data) for event in seen("audio")) == 6 * 2 * 1920 * 2
            await session.send_message(LONG)
            before = len(seen("audio"))
            await until(lambda: len(seen("audio")) > before)
            for part in pieces(speech(0.4)):
                await session.send_audio(part)
            await until(lambda: seen("audio_interrupted"))
            raw = [event.data.data for event in seen("raw_model_event") if event.data.type == "raw_server_event"]
            await until(lambda: any(e.data.type == "turn_ended" for e in seen("raw_model_event")[-5:]))
            assert not seen("error"), seen("error")
            assert not [event for event in raw if event["type"] == "error"]
            listening.cancel()

    twice(scenario)


def test_pipecat():
    pytest.importorskip("pipecat.services.openai.realtime.llm")
    from pipecat.frames.frames import (
        ErrorFrame,
        InputAudioRawFrame,
        LLMContextFrame,
        LLMFullResponseEndFrame,
        TTSAudioRawFrame,
        TTSTextFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineParams, PipelineTask
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

    async def scenario(address: str, backend: Scripted) -> None:
        frames: list = []

        class Ear(FrameProcessor):
            async def process_frame(self, frame, direction: FrameDirection) -> None:
                await super().process_frame(frame, direction)
                frames.append(frame)
                await self.push_frame(frame, direction)

        def seen(kind: type) -> list:
            return [frame for frame in frames if isinstance(frame, kind)]

        service = OpenAIRealtimeLLMService(api_key="x", base_url=f"ws://{address}/v1/realtime")
        task = PipelineTask(
            Pipeline([service, Ear()]),
            params=PipelineParams(audio_in_sample_rate=24000, audio_out_sample_rate=24000),
            cancel_on_idle_timeout=False,
        )
        running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
        context = LLMContext([{"role": "user", "content": "Where?"}])
        await task.queue_frame(LLMContextFrame(context))
        await until(lambda: seen(LLMFullResponseEndFrame))
        assert sum(len(frame.audio) for frame in seen(TTSAudioRawFrame)) == 6 * 2 * 1920 * 2
        assert "".join(frame.text for frame in seen(TTSTextFrame)) == "Rome is the capital of Italy."
        frames.clear()
        backend.words = LONG.split()[1:]
        for part in pieces(QUESTION):
            await task.queue_frame(InputAudioRawFrame(part, 24000, 1))
        await until(lambda: seen(TTSAudioRawFrame))
        for part in pieces(speech(0.4)):
            await task.queue_frame(InputAudioRawFrame(part, 24000, 1))
        await until(lambda: seen(LLMFullResponseEndFrame))
        assert backend.answers[-1].text.split() != LONG.split()[1:]  # it didn't get to the end
        assert not seen(ErrorFrame), seen(ErrorFrame)
        backend.words = "Rome is the capital of Italy.".split()
        await task.cancel()
        await running

    twice(scenario)


def test_livekit():
    pytest.importorskip("livekit.plugins.openai")
    from livekit import rtc
    from livekit.plugins import openai

    async def scenario(address: str, backend: Scripted) -> None:
        import aiohttp

        async with aiohttp.ClientSession() as http:
            model = openai.realtime.RealtimeModel(api_key="x", base_url=f"http://{address}/v1", http_session=http)
            session = model.session()
            generations: list = []
            errors: list = []
            session.on("generation_created", generations.append)
            session.on("error", errors.append)
            await session.update_instructions("Be brief.")

            def say(sound: bytes) -> None:
                for part in pieces(sound):
                    session.push_audio(rtc.AudioFrame(part, 24000, 1, len(part) // 2))

            async def hear(generation, until_frame: int | None = None) -> int:
                length = 0
                async for message in generation.message_stream:
                    async for frame in message.audio_stream:
                        length += frame.samples_per_channel
                        if until_frame is not None and length >= until_frame:
                            return length
                return length

            say(QUESTION + silence(4.5))  # it asks for semantic_vad, and nothing here tells that the words are all
            await until(lambda: generations)
            assert await hear(generations[0]) == 6 * 2 * 1920
            backend.words = LONG.split()[1:]
            asked = await session.generate_reply(instructions="Tell me a lot.")
            assert await hear(asked, 1920) >= 1920
            say(speech(0.5))
            await until(lambda: backend.answers[-1].message is not None)
            assert backend.answers[-1].text.split() != LONG.split()[1:]
            assert not errors, errors
            backend.words = "Rome is the capital of Italy.".split()
            await session.aclose()
            await model.aclose()

    twice(scenario)


def test_agents_run_a_function() -> None:
    realtime = pytest.importorskip("agents.realtime")
    from agents import function_tool

    asked: list[str] = []

    @function_tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sun"

    async def scenario(address: str) -> None:
        agent = realtime.RealtimeAgent(name="a", instructions="Be brief.", tools=[weather])
        runner = realtime.RealtimeRunner(agent, config={"model_settings": {"model_name": "m"}})
        url = f"ws://{address}/v1/realtime?model=m"
        events: list = []
        async with await runner.run(model_config={"url": url, "api_key": "x"}) as session:

            async def listen() -> None:
                async for event in session:
                    events.append(event)

            listening = asyncio.create_task(listen())
            await session.send_message('say Well. call weather {"city": "Rome"}')
            await until(lambda: [event for event in events if event.type == "tool_end"])
            await until(lambda: len([event for event in events if event.type == "agent_end"]) == 2)
            assert not [event for event in events if event.type == "error"]
            listening.cancel()

    backend = Scripted(calls_functions=True)
    with serving(backend) as (address, _):
        asyncio.run(asyncio.wait_for(scenario(address), 60))
    assert asked == ["Rome"] and backend.answers[-1].text == "It says sun"
