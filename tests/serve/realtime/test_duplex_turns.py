"""A duplex model's Realtime session: it says that it takes turns by itself, and knows what was heard of an answer."""

from __future__ import annotations

import base64

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent
from antiphon.serve.realtime.commands import Limits, ServedModel
from antiphon.serve.realtime.duplex_session import DuplexAnswer, DuplexRealtimeSession
from tests.serve.scripted import silence, speech


class Line:
    """A client of a session whose model says what it is told to, 80 ms at a time."""

    def __init__(self, transcribes=False):
        model = ServedModel("duplex", ["heart"], transcribes=transcribes)
        self.session, self.time = DuplexRealtimeSession(model, Limits(vad="loudness"), 0.0), 0.0
        self.session.begin()
        self.created = self.take()[0]

    def take(self) -> list[dict]:
        return [out for out in self.session.take() if isinstance(out, dict)]

    def send(self, kind: str, **more) -> list[dict]:
        self.session.receive({"type": kind, **more}, 0.0)
        return self.take()

    def hear(self, sound: bytes) -> list[str]:
        shown = self.send("input_audio_buffer.append", audio=base64.b64encode(sound).decode())
        return [event["type"] for event in shown]

    def frame(self, *events) -> list[dict]:
        self.session.frame([*events, AudioEvent(Audio(torch.full((1920,), 0.5), 24000))], 0.0)
        self.time += 0.08
        return self.take()

    def speaks(self, yes: bool, since: float | None = None) -> list[dict]:
        return self.frame(SpeakingEvent(yes, self.time if since is None else since))


@pytest.mark.parametrize(
    "wanted", [{"type": "server_vad", "interrupt_response": True}, {"type": "semantic_vad", "create_response": True}]
)
def test_whatever_is_asked_for_the_turns_are_the_model_s(wanted):
    line = Line()
    sound = {"turn_detection": wanted, "transcription": {"model": "x"}}
    updated = line.send("session.update", session={"type": "realtime", "audio": {"input": sound}})[0]
    assert updated["type"] == "session.updated"
    for event in (line.created, updated):
        heard = event["session"]["audio"]["input"]
        assert heard["turn_detection"]["create_response"] is heard["turn_detection"]["interrupt_response"] is False
        assert heard["transcription"] is None
    assert updated["session"]["audio"]["input"]["turn_detection"]["type"] == wanted["type"]


def test_where_words_are_written_down_the_session_says_so():
    line = Line(transcribes=True)
    sound = {"transcription": {"model": "x"}}
    updated = line.send("session.update", session={"type": "realtime", "audio": {"input": sound}})[0]
    assert updated["session"]["audio"]["input"]["transcription"] == {"model": "x"}


@pytest.mark.parametrize(("quiet_since", "status"), [(0.9, "cancelled"), (0.3, "completed")])
def test_only_who_was_still_speaking_gave_way(quiet_since, status):
    """The user is loud from half a second on; that the model is silent is known some time after it fell silent."""
    line = Line()
    line.hear(silence(0.3))
    line.speaks(True)
    for _ in range(5):
        line.frame()
    assert line.hear(speech(0.6)) == []
    for _ in range(6):
        line.frame()
    events = line.speaks(False, quiet_since)
    assert [event["type"] for event in events][0] == "input_audio_buffer.speech_started"
    done = next(event["response"] for event in events if event["type"] == "response.done")
    assert done["status"] == status


def test_words_are_heard_when_the_next_one_begins():
    answer = DuplexAnswer()
    for second, text in [(0.0, "I"), (0.24, " am"), (0.4, " af"), (0.48, "ra"), (0.56, "id"), (0.8, " so"), (0.8, ".")]:
        answer.seconds = second
        answer.say(text)
    answer.seconds = 1.2
    said = {second: answer.until(second) for second in (0.0, 0.2, 0.25, 0.5, 0.79, 0.8, 1.1, 1.2)}
    assert list(said.values()) == ["", "", "I", "I am", "I am", "I am afraid", "I am afraid", "I am afraid so."]


def test_a_truncated_answer_keeps_what_was_heard_of_it():
    line = Line()
    line.speaks(True)
    for word in ("good", " day", " to", " you"):
        for _ in range(3):
            line.frame(*([TextEvent(word)] if word else []))
            word = ""
    line.speaks(False)
    (item,) = line.session.conversation.items
    line.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=600)
    (shown,) = line.send("conversation.item.retrieve", item_id=item.id)
    assert shown["item"]["content"][0]["transcript"] == "good day"
