"""Thousands of messages that nobody would send: no crash, no failure of the server, nothing left behind."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from antiphon.serve.realtime_commands import Limits
from antiphon.serve.realtime_session import RealtimeSession
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving, silence, speech

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

NAMES = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
    "nonsense",
]
FIELDS = (
    "audio session item item_id response response_id content_index audio_end_ms previous_item_id event_id type role "
    "content text output_modalities input turn_detection format threshold instructions metadata conversation voice id "
    "tools tool_choice call_id name output arguments parameters description properties"
).split()
SOUNDS = [base64.b64encode(sound).decode() for sound in (b"", b"x", silence(0.1), speech(0.3), silence(0.9))]
WORDS = ["message", "user", "assistant", "input_text", "input_audio", "output_audio", "realtime", "server_vad", "none"]
WORDS += ["function", "function_call", "function_call_output", "object", "string", "auto", "required"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*SOUNDS, *WORDS, "a", "b", "audio/pcm", "audio/pcmu", "text", "audio", "semantic_vad"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
GOOD = st.sampled_from(
    [
        {"type": "input_audio_buffer.append", "audio": SOUNDS[3]},
        {"type": "input_audio_buffer.append", "audio": SOUNDS[4]},
        {"type": "response.create"},
        {
            "type": "conversation.item.create",
            "item": {
                "id": "a",
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "say a b c"}],
            },
        },
        {"type": "conversation.item.delete", "item_id": "a"},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
        {
            "type": "session.update",
            "session": {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}},
        },
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            },
        },
        {
            "type": "conversation.item.create",
            "item": {"id": "b", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        },
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "c", "output": "say a b c"},
        },
        {"type": "input_audio_buffer.commit"},
        {"type": "response.cancel"},
    ]
)
EVENTS = (
    GOOD
    | VALUES
    | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).flatmap(
        lambda fields: st.sampled_from(NAMES).map(lambda name: {**fields, "type": name})
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, max_size=20))
def test_the_machine_takes_anything(events):
    session = RealtimeSession("m", ["heart"], Limits(turn_seconds=2, items=5, vad="loudness"), 0.0)
    session.begin()
    for event in events:
        session.receive(event, 1.0)
        session.tick(2.0)
        for out in session.take():
            if isinstance(out, dict):
                json.dumps(out)


@pytest.mark.slow
def test_ten_thousand_messages_over_a_line():
    """Through a real server; beside it somebody is served all the time."""
    from websockets.asyncio.client import connect

    from tests.serve.line import until, works

    sent = 0
    with serving(Scripted(), ServeConfig(port=0, message_bytes=200_000)) as (address, served):
        url = f"ws://{address}/v1/realtime"

        async def play(messages: list[object]) -> None:
            nonlocal sent
            async with connect(url, max_queue=None) as line:
                for message in messages:
                    text = message if isinstance(message, (str, bytes)) else json.dumps(message)
                    await line.send(text)
                    sent += 1
                await line.send(json.dumps({"type": "response.cancel", "event_id": "last"}))
                async for answer in line:
                    event = json.loads(answer)
                    assert "internal" not in json.dumps(event.get("error") or "")
                    last = (event.get("error") or {}).get("event_id") == "last"
                    if last or event["type"] == "response.done" and event["response"]["status"] == "cancelled":
                        break

        @settings(max_examples=260, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(EVENTS | st.text(max_size=30) | st.binary(max_size=30), min_size=40, max_size=60))
        def fuzz(messages):
            asyncio.run(asyncio.wait_for(play(messages), 60))

        fuzz()

        async def after() -> None:
            await until(lambda: served.admission.live == 0)
            async with connect(url) as line:
                await works(line)
            await until(lambda: served.admission.live == 0 and not served.sockets)  # all places were given back

        asyncio.run(after())
        assert sent >= 10_000
        assert 'reason="failed"' not in served.metrics.page().decode()


@pytest.mark.slow
def test_schemathesis_over_the_openapi():
    schemathesis = pytest.importorskip("schemathesis")
    with serving(Scripted(), ServeConfig(port=0)) as (address, _):
        schema = schemathesis.openapi.from_url(f"http://{address}/openapi.json")
        seen = 0
        for result in schema.get_all_operations():
            operation = result.ok()

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy())
            def check(case):
                nonlocal seen
                seen += 1
                answer = case.call(base_url=f"http://{address}")
                assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)

            check()
        assert seen > 100
