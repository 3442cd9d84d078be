"""Adapters: what a system under test says and when, whatever the model is."""

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import Event, Word
from antiphon.dialogue.events import AudioEvent, EndEvent, TextEvent
from antiphon.errors import EvalError
from antiphon.evals.duplex.simulate import RecordedDialogue, Scenario, simulate
from antiphon.evals.duplex.systems import EngineAdapter, system_under_test
from tests.evals.duplex.actors import Ideal, Stage


class FakeSession:
    """Answers its 3rd frame with all the sound at once."""

    def __init__(self) -> None:
        self.frames = 0

    def step(self, frame):
        self.frames += 1
        if self.frames != 3:
            return []
        sound = [AudioEvent(Audio(0.5 * torch.ones(1000), 24000)) for _ in range(10)]
        return [TextEvent("one t"), *sound, TextEvent("wo"), EndEvent("one two")]

    def close(self) -> None:
        self.closed = True


class TestSystems:
    def test_a_half_duplex_session_plays_at_its_pace(self, monkeypatch):
        monkeypatch.setattr("antiphon.evals.duplex.systems.time.sleep", lambda seconds: None)
        session = FakeSession()

        class Model:
            def session(self, mode, endpointer):
                assert mode == "half-duplex" and endpointer.speech.silence > 0  # without one, no turn would ever end
                return session

        system, at_once = system_under_test(Model(), 8)
        assert at_once == 1
        system.pace = 0.16
        handle = system.join(0)
        said = [system.step({handle: torch.zeros(1920)})[handle] for _ in range(10)]
        assert [bool(sound.any()) for sound in said] == [False] * 2 + [True] * 6 + [False] * 2
        assert float(said[7].sum()) == pytest.approx(0.5 * (10000 - 5 * 1920))
        words = system.leave(handle)
        assert [(w.text, w.start, w.end) for w in words] == [
            ("one", pytest.approx(4 * 0.08), pytest.approx(5 * 0.08)),
            ("two", pytest.approx(6 * 0.08), pytest.approx(7 * 0.08)),
        ]
        assert session.closed

    def test_an_engine_s_tokens_become_words_on_the_clock_of_the_sound(self):
        class Pieces:
            def decode(self, ids):
                return "".join(f" w{i}" for i in ids)

        class Engine:
            sample_rate, frame_samples = 24000, 1920
            tokens = [-1, 3, 0, 7, 3]

            class duplex:
                frame_rate, pieces = 12.5, Pieces()

                class moshi:
                    class config:
                        pad, end_pad = 3, 0

            def join(self, seed):
                self.count = 0
                return 5

            def step(self, frames):
                token = self.tokens[self.count]
                self.count += 1
                frame = type("Frame", (), {"token": token, "audio": torch.zeros(1920)})
                return dict.fromkeys(frames, frame)

            def leave(self, handle):
                self.left = handle

        system = EngineAdapter(Engine())
        handle = system.join(0)
        for _ in range(5):
            assert system.step({handle: torch.zeros(1920)})[handle].shape == (1920,)
        assert system.leave(handle) == [Word("w7", pytest.approx(4 * 0.08), pytest.approx(5 * 0.08))]

    def test_a_real_engine_says_the_same_alone_and_in_a_batch(self):
        from tests.dialogue.duplex.tiny_duplex import noise, tiny_duplex

        duplex = tiny_duplex()
        rate, size = duplex.sample_rate, duplex.frame_samples
        scenarios = [
            Scenario(
                f"s{i}", "turn", noise(6 + i, seed=i).flatten().numpy(), (Event("turn", 0.0, (6 + i) * size / rate),),
                rate, after=(0.5, 0.5),
            )
            for i in range(4)
        ]  # fmt: skip
        one = {dialogue.scenario.id: dialogue for dialogue in simulate(system_under_test(duplex)[0], scenarios, 1)}
        system, at_once = system_under_test(duplex, 3)
        assert at_once == 3
        for dialogue in simulate(system, scenarios, at_once):
            assert dialogue.model.shape == dialogue.user.shape == one[dialogue.scenario.id].model.shape
            assert dialogue.words == one[dialogue.scenario.id].words
            assert np.allclose(dialogue.model, one[dialogue.scenario.id].model, atol=1e-4)
        assert any(dialogue.words for dialogue in one.values()) and not system.engine.conversations

    def test_what_can_be_driven(self):
        system = Stage(Ideal)
        assert system_under_test(system, 4) == (system, 4)
        with pytest.raises(EvalError, match="int"):
            system_under_test(3)


class TestFullDuplex:
    class Session:
        """Gives each frame back, and says a word at the third."""

        def __init__(self, pace: float | None) -> None:
            self.pace, self.frames, self.closed = pace, 0, False

        def step(self, frame):
            self.frames += 1
            events = [AudioEvent(Audio(frame, 24000))]
            if self.frames == 3:
                events.append(TextEvent("a word"))
            if self.frames == 4:
                events.append(EndEvent("a word", interrupted=True))
            return events

        def close(self):
            self.closed = True

    class Model:
        backend = object()

        def session(self, mode, sampling, turns=None, pace=None):
            assert mode == "full-duplex" and sampling.seed == 7
            self.made = TestFullDuplex.Session(pace)
            return self.made

    def test_each_frame_is_given_its_time_of_computing(self):
        model = self.Model()
        system, at_once = system_under_test(model, 8, "full-duplex")
        assert at_once == 1
        handle = system.join(7)
        said = [system.step({handle: torch.full((1920,), 0.1 * n)})[handle] for n in range(5)]
        assert [round(float(sound[0]), 2) for sound in said] == [0.0, 0.1, 0.2, 0.3, 0.4]
        assert model.made.pace == 1.0
        assert [(w.text, w.start) for w in system.leave(handle)] == [("a", 0.24), ("word", 0.24)]
        assert system.broken_off == [0.32] and model.made.closed

    def test_live_it_takes_as_long_as_it_lasts(self, monkeypatch):
        slept = []
        monkeypatch.setattr("antiphon.evals.duplex.systems.time.sleep", slept.append)
        model = self.Model()
        system, _ = system_under_test(model, 8, "full-duplex-live")
        system.join(7)
        system.step({0: torch.zeros(1920)})
        assert slept and model.made.pace is None

    def test_what_was_broken_off_tells_an_interrupted_answer_from_one_that_ended(self):
        events = (Event("turn", 0.0, 0.4),)
        scenario = Scenario("m", "mhm", np.zeros(9600, np.float32), events, second=np.ones(4800, np.float32), delay=0.5)
        for broken, taken in ([], False), ([1.2], True), ([0.5], False), (None, True):
            model = np.zeros(24000 * 6, np.float32)
            model[12000:36000] = 0.1  # it ends by itself, just after
            talk = RecordedDialogue(scenario, np.zeros_like(model), model,
                                    [*events, Event("backchannel", 1.0, 1.2)], [], broken)  # fmt: skip
            assert talk.outcome().takeover == taken
