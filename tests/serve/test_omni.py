"""A Qwen2.5-Omni behind the server: pictures and sound in, speech out, remembered as far as it was heard."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from antiphon.dialogue.omni import OmniBackend
from antiphon.errors import ConfigError
from antiphon.serve.app import create_app
from antiphon.serve.work.admission import measure
from tests.dialogue.test_omni_beside import WordForSound
from tests.models.omni.tiny import ours, spoken_beside, talking
from tests.serve.client import connect, message, receive, run, send
from tests.serve.openai.test_http import RECORDING
from tests.serve.scripted import speech
from tests.serve.test_seen import image, png, url


@pytest.fixture(scope="module")
def backend():
    return talking()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Its talker never ends by itself."""
    monkeypatch.setattr("antiphon.models.omni.speech.PATIENCE", (1, 50))


def test_a_chat_sees_hears_and_is_spoken_in_a_voice_that_there_is(backend):
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(RECORDING).decode(), "format": "wav"}}
    text = {"type": "text", "text": "the cat"}
    with TestClient(create_app(backend), base_url="http://127.0.0.1") as http:

        def ask(*parts, **more):
            asked = {"messages": [{"role": "user", "content": list(parts)}], "max_tokens": 12, **more}
            return http.post("/v1/chat/completions", json=asked).json()

        read = [ask(*parts)["usage"]["prompt_tokens"] for parts in ([text], [image(url(png())), text], [sound, text])]
        assert read[1] == read[0] + 4 + 2 and read[2] == read[0] + 45 + 2  # a token for 28 x 28 pixels, for 40 ms
        aloud = ask(image(url(png())), sound, modalities=["text", "audio"])["choices"][0]["message"]["audio"]
        assert aloud["transcript"].split() and aloud["data"]
        broken = ask(image(url(png(side=400)[:-200])), text)["error"]
        assert broken["code"] == "invalid_value" and "the picture can't be read" in broken["message"]
        assert ask(text)["usage"]["prompt_tokens"] == read[0]
        wrong = ask(text, modalities=["text", "audio"], audio={"voice": "bert", "format": "wav"})["error"]
        assert (wrong["param"], wrong["message"]) == ("audio.voice", "Unknown voice 'bert'; there are: anna.")
        chinese = http.post("/v1/audio/speech", json={"input": "你好", "response_format": "wav"})
        assert chinese.status_code == 200 and len(chinese.content) > 20_000
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        assert ask(text, tools=[tool])["error"]["code"] == "tools_not_supported"


def test_a_session_remembers_pictures_and_of_an_answer_what_was_heard(backend):
    async def scenario(address, served):
        async with connect(address) as line:
            await send(line, "session.update", session={"type": "realtime", "max_output_tokens": 12})
            content = [{"type": "input_image", "image_url": url(png())}, {"type": "input_text", "text": "the cat"}]
            await send(line, "conversation.item.create", item=message("") | {"content": content})
            await send(line, "response.create")
            first = (await receive(line, "response.done"))["response"]
            (said,) = first["output"]
            whole = said["content"][0]["transcript"]
            cut = {"content_index": 0, "audio_end_ms": 500}
            await send(line, "conversation.item.truncate", item_id=said["id"], **cut)
            await send(line, "conversation.item.retrieve", item_id=said["id"])
            heard = (await receive(line, "conversation.item.retrieved"))["item"]["content"][0]["transcript"]
            assert heard.split() and whole.strip().startswith(heard) and len(heard) < len(whole.strip())
            content = [{"type": "input_audio", "audio": base64.b64encode(speech(1.0)).decode()}]
            await send(line, "conversation.item.create", item=message("") | {"content": content})
            await send(line, "response.create")
            second = (await receive(line, "response.done"))["response"]
            assert second["status"] == "incomplete" and second["output"][0]["content"][0]["transcript"].split()
            details = second["usage"]["input_token_details"]
            assert details["cached_tokens"] == first["usage"]["input_tokens"]
            assert details["audio_tokens"] > 25
            pictures = first["usage"]["input_token_details"]["image_tokens"]
            assert details["image_tokens"] == details["cached_tokens_details"]["image_tokens"] == pictures > 0

    run(scenario, backend=backend, decoded_seconds=10.0)


def test_what_is_not_written_down_has_no_transcript_unless_that_is_all_that_is_asked_for(backend):
    async def scenario(address, served):
        async with connect(address) as line:
            wanted = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
            await send(line, "session.update", session=wanted)
            session = (await receive(line, "session.updated"))["session"]
            assert session["audio"]["input"]["transcription"] is None
        async with connect(f"{address}?intent=transcription") as line:
            await send(line, "input_audio_buffer.append", audio=base64.b64encode(speech(0.5)).decode())
            await send(line, "input_audio_buffer.commit")
            done = await receive(line, "conversation.item.input_audio_transcription.completed")
            assert done["transcript"].split()

    run(scenario, backend=backend)


def test_a_recognizer_beside_it_hears_words_and_other_sounds_are_its_towers():
    heard = spoken_beside(WordForSound())

    def recording(level: float) -> dict:
        file = io.BytesIO()
        soundfile.write(file, np.frombuffer(speech(1.0, level), np.int16), 24000, format="wav")
        data = {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}
        return {"type": "input_audio", "input_audio": data}

    with TestClient(create_app(heard), base_url="http://127.0.0.1") as http:

        def tokens(*parts) -> int:
            asked = {"messages": [{"role": "user", "content": list(parts)}], "max_tokens": 5}
            answer = http.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 200, answer.text
            return answer.json()["usage"]["prompt_tokens"]

        text = {"type": "text", "text": "the cat"}
        assert tokens(recording(0.5)) == tokens(text)
        assert tokens(recording(0.05), text) > tokens(text) + 20  # 25 tokens a second of sound
        spoken = http.post("/v1/audio/speech", json={"input": "the cat sat", "voice": "heart"})
        assert spoken.status_code == 200 and len(spoken.content) > 1000


def test_without_a_voice_it_writes(backend):
    mute = OmniBackend(ours(), backend.processor, "mute")
    mute.model.talker = mute.model.token2wav = None
    mute = OmniBackend(mute.model, backend.processor, "mute")
    assert mute.voices == () and measure(mute).speaking == 0.0
    with TestClient(create_app(mute), base_url="http://127.0.0.1") as http:
        asked = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 5}
        assert http.post("/v1/chat/completions", json=asked).status_code == 200
        spoken = http.post("/v1/chat/completions", json=asked | {"modalities": ["text", "audio"]})
        aloud = http.post("/v1/audio/speech", json={"input": "the cat"})
        for answer in (spoken, aloud):
            assert answer.status_code == 400 and "has no voice" in answer.json()["error"]["message"]

    async def scenario(address, served):
        async with connect(address) as line:
            assert (await receive(line, "session.created"))["session"]["output_modalities"] == ["text"]
            await send(line, "session.update", session={"type": "realtime", "output_modalities": ["audio"]})
            assert "has no voice" in (await receive(line, "error"))["error"]["message"]
            await send(line, "conversation.item.create", item=message("the cat"))
            await send(line, "response.create", response={"max_output_tokens": 5})
            assert (await receive(line, "response.done"))["response"]["output_modalities"] == ["text"]

    run(scenario, backend=mute)


def test_another_rate_than_the_servers_is_refused(backend):
    with pytest.raises(ConfigError, match="speaks at 3000 Hz"):
        create_app(OmniBackend(ours(), backend.processor))
