"""A Qwen2.5-Omni that one talks to: what it hears live, what it remembers, how it is loaded, served and cut short."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

import antiphon
from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.session import TurnSession
from antiphon.dialogue.tool_calls import Message
from antiphon.errors import ModelError, ToolCallError, UnsayableError
from tests.models.omni.tiny import talking

SHORT, LONG = Sampling(max_tokens=6), Sampling(max_tokens=90)


@pytest.fixture(scope="module")
def backend():
    return talking()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Its talker never ends by itself."""
    monkeypatch.setattr("antiphon.models.omni.speech.PATIENCE", (1, 50))


@pytest.fixture(scope="module")
def folder(backend, tmp_path_factory):
    path = tmp_path_factory.mktemp("omni")
    backend.save(path)
    return path


def speech(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(int(seconds * rate), generator=torch.Generator().manual_seed(seed))


def text_of(reply) -> str:
    for _ in reply.events():
        pass
    return reply.text


@pytest.mark.parametrize("seconds", [0.05, 1.3, 2.0, 5.37])
def test_a_turn_is_heard_live_as_it_is_heard_whole(backend, seconds):
    sound = speech(seconds, 16000)
    sound[: len(sound) // 2] *= 1e-6  # what is cut off of it isn't known before the loud half
    live = backend.listen()
    live.resampler = type(live.resampler)(16000, 16000, 1, dtype="float32")
    for piece in sound.split(700):
        live.step(piece)
    heard = live.finish()
    with torch.inference_mode():
        mel = backend.processor.sound(Audio(sound, 16000)).mel
        whole = backend.model.thinker.audio_tower(mel[None])[0][0]
    torch.testing.assert_close(heard.embeddings, whole, atol=1e-4, rtol=1e-4)
    assert heard.is_speech and heard.message().is_something and not heard.text


def test_silence_is_nothing(backend):
    for count in (0, 100, 9000):
        listener = backend.listen()
        listener.step(torch.zeros(count))
        assert not listener.finish().is_speech


def test_a_conversation_is_remembered_as_if_it_were_read_anew(backend):
    chat = backend.chat()
    asked = backend.heard(Audio(speech(1.0, 16000), 16000)).message()
    first = chat.answer([asked], SHORT)
    events = list(first.events())
    assert any(isinstance(event, AudioEvent) for event in events) and isinstance(events[-1], EndEvent)
    assert first.text == "".join(event.text for event in events if isinstance(event, TextEvent))
    again = chat.answer([asked, first.message, Message("user", "and the dog")], SHORT, spoken=False)
    text_of(again)
    assert again.usage.cached > again.usage.input // 2 and again.usage.heard == again.usage.heard_cached > 25
    added = [asked, Message("user", "and the dog")]
    assert text_of(chat.answer(added, SHORT, spoken=False)) == text_of(
        backend.chat().answer(added, SHORT, spoken=False)
    )
    # cut to what was heard of it: what wasn't is gone
    cut = [asked, Message("assistant", "the"), Message("user", "go on")]
    sounds = [[], []]
    for at, one in enumerate((chat, backend.chat())):
        reply = one.answer(cut, SHORT)
        sounds[at] = [event.audio.samples for event in reply.events() if isinstance(event, AudioEvent)]
    torch.testing.assert_close(torch.cat(sounds[0]), torch.cat(sounds[1]), atol=1e-4, rtol=1e-3)


def test_a_broken_off_answer_leaves_the_conversation_whole(backend):
    chat, past = backend.chat(), [Message("user", "the cat")]
    broken = chat.answer(past, SHORT)
    making = broken.events()
    while not isinstance(next(making), AudioEvent):
        pass
    making.close()
    past += [Message("assistant", broken.until(0.02) or "the"), Message("user", "the dog")]
    assert text_of(chat.answer(past, SHORT, spoken=False)) == text_of(backend.chat().answer(past, SHORT, spoken=False))


def test_pictures_are_seen(backend):
    contents = [{"type": "image", "image": torch.rand(3, 56, 84)}, {"type": "text", "text": "what is it"}]
    seen = backend.chat().answer([Message("user", "", contents=tuple(contents))], SHORT, spoken=False)
    blind = backend.chat().answer([Message("user", "what is it")], SHORT, spoken=False)
    text_of(seen), text_of(blind)
    assert seen.usage.input == blind.usage.input + 6 + 2
    assert seen.usage.seen == 6 + 2 and seen.usage.seen_cached == seen.usage.heard == blind.usage.seen == 0


def test_a_conversation_left_while_a_picture_is_read_goes_on_as_if_it_were_not(backend):
    picture, words = {"type": "image", "image": torch.rand(3, 56, 84)}, {"type": "text", "text": "what is it"}
    asked, chat = Message("user", "", contents=(picture, words)), backend.chat()
    reading = chat.answer([Message("user", "the cat"), asked], SHORT, spoken=False).events()
    for _ in range(5):  # into the picture's message
        assert next(reading) is None
    reading.close()
    assert len(chat._read) == 1
    other = Message("user", "and the dog")
    assert text_of(chat.answer([other], SHORT, spoken=False)) == text_of(
        backend.chat().answer([other], SHORT, spoken=False)
    )


def test_nothing_of_it_is_imported_for_other_models():
    asked = "import sys, antiphon; antiphon.load; print([name for name in sys.modules if 'omni' in name])"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_it_cannot_do_is_told(backend):
    from antiphon.dialogue.tool_calls import Functions

    with pytest.raises(ToolCallError):
        backend.chat().answer([Message("user", "hi")], functions=Functions(()))
    with pytest.raises(UnsayableError):
        list(backend.say("  "))
    with pytest.raises(ModelError, match="times"):
        backend.hear(Audio(speech(1, 16000), 16000), antiphon.models.asr.heard.HearingOptions(words=True))


def test_a_folder_is_loaded_talked_to_and_saved(folder, tmp_path):
    model = antiphon.load(folder)
    reply = model.chat(SHORT).say_spoken(Audio(speech(1.0, 16000), 16000))
    assert reply.heard == "" and reply.audio.duration > 0
    picture = {"type": "image", "image": torch.rand(3, 56, 84)}
    typed = model.chat(SHORT, text_only=True)
    assert typed.say_contents([picture, {"type": "text", "text": "what is it"}]).heard == "what is it"
    assert model.say("the cat sat", seed=1).duration > 0
    again = antiphon.load(model.save(tmp_path / "again"))
    assert (
        again.chat(SHORT, text_only=True).say_typed("the cat").text
        == model.chat(SHORT, text_only=True).say_typed("the cat").text
    )
    heard = model.hear(Audio(speech(0.5, 16000), 16000))
    assert heard.duration == 0.5


def ended(session) -> list:
    """Events up to the end of an answer."""
    events, until = [], time.monotonic() + 120
    while not any(isinstance(event, EndEvent) for event in events):
        assert time.monotonic() < until, f"no end among {len(events)} events"
        events += session.poll()
        time.sleep(0.005)
    return events


def ask(session, seed: int = 0) -> None:
    for frame in speech(1.2, session.sample_rate, seed).split(session.frame_samples):
        session.step(frame)
    session.end_of_turn()


def test_a_live_session_answers_a_spoken_turn_and_speaks_while_it_thinks(backend):
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        events = ended(session)
    assert isinstance(events[0], HeardEvent) and isinstance(events[-1], EndEvent) and not events[-1].interrupted
    texts, sounds = ([at for at, one in enumerate(events) if isinstance(one, kind)] for kind in (TextEvent, AudioEvent))
    assert 0 < texts[0] < sounds[0] < texts[-1]  # the first sound needs the first words alone
    assert "".join(events[at].text for at in texts) == events[-1].text
    assert sum(events[at].audio.duration for at in sounds) <= (90 + 50) / 50 + 0.01  # a talker that misses its end


def test_a_session_that_only_listens_writes_down_and_one_that_speaks_reads_aloud(backend):
    with TurnSession(backend, "simplex", "listen") as session:
        ask(session)
        until, events = time.monotonic() + 60, []
        while not events and time.monotonic() < until:
            events += session.poll()
            time.sleep(0.005)
        assert isinstance(events[0], HeardEvent) and events[0].heard.split()
    with TurnSession(backend, "simplex", "speak") as session:
        session.say("the cat")
        events = ended(session)
        assert events[0].text == events[-1].text == "the cat" and any(isinstance(one, AudioEvent) for one in events)


def test_a_turn_that_sounds_finished_is_not_waited_for(backend):
    chat = backend.chat()
    for _ in chat.read_ahead([], ""):
        pass
    assert chat.sounds_over() == 1.0


@pytest.mark.parametrize("wait", [False, True])
def test_an_interrupted_answer_is_remembered_as_far_as_it_was_heard(backend, wait):
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        events = ended(session) if wait else []
        while not any(isinstance(event, AudioEvent) for event in events):
            events += session.poll()
        session.interrupt(heard=0.5)
        whole = "".join(
            one.text for one in [*events, *(ended(session) if not wait else [])] if isinstance(one, TextEvent)
        )
        ask(session, seed=1)
        second = ended(session)
        asked, heard, again, answer = session._past
    assert [message.role for message in session._past] == ["user", "assistant", "user", "assistant"]
    assert heard.text.split() and whole.startswith(heard.text) and len(heard.text) < len(whole)
    fresh = backend.chat().answer([asked, heard, again], LONG)
    assert text_of(fresh) == answer.text == second[-1].text
