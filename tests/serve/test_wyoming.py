"""Home Assistant's protocol, by its own client: speech is written down, texts are read aloud and answered."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from antiphon.errors import ConfigError
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import LiveOnly
from tests.serve.scripted import Scripted, serving, speech

pytest.importorskip("wyoming")

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.handle import Handled, NotHandled
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeVoice


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    config = ServeConfig(port=0, wyoming=f"tcp://127.0.0.1:{number}", decoded_seconds=5.0)
    with serving(Scripted(languages=("en", "de")), config) as (_, served):
        yield number, served


def talk(port, *events):
    """What a client is answered that sends events, each kind of which is answered by one or more; until it is quiet."""

    async def scenario():
        async with AsyncTcpClient("127.0.0.1", port[0]) as client:
            for event in (*events, Ping("over")):
                await client.write_event(event.event())
            found = []
            while not Pong.is_type((event := await asyncio.wait_for(client.read_event(), 20)).type):
                found.append(event)
            return found

    return asyncio.run(scenario())


def until_hung_up(port, *events):
    """What a client is sent that asks and then waits, as Home Assistant does, for as long as it is connected."""

    async def scenario():
        async with AsyncTcpClient("127.0.0.1", port[0]) as client:
            for event in events:
                await client.write_event(event.event())
            found = []
            while (event := await asyncio.wait_for(client.read_event(), 20)) is not None:
                found.append(event)
            return found

    return asyncio.run(scenario())


def sound(rate: int, channels: int, width: int = 2, seconds: float = 1.0) -> list:
    """Speech of a level of 0.25, as a satellite sends it."""
    mono = np.frombuffer(speech(2.0), "<i2")[: int(rate * seconds)]
    data = np.repeat(mono, channels).tobytes()
    form = {"rate": rate, "width": width, "channels": channels}
    pieces = [AudioChunk(**form, audio=data[at : at + 4096]) for at in range(0, len(data), 4096)]
    return [AudioStart(**form), *pieces, AudioStop()]


def test_it_tells_what_it_can_do(port):
    (event,) = talk(port, Describe())
    info = Info.from_event(event)
    assert info.asr[0].models[0].languages == ["en", "de"] and info.asr[0].installed
    assert [voice.name for voice in info.tts[0].voices] == ["heart"]
    assert info.handle[0].models[0].name == "scripted"


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (24000, 2)])
def test_speech_is_written_down(port, rate, channels):
    (event,) = talk(port, Transcribe(language="de"), *sound(rate, channels))
    heard = Transcript.from_event(event)
    assert heard.text.startswith("level 0.") and heard.language == "de"
    assert len(port[1].backend.heard[-1]) == pytest.approx(24000, abs=200)


def test_a_turn_after_another_on_one_connection(port):
    first, second, nothing = talk(port, *sound(16000, 1), *sound(16000, 1, seconds=0.5), AudioStart(16000, 2, 1),
                                  AudioStop())  # fmt: skip
    assert Transcript.from_event(first).text and Transcript.from_event(second).text
    assert Transcript.from_event(nothing).text == ""


def test_a_text_is_read_aloud(port):
    start, *chunks, stop = talk(port, Synthesize("a b c", voice=SynthesizeVoice(name="heart")))
    assert AudioStart.from_event(start).rate == 24000 and AudioStop.is_type(stop.type)
    data = b"".join(AudioChunk.from_event(chunk).audio for chunk in chunks)
    assert len(chunks) == 3 and len(data) == 3 * 1920 * 2 and np.abs(np.frombuffer(data, "<i2")).max() > 10000


def test_a_conversation_is_remembered_by_its_name(port):
    backend = port[1].backend
    for name in ("one", "two", "one"):
        (event,) = talk(port, Transcript("Where?", context={"conversation_id": name}))
        handled = Handled.from_event(event)
        assert handled.text == "Rome is the capital of Italy." and handled.context == {"conversation_id": name}
    assert [len(answer.past) for answer in backend.answers[-3:]] == [1, 1, 3]
    assert not backend.answers[-1].spoken
    talk(port, Transcript("Where?"))
    assert len(backend.answers[-1].past) == 1


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([Synthesize("...")], "nothing to be said"),
        ([Synthesize("x" * 5000)], "4096 letters"),
        ([Transcribe(language="xx"), *sound(16000, 1)], "Unsupported language"),
        ([AudioStart(16000, 2, 1), AudioChunk(16000, 2, 1, bytes(16000 * 2 * 6))], "at most 5 s"),
        ([AudioStart(16000, 4, 1), AudioChunk(16000, 4, 1, bytes(64))], "16 bits"),
        ([Transcript("say BREAK")], "The server failed."),
    ],
    ids=["nothing", "long", "language", "longer", "width", "failure"],
)
def test_what_cannot_be_done_is_told_and_ends_the_connection(port, events, says):
    *before, last = until_hung_up(port, *events)
    error = Error.from_event(last)
    assert says in error.text and "secret" not in error.text
    if Transcript.is_type(events[0].event().type):
        assert NotHandled.from_event(before[0]).text == error.text
    assert Info.from_event(talk(port, Describe())[0]).asr


@pytest.mark.parametrize("uri", ["10300", "tcp://somewhere", "http://127.0.0.1:1"])
def test_an_address_that_is_none_is_refused_before_anything_is_served(uri):
    with pytest.raises(ConfigError, match="tcp://127.0.0.1:10300"):
        create_app(Scripted(), ServeConfig(wyoming=uri))


def test_a_duplex_model_is_not_for_it():
    with pytest.raises(ConfigError, match="takes turns"):
        create_app(LiveOnly("duplex"), ServeConfig(wyoming="tcp://127.0.0.1:0"))
