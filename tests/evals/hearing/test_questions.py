"""Questions about sounds: wordings of every kind, recordings that hold what is asked for, answers that are right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import antiphon
from antiphon.data.scene.example import Example, Span
from antiphon.data.scene.mixtures import Clip as Stretch
from antiphon.data.text.corpora import normalise
from antiphon.errors import DataError
from antiphon.evals.assistant.material import Clip
from antiphon.evals.hearing import questions
from antiphon.evals.hearing.questions import ANSWERS, ASKED, KINDS, Maker, SoundQuestion, Wording, read_wordings
from antiphon.models.scene.labels import GROUPS

from .conftest import tone

ACCEPTED = json.loads(ANSWERS.read_text())


def test_every_kind_is_asked_in_several_ways():
    wordings = read_wordings()
    assert len({normalise(wording.question) for wording in wordings}) == len(wordings) >= 80
    assert {wording.ask for wording in wordings} == set(ASKED) and {wording.kind for wording in wordings} == set(KINDS)
    assert min(Counter(wording.ask for wording in wordings).values()) >= 4
    assert sum(ASKED.values()) == 300


def test_answers_are_for_labels_that_there_are():
    for name, accept in ACCEPTED.items():
        group, label = name.split("/")
        assert label in GROUPS[group].names and accept, name
    # No wording gives a sound, an instrument or a number away.
    for wording in read_wordings():
        if wording.ask in ("sound", "instrument", "order", "last", "manner"):
            for name, accept in ACCEPTED.items():
                if name.startswith(("event/", "instrument/")) and wording.ask != "instrument":
                    question = SoundQuestion("", wording, None, tuple(accept))
                    assert not question.right(wording.question) or "voice" in name, (wording, name)


def test_no_wording_is_one_that_was_trained_on():
    trained = yaml.safe_load((Path(antiphon.__file__).parent / "data/text/asks.yaml").read_text())
    shown = {normalise(wording) for wordings in trained.values() for wording in wordings}
    assert len(shown) > 100 and not shown & {normalise(wording.question) for wording in read_wordings()}


def test_choices_are_right_alone():
    question = SoundQuestion("", Wording("sex", "who", "Man or woman?"), None, ("woman", "female"), ("man", "male"))
    assert question.right("You sound like a woman.") and question.right("Female, I'd say.")
    assert not question.right("A man or a woman.") and not question.right("You are a man.")


def test_of_two_sounds_the_one_that_is_named_first_is_the_answer():
    question = SoundQuestion("", Wording("order", "when", "Which was first?"), None, ("sea", "wave"), ("dog",))
    assert question.right("The waves came before the dog.") and question.right("The sea.")
    assert not question.right("The dog came before the sea.") and not question.right("I can't tell.")


class Fixed:
    """A material that has one sound of each label."""

    def drawn(self, split, kind, generator, group="", clean=False):
        assert split == "test"
        label = ("dog", "rooster", "crying_baby")[int(generator.integers(3))]
        return SimpleNamespace(label=lambda group: label)

    def load(self, each):
        samples = tone({"dog": 200, "rooster": 900}.get(each.label("event"), 1500), 2.0, 0).samples.numpy()
        return Example(samples, (Span("event", each.label("event"), 0, 2),), frozenset({"event"}))

    def speech(self, split, generator, clean=False, seconds=(1, 2)):
        return Stretch(tone(300, 1.5, 1).samples.numpy(), (), "somebody")


@pytest.mark.parametrize("ask", ["sound", "order", "last", "side", "sounds", "people", "sex", "who"])
def test_what_is_asked_for_is_there(ask):
    maker, said = Maker(Fixed(), ACCEPTED, seed=3), Clip("q", "What?", tone(400, 1.0, 5), "kokoro:jf_tebukuro")
    wording = next(each for each in read_wordings() if each.ask == ask)
    made = [maker.make(wording, number, said) for number in range(6)]
    again = maker.make(wording, 0, said)
    assert (again.about, again.accept) == (made[0].about, made[0].accept)
    assert (again.audio.samples == made[0].audio.samples).all()
    for question in made:
        assert question.audio.sample_rate == 16000 and 1.5 < question.audio.duration < 15
        assert not set(question.accept) & set(question.reject)
        about = question.about.split(": ", 1)[1]
        if ask in ("order", "last"):
            first, second = about.split(", then ")
            assert question.accept == tuple(ACCEPTED[f"event/{first if ask == 'order' else second}"])
        elif ask == "sounds":
            assert question.right(["", "One.", "Two.", "Three."][len(about.split(", "))])
        elif ask == "sex":
            assert question.right("a woman") and not question.right("a man")
        elif ask == "people":
            assert question.right("Two people." if "somebody" in about else "Just one.")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"ask": "sound"}\n')
    with pytest.raises(DataError, match=r"q\.jsonl"):
        questions.read_wordings(tmp_path / "q.jsonl")
