"""How conversations end: in time, with a line that broke and may be resumed, and when the server is stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.serve.line import ask, closed, connect, receive, run, send, until, works
from tests.serve.scripted import Scripted


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

    run(scenario, backend=Scripted(pace=0.05), resume_seconds=20)


def test_a_broken_line_that_nobody_resumes_is_over_in_time():
    async def scenario(url, served):
        line = await connect(url)
        await receive(line, "session.created")
        line.transport.abort()
        await until(lambda: served.parked)
        await until(lambda: served.admission.live == 0)
        assert not served.parked

    run(scenario, resume_seconds=0.5)


def test_a_newcomer_gets_the_place_of_the_line_that_broke_first():
    async def scenario(url, served):
        ids = []
        for _ in range(2):
            line = await connect(url)
            ids.append((await receive(line, "session.created"))["session"]["id"])
            line.transport.abort()
            await until(lambda: ids[-1] in served.parked)
        async with connect(url) as line:
            await works(line)
            assert list(served.parked) == ids[1:] and served.admission.live == 2
            async with connect(f"{url}?resume={ids[0]}") as late:
                assert (await receive(late, "error"))["error"]["code"] == "session_not_found"
            async with connect(f"{url}?resume={ids[1]}") as back:  # the other may go on, and its place is its own again
                await works(back)
                async with connect(url) as third:
                    assert (await receive(third, "error"))["error"]["code"] == "server_full"
                await works(back)

    run(scenario, resume_seconds=60, sessions=2)


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
    root = Path(__file__).resolve().parents[3]
    program = [sys.executable, "-c", SERVER.format(root=str(root))]
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
