"""Augmentation: levels and bands measured on signals whose answer is known; the same seed, the same sound."""

import dataclasses

import numpy as np
import pytest

from antiphon.data.speech import augment as aug

RATE = 16000


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def speech():
    """A buzz with syllables: a pulse train under a slow envelope, 1.5 s."""
    time = np.arange(int(1.5 * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * h * time) / h for h in range(1, 40))
    return (0.1 * buzz * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def band_energy(samples, low, high, rate=RATE):
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    return spectrum[(frequencies >= low) & (frequencies < high)].sum()


@pytest.mark.parametrize("kind", aug.NOISES)
@pytest.mark.parametrize("count", [1, 17, 16000])
def test_noise_has_unit_rms_and_follows_its_seed(kind, count, speech):
    noise = aug.make_noise(kind, count, RATE, generator(1), [speech])
    assert noise.shape == (count,) and noise.dtype == np.float32
    assert aug.rms(noise) == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(noise, aug.make_noise(kind, count, RATE, generator(1), [speech]))
    if count > 1:
        assert not np.array_equal(noise, aug.make_noise(kind, count, RATE, generator(2), [speech]))


@pytest.mark.parametrize(("slope", "fall"), [(0.0, 0.0), (1.0, 3.01), (2.0, 6.02)])
def test_noise_falls_by_its_colour(slope, fall):
    noise = aug.coloured_noise(1 << 17, slope, generator())
    low, high = band_energy(noise, 500, 1000) / 500, band_energy(noise, 1000, 2000) / 1000
    assert 10 * np.log10(low / high) == pytest.approx(fall, abs=0.4)


@pytest.mark.parametrize("snr", [-5.0, 5.0, 30.0])
def test_noise_is_added_at_its_level(speech, snr):
    noise = aug.coloured_noise(len(speech), 0.0, generator())
    added = aug.add_noise(speech, noise, snr) - speech
    assert 20 * np.log10(aug.rms(speech) / aug.rms(added)) == pytest.approx(snr, abs=0.1)
    with pytest.raises(aug.DataError, match="equally long"):
        aug.add_noise(speech, noise[:-1], snr)


def test_babble_needs_others(speech):
    with pytest.raises(aug.DataError, match="others"):
        aug.babble(100, [], generator())
    with pytest.raises(aug.DataError, match="others"):
        aug.babble(100, [np.zeros(50, np.float32)], generator())
    with pytest.raises(aug.DataError, match="no noise"):
        aug.make_noise("rain", 100, RATE, generator())


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_room_falls_by_60_db_in_its_time(seconds):
    tails = np.stack([aug.room_response(RATE, seconds, generator(seed)) for seed in range(50)])
    assert np.all(tails[:, 0] == 1.0)
    level = 10 * np.log10(np.mean(tails[:, 1:] ** 2, axis=0) + 1e-20)
    slope = np.polyfit(np.arange(1000, len(level)) / RATE, level[1000:], 1)[0]
    assert slope == pytest.approx(-60.0 / seconds, rel=0.1)


def test_reverberation_keeps_length_level_and_start(speech):
    wet = aug.reverberate(speech, aug.room_response(RATE, 0.3, generator()))
    assert wet.shape == speech.shape and aug.rms(wet) == pytest.approx(aug.rms(speech), rel=1e-4)
    click = np.zeros(RATE, np.float32)
    click[1000] = 1.0
    wet = aug.reverberate(click, aug.room_response(RATE, 0.3, generator()))
    assert np.abs(wet[:1000]).max() < 1e-6 and np.argmax(np.abs(wet)) == 1000


def test_telephone_keeps_only_its_band():
    noise = 0.1 * aug.coloured_noise(4 * RATE, 0.0, generator())
    line = aug.telephone(noise, RATE, generator(3))
    assert line.shape == noise.shape and aug.rms(line) == pytest.approx(aug.rms(noise), rel=1e-3)
    inside = band_energy(line, 500, 2500) / 2000
    assert band_energy(line, 0, 100) / 100 < 0.02 * inside
    assert band_energy(line, 4300, 8000) / 3700 < 0.001 * inside
    assert not aug.telephone(np.zeros(800, np.float32), RATE, generator()).any()


def test_mu_law_is_fine_near_zero_and_coarse_at_full_scale():
    steps = np.linspace(-1, 1, 200001).astype(np.float32)
    rounded = aug.mu_law(steps)
    assert len(np.unique(rounded)) == 256
    error = np.abs(rounded - steps)
    assert error[np.abs(steps) < 0.01].max() < 5e-4 and 0.005 < error.max() < 0.03


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_moves_tempo_and_pitch(factor):
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    fast = aug.change_speed(tone, RATE, factor)
    assert len(fast) == round(len(tone) / factor)
    peak = np.fft.rfftfreq(len(fast), 1 / RATE)[np.argmax(np.abs(np.fft.rfft(fast)))]
    assert peak == pytest.approx(1000 * factor, rel=0.01)


def test_silence_and_level(speech):
    longer = aug.surround(speech, RATE, 0.25, 0.5)
    assert len(longer) == len(speech) + 4000 + 8000
    assert np.array_equal(longer[4000:-8000], speech) and not longer[:4000].any() and not longer[-8000:].any()
    assert np.abs(aug.scale_peak(speech, -20.0)).max() == pytest.approx(0.1, rel=1e-3)
    clipped = aug.scale_peak(speech, 6.0)
    assert np.abs(clipped).max() == 1.0 and np.mean(np.abs(clipped) == 1.0) > 0.001
    assert not aug.scale_peak(np.zeros(5, np.float32), 0.0).any()


@pytest.mark.parametrize("samples", [0, 1, 100, 24000])
def test_everything_at_once_is_finite_bounded_and_repeatable(samples, speech):
    config = aug.Augment(speed=1, reverb=1, noise=1, telephone=1, level=1, silence=1)
    clean = np.resize(speech, samples).astype(np.float32)
    heard = aug.augment(clean, RATE, generator(5), config, [speech])
    assert heard.dtype == np.float32 and np.isfinite(heard).all() and np.abs(heard).max(initial=0.0) <= 1.0
    assert np.array_equal(heard, aug.augment(clean, RATE, generator(5), config, [speech]))
    if samples > 1:
        assert not np.array_equal(heard, aug.augment(clean, RATE, generator(6), config, [speech]))


def test_nothing_happens_at_probability_zero(speech):
    names = ("speed", "reverb", "noise", "telephone", "muffle", "level", "silence")
    never = aug.Augment(**dict.fromkeys(names, 0.0))
    before = speech.copy()
    assert np.array_equal(aug.augment(speech, RATE, generator(), never), speech)
    for name in names:
        changed = aug.augment(speech, RATE, generator(), dataclasses.replace(never, **{name: 1.0}))
        assert len(changed) != len(speech) or not np.allclose(changed, speech, atol=1e-4), name
    assert np.array_equal(speech, before)  # no function writes into what it was given


@pytest.mark.parametrize("wrong", [{"noise": 1.5}, {"snr_db": (30.0, 5.0)}, {"noises": ("rain",)}])
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(aug.DataError):
        aug.Augment(**wrong)
