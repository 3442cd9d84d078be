"""Realtime with a duplex model, without a socket: the model's own turns."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent
from antiphon.serve.realtime.commands import Limits, Mute, Received, ServedModel
from antiphon.serve.realtime.duplex_session import DuplexRealtimeSession
from tests.serve.scripted import silence, speech


class Live:
    def __init__(self):
        self.session = DuplexRealtimeSession(
            ServedModel("duplex", ["heart"], transcribes=False), Limits(vad="loudness"), 0.0
        )
        self.session.begin()
        self.commands = []
        self.drain()

    def drain(self):
        out = self.session.take()
        self.commands += [each for each in out if not isinstance(each, dict)]
        return [each for each in out if isinstance(each, dict)]

    def append(self, sound):
        event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()}
        self.session.receive(event, 0.0)
        return [event["type"] for event in self.drain()]

    def frame(self, *events, level=0.5):
        self.session.frame([*events, AudioEvent(Audio(torch.full((1920,), level), 24000))], 0.0)
        return self.drain()


def kinds(events):
    return [event["type"] for event in events]


def test_the_model_s_speaking_is_a_response_with_its_onset():
    live = Live()
    assert live.frame(level=0.0) == [] and live.frame(TextEvent(" Hello"), level=0.1) == []
    begun = live.frame(SpeakingEvent(True, 1.0))
    assert kinds(begun)[:2] == ["response.created", "response.output_item.added"]
    deltas = [event for event in begun if event["type"] == "response.output_audio.delta"]
    assert len(deltas) == 3  # two frames from before it was loud, and this one
    assert kinds(live.frame(TextEvent(" there"))) == [
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
    ]
    done = live.frame(SpeakingEvent(False, 2.0))
    response = next(event for event in done if event["type"] == "response.done")["response"]
    assert response["status"] == "completed" and response["output"][0]["content"][0]["transcript"] == "Hello there"
    assert live.frame() == []


def test_everything_is_heard_by_the_model():
    live = Live()
    live.append(silence(0.5) + speech(0.5))
    heard = np.concatenate([command.samples for command in live.commands if isinstance(command, Received)])
    assert len(heard) == 24000


def test_the_user_s_turns_are_told_while_the_model_is_silent():
    live = Live()
    assert live.append(silence(0.3) + speech(0.5)) == ["input_audio_buffer.speech_started"]
    assert live.append(silence(0.8))[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    assert live.session.active() is None  # the model answers when it wants


def test_a_word_of_assent_is_not_told_and_stops_nothing():
    live = Live()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.3) + silence(0.8)) == []
    assert live.session.active() is not None and live.session.conversation.items[-1].role == "assistant"


def test_a_model_that_gives_way_was_interrupted():
    live = Live()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.6)) == []
    events = live.frame(SpeakingEvent(False, 2.0))
    assert kinds(events)[0] == "input_audio_buffer.speech_started"
    done = next(event for event in events if event["type"] == "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert live.append(silence(0.8))[0] == "input_audio_buffer.speech_stopped"
    item = live.session.conversation.items[0]
    live.session.receive(
        {"type": "conversation.item.truncate", "item_id": item.id, "content_index": 0, "audio_end_ms": 40}, 0.0
    )
    assert kinds(live.drain()) == ["conversation.item.truncated"]


def test_a_cancelled_model_is_muted_until_it_is_silent():
    live = Live()
    live.frame(SpeakingEvent(True, 1.0))
    live.session.receive({"type": "response.cancel"}, 0.0)
    assert "response.done" in kinds(live.drain()) and live.commands[-1:] != []
    assert Mute(True) in live.commands
    assert live.frame() == []
    live.frame(SpeakingEvent(False, 2.0))
    assert live.commands[-1] == Mute(False)


@pytest.mark.parametrize("kind", ["response.create", "conversation.item.create"])
def test_what_a_duplex_model_cannot_do_is_refused(kind):
    live = Live()
    live.session.receive({"type": kind, "item": {}}, 0.0)
    (error,) = live.drain()
    assert error["error"]["code"] == "not_supported"
