"""Conversations that are kept: both sides on one clock, listed, heard and deleted; and none unless asked for."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient
from websockets.asyncio.client import connect

from antiphon.errors import DataError
from antiphon.serve import recordings as module
from antiphon.serve.app import create_app
from antiphon.serve.recordings import Recordings
from antiphon.serve.settings import ServeConfig
from tests.serve.client import append, receive, until
from tests.serve.scripted import Scripted, serving, silence, speech

NAME = "sess_" + "0" * 20


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

        def time(self):
            return 1000.0

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_both_sides_lie_on_one_clock(tmp_path, clock):
    kept = Recordings(tmp_path / "kept")
    recorder = kept.begin(NAME, "m")
    clock.now += 0.1
    recorder.user(np.full(2400, 0.5, np.float32))
    clock.now += 0.15  # a little late: the line stutters, the user doesn't
    recorder.user(np.full(2400, 0.5, np.float32))
    clock.now = 101.0
    for _ in range(10):  # a second, made at once
        recorder.model(np.full(2400, 0.25, np.float32))
    clock.now = 101.5
    recorder.interrupted()
    clock.now = 103.0
    recorder.user(np.full(2400, 0.5, np.float32))
    recorder.end([{"id": "a"}])
    samples, rate = soundfile.read(kept.sound(NAME))
    assert rate == 24000 and samples.shape == (72000, 2)
    left, right = (np.flatnonzero(np.abs(side) > 0.1) for side in samples.T)
    assert (left[0], left[-1]) == (24000, 35999)
    assert (right[0], right[4799], right[4800], right[-1]) == (0, 4799, 69600, 71999)
    assert kept.get(NAME) == {"id": NAME, "model": "m", "began": 1000.0, "seconds": 3.0, "items": [{"id": "a"}]}


def test_a_conversation_in_which_nothing_was_said_is_not_kept(tmp_path):
    kept = Recordings(tmp_path)
    kept.begin(NAME, "m").end([])
    recorder = kept.begin(NAME, "m")
    recorder.user(np.zeros(24000, np.float32))  # a microphone that is off
    recorder.end([])
    assert kept.list() == [] and kept.sound(NAME) is None


def test_a_typed_conversation_is_kept_without_a_file_of_nothing(tmp_path):
    kept = Recordings(tmp_path)
    kept.begin(NAME, "m").end([{"id": "a"}])
    assert kept.get(NAME)["items"] == [{"id": "a"}] and kept.sound(NAME) is None
    assert [path.name for path in tmp_path.iterdir()] == ["conversations.sqlite"]


def test_a_file_that_cannot_be_written_leaves_no_half_of_it(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left")

    kept = Recordings(tmp_path)
    recorder = kept.begin(NAME, "m")
    recorder.user(np.full(2400, 0.5, np.float32))
    monkeypatch.setattr(module.np, "stack", full)
    with pytest.raises(OSError, match="no space"):
        recorder.end([{"id": "a"}])
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.flac"))


def test_names_lead_nowhere_else(tmp_path):
    kept = Recordings(tmp_path / "kept")
    (tmp_path / "secret.flac").write_bytes(b"x")
    for name in ("../secret", "/etc/passwd", "sess_" + "0" * 20 + "/../x", ""):
        assert kept.sound(name) is None and not kept.delete(name)
    assert (tmp_path / "secret.flac").exists()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError):
        Recordings(tmp_path / "file")


def test_nothing_is_kept_unless_asked_for():
    with TestClient(create_app(Scripted()), base_url="http://127.0.0.1") as client:
        answer = client.get("/v1/recordings")
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_recording"


def test_a_conversation_is_kept_listed_heard_and_deleted(tmp_path):
    import httpx2 as httpx

    async def scenario(address, served):
        async with connect(f"ws://{address}/v1/realtime", max_queue=None) as line:
            await append(line, silence(0.3) + speech(0.5, 0.5) + silence(1))
            await receive(line, "response.done")
        await until(lambda: served.recordings.list())

    with serving(Scripted(), ServeConfig(port=0, record=tmp_path)) as (address, served):
        asyncio.run(asyncio.wait_for(scenario(address, served), 30))
        base = f"http://{address}/v1/recordings"
        (row,) = httpx.get(base).json()["data"]
        assert row["model"] == "scripted" and abs(row["began"] - time.time()) < 60
        items = httpx.get(f"{base}/{row['id']}").json()["items"]
        assert [item["role"] for item in items] == ["user", "assistant"]
        sound = tmp_path / "heard.flac"
        sound.write_bytes(httpx.get(f"{base}/{row['id']}/audio").content)
        samples, _ = soundfile.read(sound)
        model, user = samples.T
        assert (np.abs(user) > 0.4).sum() == 12000 and (np.abs(model - 0.5) < 0.01).sum() == 6 * 2 * 1920
        assert httpx.delete(f"{base}/{row['id']}").json() == {"id": row["id"], "deleted": True}
        assert httpx.delete(f"{base}/{row['id']}").status_code == 404
        assert httpx.get(f"{base}/{row['id']}/audio").status_code == 404
