"""The example of many replicas: a conversation and a request through Ray Serve's proxy."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
from pathlib import Path

import pytest

from tests.serve.line import ask, closed, connect, receive, works

ROOT = Path(__file__).resolve().parent.parent.parent


def scripted_replica():
    """A replica's application with a scripted backend, which has room for one conversation."""
    from antiphon.serve.app import create_app
    from antiphon.serve.settings import ServeConfig
    from tests.serve.scripted import Scripted

    return create_app(Scripted(), ServeConfig(sessions=1))


@pytest.fixture(scope="module")
def address():
    """host:port of a proxy before two replicas."""
    ray = pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    spec = importlib.util.spec_from_file_location("ray_serve", ROOT / "examples" / "serve" / "ray_serve.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(example.application(scripted_replica, 2))
        yield f"127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.mark.slow
def test_conversations_stay_with_their_replicas(address):
    async def scenario():
        url = f"ws://{address}/v1/realtime"
        async with connect(url) as one, connect(url) as other:  # each replica has room for one
            for line in (one, other):
                assert (await receive(line, "session.created"))["session"]["object"] == "realtime.session"
            for text in ("say first", "say second"):
                await works(one, text)
                await works(other, text)
            await ask(one, "say three words here")
            done = await receive(one, "response.done")
            assert done["response"]["usage"]["input_tokens"] > 10  # it remembers what was said before
            async with connect(url) as third:
                assert json.loads(await third.recv())["error"]["code"] == "server_full"
                assert await closed(third) == 1013

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.slow
def test_requests_and_the_page_are_answered(address):
    import httpx2 as httpx

    body = {"model": "mini", "messages": [{"role": "user", "content": "say hello"}]}
    answer = httpx.post(f"http://{address}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"] == "hello"
    assert "Antiphon" in httpx.get(f"http://{address}/").text
    assert httpx.get(f"http://{address}/health", headers={"Host": "rebound.example"}).status_code == 403
