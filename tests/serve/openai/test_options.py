"""What OpenAI's routes may be asked for: it is done, or refused by name, in OpenAI's shape; never passed over."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib

import pytest
from starlette.testclient import TestClient

from antiphon.dialogue.events import EndEvent, TextEvent
from antiphon.errors import TooLongError
from antiphon.serve.app import create_app
from antiphon.serve.json_text import TEXT_LETTERS
from antiphon.serve.openai.options import spoken_in
from antiphon.serve.openai.stop_sequences import until_stop
from antiphon.serve.settings import ServeConfig
from tests.serve.client import message
from tests.serve.openai.test_http import wav
from tests.serve.scripted import Scripted, silence, speech
from tests.serve.session_bench import Bench

RECORDING = wav(silence(0.3) + speech(1) + silence(0.5))
QUESTION = [{"role": "user", "content": "Where?"}]


@pytest.fixture(scope="module")
def client():
    app = create_app(Scripted(), ServeConfig(decoded_seconds=5.0))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        yield made


def chat(client, **asked):
    return client.post("/v1/chat/completions", json={"model": "m", "messages": QUESTION, **asked})


def transcribe(client, **asked):
    return client.post("/v1/audio/transcriptions", files={"file": ("a.wav", RECORDING)}, data=asked)


def told(answer) -> tuple:
    """(status, type, code, param) of an error in OpenAI's shape, which says something."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert "pydantic" not in error["message"] and "Input should" not in error["message"]
    return answer.status_code, error["type"], error["code"], error["param"]


# Stop sequences


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ("capital", "Rome is the"),
        (["nothing", "the cap"], "Rome is"),
        (["Italy", "of"], "Rome is the capital"),
        ("Rome", ""),
        ("Italy..", "Rome is the capital of Italy."),
        ([], "Rome is the capital of Italy."),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_before_a_stop_sequence(client, stop, said, stream):
    answer = chat(client, stop=stop, stream=stream)
    if stream:
        events = [line.removeprefix("data: ") for line in answer.text.strip().split("\n\n")]
        assert events.pop() == "[DONE]"
        choices = [json.loads(event)["choices"][0] for event in events]
        text, why = "".join(each["delta"].get("content") or "" for each in choices), choices[-1]["finish_reason"]
    else:
        choice = answer.json()["choices"][0]
        text, why = choice["message"]["content"], choice["finish_reason"]
    assert (text.strip(), why) == (said, "stop")


def test_a_stop_sequence_is_found_however_the_text_is_cut_and_ends_the_work():
    text = "aab aabaac end"

    def events(step):
        nonlocal closed
        try:
            for start in range(0, len(text), step):
                yield TextEvent(text[start : start + step])
            yield EndEvent(text)
        finally:
            closed = True

    for step in range(1, len(text) + 1):
        for stop, said in (("aabaac", "aab "), ("aac", "aab aab"), ("end.", text), ("d", "aab aabaac en")):
            closed = False
            found = list(until_stop(events(step), [stop]))
            assert "".join(one.text for one in found if isinstance(one, TextEvent)) == said and closed


# Options of a chat


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_object"}, "modalities": ["text", "audio"], "audio": {"voice": "nova"}},
        {"logprobs": True, "modalities": ["text", "audio"], "audio": {"voice": "nova"}},
        {"n": 2, "modalities": ["text", "audio"], "audio": {"voice": "nova"}},
        {"reasoning_effort": "high"},
        {"verbosity": "low"},
        {"store": True},
        {"web_search_options": {}},
        {"function_call": {"name": "f"}},
        {"stream_options": {"include_usage": True}},
        {"stop": "x", "modalities": ["text", "audio"], "audio": {"voice": "nova", "format": "wav"}},
    ],
)
def test_an_option_that_cannot_be_had_is_refused_by_name(client, asked):
    name = next(iter(asked))
    assert told(chat(client, **asked)) == (400, "invalid_request_error", "unsupported_parameter", name)


def test_options_that_ask_for_what_is_done_anyway_are_taken(client):
    asked = {
        "response_format": {"type": "text"},
        "logprobs": False,
        "top_logprobs": None,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "n": 1,
        "top_p": 1,
        "user": "u",
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "store": False,
        "stop": None,
    }
    assert chat(client, **asked).status_code == 200
    assert chat(client, top_p=0.5, temperature=0).status_code == 200  # no chance, no nucleus


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"stop": ["a"] * 5}, "array_above_max_length", "stop"),
        ({"stop": ""}, "empty_string", "stop"),
        ({"stop": 3}, "invalid_type", "stop"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"n": 9}, "integer_above_max_value", "n"),
        ({"logit_bias": {"5": 200}}, "decimal_above_max_value", "logit_bias.5"),
        ({"logit_bias": {"5": "much"}}, "invalid_type", "logit_bias.5"),
        ({"logit_bias": {"five": 1}}, "invalid_type", "logit_bias.five"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"repetition_penalty": 1.1}, "unknown_parameter", "repetition_penalty"),
        ({"messages": []}, "empty_array", "messages"),
        ({"tools": [{}]}, "tools_not_supported", "tools"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tools_not_supported", "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "invalid_value",
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "audio": {"id": "gone"}}, *QUESTION]}, "invalid_value",
         "messages[0].audio.id"),
        ({"messages": "x"}, "invalid_type", "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": 1, "type": "text"}]}]}, "invalid_type",
         "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "missing_required_parameter",
         "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "x" * (TEXT_LETTERS + 1)}]}, "string_above_max_length",
         "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 20_000}] * 2}]},
         "string_above_max_length", "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, "string_above_max_length",
         "messages[0].content"),
        ({"audio": {"voice": "nobody", "format": "wav"}, "modalities": ["text", "audio"]}, "invalid_value",
         "audio.voice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_chat_is_told_as_openai_tells_it(client, asked, code, param):
    assert told(chat(client, **asked)) == (400, "invalid_request_error", code, param)


def test_what_is_missing_is_told(client):
    answer = client.post("/v1/chat/completions", json={})
    assert told(answer) == (400, "invalid_request_error", "missing_required_parameter", "messages")
    assert answer.json()["error"]["message"] == "Missing required parameter: 'messages'."


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b'{"messages": NaN}', b"[" * 100_000])
def test_bad_json_is_called_that(client, body):
    answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert told(answer) == (400, "invalid_request_error", None, None)
    assert answer.json()["error"]["message"].startswith("We could not parse the JSON body of your request.")


def test_half_a_character_is_refused_by_the_name_of_its_field(client):
    for body in (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"messages": ["\xed\xa0\x80"]}'):
        answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        (status, kind, code, param) = told(answer)
        assert (status, kind, code) == (400, "invalid_request_error", "invalid_value") and "messages[0]" in param


def test_bodies_of_another_kind_are_refused(client):
    for route, kind in (("chat/completions", "text/plain"), ("audio/transcriptions", "application/json")):
        answer = client.post(f"/v1/{route}", content=b"{}", headers={"content-type": kind})
        assert told(answer) == (400, "invalid_request_error", "invalid_content_type", None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("POST", "/v1/nothing/at/all", 404, "unknown_url"),
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/nothing", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/models/scripted", 405, "method_not_supported"),
    ],
)
def test_routes_that_are_not_there_and_methods_that_they_do_not_take(client, method, path, status, code):
    answer = client.request(method, path)
    assert told(answer) == (status, "invalid_request_error", code, None)
    assert path in answer.json()["error"]["message"]
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_is_too_long_to_be_understood_is_the_client_s_fault(client, monkeypatch, stream):
    def refuse(self):
        raise TooLongError("the turn has 5000 tokens")
        yield

    monkeypatch.setattr("tests.serve.scripted.ScriptedAnswer.events", refuse)
    told_so = told(chat(client, stream=stream))
    assert told_so == (400, "invalid_request_error", "context_length_exceeded", "messages")


def test_a_stream_that_breaks_off_says_so(client):
    answer = chat(client, stream=True, messages=[{"role": "user", "content": "say a b"}], seed=1)
    assert answer.text.endswith("data: [DONE]\n\n")

    class Breaks(Scripted):
        def say(self, text, sampling=None):
            yield from super().say("a b c d")
            raise RuntimeError("a secret of the model")

    with TestClient(create_app(Breaks()), base_url="http://127.0.0.1") as other:
        body = {"input": "x", "response_format": "pcm", "stream_format": "sse"}
        *_, last = other.post("/v1/audio/speech", json=body).text.strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error" and "secret" not in last


# Reading aloud and writing down


@pytest.mark.parametrize("voice", "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
def test_any_of_openai_s_voices_will_do(client, voice):
    assert client.post("/v1/audio/speech", json={"input": "a", "voice": voice, "response_format": "pcm"}).is_success


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"input": "a", "instructions": "Sing."}, "unsupported_parameter", "instructions"),
        ({"input": "a", "pitch": 2}, "unknown_parameter", "pitch"),
        ({"input": ""}, "empty_string", "input"),
        ({"input": "a", "response_format": "mp4"}, "invalid_value", "response_format"),
        ({"input": "a", "voice": 3}, "invalid_type", "voice"),
        ({"input": "x" * 5000}, "string_above_max_length", "input"),
        ({"input": "x", "voice": "nobody"}, "invalid_value", "voice"),
        ({"input": "x", "speed": 9}, "decimal_above_max_value", "speed"),
        *(({"input": text}, "invalid_value", "input") for text in ("😀", "...", "  ", "你好")),
    ],
)
def test_what_cannot_be_read_aloud_is_told(client, asked, code, param):
    assert told(client.post("/v1/audio/speech", json=asked)) == (400, "invalid_request_error", code, param)


def test_usage_of_speech_counts_what_was_made(client):
    body = {"input": "a b c", "response_format": "mp3", "stream_format": "sse"}
    *_, last = client.post("/v1/audio/speech", json=body).text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["usage"] == {
        "input_tokens": 3,
        "output_tokens": 3,
        "total_tokens": 6,
    }


@pytest.mark.parametrize("tag", ["en", "EN", "en-US", "en_GB", "en-Latn-US", "eng", "English", "en-x-any"])
def test_english_may_be_called_anything_that_means_it(client, tag):
    assert spoken_in(tag, "language", ("en", "ru")) == "en"
    assert transcribe(client, language=tag).status_code == 200


@pytest.mark.parametrize("tag", ["de", "de-en", "enx", "en-", "-en", "en US", "english!", "x" * 30, "e"])
def test_another_language_is_refused_and_those_that_there_are_are_named(client, tag):
    answer = transcribe(client, language=tag)
    assert told(answer) == (400, "invalid_request_error", "unsupported_language", "language")
    assert "'en'" in answer.json()["error"]["message"] and tag in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt": "Names: Antiphon."}, "prompt"),
        ({"temperature": "0.4"}, "temperature"),
        ({"include[]": "logprobs"}, "include"),
        ({"chunking_strategy": '{"type": "server_vad"}'}, "chunking_strategy"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
    ],
)
def test_what_the_ears_cannot_be_asked_for_is_refused_by_name(client, asked, param):
    assert told(transcribe(client, **asked)) == (400, "invalid_request_error", "unsupported_parameter", param)


def test_a_field_that_nobody_knows_is_refused_by_name(client):
    answer = transcribe(client, beam_size="5")
    assert told(answer) == (400, "invalid_request_error", "unknown_parameter", "beam_size")


def test_options_of_a_transcription_that_change_nothing_are_taken(client):
    asked = {"prompt": "", "temperature": "0", "chunking_strategy": "auto", "timestamp_granularities[]": "segment"}
    assert transcribe(client, **asked).status_code == 200
    answer = transcribe(client, response_format="mp3")
    assert told(answer) == (400, "invalid_request_error", "invalid_value", "response_format")


def test_nothing_of_a_segment_is_invented(client):
    (segment,) = transcribe(client, response_format="verbose_json").json()["segments"]
    said = segment["text"].encode()
    assert segment["compression_ratio"] == pytest.approx(len(said) / len(zlib.compress(said)), abs=1e-3)
    assert segment["tokens"] == [] and segment["no_speech_prob"] == 0.125 and segment["seek"] == 30


# Realtime


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"prompt": {"id": "p"}}, "unsupported_parameter", "session.prompt"),
        ({"reasoning": {"effort": "low"}}, "unsupported_parameter", "session.reasoning"),
        ({"truncation": "disabled"}, "unsupported_parameter", "session.truncation"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "unsupported_parameter", "session.include"),
        ({"audio": {"input": {"transcription": {"language": "de"}}}}, "unsupported_language",
         "session.audio.input.transcription.language"),
        ({"audio": {"input": {"transcription": {"prompt": "Names."}}}}, "unsupported_parameter",
         "session.audio.input.transcription.prompt"),
        ({"audio": {"input": {"transcription": {"beam": 5}}}}, "unknown_parameter",
         "session.audio.input.transcription.beam"),
        ({"instructions": "x" * (TEXT_LETTERS + 1)}, "string_above_max_length", "session.instructions"),
        ({"max_output_tokens": 0}, "integer_below_min_value", "session.max_output_tokens"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}}, "decimal_above_max_value",
         "session.audio.input.turn_detection.threshold"),
    ],
)  # fmt: skip
def test_a_session_is_told_by_name_what_it_cannot_have(session, code, param):
    (error,) = Bench().send("session.update", session={"type": "realtime", **session})
    assert (error["error"]["code"], error["error"]["param"]) == (code, param)
    assert "Input should" not in error["error"]["message"]


def test_a_session_may_name_its_language_in_any_way():
    (updated,) = Bench(transcription={"model": "whisper-1", "language": "en-US"}).send(
        "session.update", session={"type": "realtime", "truncation": "auto", "prompt": None, "include": None}
    )
    assert updated["session"]["audio"]["input"]["transcription"]["language"] == "en-US"


def test_a_session_shows_what_is_not_done_as_null():
    wanted = {"tracing": "auto", "audio": {"input": {"noise_reduction": {"type": "near_field"}}}}
    (updated,) = Bench().send("session.update", session={"type": "realtime", **wanted})
    session = updated["session"]
    assert session["tracing"] is None and session["audio"]["input"]["noise_reduction"] is None


def test_texts_of_items_are_bounded_and_so_is_a_conversation():
    bench = Bench()

    def create(text: str) -> dict:
        return bench.send("conversation.item.create", item=message(text))[-1]

    error = create("x" * (TEXT_LETTERS + 1))["error"]
    assert (error["code"], error["param"]) == ("string_above_max_length", "item.content[0].text")
    answers = [create("x" * TEXT_LETTERS) for _ in range(40)]
    assert [one["type"] for one in answers[:30]] == ["conversation.item.done"] * 30
    assert answers[-1]["error"]["code"] == "too_much_text"
    assert sum(item.letters for item in bench.session.conversation.items) <= 1_000_000


def test_a_response_that_is_too_long_to_be_understood_is_the_client_s_fault():
    bench = Bench()
    bench.send("response.create")
    (response_id,) = bench.session.responses
    bench.session.answer_ended(response_id, "the turn has 5000 tokens", 1.0, "context_length_exceeded")
    done = next(event["response"] for event in bench.drain() if event["type"] == "response.done")
    assert done["status_details"]["error"]["type"] == "invalid_request_error"
    assert done["status_details"]["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("chat/completions", '{"messages": [{"role": "user", "content": "', "messages[0].content"),
        ("chat/completions", '{"messages": [{"role": "system", "content": [{"text": "', "messages[0].content[0].text"),
        ("chat/completions", '{"tools": [{"function": {"description": "', "tools[0].function.description"),
        ("audio/speech", '{"voice": "alloy", "input": "', "input"),
        ("realtime/client_secrets", '{"session": {"instructions": "', "session.instructions"),
        ("chat/completions", "[", None),
    ],
)
def test_too_much_text_is_refused_before_it_is_all_there(client, route, body, param):
    asked, answered = 0, []
    chunk = ("x" if param else "[") * 65536

    async def receive():
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": (body if asked == 1 else chunk).encode(), "more_body": True}

    async def send(message):
        answered.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": f"/v1/{route}", "query_string": b"", "headers": headers}
    asyncio.run(client.app(scope | {"http_version": "1.1", "root_path": "", "scheme": "http"}, receive, send))
    error = json.loads(answered[1]["body"])["error"]
    assert answered[0]["status"] == 400 and error["code"] == "string_above_max_length"
    assert param is None or error["param"] == param
    assert asked < 8  # a quarter of a megabyte


@pytest.mark.parametrize("data", ["", "QQ==", "*", "bm90IGEgc291bmQ="])
@pytest.mark.parametrize("kind", ["pcm16", "wav"])
def test_a_recording_that_is_none_is_refused_by_name(client, data, kind):
    if (data, kind) == ("bm90IGEgc291bmQ=", "pcm16"):  # any bytes are
        return
    part = {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
    answer = chat(client, messages=[{"role": "user", "content": [part]}])
    where = "messages[0].content[0].input_audio.data"
    assert told(answer) == (400, "invalid_request_error", "invalid_value", where)


def test_a_recording_s_base64_may_be_longer_than_any_text(client):
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(silence(4.5))).decode()}}
    assert len(part["input_audio"]["data"]) > 256 * 1024
    assert chat(client, messages=[{"role": "user", "content": [part]}]).status_code == 200
