"""Realtime over WebRTC: a real client of aiortc calls, talks, hears, interrupts and hangs up; keys for browsers."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs the extra 'webrtc'")
httpx = pytest.importorskip("httpx2")
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

from antiphon.serve.realtime import webrtc as webrtc_call  # noqa: E402
from tests.serve.client import until  # noqa: E402
from tests.serve.webrtc_client import Client, Humming, post, run  # noqa: E402

LONG = "say " + " ".join(f"word{n}" for n in range(60))


def test_a_spoken_turn_is_answered_aloud():
    backend = Humming(frames=3)

    async def scenario(address, served):
        async with Client(address) as client:
            client.voice.say(0.6)
            done = (await client.event("response.done"))["response"]
            assert done["status"] == "completed"
            assert (await client.event("output_audio_buffer.stopped"))["response_id"] == done["id"]
            kinds = client.kinds()
            wanted = ["input_audio_buffer.speech_started", "input_audio_buffer.committed", "response.created"]
            assert [kind for kind in kinds if kind in wanted] == wanted
            assert "response.output_audio_transcript.delta" in kinds and "response.output_audio.done" in kinds
            assert "response.output_audio.delta" not in kinds and "error" not in kinds
            await until(lambda: client.heard[-5:] and max(client.heard[-5:]) < 0.01)
            loud = [level for level in client.heard if level > 0.1]
            assert abs(len(loud) * 0.02 - 6 * 3 * 0.08) < 0.2
            assert abs(np.median(loud) - 0.45) < 0.1  # as loud as what was heard, and 0.2
        await until(lambda: served.admission.live == 0 and not served.calls)

    run(scenario, backend)


@pytest.mark.parametrize("pace", [0.0, 0.06])
def test_who_speaks_up_is_heard_and_the_answer_is_cut_to_what_was_played(pace):
    """The answer is all made (pace 0), or still being made."""
    backend = Humming(pace=pace, hears="And then?")

    async def scenario(address, served):
        async with Client(address) as client:
            client.ask(LONG)
            begun = await client.event("output_audio_buffer.started")
            await until(lambda: sum(level > 0.1 for level in client.heard) > 20)
            client.voice.say(0.4)
            assert (await client.event("output_audio_buffer.cleared"))["response_id"] == begun["response_id"]
            cut = await client.event("conversation.item.truncated")
            heard = sum(level > 0.1 for level in client.heard) * 20
            assert abs(cut["audio_end_ms"] - heard) < 400
            client.send("conversation.item.retrieve", item_id=cut["item_id"])
            item = (await client.event("conversation.item.retrieved"))["item"]
            words = item["content"][0]["transcript"].split()
            assert abs(len(words) - cut["audio_end_ms"] / 160) <= 1
            statuses = [event["response"]["status"] for event in client.told if event["type"] == "response.done"]
            assert statuses == (["completed"] if pace == 0 else ["cancelled"])
            await client.event("response.done")
            past = [message.text for message in backend.answers[-1].past]
            assert past == [LONG, " ".join(words), "And then?"]
            assert "error" not in client.kinds() and client.kinds().count("output_audio_buffer.cleared") == 1

    run(scenario, backend)


def test_a_client_may_clear_what_is_being_said():
    async def scenario(address, served):
        async with Client(address) as client:
            client.ask(LONG)
            await client.event("output_audio_buffer.started")
            client.send("output_audio_buffer.clear")
            await client.event("output_audio_buffer.cleared")
            assert (await client.event("response.done"))["response"]["status"] == "cancelled"
            assert (await client.event("conversation.item.truncated"))["audio_end_ms"] < 5000
            client.send("output_audio_buffer.clear")  # nothing is playing: nothing happens
            client.ask("say so be it")
            await client.event("output_audio_buffer.stopped")
            assert client.kinds().count("output_audio_buffer.cleared") == 1 and "error" not in client.kinds()

    run(scenario, Humming(pace=0.03))


def test_a_call_is_hung_up_and_nothing_stays(caplog):
    async def scenario(address, served):
        tasks = None
        for number in range(3):
            async with Client(address) as client:
                assert served.admission.live == len(served.calls) == 1
                loop = next(iter(served.calls.values())).loop
                if number == 0:
                    assert (await post(address, "", path="calls/rtc_0/hangup")).status_code == 404
                if number < 2:
                    client.ask(LONG)
                    await client.event("output_audio_buffer.started")
                    path = client.location.removeprefix("/v1/realtime/") + "/hangup"
                    assert (await post(address, "", path=path)).status_code == 200
                    await client.event("closed")
            await until(lambda: served.admission.live == 0 and not served.calls and not served.live)
            left = asyncio.run_coroutine_threadsafe(quiet(), loop)
            count = await asyncio.wrap_future(left)
            tasks = tasks if tasks is not None else count
            assert count <= tasks
        page = served.metrics.page().decode()
        assert 'antiphon_admitted_total{protocol="webrtc"} 3.0' in page
        assert 'antiphon_ended_total{reason="hung up"} 2.0' in page and 'reason="left"} 1.0' in page

    run(scenario, Humming(pace=0.01))
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


async def quiet() -> int:
    """How many tasks a loop has, when those that are ending have ended."""
    await asyncio.sleep(0.3)
    return len(asyncio.all_tasks())


def test_a_server_that_stops_hangs_up():
    async def scenario(address, served):
        async with Client(address) as client:
            served.server.should_exit = True
            await client.event("closed")
        await until(lambda: not served.calls and served.admission.live == 0)

    run(scenario)


def test_a_manual_turn_over_the_line_and_a_buffer_that_is_full():
    session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}

    async def scenario(address, served):
        async with Client(address, session=session) as client:
            error = (await client.event("error"))["error"]  # told once, not with every packet
            assert error["code"] == "audio_too_long"
            client.send("input_audio_buffer.clear")
            client.voice.say(0.3)
            await client.event("input_audio_buffer.cleared")
            await asyncio.sleep(0.5)
            client.send("input_audio_buffer.commit")
            await client.event("input_audio_buffer.committed")
            client.send("response.create")
            await client.event("output_audio_buffer.stopped")
            assert client.kinds().count("error") <= 2
        assert served.backend.answers[-1].past[-1].text.startswith("level 0.")

    run(scenario, decoded_seconds=1.0)


def test_a_full_server_refuses_and_a_place_is_given_back():
    async def scenario(address, served):
        waiting = Client(address)
        offer = await waiting.offer()
        async with Client(address):
            refused = await post(address, offer)
            assert refused.status_code == 503 and refused.json()["error"]["code"] == "server_full"
            assert refused.headers["retry-after"]
        await until(lambda: served.admission.live == 0)
        await waiting.connection.close()
        async with Client(address) as client:
            client.ask("say yes")
            await client.event("output_audio_buffer.stopped")

    run(scenario, sessions=1)


def test_an_offer_that_is_none_is_refused():
    async def scenario(address, served):
        client, video = Client(address), RTCPeerConnection(RTCConfiguration(iceServers=[]))
        good = await client.offer()
        video.addTransceiver("video")
        await video.setLocalDescription(await video.createOffer())
        worse = [re.sub(r"a=fingerprint.*", "a=fingerprint:nonsense", good), good.replace("a=ice-ufrag", "a=ice-other")]
        for offer in ("", "hello", "v=0\r\n", "x" * 70_000, video.localDescription.sdp, good[: len(good) // 3], *worse):
            refused = await post(address, offer)
            assert refused.status_code == 400, offer[:200]
            assert refused.json()["error"]["code"] == "invalid_offer"
        refused = await post(address, good, {"type": "realtime", "audio": {"output": {"voice": "nobody"}}})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "session.audio.output.voice"
        async with httpx.AsyncClient() as http:
            plain = await http.post(f"http://{address}/v1/realtime/calls", content=good)
            assert plain.status_code == 400 and plain.json()["error"]["code"] == "invalid_content_type"
        await video.close()
        await client.connection.close()
        assert served.admission.live == 0 and not served.calls

    run(scenario)


def test_who_never_connects_is_let_go(monkeypatch):
    monkeypatch.setattr(webrtc_call, "CONNECT_SECONDS", 0.5)

    async def scenario(address, served):
        client = Client(address)
        assert (await post(address, await client.offer())).status_code == 201
        await client.connection.close()
        await until(lambda: served.admission.live == 0 and not served.calls)
        assert 'reason="unconnected"} 1.0' in served.metrics.page().decode()

    run(scenario)


def test_a_newcomer_gets_the_place_of_a_call_that_is_not_connected():
    async def scenario(address, served):
        client = Client(address)
        assert (await post(address, await client.offer())).status_code == 201
        await client.connection.close()
        async with Client(address) as other:
            other.ask("say yes")
            await other.event("output_audio_buffer.stopped")
            assert served.admission.live == 1
            refused = await post(address, await Client(address).offer())
            assert refused.status_code == 503  # a call that is connected stays
        await until(lambda: served.admission.live == 0 and not served.calls)

    run(scenario, sessions=1)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (r"a=fingerprint:.*\r\n", ""),
        (r"a=fingerprint:\S+", "a=fingerprint:md5"),
        (r"(a=fingerprint:sha-256 )..", r"\1zz"),
        (r"a=setup:.*\r\n", ""),
        (r"a=ice-pwd:.*", "a=ice-pwd:short"),
        (r"a=sctp-port:.*\r\n", ""),
        (r"a=max-message-size:.*", "a=max-message-size:1"),
        (r"BUNDLE 0 1", "BUNDLE 5 6"),
        (r"a=mid:1", "a=mid:0"),
        (r"a=extmap:1 ", "a=extmap:99999 "),
        (r"v=0\r\n", "v=0\r\na=candidate:1\r\n"),
    ],
)
def test_an_offer_that_lacks_something_is_refused_before_anything_is_kept(good, bad, caplog):
    async def scenario(address, served):
        client = Client(address)
        offer = re.sub(good, bad, await client.offer())
        refused = await post(address, offer)
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_offer"
        assert served.admission.live == 0 and not served.calls
        assert 'antiphon_admitted_total{protocol="webrtc"}' not in served.metrics.page().decode()
        await client.connection.close()

    run(scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("private", [False, True])
def test_packets_go_to_private_addresses_only_where_told_so(private):
    async def scenario(address, served):
        loop, got = asyncio.get_running_loop(), []

        class Ear(asyncio.DatagramProtocol):
            def datagram_received(self, data, source):
                got.append(data)

        ear, _ = await loop.create_datagram_endpoint(Ear, local_addr=("0.0.0.0", 0))
        port = ear.get_extra_info("sockname")[1]
        client = Client(address)
        offer = await client.offer()
        own = re.search(r"a=candidate:\S+ 1 udp \d+ ([\d.]+) ", offer)[1]
        lines = "".join(f"a=candidate:{n} 1 udp 9 {ip} {port} typ host\r\n" for n, ip in enumerate(("127.0.0.1", own)))
        answer = await post(address, re.sub(r"(a=candidate:.*\r\n)+", lines, offer))
        assert answer.status_code == 201
        await asyncio.sleep(1.0)
        ear.close()
        await client.connection.close()
        assert bool(got) == private

    run(scenario, private_candidates=private)


def test_which_addresses_are_tried():
    from antiphon.serve.realtime.webrtc_offer import _may_try

    for address in ("8.8.8.8", "2606:4700::1111"):
        assert _may_try(address, 5000, False) and not _may_try(address, 53, False)
    private = "127.0.0.1 10.0.0.1 192.168.1.1 172.16.0.1 169.254.169.254 100.64.0.1 ::1 fe80::1 fd00::1"
    for address in f"{private} ::ffff:127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1".split():
        assert not _may_try(address, 5000, False) and _may_try(address, 5000, True)
    for address in ("0.0.0.0", "::", "224.0.0.251", "ff02::1", "some-name.local", "localhost"):
        assert not _may_try(address, 5000, True)


def test_a_page_s_key_opens_realtime_until_it_expires():
    backend = Humming()

    async def scenario(address, served):
        session = {"type": "realtime", "model": "mini", "instructions": "Be brief."}
        async with httpx.AsyncClient(base_url=f"http://{address}/v1/", headers={"authorization": "Bearer t"}) as http:
            asked = {"session": session, "expires_after": {"anchor": "created_at", "seconds": 60}}
            given = (await http.post("realtime/client_secrets", json=asked)).json()
            assert given["value"].startswith("ek_") and given["session"]["instructions"] == "Be brief."
            bad = await http.post("realtime/client_secrets", json={"session": {"type": "realtime", "voice": "x"}})
            assert bad.status_code == 400 and bad.json()["error"]["param"] == "session.voice"
            served.keys.max_keys = 1
            assert (await http.post("realtime/client_secrets", json={})).status_code == 503
        async with httpx.AsyncClient(
            base_url=f"http://{address}/v1/", headers={"authorization": f"Bearer {given['value']}"}
        ) as http:
            assert (await http.get("models")).status_code == 401
            assert (await http.post("realtime/client_secrets", json={})).status_code == 401
        async with Client(
            address, key=given["value"], session={"type": "realtime", "output_modalities": ["text"]}
        ) as one:
            told = one.told[0]["session"]
            assert told["instructions"] == "Be brief." and told["output_modalities"] == ["text"]
            assert told["model"] == "mini"
        name = f"openai-insecure-api-key.{given['value']}"
        async with connect(f"ws://{address}/v1/realtime", subprotocols=["realtime", name]) as line:
            assert json.loads(await line.recv())["session"]["instructions"] == "Be brief."
        late = Client(address)
        offer = await late.offer()
        assert (await post(address, offer, key="ek_" + "0" * 48)).status_code == 401
        clock = served.keys.clock
        served.keys.clock = lambda: clock() + 61
        assert (await post(address, offer, key=given["value"])).status_code == 401
        assert (await post(address, offer)).status_code == 401
        await late.connection.close()

    run(scenario, backend, token="t")


def test_openai_s_own_client_is_answered():
    openai = pytest.importorskip("openai")

    async def scenario(address, served):
        api = openai.AsyncOpenAI(api_key="none", base_url=f"http://{address}/v1")
        secret = await api.realtime.client_secrets.create(session={"type": "realtime", "instructions": "Be kind."})
        client = Client(address)
        api = openai.AsyncOpenAI(api_key=secret.value, base_url=f"http://{address}/v1")
        answer = await api.realtime.calls.create(
            sdp=await client.offer(), session={"type": "realtime", "model": "mini"}
        )
        await client.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        assert (await client.event())["session"]["instructions"] == "Be kind."
        await api.realtime.calls.hangup(answer.response.headers["location"].rpartition("/")[2])
        await client.event("closed")
        await client.connection.close()

    run(scenario)


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.delitem(sys.modules, "antiphon.serve.realtime.webrtc")
    monkeypatch.delattr("antiphon.serve.realtime.webrtc")

    async def scenario(address, served):
        refused = await post(address, "v=0")
        assert refused.status_code == 501 and "antiphon[webrtc]" in refused.json()["error"]["message"]

    run(scenario)
