"""The simulated clock, with systems whose behaviour one can count out on one's fingers."""

import math

import numpy as np
import pytest

from antiphon.errors import EvalError
from antiphon.evals.duplex.simulate import simulate
from tests.evals.duplex.actors import RATE, Chatterbox, Ideal, Silent, Stage, dialogues, scenario


class TestClock:
    def test_what_is_said_to_a_frame_sounds_in_the_next(self):
        (dialogue,) = dialogues(Ideal, "turn")
        assert len(dialogue.user) == len(dialogue.model)
        # Silent from frame 30 on; the 12th silent frame is number 41; the answer sounds from 42 on, for 29 frames.
        assert dialogue.speech() == [pytest.approx((42 * 0.08, 71 * 0.08))]
        assert [w.start for w in dialogue.words[:2]] == [pytest.approx(42 * 0.08), pytest.approx(46 * 0.08)]

    def test_it_ends_when_the_answer_is_over_or_patience_is(self):
        assert dialogues(Ideal, "turn")[0].seconds == pytest.approx(math.ceil((2.4 + 5.0) / 0.08) * 0.08)
        assert dialogues(Silent, "turn")[0].seconds == pytest.approx(2.4 + 10.0)
        assert dialogues(Chatterbox, "turn")[0].seconds == pytest.approx(2.4 + 10.0)

    def test_the_interruption_starts_after_the_model_has(self):
        (dialogue,) = dialogues(Ideal, "interruption")
        (event,) = [e for e in dialogue.events if e.kind == "interruption"]
        assert (event.start, event.end) == pytest.approx((52 * 0.08, 72 * 0.08))  # 0.8 s after frame 42
        assert np.abs(dialogue.user[round(event.start * RATE) : round(event.end * RATE)]).max() > 0.2
        (alone,) = dialogues(Silent, "interruption")
        (event,) = [e for e in alone.events if e.kind == "interruption"]
        assert event.start == pytest.approx(2.4 + 4.0)

    def test_a_batch_gives_what_one_after_the_other_gives(self):
        one = {t.scenario.id: t for t in dialogues(Ideal, "interruption", 5)}
        many = {t.scenario.id: t for t in dialogues(Ideal, "interruption", 5, at_once=3)}
        assert one.keys() == many.keys()
        for key, dialogue in one.items():
            assert np.array_equal(dialogue.model, many[key].model) and dialogue.events == many[key].events

    def test_another_sample_rate_is_refused(self):
        with pytest.raises(EvalError, match="2000 Hz"):
            system = Stage(Silent)
            system.sample_rate = 24000
            list(simulate(system, [scenario("turn")]))
