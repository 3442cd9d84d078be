"""OpenAI's SDK and a real model: a function is asked for aloud, called, and what came of it is heard."""

from __future__ import annotations

import base64
import io
import json

import pytest
import soundfile as sf
import torch

from antiphon.audio.io import Audio
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import serving

openai = pytest.importorskip("openai")

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city."}},
    "required": ["city"],
}
WEATHER = {"name": "get_weather", "description": "The weather in a city at this moment.", "parameters": SCHEMA}


def wav(audio: Audio) -> str:
    file = io.BytesIO()
    sf.write(file, audio.samples.numpy(), audio.sample_rate, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.slow
def test_a_function_asked_for_aloud_is_called_and_its_result_heard(small) -> None:
    asked = small.say("What is the weather like in Paris right now?")
    with serving(small.backend, ServeConfig(port=0)) as (address, _):
        client = openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0, timeout=300)
        sound = {"type": "input_audio", "input_audio": {"data": wav(asked), "format": "wav"}}
        past = [{"role": "user", "content": [sound]}]
        how = {"model": "small", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
        tools = [{"type": "function", "function": WEATHER}]
        first = client.chat.completions.create(messages=past, tools=tools, **how).choices[0]
        assert first.finish_reason == "tool_calls"
        (call,) = first.message.tool_calls
        assert call.function.name == "get_weather" and "paris" in json.loads(call.function.arguments)["city"].lower()
        result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "sunny", "celsius": 21}'}
        past += [first.message.model_dump(exclude_none=True), result]
        second = client.chat.completions.create(messages=past, tools=tools, **how).choices[0]
    assert second.finish_reason == "stop" and "21" in second.message.audio.transcript
    samples, rate = sf.read(io.BytesIO(base64.b64decode(second.message.audio.data)), dtype="float32")
    assert "sunny" in small.hear(Audio(torch.from_numpy(samples), rate)).text.lower()
