"""The Realtime machine without a socket: events in their order, turns, truncation, and what it refuses."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.turn import AudioEvent, TextEvent
from antiphon.dialogue.turns import Hearing
from antiphon.serve.realtime_commands import Answer, Drop, Finish, Hear, Limits, Peek, Stop
from antiphon.serve.realtime_items import messages
from antiphon.serve.realtime_session import RealtimeSession
from tests.serve.scripted import Scripted, silence, speech


class Bench:
    """A machine, and a conversant that does its commands when told to."""

    def __init__(self, **audio_input: object):
        self.session = RealtimeSession("mini", ["heart"], Limits(turn_seconds=10), now=0.0)
        self.session.begin()
        self.events: list[dict] = []
        self.commands: list[object] = []
        self.now = 0.0
        self.model = Scripted()
        self.talk = self.model.talk()
        self.drain()
        if audio_input:
            self.send("session.update", session={"type": "realtime", "audio": {"input": audio_input}})

    def drain(self) -> list[dict]:
        fresh = []
        for out in self.session.take():
            (fresh if isinstance(out, dict) else self.commands).append(out)
        self.events += fresh
        return fresh

    def send(self, kind: str, **fields: object) -> list[dict]:
        self.session.receive({"type": kind, **fields}, self.now)
        return self.drain()

    def append(self, sound: bytes) -> list[dict]:
        return self.send("input_audio_buffer.append", audio=base64.b64encode(sound).decode())

    def wanted(self, kind: type) -> list:
        found = [command for command in self.commands if isinstance(command, kind)]
        self.commands = [command for command in self.commands if not isinstance(command, kind)]
        return found

    def hear(self, text: str = "Hello there.") -> list[dict]:
        for finish in self.wanted(Finish):
            self.session.heard(finish.item_id, Hearing(text), None, self.now)
        return self.drain()

    def answer(self, frames: int = 2, end: bool = True, text: str = "Rome.") -> list[dict]:
        for command in self.wanted(Answer):
            answer = self.talk.answer(messages(command.turns), None, command.instructions, command.spoken)
            answer.text = text
            self.session.answer_begun(command.response_id, answer)
            self.session.answered(command.response_id, TextEvent(text), self.now)
            for _ in range(frames if command.spoken else 0):
                sound = AudioEvent(Audio(torch.full((1920,), 0.5), 24000))
                self.session.answered(command.response_id, sound, self.now)
            if end:
                for _ in answer.events():
                    pass
                self.session.answer_ended(command.response_id, None, self.now)
        return self.drain()


def kinds(events: list[dict]) -> list[str]:
    return [event["type"] for event in events]


def test_a_session_begins_with_its_configuration():
    bench = Bench()
    assert kinds(bench.events) == ["session.created", "conversation.created"]
    session = bench.events[0]["session"]
    assert (
        session["object"] == "realtime.session" and session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    )


def test_a_spoken_turn_is_answered_with_every_event_in_order():
    bench = Bench(transcription={"model": "whisper-1"})
    bench.append(silence(0.5))
    assert kinds(bench.append(speech(0.5))) == ["input_audio_buffer.speech_started"]
    assert kinds(bench.append(silence(0.8))) == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert kinds(bench.hear()) == [
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
    ]
    events = bench.answer()
    assert kinds(events) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    response = events[-2]["response"]
    assert response["status"] == "completed" and response["status_details"] == {"type": "completed"}
    usage = response["usage"]
    assert usage["output_token_details"]["audio_tokens"] == 2
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens"] == sum(usage["input_token_details"][kind] for kind in ("text_tokens", "audio_tokens"))
    assert len({event["event_id"] for event in bench.events}) == len(bench.events)
    user, assistant = bench.session.conversation.items
    assert events[1]["previous_item_id"] == user.id and assistant.message is None
    assert user.wire()["content"] == [{"type": "input_audio", "transcript": "Hello there."}]


def test_every_server_event_is_one_that_the_stock_sdk_knows():
    pydantic = pytest.importorskip("pydantic")
    types = pytest.importorskip("openai.types.realtime")
    adapter = pydantic.TypeAdapter(types.RealtimeServerEvent)
    bench = Bench(transcription={"model": "whisper-1"})
    bench.append(silence(0.3) + speech(0.5) + silence(0.8))
    bench.hear()
    bench.answer()
    assistant = bench.session.conversation.items[-1]
    bench.send("conversation.item.truncate", item_id=assistant.id, content_index=0, audio_end_ms=80)
    bench.send("conversation.item.retrieve", item_id=assistant.id)
    bench.send("conversation.item.delete", item_id=assistant.id)
    bench.send("input_audio_buffer.clear")
    bench.send("nonsense")
    bench.send("response.create", response={"output_modalities": ["text"], "metadata": {"a": "b"}})
    bench.answer()
    for event in bench.events:
        known = adapter.validate_python(event)
        assert known.type == event["type"]
    assert len(set(kinds(bench.events))) >= 27


def test_what_is_heard_is_the_turn_with_its_padding():
    bench = Bench()
    bench.append(silence(2.0) + speech(1.0) + silence(1.0))
    heard = np.concatenate([command.samples for command in bench.wanted(Hear)])
    loud = np.flatnonzero(np.abs(heard) > 0.1)
    assert loud[-1] - loud[0] + 1 == 24000
    assert 0.28 * 24000 <= loud[0] <= 0.32 * 24000  # prefix_padding_ms
    assert 0.48 * 24000 <= len(heard) - loud[-1] <= 0.53 * 24000  # silence_duration_ms


@pytest.mark.parametrize("cuts", [[240000], [480] * 500, [7777] * 30 + [6690]])
def test_a_turn_is_the_same_however_the_sound_is_cut(cuts):
    sound = silence(2.0) + speech(1.5) + silence(1.5)
    bench = Bench()
    at = 0
    for cut in cuts:
        bench.append(sound[at : at + cut])
        at += cut
    heard = np.concatenate([command.samples for command in bench.wanted(Hear)])
    whole = Bench()
    whole.append(sound)
    assert np.array_equal(heard, np.concatenate([command.samples for command in whole.wanted(Hear)]))
    assert [e for e in kinds(bench.events) if "speech" in e] == [e for e in kinds(whole.events) if "speech" in e]


def test_push_to_talk():
    bench = Bench(turn_detection=None)
    assert bench.append(silence(0.2) + speech(0.6) + silence(2)) == []
    committed = bench.send("input_audio_buffer.commit")
    assert kinds(committed) == ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
    assert kinds(bench.send("response.create")) == ["response.created"]
    assert bench.wanted(Answer) == []  # not before it is heard
    bench.hear("What time is it?")
    (command,) = bench.wanted(Answer)
    assert [message.text for message in messages(command.turns)] == ["What time is it?"]


def test_an_empty_buffer_is_not_committed():
    bench = Bench(turn_detection=None)
    bench.append(speech(0.05))
    (error,) = bench.send("input_audio_buffer.commit", event_id="mine")
    assert error["error"]["code"] == "input_audio_buffer_commit_empty" and error["error"]["event_id"] == "mine"
    bench.append(speech(0.5))
    bench.send("input_audio_buffer.clear")
    assert len(bench.wanted(Drop)) == 1
    (error,) = bench.send("input_audio_buffer.commit")
    assert error["type"] == "error"


def test_a_turn_without_words_is_not_answered():
    bench = Bench()
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    assert kinds(bench.hear("")) == []


def test_speech_interrupts_and_nothing_comes_late():
    bench = Bench()
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    bench.hear()
    (command,) = [c for c in bench.commands if isinstance(c, Answer)]
    bench.answer(end=False)
    events = bench.append(speech(0.5))
    assert kinds(events)[0] == "input_audio_buffer.speech_started"
    done = next(event for event in events if event["type"] == "response.done")["response"]
    assert done["status"] == "cancelled" and done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"][0]["status"] == "incomplete"
    assert bench.wanted(Stop) == [Stop(command.response_id)]
    late = AudioEvent(Audio(torch.ones(1920), 24000))
    bench.session.answered(command.response_id, late, 1.0)
    bench.session.answer_ended(command.response_id, None, 1.0)
    assert bench.drain() == []


def test_without_interrupt_response_the_next_answer_waits():
    bench = Bench(turn_detection={"type": "server_vad", "interrupt_response": False})
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    bench.hear()
    bench.answer(end=False)
    first = bench.session.active()
    assert "response.done" not in kinds(bench.append(speech(0.5) + silence(1)))
    assert "response.created" not in kinds(bench.hear("And then?"))
    bench.session.answer_ended(first.id, None, 2.0)
    assert kinds(bench.drain())[-2:] == ["rate_limits.updated", "response.created"]


def test_without_create_response_nothing_is_answered():
    bench = Bench(turn_detection={"type": "server_vad", "create_response": False})
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    assert "response.created" not in kinds(bench.hear())
    assert "response.created" in kinds(bench.send("response.create"))


def test_semantic_vad_ends_a_complete_sentence_and_waits_for_the_rest_of_another():
    bench = Bench(turn_detection={"type": "semantic_vad", "eagerness": "high"})
    bench.append(silence(0.3) + speech(0.5) + silence(0.4))
    (peek,) = bench.wanted(Peek)
    bench.session.peeked(peek.item_id, peek.number, Hearing("I would like to"), 1.0)
    assert bench.drain() == []
    bench.append(speech(0.5) + silence(0.4))
    bench.session.peeked(peek.item_id, peek.number, Hearing("Too late."), 1.0)  # of the pause before
    assert bench.drain() == []
    (peek,) = bench.wanted(Peek)
    bench.session.peeked(peek.item_id, peek.number, Hearing("I would like to know the time."), 1.0)
    assert kinds(bench.drain())[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
    bench.append(speech(0.5) + silence(1.9))
    assert "input_audio_buffer.speech_stopped" not in kinds(bench.events)[-1:]
    assert kinds(bench.append(silence(0.3)))[0] == "input_audio_buffer.speech_stopped"  # patience has an end


def test_truncation_cuts_the_past_to_what_was_played():
    bench = Bench(turn_detection=None)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where?"}]}
    bench.send("conversation.item.create", item=item)
    bench.send("response.create")
    bench.answer(frames=6, text="Rome is big")
    said = bench.session.conversation.items[-1]
    (event,) = bench.send("conversation.item.truncate", item_id=said.id, content_index=0, audio_end_ms=320)
    assert event["type"] == "conversation.item.truncated" and event["audio_end_ms"] == 320
    bench.send("response.create")
    (command,) = bench.wanted(Answer)
    assert [message.text for message in messages(command.turns)] == ["Where?", "Rome is"]
    (retrieved,) = bench.send("conversation.item.retrieve", item_id=said.id)
    part = retrieved["item"]["content"][0]
    assert part["transcript"] == "Rome is" and len(base64.b64decode(part["audio"])) == 320 * 48
    (error,) = bench.send("conversation.item.truncate", item_id=said.id, content_index=0, audio_end_ms=9000)
    assert "already shorter" in error["error"]["message"]


def test_items_are_put_where_they_are_wanted():
    bench = Bench()

    def create(name: str, **more: object) -> list[dict]:
        item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
        return bench.send("conversation.item.create", item=item, **more)

    create("b")
    assert create("a", previous_item_id="root")[0]["previous_item_id"] is None
    assert create("c", previous_item_id="a")[0]["previous_item_id"] == "a"
    assert [item.id for item in bench.session.conversation.items] == ["a", "c", "b"]
    assert create("b")[0]["error"]["code"] == "item_create_duplicate_item_id"
    assert create("x", previous_item_id="none")[0]["error"]["param"] == "previous_item_id"
    assert kinds(bench.send("conversation.item.delete", item_id="c")) == ["conversation.item.deleted"]
    (error,) = bench.send("conversation.item.retrieve", item_id="c")
    assert error["error"]["code"] == "item_retrieve_invalid_item_id"


def test_text_answers_have_text_events():
    bench = Bench()
    bench.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    bench.send("response.create", response={"metadata": {"topic": "x"}})
    events = bench.answer()
    assert kinds(events)[3:5] == ["response.output_text.delta", "response.output_text.done"]
    assert events[-2]["response"]["output"][0]["content"] == [{"type": "output_text", "text": "Rome."}]
    assert events[-2]["response"]["metadata"] == {"topic": "x"}


def test_an_answer_outside_of_the_conversation_leaves_no_trace():
    bench = Bench()
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Aside"}]}
    bench.send("response.create")
    created = bench.send("response.create", response={"conversation": "none", "input": [question]})
    assert created[0]["response"]["conversation_id"] is None
    own, aside = bench.wanted(Answer)
    assert aside.outside and [message.text for message in messages(aside.turns)] == ["Aside"]
    bench.commands = [aside]
    assert not any(kind.startswith("conversation.item") for kind in kinds(bench.answer()))
    assert bench.session.conversation.items == [] and bench.session.active().id == own.response_id


def test_a_second_response_and_a_needless_cancel_are_refused_as_clients_expect():
    bench = Bench()
    (error,) = bench.send("response.cancel")
    assert error["error"]["code"] == "response_cancel_not_active"
    bench.send("response.create")
    (error,) = bench.send("response.create")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    events = bench.send("response.cancel")
    assert events[0]["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


def test_a_failure_of_the_model_is_told_and_the_session_goes_on():
    bench = Bench()
    bench.send("response.create")
    (command,) = bench.wanted(Answer)
    bench.session.answer_ended(command.response_id, "no luck", 1.0)
    done = next(event for event in bench.drain() if event["type"] == "response.done")
    assert (
        done["response"]["status"] == "failed" and done["response"]["status_details"]["error"]["message"] == "no luck"
    )
    assert kinds(bench.send("response.create")) == ["response.created"]


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound(kind):
    bench = Bench(format={"type": kind}, turn_detection=None)
    bench.send("session.update", session={"type": "realtime", "audio": {"output": {"format": {"type": kind}}}})
    loud = 0x80 if kind == "audio/pcmu" else 0xAA  # the largest positive sample
    bench.append(bytes([loud, loud ^ 0x80] * 2000))
    samples = sum(len(command.samples) for command in bench.wanted(Hear))
    assert 0.45 * 24000 < samples <= 0.5 * 24000
    bench.send("response.create")
    sound = [base64.b64decode(e["delta"]) for e in bench.answer(25) if e["type"] == "response.output_audio.delta"]
    assert sum(map(len, sound)) == 25 * 640


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"tools": [{"type": "function", "name": "f"}]}, "tools_not_supported", "session.tools"),
        ({"tool_choice": "required"}, "tools_not_supported", "session.tool_choice"),
        ({"output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
        ({"audio": {"output": {"voice": "nobody"}}}, "invalid_value", "session.audio.output.voice"),
        ({"audio": {"output": {"speed": 1.4}}}, "invalid_value", "session.audio.output.speed"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_value", "session.audio.input.format"),
        ({"modalities": ["text"]}, "unknown_parameter", "session.modalities"),
        ("x", "invalid_type", "session"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_whole(session, code, param):
    bench = Bench()
    before = bench.session.config
    (error,) = bench.send("session.update", event_id="e1", session=session)
    assert (error["error"]["code"], error["error"]["param"], error["error"]["event_id"]) == (code, param, "e1")
    assert bench.session.config == before


def test_what_a_client_does_not_name_stays():
    bench = Bench(turn_detection={"type": "server_vad", "silence_duration_ms": 900})
    bench.send("session.update", session={"type": "realtime", "instructions": "Be kind"})
    session = bench.events[-1]["session"]
    assert session["instructions"] == "Be kind"
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 900
    assert session["audio"]["input"]["turn_detection"]["prefix_padding_ms"] == 300


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"type": 3},
        {"type": "output_audio_buffer.clear"},
        {"type": "input_audio_buffer.append"},
        {"type": "input_audio_buffer.append", "audio": "*"},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(silence(11)).decode()},
        {"type": "conversation.item.create"},
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": ""}},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"type": "x"}]}},
        {"type": "conversation.item.truncate", "item_id": "nothing", "content_index": 0, "audio_end_ms": 0},
        {"type": "response.create", "response": {"conversation": "other"}},
        {"type": "response.create", "response": []},
        {"type": "session.update"},
    ],
)
def test_what_is_wrong_with_an_event_is_told(event):
    bench = Bench()
    bench.session.receive(event, 0.0)
    *_, error = bench.drain() or [None]
    if event == {"type": "response.create", "response": []}:  # empty is as good as absent
        assert error["type"] == "response.created"
        return
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error" and error["error"]["message"]


def test_silence_is_broken_if_that_is_wanted():
    bench = Bench(turn_detection={"type": "server_vad", "idle_timeout_ms": 5000})
    bench.send("response.create")
    bench.answer(frames=25)  # two seconds of speech
    bench.session.tick(6.0)
    assert bench.drain() == []
    bench.session.tick(7.5)
    assert kinds(bench.drain()) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
