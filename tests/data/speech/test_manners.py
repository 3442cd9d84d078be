"""Answers in manners: true of the sound, decided by the context alone, the same however often it was made."""

from dataclasses import replace

import numpy as np
import pytest

from antiphon.data.recordings import recordings
from antiphon.data.speech.manners import MannersConfig, drawn_answers, manners, speak_in_manners, spoken_in
from antiphon.data.speech.utterances import SpeechSet, Turn
from antiphon.data.text.corpora import Sentence
from antiphon.errors import DataError
from antiphon.models.scene.labels import label

pytest.importorskip("onnx")
pytest.importorskip("hibari")

from antiphon.data.speech.speak import Speaker

USERS = [
    Sentence(f"u{i}", text, "user", "t", "train") for i, text in enumerate(("What time is it?", "Tell me a joke."))
]
SAID = [Sentence(f"a{i}", text, "assistant", "t", "train") for i, text in enumerate(("It is four.", "I know no joke."))]


def test_manners_can_be_heard_and_are_asked_for_in_words_of_their_own():
    asked = [words for each in manners() for words in (*each.asked, *each.unseen)]
    assert len(set(asked)) == len(asked) and len(manners()) >= 5
    for each in manners():
        assert each.unseen and each.asked and each.heard
        for name in each.heard:
            assert label(*name.split("/"))


def test_the_words_tell_nothing_of_the_manner_and_measuring_asks_in_others():
    train, dev = (
        list(drawn_answers(MannersConfig(None, contexts=300, answers=2, split=split, words=(1, 9)), USERS, SAID))
        for split in ("train", "dev")
    )
    assert train == list(drawn_answers(MannersConfig(None, contexts=300, answers=2, words=(1, 9)), USERS, SAID))
    assert len({sentence.id for _, sentence in train}) == len(train) == 600
    kinds = [context.manner.name if context.manner else bool(context.turns) for context, _ in train]
    assert {*kinds} == {False, True, *(each.name for each in manners())}
    assert 0.15 < kinds.count(False) / len(kinds) < 0.35
    for rows, others in ((train, "unseen"), (dev, "asked")):
        said = " ".join(turn.text for context, _ in rows for turn in context.turns)
        assert not any(words in said for each in manners() for words in getattr(each, others))
    for context, _ in train:
        assert not context.turns or context.turns[-1].role == "user"
        if context.manner is not None:
            heard = {turn.heard for turn in context.turns} - {""}
            asked = [words for words in context.manner.asked for turn in context.turns if words in turn.text]
            assert heard <= set(context.manner.heard) and bool(heard) != bool(asked)
    with pytest.raises(DataError, match="no train sentences"):
        next(drawn_answers(MannersConfig(None), USERS, []))


def test_a_manner_is_true_of_the_sound():
    voice, config = Speaker("hibari"), MannersConfig(None, spread=1.0)
    plain, samples = spoken_in(None, SAID[0], voice, config)
    middle = {}
    for each in manners():
        utterance, changed = spoken_in(each, SAID[0], voice, config, [Turn("user", "Hello.", "manner/slow")])
        assert utterance.context == [{"role": "user", "text": "Hello.", "heard": "manner/slow"}]
        lasts = (utterance.phoneme_ends[-1] - utterance.phonemes_start) / (
            plain.phoneme_ends[-1] - plain.phonemes_start
        )
        assert lasts == pytest.approx(1 / each.speed, rel=0.15)
        middle[each.name] = np.sqrt(np.mean(changed**2)) / np.sqrt(np.mean(samples**2))
    assert middle["gentle"] < 0.7 < middle["slow"]
    level = replace(manners()[0], speed=1.0, pitch=1.0, movement=1.0, level=-6.0)
    np.testing.assert_allclose(spoken_in(level, SAID[0], voice, config)[1], samples * 10 ** (-6 / 20), atol=1e-6)


def test_a_set_goes_on_where_it_was_and_its_recordings_know_their_contexts(tmp_path):
    once, again = (MannersConfig(tmp_path / name, contexts=4, answers=2, words=(1, 9)) for name in "ab")
    speak_in_manners(USERS, SAID, once, bar=False)
    speak_in_manners(USERS, SAID, replace(again, contexts=2), bar=False)
    speak_in_manners(USERS, SAID, again, bar=False)
    first, second = SpeechSet(once.out), SpeechSet(again.out)
    assert [each.id for each in first.utterances] == [each.id for each in second.utterances] and len(first) == 8
    for i, utterance in enumerate(first.utterances):
        np.testing.assert_array_equal(first.samples(i), second.samples(i))
        assert recordings(once.out)[i].about.get("context", []) == utterance.context
    with pytest.raises(DataError, match="can't change its pitch"):
        speak_in_manners(USERS, SAID, replace(again, voice="flite:slt"), bar=False)
