"""Connections that only hold on, with half a head, half a body or nothing: each has its time, none keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage

from antiphon.serve.access.connections import Connections, source_of
from antiphon.serve.settings import ServeConfig
from tests.serve.client import closed, receive, until, works
from tests.serve.client import run as run_line
from tests.serve.scripted import Scripted, serving

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer t\r\n\r\n"
HALF_HEAD = HEAD[:-4]
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST += b"Content-Type: application/json\r\nContent-Length: 900\r\n"
LONG_WAIT = 60.0  # a deadline that a test doesn't reach


def run(scenario, **config):
    with serving(Scripted(), ServeConfig(port=0, **config)) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address.split(":"), served), 60))


class Peer:
    """A client's bare connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.tasks = reader, writer, []

    @classmethod
    async def open(cls, address, data: bytes = b"") -> Peer:
        peer = cls(*await asyncio.open_connection(*address))
        peer.writer.write(data)
        return peer

    def drip(self, seconds: float) -> Peer:
        """Sends a letter now and then, as long as it can."""

        async def go_on():
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.sleep(seconds)
                    self.writer.write(b"a")
                    await self.writer.drain()

        self.tasks.append(asyncio.create_task(go_on()))
        return self

    async def end(self) -> bytes:
        """All that comes until the server hangs up."""
        got = b""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65536):
                got += data
        for task in self.tasks:
            task.cancel()
        self.writer.close()
        return got


async def health(address) -> int:
    """Asks as any client would."""
    peer = await Peer.open(address, HEAD)
    line = await peer.reader.readline()
    peer.writer.close()
    return int(line.split()[1]) if line else 0


@pytest.mark.parametrize("dripping", [False, True])
@pytest.mark.parametrize("begun", [b"", HALF_HEAD], ids=["nothing", "half a head"])
def test_a_head_must_be_whole_in_time(begun, dripping):
    async def scenario(address, served):
        peers = [await Peer.open(address, begun) for _ in range(20)]
        ends = await asyncio.gather(*((peer.drip(0.05) if dripping else peer).end() for peer in peers))
        assert set(ends) <= {b"", b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"}
        assert (b"408" in ends[0]) == bool(begun or dripping)
        await until(lambda: not served.connections.open and not served.connections.each)

    run(scenario, header_seconds=0.5)


def test_the_next_request_s_head_has_its_time_as_well():
    async def scenario(address, served):
        peer = await Peer.open(address, HEAD)
        assert b" 200 " in await peer.reader.readline()
        peer.writer.write(HALF_HEAD)
        assert b" 408 " in await peer.drip(0.05).end()
        await until(lambda: not served.connections.open)

    run(scenario, header_seconds=0.5)


@pytest.mark.parametrize(("token", "status"), [("", b" 408 "), ("t", b" 401 ")])
def test_a_body_that_trickles_is_cut_off(token, status):
    """Whether somebody reads it, or it was answered unread."""

    async def scenario(address, served):
        peers = [await Peer.open(address, POST + b"\r\n{") for _ in range(5)]
        for end in await asyncio.gather(*(peer.drip(0.05).end() for peer in peers)):
            assert status in end
        await until(lambda: not served.connections.open)
        assert served.admission.asked == 0

    run(scenario, body_seconds=0.5, header_seconds=LONG_WAIT, token=token)


def test_a_body_that_keeps_the_pace_may_take_long():
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "say fine"}]}).encode().ljust(900)

    async def scenario(address, served):
        peer = await Peer.open(address, POST + b"Connection: close\r\n\r\n")
        for at in range(0, 900, 60):
            peer.writer.write(body[at : at + 60])
            await asyncio.sleep(0.1)
        end = await peer.end()
        assert b" 200 " in end and b"fine" in end

    run(scenario, body_seconds=0.4, body_rate=400)  # 1.5 s in all


@pytest.mark.parametrize("begun", [b"", HALF_HEAD, POST + b"\r\n{"], ids=["nothing", "half a head", "half a body"])
@pytest.mark.parametrize("bounds", [{"connections": 20}, {"connections_per_address": 20}], ids=["in all", "each"])
def test_who_holds_on_keeps_nobody_out(bounds, begun):
    """Two hundred that hold on, from the same address as those who are served meanwhile."""

    async def scenario(address, served):
        async with connect(f"ws://{':'.join(address)}/v1/realtime") as line:
            peers = []
            for number in range(200):
                peers.append(await Peer.open(address, begun))
                if number % 40 == 39:
                    assert await health(address) == 200
            assert 18 <= len(served.connections.open) == served.connections.each["127.0.0.1"] <= 20
            await works(line)  # who talks isn't dropped
            assert await health(address) == 200
        held = [asyncio.create_task(peer.end()) for peer in peers]
        await asyncio.wait(held, timeout=1.0)
        assert sum(task.done() for task in held) >= 180
        for task in held:
            task.cancel()

    run(scenario, header_seconds=LONG_WAIT, body_seconds=LONG_WAIT, **bounds)


def test_more_that_talk_than_there_may_be_are_not_taken(capsys):
    async def scenario(url, served):
        async with connect(url) as one, connect(url) as other:
            for _ in range(3):
                with pytest.raises((OSError, InvalidMessage)):
                    await connect(url)
            await works(one)
            await works(other)
            await one.close()
            await until(lambda: len(served.connections.open) == 1)
            async with connect(url) as one:
                await works(one)

    run_line(scenario, connections_per_address=2)
    assert capsys.readouterr().err.count("2 of them from 127.0.0.1: more are not taken") == 1  # not a line for each


def test_a_handshake_of_tls_has_its_time_and_counts(tmp_path):
    certificate, key = certificate_of(tmp_path)

    async def scenario(address, served):
        trust = ssl.create_default_context(cafile=str(certificate))
        peers = [await Peer.open(address, b"\x16\x03\x01\x02\x00") for _ in range(40)]
        await until(lambda: len(served.connections.open) == 10)
        url = f"wss://localhost:{address[1]}/v1/realtime"
        async with connect(url, ssl=trust, host="127.0.0.1") as line:
            await works(line)
            for peer in peers:
                assert await peer.end() == b""
            await until(lambda: len(served.connections.open) == 1)
            await works(line)

    run(scenario, connections=10, header_seconds=1.0, certificate=certificate, key=key)


def certificate_of(folder):
    """A certificate for localhost, and its key: PEM files."""
    pytest.importorskip("cryptography")
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return paths


def test_a_websocket_that_says_nothing_is_closed():
    async def scenario(url, served):
        async with connect(url) as quiet, connect(url) as line:
            await works(line)
            error = (await receive(quiet, "error"))["error"]
            assert error["code"] == "session_idle" and await closed(quiet) == 1001
            await works(line)  # who has spoken once may be silent for longer

    run_line(scenario, silent_seconds=0.5)


def test_who_has_waited_longest_goes_and_who_is_served_stays():
    pairs = [socket.socketpair() for _ in range(6)]
    counted = Connections(max_open=3, max_per_source=2)
    first, second = (counted.admit(pairs[n][0], "192.0.2.1") for n in (0, 1))
    counted.works(first)
    third = counted.admit(pairs[2][0], "192.0.2.1")  # in place of the second
    assert counted.open == {first, third} and pairs[1][1].recv(1) == b""
    counted.works(third)
    assert counted.admit(pairs[3][0], "192.0.2.1") is None  # both of that address are served
    other = counted.admit(pairs[3][0], "192.0.2.2")
    counted.waits(third)
    counted.waits(other, progress=True)
    fourth = counted.admit(pairs[4][0], "192.0.2.3")  # the third has waited for longer than the other
    assert counted.open == {first, other, fourth}
    for each in (first, second, other, fourth, fourth):
        counted.leave(each)
    assert not counted.open and not counted.each and not counted.waiting
    for pair in pairs:
        for end in pair:
            end.close()


def test_whose_an_address_is():
    assert source_of("192.0.2.1") == source_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1") != source_of("2001:db8:0:1::1")
    assert source_of("") == ""
