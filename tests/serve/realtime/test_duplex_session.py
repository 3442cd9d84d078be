"""Realtime with a duplex model, without a socket: it takes its own turns, says so, and knows what was heard of it."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.dialogue.events import SpeakingEvent, TextEvent
from antiphon.serve.realtime.commands import Mute, Received
from antiphon.serve.realtime.duplex_session import DuplexAnswer
from tests.serve.scripted import silence, speech
from tests.serve.session_bench import DuplexBench, kinds


def test_the_model_s_speaking_is_a_response_with_its_onset():
    live = DuplexBench()
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
    live = DuplexBench()
    live.append(silence(0.5) + speech(0.5))
    heard = np.concatenate([command.samples for command in live.wanted(Received)])
    assert len(heard) == 24000


def test_the_user_s_turns_are_told_while_the_model_is_silent():
    live = DuplexBench()
    assert kinds(live.append(silence(0.3) + speech(0.5))) == ["input_audio_buffer.speech_started"]
    assert kinds(live.append(silence(0.8)))[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    assert live.session.active() is None  # the model answers when it wants


def test_a_word_of_assent_is_not_told_and_stops_nothing():
    live = DuplexBench()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.3) + silence(0.8)) == []
    assert live.session.active() is not None and live.session.conversation.items[-1].role == "assistant"


def test_a_model_that_gives_way_was_interrupted():
    live = DuplexBench()
    live.append(silence(0.3))
    live.frame(SpeakingEvent(True, 1.0))
    assert live.append(speech(0.6)) == []
    events = live.frame(SpeakingEvent(False, 2.0))
    assert kinds(events)[0] == "input_audio_buffer.speech_started"
    done = next(event for event in events if event["type"] == "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert kinds(live.append(silence(0.8)))[0] == "input_audio_buffer.speech_stopped"
    item = live.session.conversation.items[0]
    cut = live.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=40)
    assert kinds(cut) == ["conversation.item.truncated"]


def test_a_cancelled_model_is_muted_until_it_is_silent():
    live = DuplexBench()
    live.frame(SpeakingEvent(True, 1.0))
    assert "response.done" in kinds(live.send("response.cancel"))
    assert Mute(True) in live.commands
    assert live.frame() == []
    live.frame(SpeakingEvent(False, 2.0))
    assert live.commands[-1] == Mute(False)


@pytest.mark.parametrize("kind", ["response.create", "conversation.item.create"])
def test_what_a_duplex_model_cannot_do_is_refused(kind):
    live = DuplexBench()
    (error,) = live.send(kind, item={})
    assert error["error"]["code"] == "not_supported"


@pytest.mark.parametrize(
    "wanted", [{"type": "server_vad", "interrupt_response": True}, {"type": "semantic_vad", "create_response": True}]
)
def test_whatever_is_asked_for_the_turns_are_the_model_s(wanted):
    live = DuplexBench()
    sound = {"turn_detection": wanted, "transcription": {"model": "x"}}
    updated = live.send("session.update", session={"type": "realtime", "audio": {"input": sound}})[0]
    assert updated["type"] == "session.updated"
    for event in (live.events[0], updated):
        heard = event["session"]["audio"]["input"]
        assert heard["turn_detection"]["create_response"] is heard["turn_detection"]["interrupt_response"] is False
        assert heard["transcription"] is None
    assert updated["session"]["audio"]["input"]["turn_detection"]["type"] == wanted["type"]


def test_where_words_are_written_down_the_session_says_so():
    live = DuplexBench(transcribes=True)
    sound = {"transcription": {"model": "x"}}
    updated = live.send("session.update", session={"type": "realtime", "audio": {"input": sound}})[0]
    assert updated["session"]["audio"]["input"]["transcription"] == {"model": "x"}


@pytest.mark.parametrize(("quiet_since", "status"), [(0.9, "cancelled"), (0.3, "completed")])
def test_only_who_was_still_speaking_gave_way(quiet_since, status):
    """The user is loud from half a second on; that the model is silent is known some time after it fell silent."""
    live = DuplexBench()
    live.append(silence(0.3))
    live.speaks(True)
    for _ in range(5):
        live.frame()
    assert live.append(speech(0.6)) == []
    for _ in range(6):
        live.frame()
    events = live.speaks(False, quiet_since)
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
    live = DuplexBench()
    live.speaks(True)
    for word in ("good", " day", " to", " you"):
        for _ in range(3):
            live.frame(*([TextEvent(word)] if word else []))
            word = ""
    live.speaks(False)
    (item,) = live.session.conversation.items
    live.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=600)
    (shown,) = live.send("conversation.item.retrieve", item_id=item.id)
    assert shown["item"]["content"][0]["transcript"] == "good day"
