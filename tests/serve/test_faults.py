"""What goes wrong on a line: each fault is survived, the others are undisturbed, and the place is free again."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_by_default
from websockets.exceptions import ConnectionClosed, InvalidStatus

from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving, silence, speech

connect = partial(connect_by_default, max_queue=None)  # a client that stops reading would be slow to close
QUICK = {"port": 0, "sessions": 4}
LONG = "say " + " ".join(f"word{n}" for n in range(200))


def run(scenario, **config):
    """Plays `scenario(url, served)` on a server of its own; afterwards every place is free."""
    conversant = config.pop("conversant", None) or Scripted()
    with serving(conversant, ServeConfig(**{**QUICK, **config})) as (address, served):

        async def play():
            await scenario(f"ws://{address}/v1/realtime", served)
            await until(lambda: served.admission.live == 0)

        asyncio.run(asyncio.wait_for(play(), 60))
        assert not served.sockets


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        await asyncio.sleep(0.01)


async def send(line, kind: str, **fields) -> None:
    await line.send(json.dumps({"type": kind, **fields}))


async def append(line, sound: bytes) -> None:
    await send(line, "input_audio_buffer.append", audio=base64.b64encode(sound).decode())


async def ask(line, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await send(line, "conversation.item.create", item=item)
    await send(line, "response.create")


async def receive(line, kind: str) -> dict:
    """The next event of a kind."""
    while True:
        event = json.loads(await line.recv())
        if event["type"] == kind:
            return event


async def works(line, text: str = "say fine") -> None:
    """Whoever is on this line is served as if nothing had happened."""
    await ask(line, text)
    done = (await receive(line, "response.done"))["response"]
    assert done["status"] == "completed" and done["output"][0]["content"][0]["transcript"] == text.removeprefix("say ")


async def closed(line) -> int:
    """The code with which a line is closed."""
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            await line.recv()
    return ended.value.rcvd.code if ended.value.rcvd else 1006


def test_a_full_server_refuses_at_once_and_has_room_again():
    async def scenario(url, served):
        async with connect(url) as one, connect(url) as other:
            async with connect(url) as third:
                event = json.loads(await third.recv())
                assert event["type"] == "error" and event["error"]["code"] == "server_full"
                assert await closed(third) == 1013
            await works(one)
            await other.close()
            await until(lambda: served.admission.live == 1)
            async with connect(url) as third:
                await works(third)

    run(scenario, sessions=2)


def test_a_client_that_dies_mid_reply_gives_its_place_back():
    conversant = Scripted(pace=0.01)

    async def scenario(url, served):
        async with connect(url) as other:
            line = await connect(url)
            await ask(line, LONG)
            await receive(line, "response.output_audio.delta")
            line.transport.abort()
            await until(lambda: served.admission.live == 1)
            made = conversant.made
            await works(other)
            await asyncio.sleep(0.1)
            assert conversant.made <= made + 8  # nobody goes on speaking to the dead

    run(scenario, conversant=conversant)


def test_a_half_open_line_is_noticed():
    async def scenario(url, served):
        async with connect(url) as other:
            address = url.removeprefix("ws://").partition("/")[0].split(":")
            mute = socket.create_connection((address[0], int(address[1])))  # answers no sign of life
            mute.sendall(
                b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await until(lambda: served.admission.live == 2)
            await until(lambda: served.admission.live == 1)
            mute.close()
            await works(other)

    run(scenario, ping_seconds=0.3)


def test_a_stall_of_three_seconds_is_waited_for():
    async def scenario(url, served):
        async with connect_by_default(url, max_queue=1, close_timeout=0.5) as line:
            await ask(line, "say " + "x " * 60)
            await asyncio.sleep(3)
            done = (await receive(line, "response.done"))["response"]
            assert done["status"] == "completed"
            await works(line)

    run(scenario, conversant=Scripted(frames=8))


def test_a_client_that_never_reads_is_dropped():
    async def scenario(url, served):
        async with connect(url) as other:
            address = url.removeprefix("ws://").partition("/")[0].split(":")
            stuck = socket.create_connection((address[0], int(address[1])))
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(
                b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await until(lambda: served.admission.live == 2)
            words = {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "say " + "x " * 511}],
            }
            for event in ({"type": "conversation.item.create", "item": words}, {"type": "response.create"}):
                data = json.dumps(event).encode().ljust(200)
                stuck.sendall(struct.pack(">BBH4s", 0x81, 0x80 | 126, len(data), bytes(4)) + data)
            await works(other)
            await until(lambda: served.admission.live == 1)
            stuck.close()
            await works(other)
            assert 'antiphon_ended_total{reason="slow"} 1.0' in served.metrics.page().decode()

    run(scenario, conversant=Scripted(frames=60), stall_seconds=0.5)


@pytest.mark.parametrize(
    "message", ["{", "null", "[]", '"x"', "1e999", "[" * 100_000, b"\x00\x01", '{"type": "x"}', "\ud800"]
)
def test_a_message_that_is_no_event_is_told_so_and_the_session_goes_on(message):
    async def scenario(url, served):
        async with connect(url) as line:
            await line.send(message.encode("utf-8", "replace").decode() if isinstance(message, str) else message)
            error = (await receive(line, "error"))["error"]
            assert error["type"] == "invalid_request_error" and error["code"] in (
                "invalid_json",
                "invalid_event",
                "invalid_value",
            )
            await works(line)

    run(scenario)


def test_broken_base64_is_told():
    async def scenario(url, served):
        async with connect(url) as line:
            await send(line, "input_audio_buffer.append", audio="not base64!", event_id="mine")
            error = (await receive(line, "error"))["error"]
            assert error["param"] == "audio" and error["event_id"] == "mine"
            await works(line)

    run(scenario)


def test_an_oversized_message_closes_the_line_alone():
    async def scenario(url, served):
        async with connect(url) as other, connect(url) as line:
            await append(line, bytes(200_000))
            assert await closed(line) == 1009
            await works(other)

    run(scenario, message_bytes=100_000)


def test_more_sound_than_a_turn_may_have_is_refused():
    async def scenario(url, served):
        async with connect(url) as line:
            await send(
                line, "session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}}
            )
            await append(line, silence(1.5))
            await append(line, silence(1.5))
            error = (await receive(line, "error"))["error"]
            assert error["code"] == "audio_too_long"
            await works(line)

    run(scenario, decoded_seconds=2.0)


def test_two_hundred_reconnections_in_a_row_leave_nothing_behind():
    async def scenario(url, served):
        async with connect(url) as other:
            for number in range(200):
                try:
                    line = await connect(url)
                except InvalidStatus:
                    continue
                if number % 3 == 0:
                    await append(line, speech(0.1))
                if number % 2:
                    line.transport.abort()
                else:
                    await line.close()
            await works(other)
            await until(lambda: served.admission.live == 1)
            assert len(served.sockets) == 1

    run(scenario)


def test_a_failure_in_the_model_is_one_session_s_and_tells_no_secrets(caplog):
    caplog.set_level(logging.INFO, logger="antiphon.serve")

    async def scenario(url, served):
        async with connect(url) as other, connect(url) as line:
            await ask(line, "say BREAK")
            done = (await receive(line, "response.done"))["response"]
            assert done["status"] == "failed" and "secret" not in json.dumps(done)
            assert done["status_details"]["error"]["code"] == "model_error"
            await works(line)
            await works(other)

    run(scenario)


def test_ears_that_fail_are_told_and_the_session_goes_on():
    conversant = Scripted(deaf=True)

    async def scenario(url, served):
        async with connect(url) as line:
            change = {"type": "realtime", "audio": {"input": {"transcription": {"model": "x"}}}}
            await send(line, "session.update", session=change)
            await append(line, silence(0.3) + speech(0.5) + silence(1))
            name = "conversation.item.input_audio_transcription.failed"
            failed = await receive(line, name)
            assert "fallen" not in json.dumps(failed)
            await works(line)

    run(scenario, conversant=conversant)


def test_who_says_nothing_is_let_go():
    async def scenario(url, served):
        async with connect(url) as line:
            error = (await receive(line, "error"))["error"]
            assert error["code"] == "session_idle" and await closed(line) == 1001

    run(scenario, idle_seconds=0.3)


def test_a_session_has_an_end():
    async def scenario(url, served):
        async with connect(url) as line:
            error = (await receive(line, "error"))["error"]
            assert error["code"] == "session_expired" and await closed(line) == 1001

    run(scenario, session_seconds=0.3)


def test_an_interruption_leaves_no_late_sound():
    async def scenario(url, served):
        async with connect(url) as line:
            await ask(line, LONG)
            first = await receive(line, "response.output_audio.delta")
            await append(line, speech(0.4))
            await receive(line, "response.done")
            await append(line, silence(1))
            await ask(line, "say fine")
            while True:
                event = json.loads(await line.recv())
                assert event.get("response_id") != first["response_id"], event["type"]
                if event["type"] == "response.done":
                    break

    run(scenario, conversant=Scripted(pace=0.005, hears=" "))


def test_nobody_s_sound_is_in_another_s_ear():
    """Eight at once, each as loud as nobody else: what the model hears, and what it says back, has that loudness."""
    levels = [0.1 * (n + 1) for n in range(8)]
    conversant = Scripted(pace=0.002, words=["here"] * 10)

    async def one(url, level):
        async with connect(url) as line:
            for part in (silence(0.3), *[speech(0.1, level)] * 6, silence(1.0)):
                await append(line, part)
                await asyncio.sleep(0.005)
            sound = b""
            while True:
                event = json.loads(await line.recv())
                if event["type"] == "response.output_audio.delta":
                    sound += base64.b64decode(event["delta"])
                elif event["type"] == "response.done":
                    break
            samples = np.frombuffer(sound, "<i2") / 32767
            assert len(samples) == 10 * 2 * 1920 and np.abs(samples - level).max() < 0.006, level

    async def scenario(url, served):
        await asyncio.gather(*(one(url, level) for level in levels))
        for sound in conversant.heard:
            loud = sound.abs()[sound.abs() > 0.01]
            assert float(loud.max() - loud.min()) < 0.001

    run(scenario, conversant=conversant, sessions=8)


def test_nothing_is_kept_of_conversations_that_are_over():
    conversant, seen = Scripted(), []

    async def scenario(url, served):
        for number in range(6):
            async with connect(url) as line:
                await append(line, silence(0.3) + speech(0.5) + silence(1))
                await receive(line, "response.done")
                seen.extend(weakref.ref(each) for each in (*served.sockets, *conversant.answers))
                if number % 2:
                    await ask(line, LONG)
        await until(lambda: served.admission.live == 0)
        conversant.answers.clear()
        for _ in range(100):
            gc.collect()
            if not any(each() for each in seen):
                return
            await asyncio.sleep(0.05)
        raise AssertionError([each() for each in seen if each()])

    run(scenario, conversant=conversant)
    assert len(seen) >= 12


def test_a_broken_line_may_be_resumed():
    async def scenario(url, served):
        line = await connect(url)
        session = (await receive(line, "session.created"))["session"]
        change = {"type": "realtime", "instructions": "Be kind"}
        await send(line, "session.update", session=change)
        await ask(line, "say one two three four five six seven eight")
        await receive(line, "response.output_audio.delta")
        line.transport.abort()
        await until(lambda: served.parked)
        assert served.admission.live == 1  # the place is kept
        async with connect(f"{url}?resume={session['id']}") as line:
            first = json.loads(await line.recv())
            assert first["type"] == "session.created" and first["session"]["id"] == session["id"]
            assert first["session"]["instructions"] == "Be kind"
            done = (await receive(line, "response.done"))["response"]  # what was missed comes
            assert done["status"] == "completed" and done["output"][0]["content"][0]["transcript"].endswith("eight")
            await works(line)
        await until(lambda: served.admission.live == 0)  # who says goodbye doesn't come back
        async with connect(f"{url}?resume={session['id']}") as line:
            assert (await receive(line, "error"))["error"]["code"] == "session_not_found"
            assert await closed(line) == 1008

    run(scenario, conversant=Scripted(pace=0.05), resume_seconds=20)


def test_a_broken_line_that_nobody_resumes_is_over_in_time():
    async def scenario(url, served):
        line = await connect(url)
        await receive(line, "session.created")
        line.transport.abort()
        await until(lambda: served.parked)
        await until(lambda: served.admission.live == 0)
        assert not served.parked

    run(scenario, resume_seconds=0.5)


def test_the_log_has_ids_and_times_and_no_words(caplog):
    caplog.set_level(logging.INFO, logger="antiphon")

    async def scenario(url, served):
        async with connect(url) as line:
            await works(line, "say abracadabra")

    logging.getLogger("antiphon.serve").propagate = True
    run(scenario)
    assert "abracadabra" not in caplog.text


SERVER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from antiphon.serve.app import create_app
from antiphon.serve.run import listen, make_server
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted
config = ServeConfig(port=0, drain_seconds=10)
listening = listen(config)
server = make_server(create_app(Scripted(pace=0.02), config))
print(listening.getsockname()[1], flush=True)
server.run(sockets=[listening])
"""


def test_sigterm_lets_answers_end_and_nobody_new_in():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = [sys.executable, "-c", SERVER.format(root=root)]
    server = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}/v1/realtime"

        async def scenario():
            for _ in range(500):
                try:
                    line = await connect(url)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            await ask(line, "say " + " ".join(["on"] * 50))
            await receive(line, "response.output_audio.delta")
            server.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            async with connect(url) as late:
                assert json.loads(await late.recv())["error"]["code"] == "server_full"
                assert await closed(late) == 1013
            done = (await receive(line, "response.done"))["response"]
            assert done["status"] == "completed"
            assert (await receive(line, "error"))["error"]["code"] == "server_stopping"
            assert await closed(line) == 1001

        asyncio.run(asyncio.wait_for(scenario(), 40))
        server.wait(timeout=20)
        assert server.returncode in (0, -signal.SIGTERM) and "Traceback" not in server.stderr.read()
    finally:
        server.kill()
        server.wait()
