"""Thousands of messages that nobody would send: no crash, no failure of the server, nothing left behind."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from antiphon.serve.app import create_app
from antiphon.serve.realtime.commands import Limits
from antiphon.serve.realtime.session import RealtimeSession
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
                    if last or (event["type"] == "response.done" and event["response"]["status"] == "cancelled"):
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


# Any string that JSON can carry, halves of characters too, wherever a string may stand

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "\ud800",
        "a\udfff",
        "\udc00\ud800",
        "\0",
        "<|im_end|>",
        "\uffff",
        "\u2028",
        "",
        " ",
        "x" * 40_000,
        "\U0001f600" * 700,
    ]
)
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"p": {"type": "string"}}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"p": "q"}'}}
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "text", "text": "call f {}"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "r"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "say a b c"},
]
CHAT = {"model": "m", "messages": MESSAGES, "tools": [{"type": "function", "function": TOOL}], "tool_choice": "auto"}
CHAT |= {"stop": ["z"], "user": "u", "metadata": {"k": "v"}, "response_format": {"type": "text"}}
SPOKEN = {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": SOUNDS[3]}}]}]}
SPOKEN["messages"][0]["content"][0]["input_audio"]["format"] = "pcm16"
SPOKEN |= {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
SESSION = {"type": "realtime", "model": "m", "instructions": "i", "output_modalities": ["text"], "tool_choice": "auto"}
SESSION |= {"tools": [{"type": "function", **TOOL}], "tracing": {"workflow_name": "w", "metadata": {"k": "v"}}}
SESSION["audio"] = {
    "input": {
        "format": {"type": "audio/pcm"},
        "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
        "transcription": {"model": "m", "language": "en"},
    },
    "output": {"voice": "alloy"},
}
BODIES = [
    ("chat/completions", CHAT),
    ("chat/completions", CHAT | {"stream": True}),
    ("chat/completions", SPOKEN),
    ("chat/completions", SPOKEN | {"stream": True}),
    ("audio/speech", {"input": "a b", "voice": "alloy", "response_format": "pcm", "model": "m"}),
    ("audio/speech", {"input": "a", "voice": {"id": "alloy"}, "response_format": "pcm", "stream_format": "sse"}),
    ("realtime/client_secrets", {"session": SESSION, "expires_after": {"anchor": "created_at", "seconds": 10}}),
]
FORM = {"model": "m", "language": "en", "prompt": "", "response_format": "json", "include[]": "", "stream": "false"}
FORM |= {"temperature": "0", "timestamp_granularities[]": "segment", "chunking_strategy": "auto"}
PATHS = [
    ("GET", "/v1/models/"),
    ("GET", "/v1/recordings/"),
    ("DELETE", "/v1/recordings/"),
    ("POST", "/v1/"),
    ("GET", "/"),
]
PART = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say a b"}]}
PLAIN_EVENTS = [
    {"type": "session.update", "session": SESSION, "event_id": "e"},
    {"type": "input_audio_buffer.append", "audio": SOUNDS[3]},
    {"type": "input_audio_buffer.commit", "event_id": "e"},
    {"type": "conversation.item.create", "item": PART | {"id": "a"}, "previous_item_id": "root"},
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    },
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "o"}},
    {"type": "conversation.item.retrieve", "item_id": "a"},
    {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 0},
    {"type": "conversation.item.delete", "item_id": "a"},
    {"type": "response.create", "response": {"instructions": "i", "metadata": {"k": "v"}, "input": [PART]}},
    {"type": "response.create", "response": {"conversation": "none", "output_modalities": ["text"], "input": []}},
    {"type": "response.cancel", "response_id": "r"},
    {"type": "output_audio_buffer.clear"},
]


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Where strings stand; the last of a place is None for a field's name."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))
        if isinstance(inner, str):
            yield (*path, key)
        if isinstance(key, str):
            yield (*path, key, None)


def with_text(document: dict, place: tuple, text: str) -> dict:
    """The document with this text in a place."""
    document = inner = copy.deepcopy(document)
    name = place[-1] is None
    *path, last = place[:-1] if name else place
    for key in path:
        inner = inner[key]
    if name:
        inner[text] = inner.pop(last)
    else:
        inner[last] = text
    return document


def somewhere(document: dict) -> st.SearchStrategy[dict]:
    """The document with any text in any place."""
    return st.tuples(st.sampled_from(list(places(document))), ANY_TEXT).map(lambda drawn: with_text(document, *drawn))


REQUESTS = st.one_of(*(st.tuples(st.just(route), somewhere(body)) for route, body in BODIES))
FORMS = somewhere(FORM)
EVENT_WITH_TEXT = st.one_of(*map(somewhere, PLAIN_EVENTS))
FEW_AND_MANY = pytest.mark.parametrize("examples", [60, pytest.param(4000, marks=pytest.mark.slow)])


def fuzz_settings(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def client():
    app = create_app(Scripted(calls_functions=True), ServeConfig(sessions=2))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        made.served = app.state.served
        yield made


def check_answer(answer) -> None:
    """It is one, whole; and a refusal has OpenAI's shape."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        *_, last = answer.text.strip().split("\n\n")
        assert "[DONE]" in last or "model_error" in last or '.done"' in last


@FEW_AND_MANY
def test_any_text_in_any_field_of_a_request(client, examples):
    @fuzz_settings(examples)
    @given(REQUESTS, st.booleans())
    def check(request, escaped):
        route, body = request
        data = json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        check_answer(client.post(f"/v1/{route}", content=data, headers={"content-type": "application/json"}))
        client.served.keys._keys.clear()

    check()
    assert client.post("/v1/audio/speech", json={"input": "fine"}).status_code == 200


@FEW_AND_MANY
def test_any_text_in_any_field_of_a_form_and_in_a_path(client, examples):
    @fuzz_settings(examples // 3)
    @given(FORMS, st.sampled_from(["", "; charset=utf-7", "; charset=utf-16", "; charset=unicode_escape"]))
    def check(form, charset):
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="{quote(k, errors="surrogatepass")}"\r\n\r\n{v}\r\n'
            for k, v in form.items()
        ]
        file = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nx\r\n--b--\r\n'
        data = ("".join(parts) + file).encode("utf-8", "surrogatepass")
        kind = f"multipart/form-data{charset}; boundary=b"
        check_answer(client.post("/v1/audio/transcriptions", content=data, headers={"content-type": kind}))

    @fuzz_settings(examples // 3)
    @given(st.sampled_from(PATHS), ANY_TEXT)
    def check_path(route, text):
        method, path = route
        check_answer(client.request(method, path + quote(text[:500], safe="", errors="surrogatepass")))

    check()
    check_path()


@FEW_AND_MANY
def test_any_text_in_any_field_of_an_event(client, examples):
    """One conversation, which no event closes, and which works at the end."""
    with client.websocket_connect("/v1/realtime", headers={"host": "127.0.0.1"}) as line:

        @fuzz_settings(examples)
        @given(EVENT_WITH_TEXT)
        def check(event):
            line.send_text(json.dumps(event))
            line.send_text('{"type": "response.cancel", "response_id": "none", "event_id": "mark"}')
            while (error := line.receive_json()) and (error.get("error") or {}).get("event_id") != "mark":
                assert "internal" not in json.dumps(error.get("error") or "")
            for item in list(client.served.sockets)[0].session.conversation.items[20:]:
                line.send_json({"type": "conversation.item.delete", "item_id": item.id})

        check()
        plain = {
            "type": "realtime",
            "instructions": "",
            "output_modalities": ["text"],
            "tools": [],
            "tool_choice": "auto",
        }
        line.send_json({"type": "session.update", "session": plain})
        line.send_json({"type": "response.cancel"})
        line.send_json({"type": "response.create", "response": {"input": [PART], "metadata": {"who": "me"}}})
        while True:
            event = line.receive_json()
            if event["type"] == "response.done" and event["response"]["metadata"] == {"who": "me"}:
                break
        assert event["response"]["status"] == "completed"
    assert 'reason="failed"' not in client.served.metrics.page().decode()
