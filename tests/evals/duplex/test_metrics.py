"""Full-Duplex-Bench's measures by hand-computed cases."""

import math

import numpy as np
import pytest

from antiphon.data.dialogue.format import Event, Word
from antiphon.evals.duplex.metrics import (
    Case,
    Vad,
    backchannel_distribution,
    cases,
    from_words,
    is_backchannel,
    jensen_shannon,
    measure,
    merge,
    place_distribution,
    speech,
    words_in,
)

RATE = 16000


def sound(*stretches: tuple[float, float], seconds: float = 6.0, level: float = 0.1, noise: float = 0.0) -> np.ndarray:
    """A tone where something is said, and noise everywhere."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = noise * np.random.default_rng(0).standard_normal(len(time))
    for start, end in stretches:
        wave += level * np.sin(2 * np.pi * 200 * time) * ((time >= start) & (time < end))
    return wave.astype(np.float32)


def said(*starts: float, length: float = 0.2) -> list[Word]:
    return [Word("word", start, start + length) for start in starts]


class TestSpeech:
    def test_gaps_are_merged_and_clicks_dropped(self):
        wave = sound((1.0, 1.5), (1.9, 2.4), (3.5, 4.0), (5.0, 5.05))
        assert speech(wave, RATE) == [pytest.approx((1.0, 2.4)), pytest.approx((3.5, 4.0))]
        apart = speech(wave, RATE, Vad(gap=0.2, min_seconds=0.0))
        assert apart == [pytest.approx(s) for s in ((1.0, 1.5), (1.9, 2.4), (3.5, 4.0), (5.0, 5.05))]

    def test_silence_and_faint_sound_are_no_speech(self):
        assert speech(np.zeros(0, np.float32), RATE) == []
        assert speech(sound(), RATE) == []
        assert speech(sound((1, 2), level=0.005), RATE) == []  # -49 dB
        assert speech(sound((1, 2), level=0.005), RATE, Vad(threshold=-55)) == [pytest.approx((1, 2))]

    def test_one_who_never_stops_and_noise_below_the_threshold(self):
        assert speech(sound((0.0, 6.0)), RATE) == [pytest.approx((0.0, 6.0))]
        noisy = sound((1.0, 2.0), noise=0.02)  # -34 dB of noise
        assert speech(noisy, RATE) == [pytest.approx((0.0, 6.0))]
        assert speech(noisy, RATE, Vad(threshold=-28)) == [pytest.approx((1.0, 2.0), abs=0.011)]

    def test_a_last_frame_that_is_cut_counts(self):
        assert speech(sound((0.5, 1.0), seconds=1.0)[:-80], RATE) == [pytest.approx((0.5, 1.0))]

    def test_words_give_segments_too(self):
        assert from_words(said(1.0, 1.4, 3.0)) == [pytest.approx((1.0, 1.6)), pytest.approx((3.0, 3.2))]
        assert merge([(2, 3), (0, 1), (1, 1.5)], 0.0) == [(0, 1.5), (2, 3)]


class TestBackchannel:
    def test_short_in_seconds_and_in_words(self):
        assert is_backchannel((0, 0.99)) and not is_backchannel((0, 1.0))
        assert is_backchannel((0, 0.9), said(0.0, 0.4)) and not is_backchannel((0, 0.9), said(0.0, 0.3, 0.6))
        assert is_backchannel((0, 0.9), said(0.0, 0.3, 0.6), max_words=3)

    def test_words_may_precede_their_sound_a_little(self):
        assert words_in((1.0, 2.0), said(0.69, 0.71, 1.99, 2.0)) == 2


TURN = Case("turn", 1.0, 3.0, 10.0)


class TestTurn:
    def test_an_answer_after_the_end(self):
        found = measure(TURN, [(3.4, 6.0)])
        assert (found.takeover, found.takeover_published, found.reply) == (True, True, (3.4, 6.0))
        assert found.latency == found.latency_clipped == pytest.approx(0.4)

    def test_silence(self):
        found = measure(TURN, [])
        assert (found.takeover, found.takeover_published, found.latency, found.latency_clipped) == (
            False, False, None, None,
        )  # fmt: skip

    def test_an_early_answer_is_clipped_only_as_published(self):
        found = measure(TURN, [(2.5, 6.0)])
        assert (found.latency, found.latency_clipped) == (pytest.approx(-0.5), 0.0)

    def test_a_sign_of_listening_is_no_answer(self):
        assert not measure(TURN, [(3.2, 3.6)]).takeover
        found = measure(TURN, [(2.0, 2.3), (3.5, 6.0)])  # published, the first sound counts
        assert (found.latency, found.latency_clipped) == (pytest.approx(0.5), 0.0)

    def test_words_make_a_short_answer_one(self):
        words = said(3.2, 3.5, 3.8)
        found = measure(TURN, [(3.2, 4.0)], words)
        assert found.takeover and not found.takeover_published  # published, three words in 0.8 s pass for none
        assert measure(TURN, [(3.2, 4.0)], said(3.2, 3.4, 3.6, 3.8)).takeover_published
        users = [Word("so", 3.2 + i / 10, 3.3 + i / 10, "user") for i in range(5)]
        assert not measure(TURN, [(3.2, 4.0)], users).takeover

    def test_only_the_case_s_own_time_counts(self):
        found = measure(TURN, [(0.5, 2.0), (10.0, 12.0)])
        assert (found.takeover, found.takeover_published, found.latency_clipped) == (False, True, 0.0)
        assert not measure(TURN, [(0.1, 0.9), (10.0, 12.0)]).takeover_published


class TestPause:
    case = Case("pause", 1.0, 5.0, 10.0)

    def test_answering_after_the_turn_is_right(self):
        found = measure(self.case, [(5.3, 8.0)])
        assert (found.takeover, found.takeover_published) == (False, False)
        assert found.latency == pytest.approx(0.3)

    def test_speaking_into_the_pause_is_a_take_over(self):
        assert measure(self.case, [(3.0, 4.5)]).takeover
        found = measure(self.case, [(4.9, 7.0)])
        assert found.takeover and found.latency == pytest.approx(-0.1)
        assert not found.takeover_published  # which sees the first 0.1 s alone, as the recording ends there

    def test_mhm_in_the_pause_is_none(self):
        assert not measure(self.case, [(3.0, 3.4), (4.0, 4.4)]).takeover
        assert measure(self.case, [(3.0, 3.4), (4.0, 4.4)]).takeover_published  # 1.4 s from first to last

    def test_finishing_what_was_said_before_is_none_but_going_on_is(self):
        assert not measure(self.case, [(0.2, 1.9)]).takeover
        assert measure(self.case, [(0.2, 2.0)]).takeover and measure(self.case, [(0.2, 9.0)]).takeover


class TestInterruption:
    case = Case("interruption", 4.0, 6.0, 12.0)

    def test_stops_and_answers(self):
        found = measure(self.case, [(2.0, 4.3), (6.5, 9.0)])
        assert found.takeover and found.takeover_published and found.reply == (6.5, 9.0)
        assert found.latency == found.latency_clipped == pytest.approx(0.5)
        assert found.stop == found.stop_published == pytest.approx(0.3)

    def test_never_stopping_takes_over_only_as_published(self):
        found = measure(self.case, [(2.0, 9.0)])
        assert (found.takeover, found.takeover_published) == (False, True)
        assert (found.latency, found.latency_clipped) == (None, 0.0)
        assert (found.stop, found.stop_published) == (pytest.approx(5.0), pytest.approx(2.0))

    def test_silent_before_and_stopped_for_good(self):
        found = measure(self.case, [(6.2, 8.0)])
        assert found.takeover and found.stop is None and found.stop_published is None
        found = measure(self.case, [(2.0, 4.5)])
        assert not found.takeover and not found.takeover_published and found.stop == pytest.approx(0.5)

    def test_going_on_in_the_interruption_is_no_answer(self):
        assert not measure(self.case, [(2.0, 4.2), (4.8, 5.9)]).takeover
        early = measure(self.case, [(2.0, 4.2), (5.8, 8.0)])
        assert early.takeover and early.latency == pytest.approx(-0.2) and early.latency_clipped == 0.0


class TestLongTurn:
    case = Case("backchannel", 1.0, 11.0, 15.0, ((4.0, 4.5), (8.0, 8.5)))

    def test_signs_of_listening(self):
        found = measure(self.case, [(4.0, 4.5), (8.0, 8.5), (11.3, 14.0)])
        assert (found.takeover, found.takeover_published, found.backchannels) == (False, False, 2)
        assert found.frequency == pytest.approx(0.2)
        assert found.jsd == pytest.approx(0.0, abs=1e-4)

    def test_none_at_all(self):
        found = measure(self.case, [])
        assert (found.takeover, found.backchannels, found.frequency, found.jsd) == (False, 0, 0.0, 1.0)
        assert measure(Case("backchannel", 1.0, 11.0, 15.0), [(4.0, 4.5)]).jsd is None

    def test_signs_at_the_wrong_times_are_as_far_as_can_be(self):
        found = measure(self.case, [(2.0, 2.3)])
        assert found.jsd == pytest.approx(math.sqrt(math.log(2)), abs=1e-4)

    def test_one_long_stretch_takes_over_but_published_the_last_decides(self):
        found = measure(self.case, [(3.0, 5.0), (8.0, 8.4)])
        assert (found.takeover, found.takeover_published, found.backchannels) == (True, False, 1)
        assert measure(self.case, [(3.0, 6.5), (8.0, 8.4)]).takeover_published  # longer than 3 s: always


class TestDistributions:
    def test_windows_of_a_fifth_of_a_second(self):
        bins = backchannel_distribution([(0.2, 0.5), (0.4, 0.5)], 1.0)
        assert bins == pytest.approx([0, 1 / 3, 2 / 3, 0, 0, 0], abs=1e-9)
        assert place_distribution([(0.2, 0.5), (0.8, 0.9)], 1.0) == pytest.approx([0, 0.25, 0.25, 0, 0.5, 0], abs=1e-9)

    def test_distance_by_hand_and_as_scipy_has_it(self):
        distance = pytest.importorskip("scipy.spatial.distance")
        a, b = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.0, 0.5])
        assert jensen_shannon(a, b) == pytest.approx(math.sqrt(0.5 * math.log(2)))
        assert jensen_shannon(a, b) == pytest.approx(distance.jensenshannon(a, b))
        assert jensen_shannon(a, a) == 0.0


class TestCases:
    def test_by_the_labels(self):
        events = [
            Event("turn", 0.5, 2.0),
            Event("turn", 2.3, 6.0, "model"),
            Event("interruption", 4.0, 4.3),
            Event("turn", 4.0, 5.5),
            Event("turn", 9.0, 13.0),
            Event("pause", 10.0, 10.8),
            Event("turn", 20.0, 30.0),
            Event("backchannel", 24.0, 24.4, "model"),
            Event("turn", 34.0, 40.0, note="story"),
        ]
        found = cases(events, 50.0)
        assert [(c.task, c.start, c.end, c.until) for c in found] == [
            ("turn", 0.5, 2.0, 4.0),
            ("interruption", 4.0, 5.5, 9.0),
            ("pause", 9.0, 13.0, 20.0),
            ("backchannel", 20.0, 30.0, 34.0),
            ("backchannel", 34.0, 40.0, 50.0),
        ]
        assert found[3].places == ((24.0, 24.4),) and found[4].places == ()


def test_an_answer_that_goes_on_after_a_mhm_was_not_taken():
    case = Case("mhm", 5.0, 5.4, 12.0)
    assert not measure(case, [(4.0, 9.0)]).takeover
    assert not measure(case, [(4.0, 5.3), (6.2, 9.0)]).takeover  # held, and gone on with
    found = measure(case, [(4.0, 5.3), (9.0, 11.0)])
    assert found.takeover and found.stop == pytest.approx(0.3)
    assert not measure(case, [(1.0, 4.5)]).takeover  # over before
