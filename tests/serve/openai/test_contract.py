"""What the routes answer is what OpenAI's own types say, read strictly: nothing missing, nothing of another kind."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.openai.test_options import RECORDING, chat
from tests.serve.scripted import Scripted

pytest.importorskip("openai")

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


@pytest.fixture(scope="module")
def client():
    backend = Scripted(languages=("en", "ru"), hears="Buenos días.")
    with TestClient(create_app(backend, ServeConfig()), base_url="http://127.0.0.1") as made:
        yield made


def events(answer) -> list[str]:
    """The data of server-sent events, but the mark of the end."""
    assert answer.status_code == 200
    given = [line.removeprefix("data: ") for line in answer.text.strip().split("\n\n")]
    return [each for each in given if each != "[DONE]"]


def written(client, task, **asked):
    answer = client.post(f"/v1/audio/{task}", files={"file": ("a.wav", RECORDING)}, data=asked)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("asked", [{}, {"n": 3}, SPOKEN, {"max_completion_tokens": 2}], ids=str)
def test_a_chat(client, asked):
    from openai.types.chat import ChatCompletion

    answer = ChatCompletion.model_validate_json(chat(client, **asked).text, strict=True)
    assert [choice.index for choice in answer.choices] == list(range(asked.get("n", 1)))


def test_a_streamed_chat(client):
    from openai.types.chat import ChatCompletionChunk

    given = events(chat(client, stream=True, n=2, stream_options={"include_usage": True}))
    chunks = [ChatCompletionChunk.model_validate_json(each, strict=True) for each in given]
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage is not None and not chunks[-1].choices


def test_models(client):
    from openai.types import Model

    for model in client.get("/v1/models").json()["data"]:
        Model.model_validate(model, strict=True)


def test_transcriptions(client):
    from openai.types.audio import Transcription, TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

    Transcription.model_validate_json(written(client, "transcriptions").text, strict=True)
    *deltas, done = events(written(client, "transcriptions", stream="true"))
    for delta in deltas:
        TranscriptionTextDeltaEvent.model_validate_json(delta, strict=True)
    # Of usage it knows tokens alone there, where we have seconds; in an answer at once it knows both.
    about = json.loads(done)
    assert about.pop("usage") == {"type": "duration", "seconds": 1.8}
    TranscriptionTextDoneEvent.model_validate(about, strict=True)


@pytest.mark.parametrize("granularities", [[], ["segment"], ["word"], ["word", "segment"]], ids=str)
def test_times_of_what_was_asked_for(client, granularities):
    from openai.types.audio import TranscriptionVerbose

    asked = {"response_format": "verbose_json", "timestamp_granularities[]": granularities}
    answer = TranscriptionVerbose.model_validate_json(written(client, "transcriptions", **asked).text, strict=True)
    assert (answer.words is not None) == ("word" in granularities)
    assert (answer.segments is not None) == (granularities != ["word"])
    assert answer.duration == pytest.approx(1.8) and answer.language == "english"
    if answer.words:
        assert " ".join(word.word for word in answer.words) == "Buenos días."
        assert all(0.3 <= word.start < word.end <= 1.31 for word in answer.words)


@pytest.mark.parametrize("form", ["json", "verbose_json", "text", "srt", "vtt"])
def test_translations(client, form):
    from openai.types.audio import Translation, TranslationVerbose

    answer = written(client, "translations", response_format=form)
    if form == "json":
        assert Translation.model_validate_json(answer.text, strict=True).text == "in English: Buenos días."
    elif form == "verbose_json":
        read = TranslationVerbose.model_validate_json(answer.text, strict=True)
        assert read.language == "english" and read.segments
        assert answer.json()["task"] == "translate"
    else:
        assert "Buenos días." in answer.text and answer.headers["content-type"].startswith("text/plain")


def test_an_error(client):
    from openai.types import ErrorObject

    answer = chat(client, n=99)
    assert ErrorObject.model_validate(answer.json()["error"], strict=True).param == "n" and answer.status_code == 400
