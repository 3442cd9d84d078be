"""What is of one conversation is of no other, and nothing of it stays: sound, memory, words in the log."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import time
import weakref

import numpy as np

from tests.serve.line import LONG, append, ask, connect, receive, run, until, works
from tests.serve.scripted import Scripted, silence, speech


def test_an_interruption_leaves_no_late_sound():
    async def scenario(url, served):
        async with connect(url) as line:
            await ask(line, LONG)
            first = await receive(line, "response.output_audio.delta")
            await append(line, speech(0.4))
            await receive(line, "response.done")
            await append(line, silence(1))
            await ask(line, "say fine")
            while True:
                event = json.loads(await line.recv())
                assert event.get("response_id") != first["response_id"], event["type"]
                if event["type"] == "response.done":
                    break

    run(scenario, backend=Scripted(pace=0.005, hears=" "))


def test_nobody_s_sound_is_in_another_s_ear():
    """Eight at once, each as loud as nobody else: what the model hears, and what it says back, has that loudness."""
    levels = [0.1 * (n + 1) for n in range(8)]
    backend = Scripted(pace=0.002, words=["here"] * 10)

    async def one(url, level):
        async with connect(url) as line:
            for part in (silence(0.3), *[speech(0.1, level)] * 6, silence(1.0)):
                await append(line, part)
                await asyncio.sleep(0.005)
            sound = b""
            while True:
                event = json.loads(await line.recv())
                if event["type"] == "response.output_audio.delta":
                    sound += base64.b64decode(event["delta"])
                elif event["type"] == "response.done":
                    break
            samples = np.frombuffer(sound, "<i2") / 32767
            assert len(samples) == 10 * 2 * 1920 and np.abs(samples - level).max() < 0.006, level

    async def scenario(url, served):
        await asyncio.gather(*(one(url, level) for level in levels))
        for sound in backend.heard:
            loud = sound.abs()[sound.abs() > 0.01]
            assert float(loud.max() - loud.min()) < 0.001

    run(scenario, backend=backend, sessions=8)


def test_nothing_is_kept_of_conversations_that_are_over():
    backend, seen = Scripted(), []

    async def scenario(url, served):
        for number in range(6):
            async with connect(url) as line:
                await append(line, silence(0.3) + speech(0.5) + silence(1))
                await receive(line, "response.done")
                seen.extend(weakref.ref(each) for each in (*served.sockets, *backend.answers))
                if number % 2:
                    await ask(line, LONG)
        await until(lambda: served.admission.live == 0)
        backend.answers.clear()
        for _ in range(100):
            gc.collect()
            if not any(each() for each in seen):
                return
            await asyncio.sleep(0.05)
        raise AssertionError([each() for each in seen if each()])

    run(scenario, backend=backend)
    assert len(seen) >= 12


def test_the_log_has_ids_and_times_and_no_words(caplog):
    caplog.set_level(logging.INFO, logger="antiphon")

    async def scenario(url, served):
        async with connect(url) as line:
            await works(line, "say abracadabra")

    logging.getLogger("antiphon.serve").propagate = True
    run(scenario)
    assert "abracadabra" not in caplog.text


class Pondering(Scripted):
    """Thinks for half a second, in small steps, before an answer that is to be long in coming ("say ponder ...")."""

    def chat(self):
        chat = super().chat()
        answer = chat.answer

        def pondered(past, *more):
            made = answer(past, *more)
            events = made.events

            def slowly():
                for _ in range(10 if past[-1].text.startswith("say ponder") else 0):
                    time.sleep(0.05)
                    yield None
                yield from events()

            made.events = slowly
            return made

        chat.answer = pondered
        return chat


def test_who_is_heard_already_is_not_late_because_another_s_answer_begins():
    async def scenario(url, served):
        async with connect(url) as one, connect(url) as other:
            await ask(one, "say " + "on " * 40)
            await receive(one, "response.output_audio.delta")
            await works(other, "say ponder this")
            await receive(one, "response.done")
        assert served.metrics.frames._value.get() == 42 and served.metrics.late._value.get() == 0

    run(scenario, backend=Pondering(pace=0.02, frames=1))
