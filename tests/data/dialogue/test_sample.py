"""Drawing conversations and making sets of them, with tones for voices."""

import numpy as np
import pytest

from antiphon.data.dialogue import make as converse_make
from antiphon.data.dialogue.codes import DialogueCodes
from antiphon.data.dialogue.compose import compose
from antiphon.data.dialogue.format import MODEL, USER, read_dialogues
from antiphon.data.dialogue.make import dialogues, how_many, make_set
from antiphon.data.dialogue.phrases import Request
from antiphon.data.dialogue.replies import read_phrases
from antiphon.data.dialogue.sample import (
    UNFINISHED,
    Material,
    Mix,
    draw_conditions,
    draw_pauses,
    draw_script,
    lower_first,
)
from tests.data.dialogue.talking import say

TEXT = "Please tell me about the {} of my old friend today."


@pytest.fixture(scope="module")
def material():
    replies = read_phrases()
    requests = {
        intent: tuple(Request(f"{intent}{i}", TEXT.format(f"{intent} {i}"), intent) for i in range(3))
        for intent in replies.by_intent
    }
    return Material(requests, replies, replies.extras["preamble"])


@pytest.fixture
def tones(monkeypatch):
    class Tones:
        def utterance(self, voice, text, take=0, keep=False):
            return say(voice, text, take)

    monkeypatch.setattr(converse_make, "TtsCache", Tones)
    return Tones()


def drawn(material, count, mix=Mix()):
    return [compose(draw_script(material, mix, 0, index), say) for index in range(count)]


def turns(talk, speaker):
    return [each for each in talk.events if each.kind == "turn" and each.speaker == speaker and each.note != "opening"]


def test_a_script_follows_from_seed_and_index(material):
    assert draw_script(material, Mix(), 3, 7) == draw_script(material, Mix(), 3, 7)
    others = [draw_script(material, Mix(), 3, 8), draw_script(material, Mix(), 4, 7)]
    assert draw_script(material, Mix(), 3, 7) not in others


def test_every_request_is_answered_in_time(material):
    gaps, stops = [], []
    for talk in drawn(material, 60):
        users, models = turns(talk, USER), turns(talk, MODEL)
        assert [user.note for user in users] == [model.note.removesuffix(" cut") for model in models]
        gaps += [model.start - user.end for user, model in zip(users, models)]
        stops += [each.end - each.start for each in talk.events if each.kind == "interruption"]
    late = [gap for gap in gaps if gap > 0]
    assert min(late) >= 0.16 - 1e-6 and max(late) <= 0.44 + 1e-6 and 0.26 < np.mean(late) < 0.34
    assert min(gaps) >= -0.12 - 1e-6 and 0 < len(gaps) - len(late) < 0.1 * len(gaps)
    assert len(stops) > 10 and min(stops) >= 0.16 - 1e-6 and max(stops) <= 0.44 + 1e-6


def test_some_answers_come_late_where_the_mix_says_so(material):
    gaps = []
    for talk in drawn(material, 60, Mix(late=0.3)):
        gaps += [model.start - user.end for user, model in zip(turns(talk, USER), turns(talk, MODEL))]
    late = [gap for gap in gaps if gap > 0.44 + 1e-6]
    assert 0.2 < len(late) / len(gaps) < 0.4
    assert min(late) >= 1.86 - 1e-6 and max(late) <= 2.64 + 1e-6


def test_nobody_takes_over_in_a_pause(material):
    pauses = 0
    for talk in drawn(material, 60):
        for pause in (each for each in talk.events if each.kind == "pause"):
            pauses += 1
            assert not [turn for turn in turns(talk, MODEL) if pause.start <= turn.start < pause.end]
            assert pause.end - pause.start >= 0.4
    assert pauses > 60


def test_all_kinds_happen_as_often_as_asked(material):
    talks = drawn(material, 120)
    users = [turn for talk in talks for turn in turns(talk, USER)]
    kinds = [(each.kind, each.speaker) for talk in talks for each in talk.events]
    count = {key: kinds.count(key) / len(users) for key in set(kinds)}
    assert 0.1 < count["interruption", USER] < 0.25
    assert 0.05 < count["backchannel", MODEL] < 0.15 and 0.05 < count["backchannel", USER] < 0.4
    assert 0.1 < count["hesitation", USER] < 0.4 and count["silence", USER] > 0.05
    assert len({turn.note for turn in users}) > 120
    lengths = np.array([talk.seconds for talk in talks])
    assert lengths.min() > 10 and np.median(lengths) < 60
    nothing = Mix(paused=0, long_turn=0, interrupted=0, backchannelled=0, early=0, silent=0, greeted=0)
    quiet = {each.kind for talk in drawn(material, 20, nothing) for each in talk.events}
    assert quiet <= {"turn", "silence"}


def test_pauses_stand_where_nobody_is_done():
    generator, words = np.random.default_rng(0), TEXT.split()
    places = [p.after for _ in range(200) for p in draw_pauses(TEXT, Mix(), ("Um,",), generator)]
    unfinished = [words[place - 1].lower() in UNFINISHED for place in places]
    assert min(places) > 0 and max(places) < len(words) and np.mean(unfinished) > 0.7
    assert draw_pauses("Only four words here.", Mix(), ("Um,",), generator) == ()
    after = [
        p.after for _ in range(200) for p in draw_pauses("Hello there. What is it now", Mix(), ("Um,",), generator)
    ]
    assert 2 not in after


def test_first_letters():
    assert lower_first("What time is it?") == "what time is it?"
    assert lower_first("I'm lost.") == "I'm lost." and lower_first("I am lost.") == "I am lost."
    assert lower_first("AI, stop.") == "AI, stop."


def test_surroundings_stay_in_their_ranges():
    mix = Mix()
    found = [draw_conditions(mix, np.random.default_rng(seed), babble=False) for seed in range(300)]
    assert 0.45 < np.mean([bool(each.noise) for each in found]) < 0.65
    assert not [each for each in found if each.noise == "babble"]
    assert all(-20 <= each.peak_db <= -3 and 10 <= each.snr_db <= 35 for each in found)
    assert 0.3 < np.mean([each.echo_db is not None for each in found]) < 0.5
    assert all(each.echo_db is None or -40 <= each.echo_db <= -20 for each in found)


def test_a_set_goes_on_where_it_was_stopped(material, tones, tmp_path):
    mix = Mix(seconds=(4.0, 8.0))
    hours = 4 * 6.0 / 3600
    assert how_many(mix, hours) == 4
    make_set(tmp_path / "once", material, mix, 1, hours, bar=False)
    make_set(tmp_path / "twice", material, mix, 1, hours / 2, bar=False)
    half = dict(read_dialogues(tmp_path / "twice"))
    assert len(half) == 2
    make_set(tmp_path / "twice", material, mix, 1, hours, bar=False)
    once, twice = (dict(read_dialogues(tmp_path / name)) for name in ("once", "twice"))
    assert list(once) == list(twice) and len(once) == 4
    for identity, talk in once.items():
        np.testing.assert_array_equal(talk.user, twice[identity].user)
        assert talk.words == twice[identity].words and talk.events == twice[identity].events


def test_several_workers_make_what_one_makes(material, tones):
    mix, hours = Mix(seconds=(4.0, 8.0)), 5 * 6.0 / 3600
    alone = [identity for identity, _ in dialogues(material, tones, mix, 0, hours)]
    shared = [i for w in range(2) for i, _ in dialogues(material, tones, mix, 0, hours, share=(w, 2))]
    assert sorted(alone) == sorted(shared) and len(alone) == 5
    assert [i for i, _ in dialogues(material, tones, mix, 0, hours, done=alone[:3])] == alone[3:]


def test_a_set_of_codes(material, tones, tmp_path):
    import torch

    from antiphon.codecs.mini.model import MiniCodec
    from tests.codecs.mini.test_model import TINY

    torch.manual_seed(0)
    codec = MiniCodec(TINY).eval()
    mix = Mix(seconds=(4.0, 8.0))
    make_set(tmp_path / "set", material, mix, 0, 3 * 6.0 / 3600, codec, keep_audio=1, bar=False)
    codes = DialogueCodes(tmp_path / "set")
    kept = dict(read_dialogues(tmp_path / "set" / "audio"))
    assert len(codes) == 3 and list(kept) == [codes[0].id]
    assert codes[0].codes.shape == (2 * codec.codebooks, round(kept[codes[0].id].seconds * codec.frame_rate))
    assert codes[0].events == kept[codes[0].id].events and codes[0].info["seed"] == 0
