"""Instruments that are circuits: drum machines, basses and synthesizers, each sound from drawn settings.

A sound font has a handful of each; outside there is no end of them, and all follow from a few rules: an oscillator or
noise, a filter that closes, a level that falls. Samples are float32 [N] at 16 kHz.

    example = electronic("drums", np.random.default_rng(0))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.signal
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.scene.example import RATE, Example, silences
from antiphon.data.scene.labelled import spans_of
from antiphon.data.speech.augment import Samples, scale_peak

Wave = NDArray[np.float64]


def _time(seconds: float) -> Wave:
    return np.arange(int(seconds * RATE)) / RATE


def _phase(hertz: Wave) -> Wave:
    return 2 * np.pi * np.cumsum(hertz) / RATE


def _noise(seconds: float, low: float, high: float, generator: Generator) -> Wave:
    wave = generator.standard_normal(int(seconds * RATE))
    return scipy.signal.sosfilt(scipy.signal.butter(2, [low, high], "bandpass", fs=RATE, output="sos"), wave)


def _filtered(hertz: Wave, cutoff: Wave, resonance: float, odd: bool) -> Wave:
    """A saw (or, of odd harmonics alone, a square) through a low-pass that moves, harmonic by harmonic."""
    phase, out = _phase(hertz), np.zeros(len(hertz))
    for number in range(1, int(min(60, 0.45 * RATE / hertz.max())) + 1, 2 if odd else 1):
        over = number * hertz / cutoff
        gain = 1 / np.sqrt((1 - over**2) ** 2 + (over / resonance) ** 2)
        out += np.minimum(gain, resonance) * np.sin(number * phase) / number
    return out


def drum(generator: Generator) -> Wave:
    """A kick, tom, snare, clap, hat or cymbal of a drum machine."""
    kind = str(generator.choice(["kick", "kick", "tom", "snare", "clap", "hat", "cymbal"]))
    if kind in ("kick", "tom"):
        seconds = float(generator.uniform(0.15, 0.9))
        time, end = (
            _time(seconds),
            float(generator.uniform(38.0, 65.0) if kind == "kick" else generator.uniform(70, 260)),
        )
        fall = float(generator.uniform(0.008, 0.07))
        wave = np.sin(_phase(end * (1 + generator.uniform(0.3, 6.0) * np.exp(-time / fall))))
        wave *= np.exp(-time / (seconds / generator.uniform(2.5, 5.0)))
        hit = _noise(seconds, 500.0, 6000.0, generator) * np.exp(-time / 0.004)
        return np.tanh(generator.uniform(0.7, 6.0) * (wave + generator.uniform(0.0, 0.8) * hit))
    if kind == "snare":
        seconds, body = float(generator.uniform(0.12, 0.5)), float(generator.uniform(140.0, 280.0))
        time = _time(seconds)
        wave = np.sin(_phase(body * (1 + 0.6 * np.exp(-time / 0.02)))) * np.exp(-time / 0.06)
        rattle = _noise(seconds, float(generator.uniform(300, 2500)), 7500.0, generator)
        return wave + generator.uniform(0.4, 2.0) * rattle * np.exp(-time / (seconds / 4))
    if kind == "clap":
        seconds = float(generator.uniform(0.15, 0.5))
        time, wave = _time(seconds), _noise(seconds, 700.0, float(generator.uniform(2500, 6000)), generator)
        again = sum(np.where(time >= d, np.exp(-np.maximum(time - d, 0) / 0.006), 0) for d in (0.0, 0.011, 0.023))
        return wave * (again + np.exp(-time / (seconds / 4)))
    seconds = float(generator.uniform(0.04, 0.25) if kind == "hat" else generator.uniform(0.5, 2.0))
    time = _time(seconds)
    metal = sum(np.sign(np.sin(2 * np.pi * h * time)) for h in generator.uniform(300.0, 1200.0, 6))
    metal = scipy.signal.sosfilt(scipy.signal.butter(2, 5000.0, "highpass", fs=RATE, output="sos"), metal)
    hiss = _noise(seconds, 4000.0, 7800.0, generator)
    return (generator.random() * metal / 3 + hiss) * np.exp(-time / (seconds / 4))


def drums(generator: Generator) -> Wave:
    """A stroke, or a few."""
    count = int(generator.choice([1, 1, 1, 2, 4]))
    every, one = float(generator.uniform(0.15, 0.6)), drum(generator)
    parts = [one if generator.random() < 0.6 else drum(generator) for _ in range(count)]
    out = np.zeros(max(int(n * every * RATE) + len(part) for n, part in enumerate(parts)))
    for n, part in enumerate(parts):
        out[int(n * every * RATE) :][: len(part)] += part
    return out


def bass(generator: Generator) -> Wave:
    """A low note: a filter that closes over a saw or a square, one oscillator that bends another, or nearly a sine."""
    seconds, low = float(generator.uniform(0.2, 3.0)), 440.0 * 2.0 ** ((generator.uniform(26, 48) - 69) / 12)
    time = _time(seconds)
    hertz = low * (1 + generator.choice([0.0, 0.0, 0.5]) * np.exp(-time / 0.03))
    kind = str(generator.choice(["filter", "filter", "filter", "bent", "sine"]))
    if kind == "filter":
        fall, highest = float(generator.uniform(0.03, 0.8)), float(generator.uniform(3.0, 40.0))
        moves = highest * np.exp(-time / fall) if generator.random() < 0.7 else 0.5 * highest * (
            1 + np.sin(2 * np.pi * generator.uniform(1.0, 9.0) * time)
        )  # fmt: skip
        wave = _filtered(hertz, low * (1.5 + moves), float(generator.uniform(0.7, 5.0)), bool(generator.random() < 0.4))
        if generator.random() < 0.4:  # a second oscillator, out of tune
            wave = wave + _filtered(1.007 * hertz, low * (1.5 + moves), 1.0, False)
    elif kind == "bent":
        index = generator.uniform(1.0, 6.0) * np.exp(-time / generator.uniform(0.05, 0.8))
        wave = np.sin(_phase(hertz) + index * np.sin(_phase(hertz * float(generator.choice([0.5, 1.0, 2.0, 3.0])))))
    else:
        wave = np.sin(_phase(hertz)) + generator.uniform(0.0, 0.3) * np.sin(2 * _phase(hertz))
    held = np.minimum(1.0, (seconds - time) / 0.05) * np.exp(-time / (seconds * generator.uniform(0.3, 3.0)))
    return np.tanh(generator.uniform(0.5, 6.0) * wave * held)


def synthesizer(generator: Generator) -> Wave:
    """No imitation of anything: steps of pitch, bent and ringing oscillators, sweeps, chords out of tune."""
    seconds = float(generator.uniform(0.3, 3.0))
    time, low = _time(seconds), 440.0 * 2.0 ** ((generator.uniform(45, 88) - 69) / 12)
    kind = str(generator.choice(["steps", "bent", "ring", "sweep", "chord", "lead"]))
    if kind == "steps":
        beat = float(generator.uniform(5.0, 22.0))
        drawn = low * 2.0 ** (generator.uniform(-2.0, 2.0, int(seconds * beat) + 2))
        hertz = drawn[(time * beat).astype(int)]
        wave = np.tanh(generator.uniform(0.5, 8.0) * np.sin(_phase(np.minimum(hertz, 6000.0))))
    elif kind == "bent":
        index = generator.uniform(1.0, 12.0) * np.abs(np.sin(np.pi * generator.uniform(0.2, 6.0) * time))
        wave = np.sin(2 * np.pi * low * time + index * np.sin(2 * np.pi * low * generator.uniform(0.1, 4.0) * time))
    elif kind == "ring":
        wave = np.sin(2 * np.pi * low * time) * np.sin(2 * np.pi * generator.uniform(20.0, 900.0) * time)
        wave *= 1 + np.sign(np.sin(2 * np.pi * generator.uniform(2.0, 16.0) * time))
    elif kind == "sweep":
        hertz = low * 2.0 ** (generator.uniform(-3.0, 3.0) * time / seconds)
        wave = _filtered(np.clip(hertz, 40.0, 4000.0), np.full(len(time), 3000.0), 2.0, bool(generator.random() < 0.5))
    else:
        steps = (0.0, float(generator.choice([3, 4])), 7.0) if kind == "chord" else (0.0, 0.0)
        cutoff = low * (1.5 + generator.uniform(2.0, 12.0) * np.abs(np.sin(np.pi * generator.uniform(0.1, 2.0) * time)))
        wave = sum(
            _filtered(np.full(len(time), low * 2.0 ** ((s + generator.normal(0, 0.08)) / 12)), cutoff, 2.0, False)
            for s in steps
        )
    rise = float(generator.choice([0.005, 0.005, 0.3 * seconds]))
    return wave * np.minimum(1.0, time / rise) * np.minimum(1.0, (seconds - time) / 0.03)


MACHINES: dict[str, Callable[[Generator], Wave]] = {each.__name__: each for each in (drums, bass, synthesizer)}


def electronic(name: str, generator: Generator) -> Example:
    """A made sound of one instrument: which one is known, and of drums and basses that they are music.

    Args:
        name: of `MACHINES`.
        generator: draws everything.
    """
    samples: Samples = scale_peak(MACHINES[name](generator).astype(np.float32), float(generator.uniform(-15.0, -1.0)))
    spans = spans_of(samples, (("kind", "music"), ("instrument", name)))
    # Steps of pitch may as well be a telephone, or something that beeps.
    known = frozenset({"instrument", "speakers"} | ({"kind", "event"} if name != "synthesizer" else set()))
    return Example(samples, (*spans, *silences(spans, len(samples) / RATE)), known, source=f"made {name}")
