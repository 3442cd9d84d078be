"""Sounds that people made to be heard, and that are made anew: sirens, horns, bells, rings, beeps, whistles, knocks.

Most of these are tones from a circuit or a piece of metal, so that drawing their pitches, rhythms and partials gives
what is met outside, at every length, where recordings under free licences are few. Samples are float32 [N] at 16 kHz.

    example = signal("siren", np.random.default_rng(0))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import scipy.signal
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.scene.example import RATE, Example, silences
from antiphon.data.scene.labelled import spans_of
from antiphon.data.speech.augment import Samples, reverberate, room_response, scale_peak

Wave = NDArray[np.float64]
# Partials of a bell over its strike note: hum, prime, tierce, quint, nominal and those over it.
BELL = (0.5, 1.0, 1.19, 1.5, 2.0, 2.51, 2.67, 3.01, 4.1)


def _time(seconds: float) -> Wave:
    return np.arange(int(seconds * RATE)) / RATE


def _tone(hertz: Wave | float, seconds: float, harmonics: int = 1, fall: float = 1.0) -> Wave:
    """A tone of a constant or moving pitch; harmonic n has 1 / n^fall of the first's amplitude."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, int(seconds * RATE))) / RATE
    return sum((np.sin(n * phase) / n**fall for n in range(1, harmonics + 1)), np.zeros(len(phase)))


def _ring(hertz: float, seconds: float, decay: float, generator: Generator) -> Wave:
    """One stroke on metal: inharmonic partials, higher ones fading sooner."""
    time, out = _time(seconds), np.zeros(int(seconds * RATE))
    for partial in BELL:
        pitch = hertz * partial * generator.uniform(0.99, 1.01)
        if pitch < 0.45 * RATE:
            loud = generator.uniform(0.3, 1.0) / partial**0.7
            out += loud * np.sin(2 * np.pi * pitch * time) * np.exp(-time * partial**0.8 / decay)
    return out


def _repeated(one: Callable[[], Wave], count: int, every: float, generator: Generator) -> Wave:
    """Several, `every` seconds apart, ringing into each other."""
    parts = [one() for _ in range(count)]
    starts = [int(max(0.0, number * every + generator.normal(0.0, 0.02 * every)) * RATE) for number in range(count)]
    out = np.zeros(max(start + len(part) for start, part in zip(starts, parts)))
    for start, part in zip(starts, parts):
        out[start : start + len(part)] += part
    return out


def _gated(wave: Wave, on: float, off: float) -> Wave:
    """Switched on and off, with edges of 3 ms."""
    gate = (np.arange(len(wave)) / RATE % (on + off) < on).astype(float)
    return wave * np.convolve(gate, np.ones(48) / 48, "same")


def siren(generator: Generator) -> Wave:
    """A wail, a yelp, or two tones in turn."""
    seconds = float(generator.uniform(2.0, 6.0))
    low, high = generator.uniform(380.0, 750.0), generator.uniform(900.0, 1700.0)
    case = generator.integers(3)
    swing = _time(seconds) * generator.uniform(*((0.15, 0.5), (2.0, 4.5), (0.5, 1.2))[case]) + generator.random()
    if case == 2:
        high = low * generator.uniform(1.2, 1.4)
        share = (swing % 1.0 < 0.5).astype(float)
    else:
        share = 0.5 - 0.5 * np.cos(2 * np.pi * swing)
    return np.tanh(generator.uniform(0.5, 3.0) * _tone(low * (high / low) ** share, seconds, 3))


def beep(generator: Generator) -> Wave:
    """One to five short tones of one pitch."""
    on, count = float(generator.uniform(0.06, 0.5)), int(generator.integers(1, 6))
    every = on + float(generator.uniform(0.05, 0.6))
    wave = _tone(float(generator.uniform(600.0, 3200.0)), every * count, int(generator.choice([1, 1, 3, 7])))
    return _gated(wave, on, every - on)


def telephone_ring(generator: Generator) -> Wave:
    """Two bells struck by a hammer, or a warble of two tones; a second or two, a pause, again."""
    on, off, count = (
        float(generator.uniform(0.8, 2.0)),
        float(generator.uniform(0.5, 2.0)),
        int(generator.integers(1, 3)),
    )
    pitch, beat = float(generator.uniform(700.0, 1800.0)), float(generator.uniform(14.0, 26.0))
    if generator.random() < 0.5:
        strokes = [_ring(pitch * side, 0.4, 0.15, generator) for side in (1.0, generator.uniform(1.1, 1.3))]
        turn = itertools.count()

        def stroke() -> Wave:
            return strokes[next(turn) % 2]

        return _repeated(lambda: _repeated(stroke, int(on * beat), 1 / beat, generator), count, on + off, generator)
    time = _time((on + off) * count)
    hertz = np.where(time * beat % 1.0 < 0.5, pitch, pitch * generator.uniform(1.15, 1.35))
    return _gated(_tone(hertz, len(time) / RATE, int(generator.choice([1, 3, 5]))), on, off)


def clock_alarm(generator: Generator) -> Wave:
    """Groups of fast beeps, or a hammer between two small bells."""
    seconds = float(generator.uniform(1.5, 5.0))
    if generator.random() < 0.4:
        stroke = _ring(float(generator.uniform(2000.0, 3500.0)), 0.2, 0.08, generator)
        beat = float(generator.uniform(14.0, 30.0))
        return _repeated(lambda: stroke, int(seconds * beat), 1 / beat, generator)
    on, number = float(generator.uniform(0.05, 0.12)), int(generator.choice([2, 3, 4]))
    wave = _gated(_tone(float(generator.uniform(1800.0, 4100.0)), seconds, int(generator.choice([1, 3]))), on, on)
    return _gated(wave, 2 * on * number, float(generator.uniform(0.3, 0.8)))


def doorbell(generator: Generator) -> Wave:
    """Ding, dong: the second lower."""
    high = float(generator.uniform(500.0, 900.0))
    notes = iter([high, high / float(generator.choice([1.19, 1.26, 1.33, 1.5]))] * int(generator.integers(1, 3)))
    decay = float(generator.uniform(0.3, 0.9))
    every = float(generator.uniform(0.45, 0.9))

    def note() -> Wave:
        pitch, time = next(notes), _time(2.0)
        return sum(
            a * np.sin(2 * np.pi * h * pitch * time) * np.exp(-time * h / decay) for h, a in ((1, 1.0), (3, 0.3))
        )

    return _repeated(note, 2, every, generator)


def church_bells(generator: Generator) -> Wave:
    """One bell or several, each struck over and over."""
    base, count = float(generator.uniform(180.0, 600.0)), int(generator.integers(2, 7))
    pitches = base * 2.0 ** (generator.choice([0, 2, 4, 5, 7, 9, 12], int(generator.integers(1, 4))) / 12)
    decay = float(generator.uniform(1.0, 3.0))
    return _repeated(
        lambda: _ring(float(generator.choice(pitches)), 4.0, decay, generator),
        count,
        float(generator.uniform(0.5, 1.6)),
        generator,
    )


def bicycle_bell(generator: Generator) -> Wave:
    """A small bell, struck twice or more in quick turns."""
    pitch, decay = float(generator.uniform(1500.0, 3200.0)), float(generator.uniform(0.2, 0.7))
    count, every = int(generator.integers(2, 6)), float(generator.uniform(0.08, 0.25))
    return _repeated(lambda: _ring(pitch, 1.2, decay, generator), count, every, generator)


def car_horn(generator: Generator) -> Wave:
    """Two reeds a third apart, once or a few times."""
    on, count = float(generator.uniform(0.15, 1.5)), int(generator.integers(1, 4))
    low = float(generator.uniform(300.0, 480.0))
    seconds = (on + 0.2) * count
    wave = sum(_tone(pitch, seconds, 12, 0.8) for pitch in (low, low * generator.uniform(1.15, 1.3)))
    return _gated(np.tanh(wave), on, 0.2)


def whistle(generator: Generator) -> Wave:
    """A referee's: a high tone that a ball makes flutter."""
    seconds = float(generator.uniform(0.3, 2.0))
    time, pitch = _time(seconds), float(generator.uniform(2200.0, 4000.0))
    flutter = np.sin(2 * np.pi * generator.uniform(20.0, 45.0) * time)
    wave = _tone(pitch * (1 + 0.02 * flutter), seconds) * (0.65 + 0.35 * flutter)
    return wave + 0.05 * generator.standard_normal(len(wave))


def whistling(generator: Generator) -> Wave:
    """A person's: a few notes of a pure tone that glide and waver, with breath."""
    pitch, parts = float(generator.uniform(900.0, 1700.0)), []
    for _ in range(int(generator.integers(3, 8))):
        seconds, new = float(generator.uniform(0.15, 0.6)), pitch * 2.0 ** (float(generator.integers(-5, 6)) / 12)
        new = float(np.clip(new, 700.0, 2600.0))
        glide = np.minimum(_time(seconds) / 0.06, 1.0)
        waver = 1 + 0.008 * np.sin(2 * np.pi * 5.5 * _time(seconds))
        shape = np.minimum(1.0, np.minimum(_time(seconds), seconds - _time(seconds)) / 0.03)
        parts.append(_tone(pitch * (new / pitch) ** glide * waver, seconds) * (0.4 + 0.6 * shape))
        pitch = new
    wave = np.concatenate(parts)
    return wave + 0.02 * generator.standard_normal(len(wave))


def door_knock(generator: Generator) -> Wave:
    """Two to five knuckles on wood."""
    modes = generator.uniform(90.0, 900.0, 5)
    decays, loud = generator.uniform(0.015, 0.06, 5), generator.uniform(0.3, 1.0, 5)

    def knock() -> Wave:
        time = _time(0.3)
        wood = sum(a * np.sin(2 * np.pi * h * time) * np.exp(-time / d) for h, d, a in zip(modes, decays, loud))
        hit = generator.standard_normal(len(time)) * np.exp(-time / 0.004)
        return generator.uniform(0.6, 1.0) * (wood + 0.5 * hit)

    return _repeated(knock, int(generator.integers(2, 6)), float(generator.uniform(0.12, 0.4)), generator)


SIGNALS: dict[str, Callable[[Generator], Wave]] = {
    each.__name__: each
    for each in (
        siren, beep, telephone_ring, clock_alarm, doorbell, church_bells, bicycle_bell, car_horn, whistle, whistling,
        door_knock,
    )
}  # fmt: skip


def signal(name: str, generator: Generator) -> Example:
    """A made sound, as it comes over some air and through some microphone: kind and event are known.

    Args:
        name: of `SIGNALS`.
        generator: draws everything.
    """
    wave = SIGNALS[name](generator)
    low, high = sorted(generator.uniform([80.0, 3000.0], [400.0, 7500.0]))
    wave = scipy.signal.sosfilt(scipy.signal.butter(1, [low, high], "bandpass", fs=RATE, output="sos"), wave)
    samples: Samples = wave.astype(np.float32)
    if generator.random() < 0.6:
        samples = reverberate(
            np.pad(samples, (0, RATE // 4)), room_response(RATE, float(generator.uniform(0.2, 0.9)), generator)
        )
    samples = scale_peak(samples, float(generator.uniform(-15.0, -1.0)))
    spans = spans_of(samples, (("kind", "sound"), ("event", name)))
    known = frozenset({"kind", "event", "instrument", "speakers"})
    return Example(samples, (*spans, *silences(spans, len(samples) / RATE)), known, source=f"made {name}")
