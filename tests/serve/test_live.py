"""Duplex models behind the server: the hall that they talk in, Realtime with their own turns, and Moshi's protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.duplex_hall import DuplexHall
from antiphon.dialogue.duplex_stream import DuplexStream
from antiphon.dialogue.turn import AudioEvent, LostEvent, SpeakingEvent, TextEvent
from antiphon.serve.audio import BadAudio
from antiphon.serve.live_session import Frames, LiveSession, Mute
from antiphon.serve.ogg import OpusReader, OpusWriter, crc
from antiphon.serve.realtime_commands import Limits
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import LiveOnly
from tests.dialogue.tiny_duplex import SAMPLES, noise, tiny_duplex
from tests.serve.scripted import serving, silence, speech


@pytest.fixture(scope="module")
def duplex():
    return tiny_duplex()


@pytest.fixture
def hall(duplex):
    made = DuplexHall(duplex)
    yield made
    made.close()


class Taker:
    """Gathers what a seat gives."""

    def __init__(self):
        self.found, self.ready = [], threading.Condition()

    def __call__(self, events):
        with self.ready:
            self.found.append(events)
            self.ready.notify()

    def wait(self, count):
        with self.ready:
            assert self.ready.wait_for(lambda: len(self.found) >= count, 20)
            return self.found[:count]


def sounds(found):
    return torch.cat([event.audio.samples for events in found for event in events if isinstance(event, AudioEvent)])


def test_each_in_the_hall_hears_what_it_would_hear_alone(duplex, hall):
    takers = [Taker() for _ in range(3)]
    seats = [hall.join(taker, seed=n) for n, taker in enumerate(takers)]
    for step in range(8):
        for n, seat in enumerate(seats):
            if n < 2 or step >= 3:  # the third comes later
                seat.push(noise(8, n)[step])
        time.sleep(0.002)
    for n, taker in enumerate(takers):
        frames = noise(8, n)[0 if n < 2 else 3 :]
        alone = DuplexStream(duplex, seed=n)
        wanted = torch.cat(
            [event.audio.samples for f in frames for event in alone.step(f) if isinstance(event, AudioEvent)]
        )
        torch.testing.assert_close(sounds(taker.wait(len(frames))), wanted, atol=1e-4, rtol=1e-3)


def test_who_leaves_hears_no_more_and_the_others_go_on(hall):
    one, other = Taker(), Taker()
    seats = [hall.join(one), hall.join(other)]
    for seat in seats:
        seat.push(torch.zeros(SAMPLES))
    one.wait(1), other.wait(1)
    seats[0].leave()
    for seat in seats:
        seat.push(torch.zeros(SAMPLES))
    other.wait(2)
    assert len(one.found) == 1
    assert len(hall._engine.conversations) == 1


def test_who_sends_too_fast_loses_the_oldest(duplex):
    hall = DuplexHall(duplex, most_waiting=3)
    try:
        taker, gate = Taker(), threading.Event()
        seat = hall.join(lambda events: (gate.wait(10), taker(events)))
        for _ in range(20):
            seat.push(torch.zeros(SAMPLES))
        gate.set()
        lost = [event for events in taker.wait(2) for event in events if isinstance(event, LostEvent)]
        assert sum(event.frames for event in lost) >= 10  # told in one piece or in several
    finally:
        hall.close()


def test_a_frame_that_cannot_be_ends_that_conversation_alone(hall):
    bad, good = Taker(), Taker()
    wrong, right = hall.join(bad), hall.join(good)
    wrong.push(torch.zeros(3))
    assert isinstance(bad.wait(1)[0], Exception)
    right.push(torch.zeros(SAMPLES))
    assert not isinstance(good.wait(1)[0], Exception)


def test_the_pace_is_at_least_one(hall):
    assert hall.pace(most=2, steps=1) in (1, 2)


# Opus


def tone(seconds):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 24000)) / 24000)).astype(np.float32)


def is_tone(samples):
    middle = samples[4800 : 4800 + 9600]
    loudest = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * 24000 / len(middle)
    return abs(loudest - 440) < 4 and 0.4 < np.abs(middle).max() < 0.6


@pytest.mark.parametrize("cut", [1, 7, 100, 10**6])
def test_opus_there_and_back_however_it_is_cut(cut):
    writer, reader, sound = OpusWriter(), OpusReader(), tone(1)
    data = writer.head() + b"".join(writer.step(sound[at : at + 1920]) for at in range(0, 24000, 1920))
    back = np.concatenate([reader.step(data[at : at + cut]) for at in range(0, len(data), cut)])
    assert 22500 < len(back) <= 24000 and is_tone(back)


def test_opus_is_that_of_kyutai_s_own_library():
    sphn = pytest.importorskip("sphn")
    sound = tone(1)
    ours, theirs = OpusWriter(), sphn.OpusStreamReader(24000)
    pieces = [theirs.append_bytes(ours.head())]
    pieces += [theirs.append_bytes(ours.step(sound[at : at + 1920])) for at in range(0, 24000, 1920)]
    assert is_tone(np.concatenate(pieces))
    writer, reader = sphn.OpusStreamWriter(24000), OpusReader()
    back = np.concatenate([reader.step(writer.append_pcm(sound[at : at + 1920])) for at in range(0, 24000, 1920)])
    assert is_tone(back)


@pytest.mark.parametrize("data", [b"x" * 100, b"OggS" + bytes(23) + b"\x00" * 5, b"OggS" + bytes(22) + b"\x01\x04abcd"])
def test_what_is_no_opus_stream_is_told_or_waited_for(data):
    reader = OpusReader()
    try:
        assert len(reader.step(data)) == 0
    except BadAudio:
        pass
    with pytest.raises(BadAudio):
        reader.step(b"\x00" * (2 << 20))


def test_the_checksum_is_ogg_s():
    assert crc(b"123456789") == 0x89A1897F  # CRC-32/MPEG-2 of the same polynomial, begun at zero


# Realtime, with the model's own turns


class Live:
    def __init__(self):
        self.session = LiveSession("duplex", ["heart"], Limits(), 0.0)
        self.session.begin()
        self.commands = []
        self.drain()

    def drain(self):
        out = self.session.take()
        self.commands += [each for each in out if not isinstance(each, dict)]
        return [each for each in out if isinstance(each, dict)]

    def append(self, sound):
        event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()}
        self.session.receive(event, 0.0)
        return [event["type"] for event in self.drain()]

    def frame(self, *events, level=0.5):
        self.session.frame([*events, AudioEvent(Audio(torch.full((1920,), level), 24000))], 0.0)
        return self.drain()


def kinds(events):
    return [event["type"] for event in events]


def test_the_model_s_speaking_is_a_response_with_its_onset():
    live = Live()
    assert live.frame(level=0.0) == [] and live.frame(TextEvent(" Hello"), level=0.1) == []
    begun = live.frame(SpeakingEvent(True, 1.0))
    assert kinds(begun)[:2] == ["response.created", "response.output_item.added"]
    deltas = [event for event in begun if event["type"] == "response.output_audio.delta"]
    assert len(deltas) == 3  # two frames from before it was loud, and this one
    assert kinds(live.frame(TextEvent(" there"))) == [
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
    ]
    done = live.frame(SpeakingEvent(False, 2.0))
    response = next(event for event in done if event["type"] == "response.done")["response"]
    assert response["status"] == "completed" and response["output"][0]["content"][0]["transcript"] == "Hello there"
    assert live.frame() == []


def test_everything_is_heard_by_the_model():
    live = Live()
    live.append(silence(0.5) + speech(0.5))
    heard = np.concatenate([command.samples for command in live.commands if isinstance(command, Frames)])
    assert len(heard) == 24000


def test_the_user_s_turns_are_told_while_the_model_is_silent():
    live = Live()
    assert live.append(silence(0.3) + speech(0.5)) == ["input_audio_buffer.speech_started"]
    assert live.append(silence(0.8))[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    assert live.session.active() is None  # the model answers when it wants


def test_a_word_of_assent_is_not_told_and_stops_nothing():
    live = Live()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.3) + silence(0.8)) == []
    assert live.session.active() is not None and live.session.conversation.items[-1].role == "assistant"


def test_a_model_that_gives_way_was_interrupted():
    live = Live()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.6)) == []
    events = live.frame(SpeakingEvent(False, 2.0))
    assert kinds(events)[0] == "input_audio_buffer.speech_started"
    done = next(event for event in events if event["type"] == "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert live.append(silence(0.8))[0] == "input_audio_buffer.speech_stopped"
    item = live.session.conversation.items[0]
    live.session.receive(
        {"type": "conversation.item.truncate", "item_id": item.id, "content_index": 0, "audio_end_ms": 40}, 0.0
    )
    assert kinds(live.drain()) == ["conversation.item.truncated"]


def test_a_cancelled_model_is_muted_until_it_is_silent():
    live = Live()
    live.frame(SpeakingEvent(True, 1.0))
    live.session.receive({"type": "response.cancel"}, 0.0)
    assert "response.done" in kinds(live.drain()) and live.commands[-1:] != []
    assert Mute(True) in live.commands
    assert live.frame() == []
    live.frame(SpeakingEvent(False, 2.0))
    assert live.commands[-1] == Mute(False)


@pytest.mark.parametrize("kind", ["response.create", "conversation.item.create"])
def test_what_a_duplex_model_cannot_do_is_refused(kind):
    live = Live()
    live.session.receive({"type": kind, "item": {}}, 0.0)
    (error,) = live.drain()
    assert error["error"]["code"] == "not_supported"


# On the line


def served_live(duplex, **config):
    return serving(LiveOnly("tiny"), ServeConfig(port=0, **config), hall=DuplexHall(duplex, most_waiting=10_000))


def test_realtime_on_a_line(duplex):
    from websockets.asyncio.client import connect

    async def scenario(address, served):
        async with connect(f"ws://{address}/v1/realtime", max_queue=None) as line:
            assert json.loads(await line.recv())["type"] == "session.created"
            sound = silence(0.3) + speech(0.5) + silence(0.7)
            for at in range(0, len(sound), 3840):
                data = base64.b64encode(sound[at : at + 3840]).decode()
                await line.send(json.dumps({"type": "input_audio_buffer.append", "audio": data}))
            seen = set()
            while not {"input_audio_buffer.committed"} <= seen:
                seen.add(json.loads(await line.recv())["type"])
            before = served.metrics.frames._value.get()
            while served.metrics.frames._value.get() < before + 5:  # the model goes on when nothing is sent
                await asyncio.sleep(0.02)
        while served.admission.live:
            await asyncio.sleep(0.01)
        while served.hall._seats:
            await asyncio.sleep(0.01)

    with served_live(duplex) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address, served), 40))


def test_moshi_s_protocol_on_a_line(duplex):
    from websockets.asyncio.client import connect

    async def scenario(address, served):
        url = f"ws://{address}/api/chat"
        async with connect(url, max_queue=None) as line:
            assert await line.recv() == b"\x00"
            writer, reader, heard = OpusWriter(), OpusReader(), 0
            await line.send(b"\x01" + writer.head())
            for at in range(0, 24000, 1920):
                await line.send(b"\x01" + writer.step(tone(1)[at : at + 1920]))
            while heard < 10_000:
                message = await line.recv()
                if message[:1] == b"\x01":
                    heard += len(reader.step(message[1:]))
            async with connect(url) as second:
                with pytest.raises(Exception, match="1013"):
                    await second.recv()
        while served.admission.live:
            await asyncio.sleep(0.01)
        async with connect(url) as line:
            await line.send(b"\x01no opus at all, and not a page of Ogg")
            with pytest.raises(Exception, match="1007"):
                while True:
                    await line.recv()

    with served_live(duplex, sessions=1) as (address, served):
        asyncio.run(asyncio.wait_for(_refused_first(scenario, address, served), 40))


async def _refused_first(scenario, address, served):
    try:
        await scenario(address, served)
    finally:
        assert served.metrics.frames._value.get() >= 10


def test_a_live_model_refuses_everything_else_by_name(duplex):
    import httpx2 as httpx

    with served_live(duplex) as (address, _):
        body = {"messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(f"http://{address}/v1/chat/completions", json=body)
        assert answer.status_code == 400 and "live" in answer.json()["error"]["message"]
        answer = httpx.post(f"http://{address}/v1/audio/speech", json={"input": "x"})
        assert answer.status_code == 400
        assert httpx.get(f"http://{address}/v1/models").json()["data"][0]["id"] == "tiny"


def test_a_model_of_turns_says_so_to_moshi_s_clients():
    from websockets.asyncio.client import connect

    from tests.serve.scripted import Scripted

    async def scenario(address):
        async with connect(f"ws://{address}/api/chat") as line:
            with pytest.raises(Exception, match="1003"):
                await line.recv()

    with serving(Scripted(), ServeConfig(port=0)) as (address, _):
        asyncio.run(asyncio.wait_for(scenario(address), 20))


def test_kyutai_s_own_client_unmodified(duplex, monkeypatch):
    """With a pretended sound card: a microphone that hums and a speaker whose sound is kept."""
    pytest.importorskip("sphn")
    pytest.importorskip("aiohttp")
    pytest.importorskip("moshi")
    import argparse
    import importlib
    import sys
    from types import SimpleNamespace

    played: list[np.ndarray] = []

    class Stream:
        def __init__(self, blocksize, callback, **_):
            self.size, self.callback, self.going = blocksize, callback, True
            self.thread = threading.Thread(target=self.run, daemon=True)

        def __enter__(self):
            self.thread.start()

        def __exit__(self, *_):
            self.going = False

        def turn(self):
            raise NotImplementedError

        def run(self):
            while self.going:
                self.turn()
                time.sleep(0.02)

    class Microphone(Stream):
        def turn(self):
            self.callback(tone(0.08)[:, None], self.size, None, None)

    class Speaker(Stream):
        def turn(self):
            out = np.zeros((self.size, 1), np.float32)
            self.callback(out, self.size, None, None)
            if np.abs(out).max() > 0:
                played.append(out)

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=Microphone, OutputStream=Speaker))
    client = importlib.import_module("moshi.client")
    words: list[str] = []

    class Printer:
        def log(self, level, message):
            assert level != "error", message

        def print_token(self, token):
            words.append(token)

        def print_header(self): ...
        def print_pending(self): ...
        def print_lag(self): ...

    async def scenario(address, served):
        host, port = address.split(":")
        args = argparse.Namespace(url=None, https=False, host=host, port=int(port))
        talking = asyncio.create_task(client.run(Printer(), args))
        while len(played) < 5:
            assert not talking.done(), talking.exception()
            await asyncio.sleep(0.02)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        while served.admission.live:
            await asyncio.sleep(0.01)

    with served_live(duplex) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address, served), 40))
    assert played
