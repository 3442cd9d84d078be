"""The Realtime machine without a socket: events in their order, turns, and what becomes of them."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent
from antiphon.models.scene.reading import SceneNotes
from antiphon.models.scene.scene import Scene, SoundEvent
from antiphon.serve.realtime.commands import Answer, Begin, Expect, Hear, Judge, Resume, Stop
from antiphon.serve.realtime.items import messages
from tests.dialogue.pretended import loud_turns
from tests.serve.client import message
from tests.serve.scripted import silence, speech
from tests.serve.session_bench import Bench, kinds


def test_a_session_begins_with_its_configuration_and_nothing_else():
    """Open WebUI takes the second event for the answer to its session.update."""
    bench = Bench()
    assert kinds(bench.events) == ["session.created"]
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


def test_a_turn_without_words_is_not_answered():
    bench = Bench()
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    assert kinds(bench.hear("")) == []


DOG = Scene((SoundEvent("event", "dog", 0.9, 0.2, 0.8),), 1.0, {"event": {"dog": 0.9}})


def test_what_is_heard_besides_the_words_is_told_to_those_who_include_it():
    bench = Bench()
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    assert kinds(bench.hear("Listen.", DOG)) == ["response.created"]  # off by default
    bench = Bench()
    (updated,) = bench.send("session.update", session={"type": "realtime", "include": ["item.input_audio_scene"]})
    assert updated["session"]["include"] == ["item.input_audio_scene"]
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    told, *others = bench.hear("Listen.", DOG)
    assert told["type"] == "conversation.item.input_audio_scene.completed" and told["noted"] == "[sound: a dog barks]"
    assert told["events"] == [{"group": "event", "label": "dog", "probability": 0.9, "start": 0.2, "end": 0.8}]
    assert told["item_id"] and told["duration"] == 1.0 and kinds(others) == ["response.created"]


def test_when_words_of_an_answer_are_heard_is_told_to_those_who_include_it():
    def answered(**session: object) -> list[dict]:
        bench = Bench()
        bench.send("session.update", session={"type": "realtime", **session})
        bench.send("conversation.item.create", item=message("And?"))
        bench.send("response.create")
        return bench.answer(frames=6, text="Rome is old.")

    assert "response.output_audio_words.delta" not in kinds(answered())  # off by default
    events = answered(include=["item.output_audio_words"])
    told = [event for event in events if event["type"] == "response.output_audio_words.delta"]
    assert [(event["letters"], event["end_ms"]) for event in told] == [(4, 160), (7, 320), (12, 480)]
    sounds = [event for event in events if event["type"] == "response.output_audio.delta"]
    assert {event["item_id"] for event in told} == {event["item_id"] for event in sounds}
    assert kinds(events)[kinds(events).index(told[0]["type"]) - 1] == "response.output_audio.delta"  # right behind it


def test_a_sound_without_words_is_not_answered_but_read_with_the_next_turn():
    bench, notes = Bench(), SceneNotes(torch.zeros(3, 4))
    bench.append(silence(0.3) + speech(0.5) + silence(1))
    assert kinds(bench.hear("", DOG, notes)) == []
    bench.append(speech(0.5) + silence(1))
    bench.hear("What was that?")
    (command,) = bench.wanted(Answer)
    assert [message.text for message in messages(command.turns)] == ["", "What was that?"]
    assert messages(command.turns)[0].notes is notes


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


SEMANTIC = {"type": "semantic_vad", "eagerness": "high"}


def test_semantic_vad_ends_what_sounds_finished_and_waits_for_the_rest_of_another():
    bench = Bench(turn_detection=SEMANTIC)
    bench.append(silence(0.3) + speech(0.5) + silence(0.25))
    (judge,) = bench.wanted(Judge)
    assert 0.9 < len(judge.samples) / 16000 < 1.3  # what was said, and the pause
    bench.session.judged(judge.item_id, judge.number, 0.1, 1.0)
    bench.append(silence(0.1))
    assert bench.drain() == [] and not bench.wanted(Begin)
    bench.append(speech(0.5) + silence(0.25))
    assert len(bench.wanted(Resume)) == 1
    bench.session.judged(judge.item_id, judge.number, 1.0, 1.0)  # of the pause before
    (judge,) = bench.wanted(Judge)
    bench.session.judged(judge.item_id, judge.number, 0.88, 1.0)
    assert kinds(bench.append(silence(0.1))) == []  # the words may say otherwise
    (begin,) = bench.wanted(Begin)
    assert begin.item_id == judge.item_id and begin.answer.turns == []
    bench.session.worded(begin.item_id, begin.number, 0.9, 1.0)
    assert kinds(bench.append(silence(0.1)))[:2] == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    bench.hear()
    (answer,) = bench.wanted(Answer)
    assert replace(answer, response_id="", turns=[]) == begin.answer


@pytest.mark.parametrize(("eagerness", "seconds"), [("low", 8), ("medium", 4), ("high", 2), ("auto", 4)])
def test_patience_has_an_end_by_eagerness(eagerness, seconds):
    bench = Bench(turn_detection={"type": "semantic_vad", "eagerness": eagerness})
    bench.append(silence(0.3) + speech(0.5) + silence(seconds - 0.2))
    assert kinds(bench.events)[-1] == "input_audio_buffer.speech_started"
    assert kinds(bench.append(silence(0.4)))[0] == "input_audio_buffer.speech_stopped"


@pytest.mark.parametrize(("eagerness", "ends"), [("low", False), ("medium", True), ("high", True)])
def test_how_sure_it_has_to_be_goes_by_eagerness(eagerness, ends):
    bench = Bench(turns=partial(loud_turns, take=0.7), turn_detection={"type": "semantic_vad", "eagerness": eagerness})
    told = kinds(bench.append(silence(0.3) + speech(0.5) + silence(0.7)))
    assert ("input_audio_buffer.speech_stopped" in told) == ends


def talking(**chances: float) -> Bench:
    """A bench whose model is speaking for two seconds, with a network that decides so about what it hears."""
    bench = Bench(turns=partial(loud_turns, **chances), turn_detection=SEMANTIC)
    bench.append(silence(0.3))
    bench.send("response.create")
    bench.answer(frames=25, end=False)
    return bench


def test_semantic_vad_lets_a_sign_of_listening_pass():
    bench = talking(**{"ignore": 0.9, "yield": 0.05})
    assert bench.append(speech(0.4) + silence(1.0)) == [] and bench.session.active() is not None
    bench.now = 10.0  # nothing sounds any more: whoever speaks has the floor
    bench.session.answer_ended(bench.session.active().id, None, 10.0)
    bench.drain()
    assert kinds(bench.append(speech(0.4)))[0] == "input_audio_buffer.speech_started"


def test_semantic_vad_interrupts_for_who_takes_the_floor_and_hears_them_from_their_beginning():
    bench = talking(**{"ignore": 0.05, "yield": 0.9, "take": 0.05})
    told = bench.append(silence(0.5) + speech(0.4))
    assert kinds(told)[:1] == ["input_audio_buffer.speech_started"] and "response.done" in kinds(told)
    assert 400 <= told[0]["audio_start_ms"] <= 800
    heard = sum(len(command.samples) for command in bench.wanted(Hear))
    assert heard / 24000 == pytest.approx(0.7, abs=0.15)  # and 0.3 s before it


def test_without_interrupt_response_who_takes_the_floor_is_told_of_and_the_answer_goes_on():
    bench = talking(**{"ignore": 0.05, "yield": 0.9, "take": 0.99})
    bench.send("session.update", session={"type": "realtime", "audio": {"input": {
        "turn_detection": SEMANTIC | {"interrupt_response": False}}}})  # fmt: skip
    told = kinds(bench.append(silence(0.2) + speech(0.4) + silence(0.5)))
    assert "input_audio_buffer.speech_started" in told and "input_audio_buffer.speech_stopped" in told
    assert bench.session.active() is not None


def test_without_a_turn_model_semantic_vad_is_refused_by_name():
    bench = Bench(turns=None)
    (error,) = bench.send(
        "session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": SEMANTIC}}}
    )
    assert error["error"]["param"] == "session.audio.input.turn_detection.type"
    assert "turn model" in error["error"]["message"]
    assert bench.session.config["audio"]["input"]["turn_detection"]["type"] == "server_vad"


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_semantic_vad_is_as_openai_s_types_have_it(eagerness):
    types = pytest.importorskip("openai.types.realtime")
    from openai.types.realtime.realtime_audio_input_turn_detection import SemanticVad

    wanted = SemanticVad(type="semantic_vad", eagerness=eagerness, create_response=False, interrupt_response=False)
    session = {"type": "realtime", "audio": {"input": {"turn_detection": wanted.to_dict()}}}
    (updated,) = Bench().send("session.update", session=session)
    shown = types.SessionUpdatedEvent.model_validate(updated, strict=True)
    assert shown.session.audio.input.turn_detection == wanted
    (updated,) = Bench().send("session.update", session={**session, "audio": {"input": {"turn_detection": {
        "type": "semantic_vad"}}}})  # fmt: skip
    defaults = types.SessionUpdatedEvent.model_validate(updated).session.audio.input.turn_detection
    assert defaults == SemanticVad(type="semantic_vad", eagerness="auto", create_response=True, interrupt_response=True)


def test_an_answer_is_expected_only_where_one_will_follow():
    bench = Bench(turn_detection={"type": "server_vad"})
    bench.append(silence(0.3) + speech(0.5))
    (expect,) = bench.wanted(Expect)
    assert expect.item_id == bench.session.input.turn.id and expect.answer.spoken
    bench = Bench(turn_detection={"type": "server_vad", "create_response": False})
    bench.append(silence(0.3) + speech(0.5))
    assert not bench.wanted(Expect)


def test_truncation_cuts_the_past_to_what_was_played():
    bench = Bench(turn_detection=None)
    bench.send("conversation.item.create", item=message("Where?"))
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
        return bench.send("conversation.item.create", item=message(name, id=name), **more)

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
    question = message("Aside")
    bench.send("response.create")
    created = bench.send("response.create", response={"conversation": "none", "input": [question]})
    assert created[0]["response"]["conversation_id"] is None
    own, aside = bench.wanted(Answer)
    assert aside.outside and [message.text for message in messages(aside.turns)] == ["Aside"]
    bench.commands = [aside]
    assert not any(kind.startswith("conversation.item") for kind in kinds(bench.answer()))
    assert bench.session.conversation.items == [] and bench.session.active().id == own.response_id


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
