"""The same words said another way: fast, slow, loud, soft, whispered, shouted, hesitating, asking.

A recording is taken apart by WORLD (Morise et al. 2016; the package pyworld) into pitch, spectral envelope and breath,
each is changed as a speaker would change it, and they are put together again. A loud voice isn't one that is turned up:
its spectrum falls less steeply, its pitch and its first formant rise (Liénard and Di Benedetto 1999); a whisper has no
pitch, higher formants and little below 500 Hz. Unchanged speech goes through WORLD too, so its traces tell nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.scene.example import RATE, Example, Span, activity
from antiphon.data.scene.mixtures import Canvas, Clip, levelled, surround
from antiphon.data.speech.augment import Samples, scale_peak
from antiphon.data.speech.voices.base import stretch_frequency
from antiphon.errors import DataError

PERIOD = 0.005  # seconds of a frame
LIVELY = 150  # voiced milliseconds that the last half second needs for its tone to say something
KNOWN = frozenset(
    {"kind", "event", "instrument", "speakers"}
    | {f"manner/{each}" for each in ("fast", "slow", "loud", "soft", "whispered", "shouted", "hesitating")}
    | {f"manner/{each}" for each in ("laughing", "crying", "sighing")}
)


@dataclass(frozen=True)
class Voice:
    """Speech, taken apart.

    Attributes:
        pitch: Hz, 0 where there is none, float64 [frames] of 5 ms.
        envelope: power spectrum, [frames, bins].
        breath: share of the power that is noise, [frames, bins].
    """

    pitch: NDArray[np.float64]
    envelope: NDArray[np.float64]
    breath: NDArray[np.float64]

    def at(self, frames: NDArray[np.float64]) -> Voice:
        """The voice at these (fractional) frames, in this order."""
        low = np.clip(np.floor(frames).astype(int), 0, len(self.pitch) - 1)
        high = np.minimum(low + 1, len(self.pitch) - 1)
        share = (frames - low)[:, None]
        envelope = np.exp((1 - share) * np.log(self.envelope[low]) + share * np.log(self.envelope[high]))
        breath = (1 - share) * self.breath[low] + share * self.breath[high]
        nearest = np.where(share[:, 0] < 0.5, low, high)
        both = (self.pitch[low] > 0) & (self.pitch[high] > 0)
        between = (1 - share[:, 0]) * self.pitch[low] + share[:, 0] * self.pitch[high]
        return Voice(np.where(both, between, self.pitch[nearest]), envelope, breath)


def _world():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks setuptools for its own version
            import pyworld
    except ImportError as error:
        raise DataError(
            f"Changing how something is said needs pyworld: pip install 'antiphon[scene]' ({error})."
        ) from None
    return pyworld


def analyse(samples: Samples) -> Voice:
    """Takes speech apart, [N] at 16 kHz."""
    world, signal = _world(), samples.astype(np.float64)
    rough, times = world.dio(signal, RATE, frame_period=1000 * PERIOD)
    pitch = world.stonemask(signal, rough, times, RATE)
    return Voice(pitch, world.cheaptrick(signal, pitch, times, RATE), world.d4c(signal, pitch, times, RATE))


def synthesize(voice: Voice) -> Samples:
    """Puts it together again, [N] at 16 kHz."""
    parts = (np.ascontiguousarray(each) for each in (voice.pitch, voice.envelope, voice.breath))
    return _world().synthesize(*parts, RATE, 1000 * PERIOD).astype(np.float32)


def stretched(voice: Voice, factor: float) -> Voice:
    """`factor` times as long."""
    return voice.at(np.arange(0.0, len(voice.pitch) - 1, 1.0 / factor))


def other_speaker(voice: Voice, pitch: float, formant: float) -> Voice:
    """Pitch and formants by these factors: another throat."""
    envelope = stretch_frequency(voice.envelope.T, formant, smooth=True).T
    return replace(voice, pitch=voice.pitch * pitch, envelope=envelope)


def tilted(voice: Voice, decibels: float, corner: float = 700.0) -> Voice:
    """The spectrum raised by so many dB an octave above `corner` Hz, 3 octaves at most (lowered where negative)."""
    hertz = np.linspace(0.0, RATE / 2, voice.envelope.shape[1])
    octaves = np.clip(np.log2(np.maximum(hertz, 1.0) / corner), 0.0, 3.0)
    return replace(voice, envelope=voice.envelope * 10.0 ** (decibels * octaves / 10.0))


def loud(voice: Voice, generator: Generator) -> Voice:
    """With effort: a flatter spectrum, higher pitch, less breath."""
    voice = tilted(
        other_speaker(voice, generator.uniform(1.12, 1.35), generator.uniform(1.0, 1.05)), generator.uniform(2.5, 5.0)
    )
    return replace(voice, breath=voice.breath**1.3)


def soft(voice: Voice, generator: Generator) -> Voice:
    """Without effort: a steeper spectrum, lower pitch that moves less, more breath."""
    voice = tilted(_flattened(voice, 0.7), -generator.uniform(2.5, 5.0))
    return replace(voice, pitch=voice.pitch * generator.uniform(0.85, 0.97), breath=np.minimum(1.0, voice.breath**0.6))


def shouted(voice: Voice, generator: Generator) -> Voice:
    """At the top of the voice: far higher, flat in pitch, formants up, vowels longer."""
    voice = other_speaker(_flattened(voice, 0.5), generator.uniform(1.5, 2.1), generator.uniform(1.05, 1.14))
    voice = stretched(tilted(voice, generator.uniform(5.0, 7.0)), generator.uniform(1.0, 1.2))
    return replace(voice, breath=voice.breath**1.6)


def whispered(voice: Voice, generator: Generator) -> Voice:
    """No pitch at all; formants higher, little of what lies below 500 Hz."""
    hertz = np.linspace(0.0, RATE / 2, voice.envelope.shape[1])
    low = 10.0 ** (-generator.uniform(12.0, 20.0) * np.clip(1.0 - hertz / 600.0, 0.0, 1.0) / 10.0)
    voice = tilted(other_speaker(voice, 1.0, generator.uniform(1.04, 1.12)), generator.uniform(1.0, 3.0))
    return Voice(np.zeros_like(voice.pitch), voice.envelope * low, np.ones_like(voice.breath))


def sex_by_pitch(samples: Samples) -> str:
    """Whether an adult who speaks plainly is a woman or a man, by the middle pitch; "" where it is between."""
    world, signal = _world(), samples.astype(np.float64)
    pitch, _ = world.dio(signal, RATE, frame_period=1000 * PERIOD)
    voiced = pitch[pitch > 0]
    middle = float(np.median(voiced)) if len(voiced) > 100 else 0.0
    return "" if not 60 < middle < 300 or 145 < middle < 170 else "male" if middle <= 145 else "female"


def _flattened(voice: Voice, keep: float) -> Voice:
    """The pitch's movement around its middle, in octaves, times `keep`."""
    voiced = voice.pitch > 0
    if not voiced.any():
        return voice
    middle = np.median(np.log(voice.pitch[voiced]))
    pitch = np.where(voiced, np.exp(middle + keep * (np.log(np.maximum(voice.pitch, 1.0)) - middle)), 0.0)
    return replace(voice, pitch=pitch)


def ending(voice: Voice, rising: bool, generator: Generator) -> Voice | None:
    """The last half second's tone made to rise, as in a question, or to fall, as in a statement.

    Returns:
        The voice; None where too little of its end is voiced to carry a tone.
    """
    voiced = np.flatnonzero(voice.pitch > 0)
    if not len(voiced):
        return None
    last = int(voiced[-1]) + 1
    first = max(0, last - int(generator.uniform(0.4, 0.6) / PERIOD))
    part = voice.pitch[first:last]
    if np.count_nonzero(part) * 1000 * PERIOD < LIVELY:
        return None
    middle = float(np.median(voice.pitch[voiced]))
    along = np.linspace(0.0, 1.0, last - first) ** generator.uniform(1.0, 2.0)
    if rising:
        start, end = generator.uniform(0.85, 1.05), generator.uniform(1.45, 2.1)
    else:
        start, end = generator.uniform(0.95, 1.1), generator.uniform(0.6, 0.8)
    line = middle * start * (end / start) ** along
    pitch = voice.pitch.copy()
    pitch[first:last] = np.where(part > 0, line, 0.0)
    return replace(voice, pitch=pitch)


def hesitating(voice: Voice, generator: Generator, times: int | None = None) -> Voice:
    """With pauses in it, and a vowel held in most of them ("uh").

    Args:
        voice: at least a second of it.
        generator: draws where, how long, and which.
        times: how many; None draws 1 to 3.
    """
    power = np.log(voice.envelope.sum(1))
    loudest = power.max()
    usual = np.convolve(power, np.ones(9) / 9, "same")
    inner = np.arange(int(0.3 / PERIOD), max(int(0.3 / PERIOD), len(power) - int(0.3 / PERIOD)))
    dips = [i for i in inner if usual[i] == usual[max(0, i - 12) : i + 13].min() and usual[i] < loudest - 3.0]
    vowels = np.flatnonzero((voice.pitch > 0) & (power > loudest - 2.5))
    if not dips or not len(vowels):
        return voice
    count = int(generator.integers(1, 4)) if times is None else times
    deepest = sorted(dips, key=lambda dip: usual[dip])[: 2 * count]  # between words rather than in them
    chosen = sorted(generator.choice(deepest, min(count, len(deepest)), replace=False))
    quiet = int(np.argmin(power))
    path: list[NDArray[np.float64]] = []
    held: list[NDArray[np.bool_]] = []
    at = 0
    for dip in (*chosen, len(power)):
        path.append(np.arange(at, dip, dtype=np.float64))
        held.append(np.zeros(dip - at, bool))
        at = dip
        if dip == len(power):
            break
        before, after = (int(generator.uniform(0.15, 0.7) / PERIOD) for _ in range(2))
        vowel = int(generator.uniform(0.2, 0.55) / PERIOD) if generator.random() < 0.75 else 0
        filler = generator.choice(vowels)
        path.append(np.concatenate([np.full(before, quiet), np.full(vowel, filler), np.full(after, quiet)]))
        held.append(np.repeat([False, True, False], [before, vowel, after]))
    frames, hold = np.concatenate(path), np.concatenate(held)
    voice = voice.at(frames)
    middle = float(np.median(voice.pitch[voice.pitch > 0]))
    # A held sound sinks a little and wavers; its pitch isn't that of one frame.
    waver = 0.92 - 0.05 * np.sin(np.arange(len(hold)) * 0.05) + 0.01 * generator.standard_normal(len(hold))
    envelope = voice.envelope * np.where(hold, 10.0 ** (-generator.uniform(4.0, 10.0) / 10.0), 1.0)[:, None]
    return replace(voice, pitch=np.where(hold, middle * waver, voice.pitch), envelope=envelope)


RATES = {"fast": (0.52, 0.68), "": (0.92, 1.08), "slow": (1.45, 1.9)}  # factor on the length
EFFORTS = {
    "loud": (-17.0, -9.0),
    "": (-26.0, -16.0),
    "soft": (-40.0, -27.0),
    "whispered": (-42.0, -27.0),
    "shouted": (-13.0, -6.0),
}
_CHANGES = {"loud": loud, "soft": soft, "whispered": whispered, "shouted": shouted}


def manner(clip: Clip, generator: Generator, clean: bool = True) -> Example:
    """Plain speech, said in a drawn manner.

    Tempo, effort, hesitation and the end's tone are drawn apart from each other; each is as it was in about half.
    Whispers are not told soft or not, nor asking: others may see it so.

    Args:
        clip: speech of 1 to 6 s at its usual rate, one speaker.
        generator: draws the manner, the level and what is around it.
        clean: whether it was recorded in quiet.
    """
    rate = str(generator.choice(list(RATES), p=[0.25, 0.5, 0.25]))
    effort = str(generator.choice(list(EFFORTS), p=[0.15, 0.4, 0.15, 0.15, 0.15]))
    voice = analyse(clip.samples)
    if generator.random() < 0.6:
        voice = other_speaker(voice, *_drawn_speaker(generator))
    labels, known = [each for each in (rate, effort) if each], set(KNOWN)
    if effort != "whispered" and generator.random() < 0.7:
        rising = bool(generator.random() < 0.5)
        if (toned := ending(voice, rising, generator)) is not None:
            voice = toned
            known.add("manner/question")
            labels += ["question"] * rising
    if len(voice.pitch) * PERIOD > 1.2 and generator.random() < 0.2:
        longer = hesitating(voice, generator)
        if len(longer.pitch) > len(voice.pitch):
            voice = longer
            labels.append("hesitating")
            # Pauses make speech slow without slow words.
            known -= {"manner/slow", "manner/fast"}
    voice = stretched(voice, generator.uniform(*RATES[rate]))
    if effort:
        voice = _CHANGES[effort](voice, generator)
    if effort == "whispered":
        known -= {"manner/soft", "manner/question"}
    if effort == "shouted":
        labels.append("loud")
    return _spoken(voice, labels, known, EFFORTS[effort], clip.source, generator, clean)


def tone(clip: Clip, generator: Generator, clean: bool = True) -> Example:
    """Plain speech whose end rises or falls and is else as it was: only its tone tells a question."""
    voice = analyse(clip.samples)
    if generator.random() < 0.6:
        voice = other_speaker(voice, *_drawn_speaker(generator))
    known, rising = set(KNOWN), bool(generator.random() < 0.5)
    if (toned := ending(voice, rising, generator)) is None:
        return _spoken(voice, [], known, EFFORTS[""], clip.source, generator, clean)
    labels = ["question"] if rising else []
    return _spoken(toned, labels, known | {"manner/question"}, EFFORTS[""], clip.source, generator, clean)


def _spoken(
    voice: Voice,
    labels: list[str],
    known: set[str],
    level: tuple[float, float],
    source: str,
    generator: Generator,
    clean: bool,
) -> Example:
    """A changed voice as an example: put together, at a level that goes with its effort, in surroundings."""
    samples = levelled(synthesize(voice), float(generator.uniform(*level)))
    stretches = activity(samples, gap=0.5)
    spans = [Span("kind", "speech", *each) for each in stretches]
    if stretches:
        whole = (stretches[0][0], stretches[-1][1])
        spans += [Span("manner", each, *whole) for each in labels] + [Span("speakers", "one", *whole)]
    before, after = float(generator.uniform(0.0, 0.6)), float(generator.uniform(0.0, 0.6))
    canvas = Canvas.empty(before + len(samples) / RATE + after)
    first = int(before * RATE)
    canvas.samples[first : first + len(samples)] = np.clip(samples, -1.0, 1.0)[: len(canvas.samples) - first]
    canvas.spans = [span.moved(before) for span in spans]
    canvas.sources = [source]
    peak = 20.0 * np.log10(max(float(np.abs(canvas.samples).max()), 1e-6))
    example = surround(canvas.finished(frozenset(known)), generator, clean)
    # The level is part of the manner: back to it after the surroundings, give or take another microphone.
    return replace(example, samples=scale_peak(example.samples, peak + float(generator.uniform(-4.0, 4.0))))


def _drawn_speaker(generator: Generator) -> tuple[float, float]:
    """Factors on pitch and formants of another speaker: lower voices come from longer throats."""
    pitch = float(np.exp(generator.uniform(np.log(0.75), np.log(1.35))))
    return pitch, float(pitch**0.3 * generator.uniform(0.95, 1.05))
