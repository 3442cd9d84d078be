"""A file of 25 MB with an hour of sound is written down in little memory, and one that is larger is refused."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from antiphon.dialogue.backend import Hearing
from antiphon.evals.machine import memory_bytes
from antiphon.models.asr.heard import Passage
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving

RATE, MEGABYTE = 8000, 1_000_000
MINUTE = 60 * 24000  # samples of what is heard


@dataclass
class Minutes:
    """Hears a word a minute, keeps no sound, and looks at the memory as it goes."""

    memory: list[int]
    samples: int = 0
    found: list[Passage] = field(default_factory=list)

    def step(self, samples) -> None:
        before, self.samples = self.samples, self.samples + len(samples)
        if self.samples // MINUTE > before // MINUTE:
            at = self.samples / 24000
            self.found.append(Passage(f"minute{len(self.found) + 1}", "", at - 60, at, "en"))
            self.memory.append(memory_bytes())

    def passages(self) -> list[Passage]:
        return self.found

    def finish(self) -> Hearing:
        return Hearing(" ".join(each.text for each in self.found), passages=tuple(self.found))


class Patient(Scripted):
    def listen(self, options=None, live=True):
        assert not live
        return Minutes(self.memory)


@pytest.fixture
def client():
    backend = Patient()
    backend.memory = []
    with TestClient(create_app(backend, ServeConfig()), base_url="http://127.0.0.1") as made:
        made.backend = backend
        yield made


def recording(minutes: int, level: int) -> bytes:
    """Noise as a flac file: the louder, the larger."""
    file, generator = io.BytesIO(), np.random.default_rng(0)
    with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16", format="FLAC") as writer:
        for _ in range(minutes):
            writer.write(generator.integers(-level, level + 1, 60 * RATE, np.int16))
    return file.getvalue()


@pytest.mark.slow
def test_an_hour_in_25_megabytes_takes_little_memory(client):
    data = recording(60, 40)
    assert 21 * MEGABYTE < len(data) < 25 * MEGABYTE
    before = memory_bytes()
    answer = client.post("/v1/audio/transcriptions", files={"file": ("a.flac", data)}, data={"stream": "true"})
    assert answer.status_code == 200 and answer.text.count("transcript.text.delta") == 60
    assert '"seconds": 3600.0' in answer.text and "minute60" in answer.text
    memory = client.backend.memory
    assert max(memory) - before < 150 * MEGABYTE  # decoded it is 346 MB
    assert max(memory[30:]) - max(memory[5:30]) < 20 * MEGABYTE  # and it doesn't grow


def test_a_file_that_is_too_large_is_refused(client):
    answer = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", bytes(27 * 1024 * 1024))})
    assert answer.status_code == 413 and not client.backend.memory


def test_a_stretch_is_told_before_the_rest_is_heard():
    import httpx2 as httpx

    told = threading.Event()

    class Waits(Minutes):
        def step(self, samples) -> None:
            assert not self.found or told.wait(20)
            super().step(samples)

    backend = Patient()
    backend.listen = lambda options=None, live=True: Waits([])
    asked = {"files": {"file": ("a.flac", recording(2, 0))}, "data": {"stream": "true"}}
    with (
        serving(backend, ServeConfig(port=0)) as (address, _),
        httpx.stream("POST", f"http://{address}/v1/audio/transcriptions", **asked, timeout=30) as answer,
    ):
        lines = (line for line in answer.iter_lines() if line)
        assert "minute1" in next(lines)
        told.set()
        assert "minute2" in next(lines) and "transcript.text.done" in next(lines)
