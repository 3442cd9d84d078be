"""What goes wrong on a line: each fault is survived, the others are undisturbed, and the place is free again."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct

import pytest
from websockets.asyncio.client import connect as connect_by_default
from websockets.exceptions import InvalidStatus

from tests.serve.line import LONG, append, ask, closed, connect, receive, run, send, until, works
from tests.serve.scripted import Scripted, silence, speech


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
    backend = Scripted(pace=0.01)

    async def scenario(url, served):
        async with connect(url) as other:
            line = await connect(url)
            await ask(line, LONG)
            await receive(line, "response.output_audio.delta")
            line.transport.abort()
            await until(lambda: served.admission.live == 1)
            made = backend.made
            await works(other)
            await asyncio.sleep(0.1)
            assert backend.made <= made + 8  # nobody goes on speaking to the dead

    run(scenario, backend=backend)


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

    run(scenario, backend=Scripted(frames=8))


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

    run(scenario, backend=Scripted(frames=60), stall_seconds=0.5)


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
    backend = Scripted(deaf=True)

    async def scenario(url, served):
        async with connect(url) as line:
            change = {"type": "realtime", "audio": {"input": {"transcription": {"model": "x"}}}}
            await send(line, "session.update", session=change)
            await append(line, silence(0.3) + speech(0.5) + silence(1))
            name = "conversation.item.input_audio_transcription.failed"
            failed = await receive(line, name)
            assert "fallen" not in json.dumps(failed)
            await works(line)

    run(scenario, backend=backend)
