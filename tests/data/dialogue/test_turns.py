"""Conversations to learn turn taking from: what is to be decided when, and what is in them."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from antiphon.data.dialogue.format import MODEL, USER, Dialogue, Event
from antiphon.data.dialogue.phrases import RATE, Request, SpokenUtterance, Voice
from antiphon.data.dialogue.replies import read_phrases
from antiphon.data.dialogue.sample import Material
from antiphon.data.dialogue.turns import (
    BACKCHANNEL,
    IGNORE,
    LISTEN,
    TAKE,
    TURNS_MIX,
    YIELD,
    TurnMaterial,
    TurnSources,
    decisions,
    kept_out,
    make_turn_dialogue,
    speaking,
    with_sounds,
)
from antiphon.data.recordings import recordings


def talk(*events: Event, seconds: float = 4.0) -> Dialogue:
    count = round(seconds * RATE)
    return Dialogue(np.zeros(count, np.float32), np.zeros(count, np.float32), RATE, [], list(events))


def at(found: np.ndarray, seconds: float) -> int:
    """What is decided in the frame that ends then."""
    return int(found[round(seconds / 0.08) - 1])


def test_a_turn_that_is_over_is_to_be_taken_until_the_model_speaks():
    found = decisions(
        talk(
            Event("turn", 0.4, 1.6, USER), Event("pause", 0.8, 1.2, USER), Event("turn", 2.4, 3.2, MODEL),
        )
    )  # fmt: skip
    assert [at(found, t) for t in (0.32, 0.8, 1.04, 1.6)] == [LISTEN] * 4
    assert [at(found, t) for t in (1.68, 2.0, 2.4)] == [TAKE] * 3
    assert [at(found, t) for t in (2.48, 3.2, 4.0)] == [LISTEN] * 3


def test_in_the_model_s_turn_a_turn_is_given_way_to_and_a_sign_of_listening_is_not():
    found = decisions(
        talk(
            Event("turn", 0.0, 2.4, MODEL), Event("backchannel", 0.8, 1.04, USER), Event("turn", 2.0, 3.2, USER),
        )
    )  # fmt: skip
    assert [at(found, t) for t in (0.8, 0.88, 1.28, 1.36)] == [LISTEN, IGNORE, IGNORE, LISTEN]
    assert [at(found, t) for t in (2.08, 2.4, 2.48, 3.2, 3.28)] == [YIELD, YIELD, LISTEN, LISTEN, TAKE]


def test_sounds_are_passed_over_but_not_in_the_user_s_turn_or_after_it():
    found = decisions(
        talk(
            Event("noise", 0.4, 0.8, USER), Event("turn", 1.6, 2.4, USER), Event("noise", 2.0, 2.8, USER),
        )
    )  # fmt: skip
    assert [at(found, t) for t in (0.48, 0.8, 0.88, 2.24, 2.8)] == [IGNORE, IGNORE, LISTEN, LISTEN, TAKE]
    assert at(decisions(talk(Event("backchannel", 0.8, 1.2, MODEL))), 1.04) == BACKCHANNEL


def test_when_the_model_sounds():
    one = talk(seconds=0.4)
    one.model[1920 : 3 * 1920] = 0.1
    assert speaking(one).tolist() == [False, True, True, False, False]


@pytest.fixture
def material(tmp_path) -> TurnMaterial:
    generator = np.random.default_rng(0)
    for place in ("turns", "speech", "sounds"):
        (tmp_path / place).mkdir()
        for number in range(12):
            samples = 0.1 * generator.standard_normal(8000 + 800 * number)
            soundfile.write(tmp_path / place / f"{place}-{number}.wav", samples, 16000)
    requests = {
        "book_flight": (Request("a", "Please book me a flight to Rome for the day after tomorrow.", "book_flight"),),
        "time": (Request("b", "What time is it in the city now?", "time"),),
    }
    said = Material(requests, read_phrases(), ("It was a very long day, and",))
    sources = TurnSources(*((str(tmp_path / place),) for place in ("turns", "speech", "sounds")), recorded=0.5)
    return TurnMaterial(said, sources)


class Tones:
    """0.3 s of tone a word, as a voice."""

    def utterance(self, voice: Voice, text: str, take: int = 0, keep: bool = False) -> SpokenUtterance:
        words = text.split()
        wave = 0.3 * np.sin(np.arange(round(0.3 * RATE) * len(words)) * 0.1).astype(np.float32)
        return SpokenUtterance(text, wave, tuple((w, 0.3 * i, 0.3 * i + 0.28) for i, w in enumerate(words)))


def test_a_conversation_follows_from_its_number_and_has_all_that_is_learnt(material):
    one, two = (make_turn_dialogue(material, Tones(), TURNS_MIX, 0, 3, []) for _ in range(2))
    assert one.user.tobytes() == two.user.tobytes() and one.events == two.events
    found = np.concatenate(
        [decisions(make_turn_dialogue(material, Tones(), TURNS_MIX, 0, index, [])) for index in range(8)]
    )
    assert set(found.tolist()) == {LISTEN, TAKE, YIELD, IGNORE, BACKCHANNEL}


def test_sounds_come_into_the_user_s_channel_with_their_times(material):
    quiet = talk(Event("turn", 0.5, 1.0, USER), seconds=60.0)
    noisy = with_sounds(quiet, material, np.random.default_rng(0))
    noises = [event for event in noisy.events if event.kind == "noise"]
    assert len(noises) > 1 and not quiet.user.any()
    outside = noisy.user.copy()
    for event in noises:
        first, last = round(event.start * RATE), round(event.end * RATE)
        assert noisy.user[first:last].any()
        outside[first:last] = 0
    assert not outside.any()


def test_what_is_measured_with_is_not_learnt_from(material):
    dev = TurnMaterial(material.said, material.sources, "dev")
    train, kept = ({each.id for each in one.sounds + one.speech + one.turns} for one in (material, dev))
    assert train and kept and not train & kept
    assert all(kept_out(one) == (one.id in kept) for one in recordings(material.sources.sounds[0]))


def test_a_set_can_be_made_and_read(material, tmp_path, monkeypatch):
    from antiphon.data.dialogue import turns as module
    from antiphon.data.dialogue.format import read_dialogues

    monkeypatch.setattr(module, "TtsCache", Tones)
    monkeypatch.setattr(module, "babblers", lambda *_: [])
    module.make_turn_set(tmp_path / "set", material, TURNS_MIX, 0, 0.02)
    found = list(read_dialogues(tmp_path / "set"))
    assert len(found) == 2 and found[0][0] == "turns-train-0-000000"
    assert torch.from_numpy(found[0][1].user).abs().max() > 0
