"""A Qwen3-Omni that one talks to: as a Qwen2.5-Omni, whose tests it passes with its own voice."""

from __future__ import annotations

import json

import pytest
import torch

import antiphon
from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent, Sampling, TextEvent
from antiphon.dialogue.session import TurnSession
from antiphon.dialogue.tool_calls import Message
from tests.dialogue.test_omni import (  # noqa: F401
    ask,
    ended,
    quick,
    speech,
    test_a_broken_off_answer_leaves_the_conversation_whole,
    test_a_conversation_left_while_a_picture_is_read_goes_on_as_if_it_were_not,
    test_a_folder_is_loaded_talked_to_and_saved,
    test_a_session_that_only_listens_writes_down_and_one_that_speaks_reads_aloud,
    test_a_turn_is_heard_live_as_it_is_heard_whole,
    test_pictures_are_seen,
    test_silence_is_nothing,
    test_what_it_cannot_do_is_told,
    text_of,
)
from tests.models.omni.qwen3.tiny import talking

SHORT, LONG = Sampling(max_tokens=6), Sampling(max_tokens=90)


@pytest.fixture(scope="module")
def backend():
    return talking()


@pytest.fixture(scope="module")
def folder(backend, tmp_path_factory):
    path = tmp_path_factory.mktemp("omni")
    backend.save(path)
    return path


def sounds_of(chat, past) -> torch.Tensor:
    reply = chat.answer(past, SHORT)
    return torch.cat([event.audio.samples for event in reply.events() if isinstance(event, AudioEvent)])


def test_what_is_said_of_a_past_is_said_of_it_read_anew(backend):
    chat = backend.chat()
    asked = backend.heard(Audio(speech(2.3, 16000), 16000)).message()
    first = chat.answer([asked], SHORT)
    assert any(isinstance(event, AudioEvent) for event in first.events())
    again = chat.answer([asked, first.message, Message("user", "and the dog")], SHORT, spoken=False)
    text_of(again)
    assert again.usage.cached > again.usage.input // 2 and again.usage.heard == again.usage.heard_cached > 25
    # cut to what was heard of it, and then to a question that was never answered
    for past in ([asked, Message("assistant", "the"), Message("user", "go on")], [Message("user", "the cat")]):
        torch.testing.assert_close(sounds_of(chat, past), sounds_of(backend.chat(), past), atol=1e-4, rtol=1e-3)


def test_a_live_session_speaks_while_it_thinks(backend):
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        events = ended(session)
    texts, sounds = ([at for at, one in enumerate(events) if isinstance(one, kind)] for kind in (TextEvent, AudioEvent))
    assert isinstance(events[-1], EndEvent) and 0 < texts[0] < sounds[0] < texts[-1]
    assert sum(events[at].audio.duration for at in sounds) <= (90 + 13) / 12.5


@pytest.mark.parametrize("wait", [False, True])
def test_an_interrupted_answer_is_remembered_as_far_as_it_was_heard(backend, wait):
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        events = ended(session) if wait else []
        while sum(event.audio.duration for event in events if isinstance(event, AudioEvent)) < 0.8:
            events += session.poll()
        session.interrupt(heard=0.7)
        events += [] if wait else ended(session)
        whole = "".join(one.text for one in events if isinstance(one, TextEvent))
        ask(session, seed=1)
        second = ended(session)
        asked, heard, again, answer = session._past
    assert heard.text.split() and whole.startswith(heard.text) and len(heard.text) < len(whole)
    fresh = backend.chat().answer([asked, heard, again], LONG)
    assert text_of(fresh) == answer.text == second[-1].text


def test_a_voice_is_chosen_by_name(backend):
    assert list(backend.voices) == ["anna", "bert"]
    past = [Message("user", "the cat")]
    anna, bert = (sounds_of(Named(backend, name), past) for name in ("Anna", "bert"))
    assert anna.shape != bert.shape or not torch.equal(anna, bert)
    assert torch.equal(anna, sounds_of(backend.chat(), past))


class Named:
    """A chat whose answers have a voice."""

    def __init__(self, backend, name: str):
        self.chat, self.name = backend.chat(), name

    def answer(self, past, sampling):
        return self.chat.answer(past, Sampling(max_tokens=sampling.max_tokens, voice=self.name))


def test_a_folder_is_loaded_as_it_is_published(folder, tmp_path):
    """Without a tokenizer.json."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(merge) for merge in whole["model"]["merges"]) + "\n")
    added = {str(token["id"]): token for token in whole["added_tokens"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    model = antiphon.load(tmp_path)
    assert model.chat(SHORT, text_only=True).say_typed("the cat").text
