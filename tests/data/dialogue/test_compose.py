"""Composing conversations: every time by hand, with voices whose words last 0.2 s and stand 0.05 s apart."""

import itertools

import numpy as np
import pytest

from antiphon.data.dialogue.compose import (
    FRAME_SECONDS,
    AcousticConditions,
    Backchannel,
    Exchange,
    Pause,
    Script,
    apply_conditions,
    compose,
    cut_short,
    on_frame,
)
from antiphon.data.dialogue.format import MODEL, USER
from antiphon.data.dialogue.phrases import RATE, Voice, loudness
from tests.data.dialogue.talking import say

HIGH = Voice(pitch=1.5)


def script(*exchanges, **fields):
    return Script(tuple(exchanges), user=HIGH, **fields)


def events(talk, kind, speaker=None):
    return [each for each in talk.events if each.kind == kind and speaker in (None, each.speaker)]


def times(talk, speaker):
    return [(w.text, round(w.start, 4), round(w.end, 4)) for w in talk.words if w.speaker == speaker]


def sounds(channel, start, end):
    """Whether anything is heard between two times, 10 ms at either end left out."""
    return bool(np.abs(channel[round((start + 0.01) * RATE) : round((end - 0.01) * RATE)]).max(initial=0.0) > 1e-4)


def test_a_request_and_its_reply():
    talk = compose(script(Exchange("one two", "three", "count", gap=0.3), lead=0.5, tail=1.0), say)
    # One and two: 0.5 to 0.95 s; 0.3 s later is 1.25 s, the nearest frame 1.28 s; three lasts 0.2 s.
    assert times(talk, USER) == [("one", 0.5, 0.7), ("two", 0.75, 0.95)]
    assert times(talk, MODEL) == [("three", 1.28, 1.48)]
    assert [(e.kind, round(e.start, 3), round(e.end, 3), e.speaker, e.note) for e in talk.events] == [
        ("turn", 0.5, 0.95, USER, "count"),
        ("turn", 1.28, 1.48, MODEL, "count"),
    ]
    assert talk.seconds == pytest.approx(2.48) and talk.seconds / FRAME_SECONDS == pytest.approx(31)
    assert sounds(talk.user, 0.5, 0.7) and not sounds(talk.user, 0.95, 2.48) and not sounds(talk.user, 0.7, 0.75)
    assert sounds(talk.model, 1.28, 1.48) and not sounds(talk.model, 0.0, 1.28)


def test_words_after_a_pause_come_later():
    pause = Pause(after=2, seconds=0.8)
    talk = compose(script(Exchange("one two three four", "yes", pauses=(pause,)), lead=0.0), say)
    words = times(talk, USER)
    # Two ends at 0.45 s, three would start at 0.5 s: the cut lies between, and all after it comes 0.8 s later.
    assert words[:2] == [("one", 0.0, 0.2), ("two", 0.25, 0.45)]
    assert words[2:] == [("three", 1.3, 1.5), ("four", 1.55, 1.75)]
    (found,) = events(talk, "pause")
    assert found.end - found.start == pytest.approx(0.8) and 0.45 <= found.start <= 0.5 and found.note == ""
    assert not sounds(talk.user, 0.45, 1.3) and sounds(talk.user, 1.3, 1.5)
    turn = events(talk, "turn", USER)[0]
    assert (turn.start, round(turn.end, 4)) == (0.0, 1.75)
    # Nobody takes the turn in the pause.
    assert events(talk, "turn", MODEL)[0].start == pytest.approx(on_frame(1.75 + 0.28))
    assert not sounds(talk.model, 0.0, 1.75)


def test_a_hesitation_and_a_murmur_in_a_pause():
    um = Pause(after=1, seconds=1.0, hesitation="um", lead=0.1, backchannel="mhm", backchannel_after=0.5)
    talk = compose(script(Exchange("one two", "yes", pauses=(um,)), lead=0.0), say)
    (pause,), (hesitation,) = events(talk, "pause"), events(talk, "hesitation")
    cut = pause.start
    assert 0.2 <= cut <= 0.25 and pause.note == "hesitation"
    assert (hesitation.start - cut, hesitation.end - cut) == (pytest.approx(0.1), pytest.approx(0.3))
    assert pause.end - cut == pytest.approx(1.3)
    assert times(talk, USER)[1][0] == "um" and times(talk, USER)[2] == ("two", 1.55, 1.75)
    (backchannel,) = events(talk, "backchannel")
    assert backchannel.speaker == MODEL and backchannel.start == pytest.approx(on_frame(cut + 0.5))
    assert len(events(talk, "turn", MODEL)) == 1
    # Softer than a reply.
    reply = events(talk, "turn", MODEL)[0]
    level = [
        np.abs(talk.model[round(e.start * RATE) : round(e.end * RATE)]).max() / np.abs(talk.model).max()
        for e in (backchannel, reply)
    ]
    assert level == [pytest.approx(10 ** (-6 / 20), abs=0.03), pytest.approx(1.0)]


def test_an_interruption_cuts_the_reply():
    first = Exchange("one", "a b c d e f g h", cut_in=0.9, stop=0.3, gap=0.2)
    second = Exchange("two three", "z", "other", wait=9.0)
    talk = compose(script(first, second, lead=0.0), say)
    # One ends at 0.2 s, the reply starts at 0.4 s and would last 1.95 s; the user comes in at 1.3 s; 0.3 s later is
    # 1.6 s, a whole frame. By then a to d (1.15 to 1.35 s) are said, and e (1.4 to 1.6 s) as well.
    assert times(talk, MODEL)[:5] == [
        (word, round(0.4 + 0.25 * i, 4), round(0.6 + 0.25 * i, 4)) for i, word in enumerate("abcde")
    ]
    assert [word for word, _, _ in times(talk, MODEL)] == [*"abcde", "z"]
    (interruption,) = events(talk, "interruption")
    assert (round(interruption.start, 4), round(interruption.end, 4)) == (1.3, 1.6) and interruption.note == "other"
    assert [turn.note for turn in events(talk, "turn", MODEL)] == ["cut", "other"]
    assert not events(talk, "overlap") and not events(talk, "silence")
    end = 1.3 + 0.45
    assert events(talk, "turn", USER)[1].end == pytest.approx(end)
    assert not sounds(talk.model, 1.6, on_frame(end + 0.28)) and sounds(talk.model, 1.4, 1.6)


def test_the_word_that_is_being_said_is_cut():
    line = cut_short(say(Voice(), "a b c"), 0.35)
    assert line.words == (("a", 0.0, 0.2), ("b", 0.25, 0.35)) and line.seconds == pytest.approx(0.35)
    tail = loudness(line.samples)[-4:]
    assert (np.diff(tail) < 0).all() and tail[-1] < 0.3 * tail[0]
    # A word that would start within the fade is not said.
    assert [word for word, _, _ in cut_short(say(Voice(), "a b c"), 0.27).words] == ["a"]


def test_a_short_reply_is_not_interrupted():
    talk = compose(script(Exchange("one", "a b", cut_in=0.2), Exchange("two", "z", wait=0.5), lead=0.0), say)
    assert not events(talk, "interruption")
    assert events(talk, "turn", USER)[1].start == pytest.approx(events(talk, "turn", MODEL)[0].end + 0.5)
    # Cutting in later than a reply has room for comes earlier.
    talk = compose(script(Exchange("one", "a b c d e f g h", cut_in=5.0), Exchange("two", "z"), lead=0.0), say)
    (interruption,) = events(talk, "interruption")
    assert interruption.start == pytest.approx(events(talk, "turn", MODEL)[0].start + 1.95 - 0.7)


def test_a_backchannel_does_not_stop_the_model():
    backchannels = (Backchannel(0.6, "yeah"), Backchannel(0.7, "right"), Backchannel(1.6, "okay"))
    talk = compose(script(Exchange("one", "a b c d e f g h", backchannels=backchannels, gap=0.2), lead=0.0), say)
    # The second would meet the first, the third would not end before the reply does.
    assert [(e.note, round(e.start, 4), e.speaker) for e in events(talk, "backchannel")] == [("yeah", 1.0, USER)]
    assert [word for word, _, _ in times(talk, MODEL)] == list("abcdefgh")
    assert sounds(talk.user, 1.0, 1.2) and len(events(talk, "turn", USER)) == 1


def test_silences_greeting_and_overlap():
    exchanges = (Exchange("one two", "yes no", gap=-0.08, wait=0.6), Exchange("three", "no", wait=3.0))
    talk = compose(script(*exchanges, greeting="hello there", lead=0.2, tail=4.0), say)
    assert events(talk, "turn", MODEL)[0].note == "opening"
    greeted = events(talk, "turn", MODEL)[0]
    assert greeted.start == pytest.approx(on_frame(0.2))
    user = events(talk, "turn", USER)
    assert user[0].start == pytest.approx(greeted.end + 0.6)
    (overlap,) = events(talk, "overlap")
    assert overlap.speaker == MODEL and overlap.end == user[0].end and overlap.start == on_frame(user[0].end - 0.08)
    silences = events(talk, "silence")
    assert [round(each.end - each.start, 2) for each in silences[:1]] == [3.0] and len(silences) == 2
    assert silences[1].end == pytest.approx(talk.seconds)


def test_nothing_overlaps_where_nothing_is_meant_to():
    exchanges = [
        Exchange("a b c d e", "f g h", gap=0.2 + 0.05 * i, wait=0.4, pauses=(Pause(2, 0.5, "um"),)) for i in range(4)
    ]
    talk = compose(script(*exchanges), say)
    at_once = (loudness(talk.model) > 1e-3) & (loudness(talk.user) > 1e-3)
    assert not at_once.any()
    turns = events(talk, "turn")
    for before, after in itertools.pairwise(turns):
        assert before.speaker != after.speaker and after.start > before.end
    starts = np.array([turn.start for turn in turns if turn.speaker == MODEL])
    assert np.abs(starts / FRAME_SECONDS - np.round(starts / FRAME_SECONDS)).max() < 1e-6


def test_the_same_line_gives_the_same_sound_at_every_frame():
    talk = compose(script(Exchange("one", "a b", gap=0.21), Exchange("two", "a b", wait=0.77, gap=0.33)), say)
    first, second = [round(turn.start * RATE) for turn in events(talk, "turn", MODEL)]
    assert (second - first) % round(FRAME_SECONDS * RATE) == 0
    count = round(0.45 * RATE)
    np.testing.assert_array_equal(talk.model[first : first + count], talk.model[second : second + count])


def talk_of_two():
    return compose(script(Exchange("one two three", "four five six", gap=0.4), lead=1.0, tail=1.0), say)


def test_surroundings_change_only_the_user():
    clean = talk_of_two()
    around = AcousticConditions(peak_db=-12.0, noise="pink", snr_db=20.0)
    noisy = apply_conditions(clean, around, np.random.default_rng(0))
    np.testing.assert_array_equal(noisy.model, clean.model)
    assert noisy.words == clean.words and noisy.events == clean.events
    # The noise goes on while the user is silent: 20 dB under the speech.
    user = events(clean, "turn", USER)[0]
    speech = noisy.user[round(user.start * RATE) : round(user.end * RATE)]
    silence = noisy.user[: round(0.9 * RATE)]
    spoken = np.sqrt(np.mean(speech[: round(0.2 * RATE)] ** 2))
    ratio = 20 * np.log10(spoken / np.sqrt(np.mean(silence**2)))
    assert 18 < ratio < 22
    again = apply_conditions(clean, around, np.random.default_rng(0))
    np.testing.assert_array_equal(again.user, noisy.user)
    quiet = apply_conditions(clean, AcousticConditions(peak_db=-12.0), np.random.default_rng(0))
    assert np.abs(quiet.user).max() == pytest.approx(10 ** (-12 / 20), rel=1e-4)


def test_echo_is_the_model_later_and_softer():
    clean = talk_of_two()
    heard = apply_conditions(clean, AcousticConditions(echo_db=-20.0, echo_seconds=0.05), np.random.default_rng(0))
    shift = round(0.05 * RATE)
    np.testing.assert_allclose((heard.user - clean.user)[shift:], 0.1 * clean.model[:-shift], atol=1e-6)


@pytest.mark.parametrize("line", ["telephone", "muffled"])
def test_a_line_takes_the_highs(line):
    clean = talk_of_two()
    noisy = apply_conditions(clean, AcousticConditions(noise="white", snr_db=10.0), np.random.default_rng(0))
    heard = apply_conditions(
        clean, AcousticConditions(noise="white", snr_db=10.0, channel=line), np.random.default_rng(0)
    )
    high = [np.abs(np.fft.rfft(each.user))[round(len(each.user) * 8000 / RATE) :].sum() for each in (noisy, heard)]
    assert high[1] < 0.5 * high[0] and heard.user.shape == clean.user.shape
