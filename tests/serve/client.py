"""A Realtime client of a server of its own, for tests: what it sends, waits for and may count on."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from functools import partial

import pytest
from websockets.asyncio.client import connect as connect_by_default
from websockets.exceptions import ConnectionClosed

from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving

connect = partial(connect_by_default, max_queue=None)  # a client that stops reading would be slow to close
QUICK = {"port": 0, "sessions": 4}
LONG = "say " + " ".join(f"word{n}" for n in range(200))


def run(scenario, **config):
    """Plays `scenario(url, served)` on a server of its own; afterwards every place is free."""
    backend = config.pop("backend", None) or Scripted()
    how = {name: config.pop(name) for name in ("turns", "turn_detector") if name in config}
    with serving(backend, ServeConfig(**{**QUICK, **config}), **how) as (address, served):

        async def play():
            await scenario(f"ws://{address}/v1/realtime", served)
            await until(lambda: served.admission.live == 0)

        asyncio.run(asyncio.wait_for(play(), 60))
        assert not served.live


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        await asyncio.sleep(0.01)


async def send(line, kind: str, **fields) -> None:
    await line.send(json.dumps({"type": kind, **fields}))


async def append(line, sound: bytes) -> None:
    await send(line, "input_audio_buffer.append", audio=base64.b64encode(sound).decode())


def message(text: str, **fields) -> dict:
    """An item that a user has typed."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **fields}


async def ask(line, text: str) -> None:
    await send(line, "conversation.item.create", item=message(text))
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
