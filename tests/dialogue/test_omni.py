"""A Qwen2.5-Omni that one talks to: what it hears live, what it remembers, how it is loaded, served and cut short."""

from __future__ import annotations

import time

import pytest
import torch
from tokenizers import AddedToken

import antiphon
from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.omni import OmniBackend
from antiphon.dialogue.tool_calls import Message
from antiphon.errors import ModelError, ToolCallError, UnsayableError
from antiphon.models.omni.processor import OmniProcessor
from tests.models.omni.tiny import ours
from tests.models.speech_lm.tiny import tokenizer

SHORT = Sampling(max_tokens=6, think_temperature=1.0, seed=2)


@pytest.fixture(scope="module")
def backend():
    model, words = ours(), tokenizer()
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return OmniBackend(model, OmniProcessor(words, model.config.thinker))


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


def test_until_gives_whole_words_at_an_even_pace(backend):
    reply = backend.chat().answer([Message("user", "the cat")])
    reply.text, reply.seconds, reply._ended = "one two three four", 2.0, True
    assert reply.until(0.0) == "" and reply.until(0.9) == "one two" and reply.until(2.0) == "one two three four"
    reply.text, reply.seconds, reply._ended = "one two three four", 5.0, False
    assert reply.until(0.5) == "one two"


def test_pictures_are_seen(backend):
    contents = [{"type": "image", "image": torch.rand(3, 56, 84)}, {"type": "text", "text": "what is it"}]
    seen = backend.chat().answer([Message("user", "", contents=tuple(contents))], SHORT, spoken=False)
    blind = backend.chat().answer([Message("user", "what is it")], SHORT, spoken=False)
    text_of(seen), text_of(blind)
    assert seen.usage.input == blind.usage.input + 6 + 2


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


def test_a_live_session_answers_a_spoken_turn(folder):
    model = antiphon.load(folder)
    events = []
    with model.session("half-duplex", sampling=SHORT) as session:
        for frame in speech(1.2, session.sample_rate).split(session.frame_samples):
            events += session.step(frame)
        session.end_of_turn()
        until = time.monotonic() + 120
        while not any(isinstance(event, EndEvent) for event in events) and time.monotonic() < until:
            events += session.poll()
            time.sleep(0.01)
    assert isinstance(events[0], HeardEvent) and any(isinstance(event, TextEvent | AudioEvent) for event in events), (
        events
    )
    assert isinstance(events[-1], EndEvent) and not events[-1].interrupted
