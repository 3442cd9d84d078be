"""The HTTP routes, driven by OpenAI's own client where there is one."""

from __future__ import annotations

import base64
import io
import json
import struct
import time

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from antiphon.audio import encode as sound
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving, silence, speech

ANSWER = "Rome is the capital of Italy."


def wav(data: bytes, rate: int = 24000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.frombuffer(data, "<i2"), rate, format="WAV")
    return buffer.getvalue()


RECORDING = wav(silence(0.3) + speech(1) + silence(0.5))


@pytest.fixture(scope="module")
def client():
    openai = pytest.importorskip("openai")
    with serving(Scripted(), ServeConfig(port=0)) as (address, served):
        made = openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0)
        made.backend = served.backend
        yield made


@pytest.fixture
def plain():
    config = ServeConfig(decoded_seconds=5.0, file_seconds=5.0, requests=1)
    app = create_app(Scripted(), config)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        made.served = app.state.served
        yield made


def test_models(client):
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "antiphon"
    import openai

    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_voices(plain):
    voices = [{"id": name, "name": name} for name in plain.served.backend.voices]
    assert voices and plain.get("/v1/audio/voices").json() == {"voices": voices}


def test_a_typed_question_gets_a_written_answer(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    answer = client.chat.completions.create(model="m", messages=messages)
    assert answer.choices[0].message.content == ANSWER and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    asked = client.backend.answers[-1]
    assert asked.instructions == "Be brief." and [m.text for m in asked.past] == ["Where?"] and not asked.spoken


def test_a_recorded_question_gets_a_spoken_answer_that_can_be_referred_to(client):
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(RECORDING).decode(), "format": "wav"}}
    messages = [{"role": "user", "content": [part]}]
    options = {"model": "m", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    message = client.chat.completions.create(messages=messages, **options).choices[0].message
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)))
    assert message.audio.transcript == ANSWER and rate == 24000 and len(samples) == 6 * 2 * 1920
    assert np.abs(samples - 0.25).max() < 0.01  # the level that was heard
    messages += [{"role": "assistant", "audio": {"id": message.audio.id}}, {"role": "user", "content": "And then?"}]
    client.chat.completions.create(messages=messages, **options)
    assert [m.text for m in client.backend.answers[-1].past][1:] == [ANSWER, "And then?"]


def test_a_chat_is_streamed(client):
    stream = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "Where?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.completion_tokens == 6


def test_a_spoken_chat_is_streamed(client):
    options = {"modalities": ["text", "audio"], "audio": {"voice": "heart", "format": "pcm16"}, "stream": True}
    said, data = "", b""
    for chunk in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], **options):
        audio = chunk.choices[0].delta.model_dump().get("audio") or {}
        said += audio.get("transcript") or ""
        data += base64.b64decode(audio.get("data") or "")
    assert said == ANSWER and len(data) == 6 * 2 * 1920 * 2


def test_an_answer_may_be_cut_short(client):
    messages = [{"role": "user", "content": "Where?"}]
    choice = client.chat.completions.create(model="m", messages=messages, max_completion_tokens=2).choices[0]
    assert choice.message.content == "Rome is" and choice.finish_reason == "length"


@pytest.mark.parametrize("kind", sound.MEDIA)
def test_speech_in_every_format_is_what_was_said(client, kind):
    with client.audio.speech.with_streaming_response.create(
        model="m", voice="alloy", input="a " * 12, response_format=kind
    ) as answer:
        assert answer.headers["content-type"].startswith(sound.MEDIA[kind])
        data = b"".join(answer.iter_bytes())
    samples = sound.read(data, 10, kind).numpy()
    assert 12 * 1920 <= len(samples) <= 12 * 1920 + 3000
    middle = samples[8000:16000]
    loudest = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * 24000 / len(middle)
    assert abs(loudest - 440) < 4


@pytest.mark.parametrize("speed", [0.4, 1.5])
def test_speech_at_another_speed_keeps_its_pitch(client, speed):
    data = client.audio.speech.create(model="m", voice="heart", input="a " * 25, response_format="pcm", speed=speed)
    samples = sound.read(data.content, 10, "pcm").numpy()
    assert abs(len(samples) / (25 * 1920) * speed - 1) < 0.1
    middle = samples[8000:24000]
    loudest = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * 24000 / len(middle)
    assert abs(loudest - 440) < 4


def test_speech_begins_before_it_is_complete():
    import httpx2 as httpx

    with serving(Scripted(pace=0.05), ServeConfig(port=0)) as (address, served):
        body = {"input": "a " * 2000, "voice": "heart", "response_format": "mp3"}
        with httpx.stream("POST", f"http://{address}/v1/audio/speech", json=body, timeout=30) as answer:
            pieces = answer.iter_bytes()  # kept: an iterator that is forgotten hangs up
            next(pieces)
            assert served.admission.asked == 1
        deadline = time.monotonic() + 10  # the reader has gone: nobody goes on speaking
        while served.admission.asked or served.scheduler.waiting:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_speech_as_events(plain):
    body = {"input": "a b", "response_format": "pcm", "stream_format": "sse"}
    lines = plain.post("/v1/audio/speech", json=body).text.strip().split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]
    assert sum(len(base64.b64decode(event.get("audio", ""))) for event in events) == 2 * 1920 * 2


def test_transcriptions(client):
    def transcribe(**options):
        return client.audio.transcriptions.create(model="whisper-1", file=("a.wav", RECORDING), **options)

    assert transcribe().text == "level 0.25"
    assert transcribe(response_format="text") == "level 0.25\n"
    (segment,) = transcribe(response_format="verbose_json").segments
    assert abs(segment.start - 0.3) < 0.05 and abs(segment.end - 1.3) < 0.05
    assert "00:00:00,300 --> 00:00:01,3" in transcribe(response_format="srt")
    assert transcribe(response_format="vtt").startswith("WEBVTT")
    events = list(transcribe(stream=True))
    assert events[-1].text == "level 0.25" and events[0].delta == "level 0.25"


def test_times_of_words(client):
    def transcribe(*granularities):
        return client.audio.transcriptions.create(
            model="w", file=("a.wav", RECORDING), response_format="verbose_json", timestamp_granularities=granularities
        )

    shown = transcribe("word")
    assert [word.word for word in shown.words] == ["level", "0.25"] and shown.segments is None
    assert shown.words[1].end == pytest.approx(1.3, abs=0.05) and shown.language == "english"
    both = transcribe("word", "segment")
    assert both.segments[0].start == both.words[0].start and both.segments[0].avg_logprob == pytest.approx(-0.693)
    import openai

    with pytest.raises(openai.BadRequestError, match="verbose_json"):
        client.audio.transcriptions.create(model="w", file=("a.wav", RECORDING), timestamp_granularities=["word"])


def test_translations():
    openai = pytest.importorskip("openai")
    with serving(Scripted(languages=("en", "ru")), ServeConfig(port=0)) as (address, _):
        client = openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0)
        said = client.audio.translations.create(model="w", file=("a.wav", RECORDING))
        assert said.text == "in English: level 0.25"
        told = client.audio.transcriptions.create(
            model="w", file=("a.wav", RECORDING), language="Russian", response_format="verbose_json"
        )
        assert told.language == "russian"


def test_a_model_of_one_language_translates_nothing(client):
    import openai

    with pytest.raises(openai.BadRequestError, match="English alone"):
        client.audio.translations.create(model="w", file=("a.wav", RECORDING))


def forged(rate: int = 24000, channels: int = 1) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 2 * rate % 2**32, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 2036, b"WAVE") + form + struct.pack("<4sI", b"data", 2000) + bytes(2000)


def opus_bomb() -> bytes:
    """A minute of silence in a few hundred bytes a second: small to send, long to decode."""
    pieces = (np.zeros(24000, np.float32) for _ in range(60))
    return b"".join(sound.written(pieces, "opus"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"not a sound at all", "not a sound"),
        (forged(rate=1), "samples a second"),
        (forged(rate=3_000_000), "samples a second"),
        (forged(rate=0), "sound"),
        (forged(channels=1000), "sound"),
        (RECORDING[:20], "sound"),
        (wav(silence(7)), "too long"),
    ],
    ids=["empty", "text", "slow", "fast", "zero", "channels", "cut", "long"],
)
def test_files_that_are_not_what_they_claim_are_refused(plain, data, says):
    answer = plain.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)})
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]
    assert "/tmp" not in answer.text
    assert plain.post("/v1/audio/transcriptions", files={"file": ("a.wav", RECORDING)}).status_code == 200


def test_a_small_file_with_much_sound_in_it_is_not_decoded_to_its_end(plain):
    data = opus_bomb()
    answer = plain.post("/v1/audio/transcriptions", files={"file": ("a.ogg", data)})
    assert answer.status_code == 400 and "too long" in answer.json()["error"]["message"]
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "ogg"}}
    answer = plain.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [part]}]})
    assert answer.status_code == 400 and "too long" in answer.json()["error"]["message"]


def test_a_failure_of_the_model_is_a_500_without_its_secrets(plain):
    answer = plain.post("/v1/audio/speech", json={"input": "BREAK"})
    assert answer.status_code == 500 and "secret" not in answer.text
    assert plain.post("/v1/audio/speech", json={"input": "fine"}).status_code == 200
    assert plain.served.admission.asked == 0


def test_requests_beyond_the_limit_are_refused_at_once(plain):
    plain.served.admission.enter()
    answer = plain.post("/v1/audio/speech", json={"input": "x"})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    plain.served.admission.leave()
    assert plain.post("/v1/audio/speech", json={"input": "x"}).status_code == 200


def test_health_and_metrics(plain):
    plain.post("/v1/audio/speech", json={"input": "x"})
    health = plain.get("/health").json()
    assert health["status"] == "ok" and health["capacity"] == 4 and health["sessions"] == 0
    page = plain.get("/metrics").text
    assert 'antiphon_requests_total{route="/v1/audio/speech",status="200"} 1.0' in page
    assert "antiphon_capacity 4.0" in page
