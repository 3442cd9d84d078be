"""The Realtime machine: what it refuses, how it says so, and that it goes on."""

from __future__ import annotations

import base64

import pytest

from antiphon.serve.realtime.commands import Answer, Drop
from tests.serve.scripted import silence, speech
from tests.serve.session_bench import Bench, kinds


def test_an_empty_buffer_is_not_committed():
    bench = Bench(turn_detection=None)
    bench.append(speech(0.05))
    (error,) = bench.send("input_audio_buffer.commit", event_id="mine")
    assert error["error"]["code"] == "input_audio_buffer_commit_empty" and error["error"]["event_id"] == "mine"
    bench.append(speech(0.5))
    bench.send("input_audio_buffer.clear")
    assert len(bench.wanted(Drop)) == 1
    (error,) = bench.send("input_audio_buffer.commit")
    assert error["type"] == "error"


def test_a_second_response_and_a_needless_cancel_are_refused_as_clients_expect():
    bench = Bench()
    (error,) = bench.send("response.cancel")
    assert error["error"]["code"] == "response_cancel_not_active"
    bench.send("response.create")
    (error,) = bench.send("response.create")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    events = bench.send("response.cancel")
    assert events[0]["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


def test_a_failure_of_the_model_is_told_and_the_session_goes_on():
    bench = Bench()
    bench.send("response.create")
    (command,) = bench.wanted(Answer)
    bench.session.answer_ended(command.response_id, "no luck", 1.0)
    done = next(event for event in bench.drain() if event["type"] == "response.done")
    assert (
        done["response"]["status"] == "failed" and done["response"]["status_details"]["error"]["message"] == "no luck"
    )
    assert kinds(bench.send("response.create")) == ["response.created"]


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"tools": [{"type": "function", "name": "f"}]}, "tools_not_supported", "session.tools"),
        ({"tool_choice": "required"}, "tools_not_supported", "session.tool_choice"),
        ({"output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
        ({"audio": {"output": {"voice": "nobody"}}}, "invalid_value", "session.audio.output.voice"),
        ({"audio": {"output": {"speed": 1.4}}}, "invalid_value", "session.audio.output.speed"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_value", "session.audio.input.format"),
        ({"modalities": ["text"]}, "unknown_parameter", "session.modalities"),
        ("x", "invalid_type", "session"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_whole(session, code, param):
    bench = Bench()
    before = bench.session.config
    (error,) = bench.send("session.update", event_id="e1", session=session)
    assert (error["error"]["code"], error["error"]["param"], error["error"]["event_id"]) == (code, param, "e1")
    assert bench.session.config == before


def test_what_a_client_does_not_name_stays():
    bench = Bench(turn_detection={"type": "server_vad", "silence_duration_ms": 900})
    bench.send("session.update", session={"type": "realtime", "instructions": "Be kind"})
    session = bench.events[-1]["session"]
    assert session["instructions"] == "Be kind"
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 900
    assert session["audio"]["input"]["turn_detection"]["prefix_padding_ms"] == 300


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"type": 3},
        {"type": "output_audio_buffer.clear"},
        {"type": "input_audio_buffer.append"},
        {"type": "input_audio_buffer.append", "audio": "*"},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(silence(11)).decode()},
        {"type": "conversation.item.create"},
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": ""}},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"type": "x"}]}},
        {"type": "conversation.item.truncate", "item_id": "nothing", "content_index": 0, "audio_end_ms": 0},
        {"type": "response.create", "response": {"conversation": "other"}},
        {"type": "response.create", "response": []},
        {"type": "session.update"},
    ],
)
def test_what_is_wrong_with_an_event_is_told(event):
    bench = Bench()
    bench.session.receive(event, 0.0)
    *_, error = bench.drain() or [None]
    if event == {"type": "response.create", "response": []}:  # empty is as good as absent
        assert error["type"] == "response.created"
        return
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error" and error["error"]["message"]
