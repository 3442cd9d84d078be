"""Answers to tones: what is said in which, who judges, and that plain sentences change nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from antiphon.errors import DataError
from antiphon.evals.assistant.material import Clip
from antiphon.evals.hearing import tone
from antiphon.evals.hearing.tone import ACTED, ACTED_PAIRS, ANSWERS, BURSTS, TonePair, read_sentences

from .conftest import tone as sound

ACCEPTED = json.loads(ANSWERS.read_text())


def test_eighty_sentences_in_two_tones_that_have_answers():
    rows = read_sentences()
    assert len({words for words, _ in rows}) == len(rows) == 100 - ACTED_PAIRS
    for words, tones in rows:
        assert len(set(tones)) == 2 and all(each in ACCEPTED for each in tones), words
        assert (tones[0] in BURSTS) == (tones[1] in BURSTS), words
    assert set(ACTED) <= set(ACCEPTED)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"sentence": "So.", "tones": ["sad"]}\n')
    with pytest.raises(DataError, match=r"t\.jsonl"):
        read_sentences(tmp_path / "t.jsonl")


@dataclass(frozen=True)
class Hears:
    text: str
    scene: str | None


class Thinks:
    """Finds that an answer fits a tone whose name stands in it."""

    def init_state(self, voice):
        return {}

    def add_message(self, state, role, text):
        state["asked"] = text

    def likelihoods(self, state, begins, options):
        asked = state["asked"]
        how, reply = asked.split(" says:")[0].split("who ")[1], asked.split('answer is: "')[1].split('"')[0]
        return [-0.1, -3.0] if how.split()[-1] in reply else [-3.0, -0.1]


class Minds:
    """Answers by the pitch of what it hears: high is happy; minds it or not."""

    def __init__(self, minds):
        self.minds, self.thinker = minds, Thinks()

    def hear(self, audio, scene=False):
        assert scene
        crossings = int((audio.samples[1:] * audio.samples[:-1] < 0).sum())
        return Hears("It is over.", "happy" if crossings > 1000 else "sad")

    def think(self, heard):
        told = {"happy": "How happy you sound, great!", "sad": "You sound sad, I am sorry."}
        return told[heard.scene] if self.minds and heard.scene else "I see."


@pytest.mark.parametrize(("minds", "share"), [(True, 1.0), (False, 0.0)])
def test_replies_that_differ_and_fit(evaluation, monkeypatch, minds, share):
    sounds = sound(900, 1.0, 0), sound(100, 1.0, 0)
    pair = TonePair("a", "It is over.", ("happy", "sad"), sounds, "acted")
    monkeypatch.setattr(tone, "pairs", lambda evaluation, n: [pair] * n)
    clips = [Clip("q", "What time is it?", sounds[0], "joe")]
    monkeypatch.setattr(type(evaluation), "questions", lambda self, n: clips * n)
    evaluation.model = Minds(minds)
    figures = {figure.name: figure.value for figure in tone.tone_fits(evaluation, 3)}
    assert figures["tone-fits"] == figures["tone-replies-differ"] == figures["tone-fits-judged"] == share
    assert figures["tone-fits-acted"] == share and figures["plain-unchanged"] == (0.0 if minds else 1.0)


def test_people_who_said_the_same_in_two_feelings(evaluation):
    made = tone.acted_pairs(evaluation)
    assert [(pair.words, pair.tones, pair.source) for pair in made] == [("Satz", ("sad", "happy"), "acted")]
    assert made[0].sounds[0].duration != 0 and made[0].sounds[0].sample_rate == 16000


def test_what_is_heard_can_be_left_out():
    assert tone.without_scene(Hears("a", "happy")) == Hears("a", None)
    assert tone.without_scene(SimpleNamespace(text="a")).text == "a"
