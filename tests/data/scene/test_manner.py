"""The same words in another manner: what is changed is what the label says, measured on the result."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from antiphon.data.scene.example import RATE, Span
from antiphon.data.scene.manner import (
    PERIOD,
    analyse,
    ending,
    hesitating,
    loud,
    manner,
    other_speaker,
    sex_by_pitch,
    shouted,
    soft,
    stretched,
    synthesize,
    tone,
    whispered,
)
from antiphon.data.scene.mixtures import Clip


def vowel(seconds: float = 2.0, pitch: float = 120.0) -> np.ndarray:
    """A voice-like sound: pulses through two formants, in syllables of a third of a second."""
    time = np.arange(int(seconds * RATE)) / RATE
    hertz = pitch * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * time))
    phase = np.cumsum(hertz) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    for formant, width in ((650, 90), (1200, 110), (2600, 160)):
        radius = np.exp(-np.pi * width / RATE)
        pulses = scipy.signal.lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], pulses)
    syllables = np.clip(np.sin(2 * np.pi * 1.5 * time) * 4, 0.0, 1.0)
    sound = pulses * syllables
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


def middle_pitch(samples: np.ndarray) -> float:
    pitch = analyse(samples).pitch
    return float(np.median(pitch[pitch > 0])) if (pitch > 0).sum() > 20 else 0.0


def tilt(samples: np.ndarray) -> float:
    """dB of what lies over 1.5 kHz against what lies under it."""
    hertz, power = scipy.signal.welch(samples, RATE, nperseg=1024)
    return float(10 * np.log10(power[hertz > 1500].sum() / power[hertz <= 1500].sum()))


@pytest.fixture(scope="module")
def voice():
    return analyse(vowel())


def test_taken_apart_and_put_together_it_is_the_same_voice(voice) -> None:
    again = synthesize(voice)
    assert len(again) == pytest.approx(2 * RATE, abs=RATE * 0.02)
    assert middle_pitch(again) == pytest.approx(middle_pitch(vowel()), rel=0.03)


def test_fast_and_slow_change_the_length_alone(voice) -> None:
    for factor in (0.6, 1.7):
        changed = synthesize(stretched(voice, factor))
        assert len(changed) == pytest.approx(2 * RATE * factor, rel=0.03)
        assert middle_pitch(changed) == pytest.approx(middle_pitch(vowel()), rel=0.05)


def test_effort_changes_the_spectrum_and_the_pitch(voice) -> None:
    plain = synthesize(voice)
    generator = np.random.default_rng(0)
    louder, softer, shout = (synthesize(change(voice, generator)) for change in (loud, soft, shouted))
    assert tilt(louder) > tilt(plain) + 2 > tilt(softer) + 4
    assert middle_pitch(softer) < middle_pitch(plain) < middle_pitch(louder) < middle_pitch(shout)
    assert tilt(shout) > tilt(louder)


def test_a_whisper_has_no_pitch(voice) -> None:
    whisper = synthesize(whispered(voice, np.random.default_rng(0)))
    found = analyse(whisper).pitch
    assert (found > 0).mean() < 0.1 < (voice.pitch > 0).mean()
    assert tilt(whisper) > tilt(synthesize(voice))


def test_another_throat(voice) -> None:
    assert middle_pitch(synthesize(other_speaker(voice, 1.5, 1.1))) == pytest.approx(1.5 * 120, rel=0.06)


def test_a_question_rises_at_its_end_and_a_statement_falls(voice) -> None:
    for seed in range(5):
        rise, fall = (ending(voice, rising, np.random.default_rng(seed)) for rising in (True, False))
        voiced = voice.pitch > 0
        last = np.flatnonzero(voiced)[-30:]
        assert rise is not None and fall is not None
        assert rise.pitch[last[-1]] > 1.4 * np.median(voice.pitch[voiced]) > 1.6 * fall.pitch[last[-1]]
        assert np.array_equal(rise.pitch > 0, voiced)
    assert ending(whispered(voice, np.random.default_rng(0)), True, np.random.default_rng(0)) is None


def test_hesitating_adds_pauses_and_a_held_vowel(voice) -> None:
    longer = hesitating(voice, np.random.default_rng(1), times=2)
    assert len(longer.pitch) * PERIOD > 2.6
    assert np.count_nonzero(longer.pitch) >= np.count_nonzero(voice.pitch)


def test_a_manner_is_drawn_by_its_seed_and_says_what_it_did() -> None:
    clip = Clip(vowel(), (Span("kind", "speech", 0.0, 2.0),), "vowel")
    seen: dict[str, list[float]] = {}
    for seed in range(45):
        made = manner(clip, np.random.default_rng(seed))
        if seed < 2:
            assert np.array_equal(made.samples, manner(clip, np.random.default_rng(seed)).samples)
        labels = {span.label for span in made.spans if span.group == "manner"}
        for label in labels or {"plain"}:
            seen.setdefault(label, []).append(float(np.abs(made.samples).max()))
        # Pauses make speech slow without slow words: then its tempo isn't told.
        told = labels - {"fast", "slow"} if "hesitating" in labels else labels
        assert all(f"manner/{label}" in made.known for label in told)
        assert "manner/question" not in made.known or "whispered" not in labels
        assert np.isfinite(made.samples).all() and np.abs(made.samples).max() <= 1.0
        assert len([span for span in made.spans if span.group == "speakers"]) == 1
    assert {"fast", "slow", "loud", "soft", "whispered", "shouted", "question", "hesitating"} <= set(seen)
    assert np.median(seen["soft"]) < np.median(seen["loud"])


def test_a_tone_alone_tells_a_question() -> None:
    clip, found = Clip(vowel(), (Span("kind", "speech", 0.0, 2.0),), "vowel"), []
    for seed in range(12):
        made = tone(clip, np.random.default_rng(seed))
        assert "manner/question" in made.known
        found.append({span.label for span in made.spans if span.group == "manner"})
    assert all(labels <= {"question"} for labels in found) and 2 < sum(map(bool, found)) < 10


def test_sex_is_told_by_pitch_only_where_it_is_clear() -> None:
    assert [sex_by_pitch(vowel(pitch=pitch)) for pitch in (110.0, 157.0, 215.0)] == ["male", "", "female"]
    assert sex_by_pitch(np.zeros(RATE, np.float32)) == ""
