"""Kyutai's own client of Moshi's protocol, unmodified."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.audio.test_ogg import tone
from tests.dialogue.duplex.tiny_duplex import tiny_duplex
from tests.serve.test_moshi import served_live


def test_kyutai_s_own_client_unmodified(monkeypatch):
    """With a pretended sound card: a microphone that hums and a speaker whose sound is kept."""
    pytest.importorskip("sphn")
    pytest.importorskip("aiohttp")
    pytest.importorskip("moshi")

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

    with served_live(tiny_duplex()) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address, served), 40))
    assert played
