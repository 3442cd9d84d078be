"""Scenarios from a synthetic voice: what is drawn, kept and read again."""

import numpy as np
import pytest

from antiphon.data.dialogue.format import DialogueWriter
from antiphon.data.dialogue.phrases import RATE, Request, SpokenUtterance, Voice
from antiphon.data.dialogue.replies import read_phrases
from antiphon.data.dialogue.sample import Material
from antiphon.errors import DataError
from antiphon.evals.assistant.material import HELD_OUT
from antiphon.evals.duplex import scenarios as module
from antiphon.evals.duplex.metrics import cases
from antiphon.evals.duplex.scenarios import TASKS, load_scenarios, make_scenario, scenario_id
from antiphon.evals.duplex.simulate import _User

OPENERS = ("It was a very long day, and", "My mother called, and so", "I know that you are new, but")


def say(voice: Voice, text: str, take: int) -> SpokenUtterance:
    """0.3 s of tone a word."""
    words = text.split()
    wave = np.sin(np.arange(round(0.3 * RATE) * len(words)) * 0.1).astype(np.float32)
    return SpokenUtterance(text, wave, tuple((w, 0.3 * i, 0.3 * i + 0.3) for i, w in enumerate(words)))


@pytest.fixture
def material() -> Material:
    def asked(intent: str, *texts: str) -> tuple[Request, ...]:
        return tuple(Request(f"{intent}{i}", text, intent) for i, text in enumerate(texts))

    requests = {
        "book_flight": asked("book_flight", "Please book me a flight to Rome."),  # has a long reply
        "time": asked("time", "What time is it in the city now?", "The time?"),
        "yes": asked("yes", "Yes."),
        "oos": asked("oos", "What is the meaning of all of these words?"),
    }
    return Material(requests, read_phrases(), OPENERS)


def test_a_scene_follows_from_its_name(material):
    one, two = (make_scenario(material, say, "turn-0-003") for _ in range(2))
    assert one.user.tobytes() == two.user.tobytes() and one.info == two.info
    voices = {make_scenario(material, say, scenario_id("turn", 0, i)).info["voice"] for i in range(40)}
    assert voices == {voice for voice, _ in HELD_OUT}
    assert make_scenario(material, say, "turn-1-003").user.tobytes() != one.user.tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_what_is_in_a_scene(material, task):
    for i in range(12):
        talk = make_scenario(material, say, scenario_id(task, 0, i))
        assert not talk.model.any() and "oos" not in talk.info["intents"]
        assert 10 ** (-16 / 20) - 1e-3 < np.abs(talk.user).max() < 10 ** (-5 / 20) + 1e-3
        case = cases(talk.events, talk.seconds)[-1]
        assert case.task == ("turn" if task == "interruption" else task)
        assert [w.speaker for w in talk.words] == ["user"] * len(talk.words)
        pauses = [e for e in talk.events if e.kind == "pause"]
        if task == "pause":
            assert 1 <= len(pauses) <= 2 and len(talk.info["texts"][0].split()) >= 6
            for pause in pauses:
                assert case.start < pause.start and pause.end < case.end and pause.end - pause.start >= 0.4
        if task == "backchannel":
            assert len(pauses) == len(case.places) == 2
            for pause, place in zip(pauses, case.places):
                assert pause.start + 0.19 < place[0] and place[1] < pause.end
                inside = talk.user[round((pause.start + 0.01) * RATE) : round((pause.end - 0.01) * RATE)]
                assert not inside.any()
        if task == "interruption":
            assert len(talk.info["texts"]) == 2 and talk.info["intents"][0] == "book_flight"
            assert talk.info["intents"][1] == "time" and 0.6 <= talk.info["delay"] <= 1.2


def test_a_word_s_end_that_is_estimated_before_its_start_is_no_error(material):
    def hasty(voice: Voice, text: str, take: int) -> SpokenUtterance:
        line = say(voice, text, take)
        word, start, _ = line.words[-1]
        return SpokenUtterance(text, line.samples, (*line.words[:-1], (word, start, start - 0.02)))

    talk = make_scenario(material, hasty, "turn-0-000")
    assert talk.words[-1].end == talk.words[-1].start
    assert talk.user.tobytes() == make_scenario(material, say, "turn-0-000").user.tobytes()


def test_scenes_are_made_once_and_a_set_grows(material, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="--texts"):
        load_scenarios(tmp_path / "set", "turn", 2)
    made = []

    def make(folder, task, identities, texts, sounds):
        with DialogueWriter(folder, ".flac") as writer:
            for identity in identities:
                made.append(identity)
                writer.add(identity, make_scenario(material, say, identity))

    monkeypatch.setattr(module, "_make", make)
    load_scenarios(tmp_path / "set", "interruption", 1, tmp_path)
    scenarios = load_scenarios(tmp_path / "set", "interruption", 3, tmp_path)
    assert made == ["interruption-0-000", "interruption-0-001", "interruption-0-002"]
    for scenario in scenarios:
        words = [len(text.split()) for text in scenario.texts]
        assert len(scenario.second) == pytest.approx(0.3 * words[1] * RATE, abs=2)
        turn = next(e for e in scenario.events if e.kind == "turn")
        assert len(scenario.user) == pytest.approx(turn.end * RATE, abs=2)
        assert turn.end - turn.start == pytest.approx(0.3 * words[0], abs=0.001)
    user = _User(scenarios[0], 1920)
    assert np.abs(user.plan).max() > 0.1


def test_what_takes_no_turn_comes_into_an_answer_or_while_nobody_speaks(material):
    class Sounds:
        sounds = ["a sound"]

        def sound(self, recording):
            return np.ones(RATE, np.float32)

    for i in range(6):
        for task in ("mhm", "noise", "sound"):
            talk = make_scenario(material, say, scenario_id(task, 0, i), Sounds())
            scenario = module._scenario("x", talk)
            assert scenario.task == task
            if task == "sound":
                (event,) = scenario.events
                assert event.kind == "noise" and scenario.second is None
                assert len(scenario.user) == round(event.end * RATE)
                assert not scenario.user[: round(event.start * RATE) - 1].any()
            else:
                assert 0 < len(scenario.second) <= 3 * RATE and 0.6 <= scenario.delay <= 1.2
                assert abs(scenario.second).max() > 0 and scenario.intents == ("book_flight",)
