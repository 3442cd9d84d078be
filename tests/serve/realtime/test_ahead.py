"""What the server does before the user has finished: it asks whether they have, reads ahead, begins to answer."""

from __future__ import annotations

import json

import torch

from tests.serve.client import append, connect, receive, run, send, until
from tests.serve.scripted import Scripted, silence, speech


class Chances:
    """A turn detector that says what it is told to, one pause after the other; after those that it's over."""

    def __init__(self, *left: float):
        self.left = list(left)

    def probability(self, samples: torch.Tensor) -> float:
        return self.left.pop(0) if self.left else 1.0


async def listens(line) -> None:
    audio = {"input": {"turn_detection": {"type": "semantic_vad"}, "transcription": {"model": "x"}}}
    await send(line, "session.update", session={"type": "realtime", "audio": audio})
    await receive(line, "session.updated")


def test_an_answer_is_begun_ahead_and_given_when_the_turn_is_over():
    backend = Scripted(hears="say one two three")

    async def scenario(url, served):
        async with connect(url) as line:
            await listens(line)
            await append(line, speech(1.0))
            await until(lambda: backend.drafts)  # words are read while they are said
            await append(line, silence(0.25))
            await until(lambda: backend.made)  # sound that nobody was told of
            assert len(backend.answers) == 1
            await append(line, silence(0.3))
            done = (await receive(line, "response.done"))["response"]
            assert done["output"][0]["content"][0]["transcript"] == "one two three"
            assert len(backend.answers) == 1 and len(backend.heard) == 1  # neither heard nor thought twice

    run(scenario, backend=backend, turn_detector=Chances())


def test_who_goes_on_is_not_answered_before_they_have_finished():
    backend = Scripted()

    async def scenario(url, served):
        async with connect(url) as line:
            await listens(line)
            await append(line, speech(0.5, 0.25) + silence(0.25))
            await until(lambda: backend.made)
            await append(line, speech(0.5, 0.5) + silence(0.25))
            await until(lambda: len(backend.answers) == 2)
            await append(line, silence(0.3))
            seen = []
            while not seen or seen[-1]["type"] != "response.done":
                seen.append(json.loads(await line.recv()))
            kinds = [event["type"] for event in seen]
            assert kinds.count("response.created") == kinds.count("input_audio_buffer.committed") == 1
            (heard,) = [event["transcript"] for event in seen if event["type"].endswith("transcription.completed")]
            assert heard == "level 0.50"
            first, second = backend.answers
            assert [message.text for message in first.past] == ["level 0.25"]
            assert [message.text for message in second.past] == ["level 0.50"]

    run(scenario, backend=backend, turn_detector=Chances())


def test_a_change_of_the_session_makes_the_answer_anew():
    backend = Scripted(hears="say one")

    async def scenario(url, served):
        async with connect(url) as line:
            await listens(line)
            await append(line, speech(1.0) + silence(0.25))
            await until(lambda: backend.made)
            await send(line, "session.update", session={"type": "realtime", "instructions": "Be brief."})
            await append(line, silence(0.3))
            await receive(line, "response.done")
            assert [answer.instructions for answer in backend.answers] == ["", "Be brief."]

    run(scenario, backend=backend, turn_detector=Chances())
