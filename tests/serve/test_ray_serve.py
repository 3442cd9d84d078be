"""The example of many replicas: a conversation and a request through Ray Serve's proxy."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.serve.client import ask, closed, connect, receive, works

ROOT = Path(__file__).resolve().parent.parent.parent


def scripted_replica():
    """A replica's application with a scripted backend, which has room for one conversation."""
    from antiphon.serve.app import create_app
    from antiphon.serve.settings import ServeConfig
    from tests.serve.scripted import Scripted

    return create_app(Scripted(), ServeConfig(sessions=1))


@pytest.fixture(scope="module")
def example():
    """The example, as a module."""
    pytest.importorskip("ray.serve")
    spec = importlib.util.spec_from_file_location("ray_serve", ROOT / "examples" / "serve" / "ray_serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def proxy(example):
    """host:port of Ray's proxy."""
    import ray
    from ray import serve

    os.environ.setdefault("RAY_agent_register_timeout_ms", "300000")  # of a machine that is busy with other tests
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def address(example, proxy):
    """host:port of a proxy before two replicas."""
    from ray import serve

    serve.run(example.application(scripted_replica, 2))
    yield proxy
    serve.delete("default")


@asynccontextmanager
async def conversation(url: str) -> AsyncIterator:
    """A line to a replica that has room.

    On a busy machine the proxy may not hear in time how full a replica is and sends to one that has no room; who is
    told 1013 (try again later) does so.
    """
    while True:
        async with connect(url) as line:
            if json.loads(await line.recv())["type"] == "session.created":
                yield line
                return
            assert await closed(line) == 1013
        await asyncio.sleep(0.5)


@pytest.mark.slow
def test_conversations_stay_with_their_replicas(address):
    async def scenario():
        url = f"ws://{address}/v1/realtime"
        async with conversation(url) as one, conversation(url) as other:  # each replica has room for one
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


def replicas() -> int:
    """That run."""
    from ray import serve

    (deployment,) = serve.status().applications["default"].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


async def until(count: int, *lines) -> None:
    """There are so many replicas; meanwhile, those on these lines talk, as who is silent for a minute is hung up on."""
    while await asyncio.to_thread(replicas) != count:
        for line in lines:
            await works(line, "say here")
        await asyncio.sleep(0.5)


@pytest.mark.slow
def test_there_are_as_many_replicas_as_conversations_need(example, proxy):
    from ray import serve

    quick = {"upscale_delay_s": 0, "downscale_delay_s": 2, "metrics_interval_s": 0.5, "look_back_period_s": 1}
    serve.run(example.application(scripted_replica, 1, example.scaling(1, 2, 0.5) | quick))

    async def scenario():
        url = f"ws://{proxy}/v1/realtime"
        await until(1)
        async with conversation(url) as one:
            await until(2, one)  # as the one has room for one
            async with conversation(url) as other:
                await works(one, "say first")
                await works(other, "say second")
        await until(1)
        async with conversation(url) as one:
            await works(one, "say again")

    asyncio.run(asyncio.wait_for(scenario(), 300))
    serve.delete("default")


@pytest.mark.slow
def test_replicas_that_go_let_their_conversations_end(example, proxy):
    """Another version takes the place of two replicas, each of which holds a conversation."""
    from ray import serve

    serve.run(example.application(scripted_replica, 2))

    async def scenario():
        url = f"ws://{proxy}/v1/realtime"
        async with conversation(url) as one, conversation(url) as other:
            update = asyncio.create_task(asyncio.to_thread(serve.run, example.application(scripted_replica, 1)))
            await asyncio.sleep(5)
            for text in ("say still", "say here"):
                await works(one, text)
                await works(other, text)
        await update
        await until(1)
        async with conversation(url) as one:
            await works(one, "say new")

    asyncio.run(asyncio.wait_for(scenario(), 150))
    serve.delete("default")
