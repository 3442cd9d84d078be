"""Metrics against cases computed by hand."""

import math

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.metrics.speech import (
    DNSMOS_WINDOW,
    dnsmos,
    dnsmos_all,
    dnsmos_windows,
    log_mel_distance,
    mean_delta,
    stoi,
)
from antiphon.evals.metrics.text import count_words, loops, token_f1, word_error_rate


def test_wer_counts_edits_over_all_words():
    # 4 + 2 words; one substitution, one deletion, one insertion
    assert word_error_rate(["the cat sat down", "good morning"], ["the bat down", "good morning sir"]) == pytest.approx(
        3 / 6
    )
    assert word_error_rate(["a b"], [""]) == 1.0


def test_wer_forgives_spelling_but_not_words():
    assert word_error_rate(["It's twenty-one degrees, colour grey!"], ["it is 21 degrees color gray"]) == 0.0
    assert word_error_rate(["What's Jeffs name? It’s Bob."], ["what is Jeff's name it is bob"]) == 0.0
    assert word_error_rate(["Giants vs. Brewers"], ["giants versus brewers"]) == 0.0
    assert word_error_rate(["Paris."], ["Rome."]) == 1.0


def test_wer_counts_words_heard_in_silence():
    assert word_error_rate(["...", "the cat sat down"], ["thank you", "the cat sat down"]) == pytest.approx(2 / 4)


def test_wer_refuses_what_has_no_answer():
    with pytest.raises(ValueError):
        word_error_rate(["a"], ["a", "b"])
    with pytest.raises(ValueError):
        word_error_rate(["..."], ["a"])


def test_token_f1():
    assert token_f1("The capital is Rome.", "the capital is rome") == 1.0
    # 4 and 3 words, 2 shared: P = 2/3, R = 2/4
    assert token_f1("rome is the capital", "rome the eternal") == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    # a word counts as often as both have it: 1 of 2 and 1 of 1
    assert token_f1("no no", "no") == pytest.approx(2 / 3)
    assert token_f1("", "") == 1.0
    assert token_f1("yes", "") == 0.0


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("Rome, the capital of Rome, the capital of Rome, the capital of Italy.", True),
        ("Il capo di Roma, il capital di Roma, il capo di Roma.", False),  # no three words three times
        ("no no no no no", True),
        ("no no no no", False),
        ("The cat saw the cat and the cat.", False),
        ("A spider has eight legs.", False),
        ("- - - - -", False),
        ("", False),
    ],
)
def test_loops(text, looping):
    assert loops(text) is looping


def test_count_words():
    assert count_words("It's 21 degrees - in well-known Rome.") == 6
    assert count_words(" ... ") == 0


def test_delta_is_the_mean_of_pairs():
    assert mean_delta([3.0, 2.0], [3.5, 2.1]) == pytest.approx(-0.3)
    with pytest.raises(EvalError):
        mean_delta([1.0], [1.0, 2.0])
    with pytest.raises(EvalError):
        mean_delta([], [])


def voice(seconds=2.0, rate=16000, seed=0):
    """Noise with the rise and fall of syllables: enough for measures of envelopes."""
    t = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(seed))
    return Audio(0.3 * noise * (0.55 + 0.45 * torch.sin(2 * math.pi * 4 * t)), rate)


def test_stoi_falls_with_noise():
    pytest.importorskip("pystoi")
    clean = voice()
    noisy = Audio(clean.samples + voice(seed=1).samples, clean.sample_rate)
    assert stoi(clean, clean) == pytest.approx(1.0, abs=1e-3)
    assert stoi(clean, noisy) < 0.9
    longer = Audio(torch.cat([clean.samples, torch.zeros(500)]), clean.sample_rate)
    assert stoi(clean, longer) == pytest.approx(1.0, abs=1e-3)


def test_stoi_refuses_what_does_not_fit():
    with pytest.raises(EvalError):
        stoi(voice(), voice(rate=8000))
    with pytest.raises(EvalError):
        stoi(voice(0.2), voice(0.2))


def test_stoi_is_of_what_is_not_silent():
    pytest.importorskip("pystoi")
    short = Audio(torch.cat([voice(0.3).samples, torch.zeros(16000)]), 16000)
    with pytest.raises(EvalError, match="not silent"):
        stoi(short, short)
    assert stoi(voice(), Audio(torch.zeros(32000), 16000)) == pytest.approx(0.0, abs=1e-3)


def test_log_mel_distance():
    clean = voice()
    assert log_mel_distance(clean, clean) == 0.0
    # half as loud everywhere is ln 2 in every band above the floor
    assert log_mel_distance(clean, Audio(clean.samples / 2, clean.sample_rate)) == pytest.approx(math.log(2), abs=0.01)
    with pytest.raises(EvalError):
        log_mel_distance(clean, voice(rate=8000))


def test_dnsmos_windows_follow_the_package():
    second = np.arange(16000, dtype=np.float32)
    # 1 s doubles to 16 s; int(16 - 9.01) + 1 = 7 windows, a second apart
    windows = dnsmos_windows(second)
    assert [len(w) for w in windows] == [DNSMOS_WINDOW] * 7
    assert (windows[3][:16000] == second).all()
    # 12.5 s as it is: int(12 - 9.01) + 1 = 3
    assert len(dnsmos_windows(np.zeros(200000, np.float32))) == 3
    # exactly one window: int(9 - 9.01) + 1 = 1
    assert len(dnsmos_windows(np.zeros(DNSMOS_WINDOW, np.float32))) == 1


@pytest.mark.slow
def test_dnsmos_prefers_speech_to_noise():
    pytest.importorskip("speechmos")
    from antiphon.data.speech.voices.base import HibariVoice

    spoken = Audio(torch.from_numpy(HibariVoice().speak("Good morning, how can I help you today?").samples), 24000)
    noise = Audio(0.2 * torch.randn(48000, generator=torch.Generator().manual_seed(0)), 24000)
    clean, noisy = dnsmos_all([spoken, noise], threads=2)
    assert clean > 2.5 > noisy
    assert dnsmos(spoken) == clean
    with pytest.raises(EvalError):
        dnsmos(Audio(torch.zeros(0), 24000))
