"""Make clean speech sound as a user's microphone hears it.

Ears that are trained only on clean synthetic speech fail on a phone in a kitchen. Each function here makes one such
change and is pure: what it does depends on its arguments and on the generator it is given, nothing else. Samples are
float32 numpy arrays `[samples]` in [-1, 1], beside their rate in Hz.

    config = Augment()
    heard = augment(samples, 24000, np.random.default_rng(seed), config, others=[another, voice])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.signal
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.errors import DataError

Samples = NDArray[np.float32]
NOISES = ("white", "pink", "brown", "hum", "babble")


@dataclass(frozen=True)
class Augment:
    """How often, and how strongly, each change is made.

    Attributes:
        speed: Chance that tempo and pitch change together, by resampling.
        speed_range: Factor on the rate of speech; above 1 is faster and higher.
        reverb: Chance of a room.
        reverb_seconds: Time in which the room's sound falls by 60 dB.
        noise: Chance of background noise.
        snr_db: Level of the speech above the noise, in dB.
        noises: Kinds of noise to draw from; see `NOISES`. Babble needs other voices and is skipped without them.
        telephone: Chance of an 8 kHz mu-law telephone line.
        muffle: Chance of a cheap or covered microphone (a gentle low-pass), where there is no telephone.
        muffle_hz: Where that low-pass begins.
        level: Chance that the level changes.
        level_db: Peak level after the change, in dB of full scale. Above 0 the speech is clipped.
        silence: Chance of silence (with the noise, where there is some) before and after.
        silence_seconds: Length of each of the two silences.
    """

    speed: float = 0.6
    speed_range: tuple[float, float] = (0.85, 1.18)
    reverb: float = 0.35
    reverb_seconds: tuple[float, float] = (0.1, 0.6)
    noise: float = 0.6
    snr_db: tuple[float, float] = (5.0, 30.0)
    noises: tuple[str, ...] = NOISES
    telephone: float = 0.2
    muffle: float = 0.2
    muffle_hz: tuple[float, float] = (2500.0, 7000.0)
    level: float = 0.9
    level_db: tuple[float, float] = (-30.0, 2.0)
    silence: float = 0.8
    silence_seconds: tuple[float, float] = (0.0, 0.6)

    def __post_init__(self) -> None:
        for name in ("speed", "reverb", "noise", "telephone", "muffle", "level", "silence"):
            chance = getattr(self, name)
            if not 0.0 <= chance <= 1.0:
                raise DataError(f"Augment.{name} is {chance}, but it is a probability: give a number from 0 to 1.")
        for name in ("speed_range", "reverb_seconds", "snr_db", "muffle_hz", "level_db", "silence_seconds"):
            low, high = getattr(self, name)
            if low > high:
                raise DataError(f"Augment.{name} is ({low}, {high}): the lower end comes first.")
        unknown = set(self.noises) - set(NOISES)
        if unknown:
            raise DataError(f"Augment.noises has {sorted(unknown)}; the kinds are {', '.join(NOISES)}.")


def rms(samples: Samples) -> float:
    """Root of the mean square of `samples` [N]; 0 for none."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def scale_peak(samples: Samples, peak_db: float) -> Samples:
    """Scale so that the largest sample lies `peak_db` dB under full scale, clipping what goes over it."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return samples.astype(np.float32)
    return np.clip(samples * (10.0 ** (peak_db / 20.0) / peak), -1.0, 1.0).astype(np.float32)


def coloured_noise(count: int, slope: float, generator: Generator) -> Samples:
    """Noise of unit RMS whose power falls as 1 / f^slope (0 white, 1 pink, 2 brown), [count]."""
    if count <= 0:
        return np.zeros(0, np.float32)
    size = scipy.fft.next_fast_len(max(count, 16), real=True)
    spectrum = generator.standard_normal((size // 2 + 1, 2), dtype=np.float32).view(np.complex64)[:, 0]
    shape = np.arange(size // 2 + 1, dtype=np.float32)
    # Below about a thousandth of the rate (24 Hz at 24 kHz) nothing is heard: keep the level flat there, or brown noise
    # would be one slow wave.
    shape = np.maximum(shape, max(1.0, size / 1000.0)) ** np.float32(-slope / 2.0)
    shape[0] = 0.0
    noise = scipy.fft.irfft(spectrum * shape, n=size)[:count]
    return (noise / max(rms(noise), 1e-9)).astype(np.float32)


def mains_hum(count: int, rate: int, generator: Generator) -> Samples:
    """Hum of the mains (50 or 60 Hz and its harmonics) over a little pink noise, of unit RMS, [count]."""
    base = float(generator.choice([50.0, 60.0])) * float(generator.uniform(0.995, 1.005))
    time = np.arange(count, dtype=np.float64) / rate
    harmonics = 1 + np.arange(int(generator.integers(3, 12)))
    levels = generator.uniform(0.2, 1.0, len(harmonics)) / np.sqrt(harmonics)
    phases = generator.uniform(0.0, 2.0 * np.pi, len(harmonics))
    hum = sum(a * np.sin(2.0 * np.pi * base * h * time + p) for h, a, p in zip(harmonics, levels, phases))
    hum = hum / max(rms(hum), 1e-9) + 0.3 * coloured_noise(count, 1.0, generator)
    return (hum / max(rms(hum), 1e-9)).astype(np.float32)


def babble(count: int, others: Sequence[Samples], generator: Generator) -> Samples:
    """Several people talking at once, of unit RMS, [count].

    Args:
        count: Samples wanted.
        others: Utterances to mix, at the same rate as the speech; each may be used several times.
        generator: Draws utterances, offsets and levels.
    """
    others = [other for other in others if rms(other) > 1e-4]
    if not others:
        raise DataError("Babble is made of other utterances, and none with sound in it was given: pass `others`.")
    mixed = np.zeros(count, np.float32)
    for _ in range(int(generator.integers(3, 8))):
        other = others[int(generator.integers(len(others)))]
        start = int(generator.integers(len(other)))
        voice = np.resize(np.roll(other, -start), count)
        mixed += voice * np.float32(generator.uniform(0.3, 1.0) / rms(other))
    return (mixed / max(rms(mixed), 1e-9)).astype(np.float32)


def make_noise(kind: str, count: int, rate: int, generator: Generator, others: Sequence[Samples] = ()) -> Samples:
    """Noise of one of `NOISES`, of unit RMS, [count]."""
    if kind == "babble":
        return babble(count, others, generator)
    if kind == "hum":
        return mains_hum(count, rate, generator)
    slopes = {"white": 0.0, "pink": 1.0, "brown": 2.0}
    if kind not in slopes:
        raise DataError(f"There is no noise {kind!r}; the kinds are {', '.join(NOISES)}.")
    return coloured_noise(count, slopes[kind], generator)


def add_noise(samples: Samples, noise: Samples, snr_db: float, level: float | None = None) -> Samples:
    """Add `noise` [N] so that the speech lies `snr_db` dB above it.

    Args:
        samples: Speech [N].
        noise: As long as the speech; any level.
        snr_db: RMS of speech over RMS of noise, in dB.
        level: RMS of the speech, where it is not that of `samples` (they may hold silence around the speech).
    """
    if len(samples) != len(noise):
        raise DataError(f"Speech has {len(samples)} samples and noise {len(noise)}: make them equally long.")
    level = rms(samples) if level is None else level
    wanted = level * 10.0 ** (-snr_db / 20.0)
    return (samples + noise * np.float32(wanted / max(rms(noise), 1e-9))).astype(np.float32)


def room_response(rate: int, seconds: float, generator: Generator) -> Samples:
    """The impulse response of a small room: the direct sound, a few early echoes, a tail that falls by 60 dB.

    Args:
        rate: Hz.
        seconds: Reverberation time (RT60).
        generator: Draws echoes, tail and how near the speaker is.

    Returns:
        [samples], the direct sound first.
    """
    count = max(int(rate * seconds), 2)
    time = np.arange(count, dtype=np.float32) / rate
    tail = generator.standard_normal(count, dtype=np.float32) * np.exp(-6.908 * time / seconds)
    tail[: int(0.002 * rate)] = 0.0
    # Walls take the highs first: a gentle one-pole low-pass on what comes back from them.
    keep = float(generator.uniform(0.2, 0.7))
    tail = scipy.signal.lfilter([1.0 - keep], [1.0, -keep], tail).astype(np.float32)
    for _ in range(int(generator.integers(2, 7))):
        at = int(generator.uniform(0.002, 0.03) * rate)
        if at < count:
            tail[at] += np.float32(generator.choice([-1.0, 1.0]) * generator.uniform(0.2, 0.6)) * np.abs(tail).max()
    direct_over_reverberant = float(generator.uniform(-2.0, 12.0))
    energy = float(np.sum(np.square(tail)))
    tail *= np.float32(10.0 ** (-direct_over_reverberant / 20.0) / max(np.sqrt(energy), 1e-9))
    tail[0] = 1.0
    return tail


def reverberate(samples: Samples, response: Samples) -> Samples:
    """Play `samples` [N] in the room of `response`; the result has N samples and the same RMS."""
    if len(samples) == 0:
        return samples.astype(np.float32)
    wet = scipy.signal.oaconvolve(samples, response)[: len(samples)].astype(np.float32)
    return wet * np.float32(rms(samples) / max(rms(wet), 1e-9))


def mu_law(samples: Samples, levels: int = 256) -> Samples:
    """Round to `levels` steps of the mu-law scale (ITU-T G.711) and back."""
    mu = levels - 1
    squeezed = np.sign(samples) * np.log1p(mu * np.minimum(np.abs(samples), 1.0)) / np.log1p(mu)
    rounded = np.round((squeezed + 1.0) / 2.0 * mu) / mu * 2.0 - 1.0
    return (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(mu)) / mu).astype(np.float32)


def resample(samples: Samples, source: int, target: int) -> Samples:
    """From `source` to `target` Hz; the result has round(N * target / source) samples."""
    if source == target or len(samples) == 0:
        return samples.astype(np.float32)
    changed = soxr.resample(samples.astype(np.float32), source, target, quality="HQ")
    return fit(changed, round(len(samples) * target / source))


def fit(samples: Samples, count: int) -> Samples:
    """Cut or fill with silence at the end, to `count` samples."""
    return np.pad(samples[:count], (0, max(0, count - len(samples)))).astype(np.float32)


def telephone(samples: Samples, rate: int, generator: Generator) -> Samples:
    """A telephone line: 300 to 3,400 Hz, 8,000 samples a second, mu-law; as long and as loud as before."""
    low, high = generator.uniform(200.0, 350.0), generator.uniform(3000.0, 3700.0)
    narrow = resample(samples, rate, 8000)
    narrow = scipy.signal.sosfilt(scipy.signal.butter(2, [low, high], "bandpass", fs=8000, output="sos"), narrow)
    narrow = narrow.astype(np.float32)
    peak = float(np.abs(narrow).max(initial=0.0))
    if peak > 0.0:
        drive = float(generator.uniform(0.2, 1.2)) / peak  # over 1: the line clips
        narrow = mu_law(np.clip(narrow * drive, -1.0, 1.0)) / np.float32(drive)
    wide = fit(resample(narrow, 8000, rate), len(samples))
    return wide * np.float32(rms(samples) / max(rms(wide), 1e-9)) if peak > 0.0 else wide


def muffle(samples: Samples, rate: int, cutoff: float) -> Samples:
    """A second-order low-pass at `cutoff` Hz, as through a pocket or a cheap microphone."""
    if cutoff >= 0.49 * rate:
        return samples.astype(np.float32)
    return scipy.signal.sosfilt(scipy.signal.butter(2, cutoff, fs=rate, output="sos"), samples).astype(np.float32)


def change_speed(samples: Samples, rate: int, factor: float) -> Samples:
    """Play `factor` times as fast: tempo, pitch and formants all move together. The result has N / factor samples."""
    return resample(samples, max(1, round(rate * factor)), rate)


def surround(samples: Samples, rate: int, before: float, after: float) -> Samples:
    """Put `before` and `after` seconds of silence around the samples."""
    return np.pad(samples, (round(before * rate), round(after * rate))).astype(np.float32)


def augment(
    samples: Samples, rate: int, generator: Generator, config: Augment = Augment(), others: Sequence[Samples] = ()
) -> Samples:
    """Draw and make changes, in the order in which the world makes them: voice, room, noise, line, level.

    Args:
        samples: Clean speech [N].
        rate: Hz.
        generator: Everything drawn comes from it, so the same seed gives the same result.
        config: How often and how strongly.
        others: Other utterances at the same rate, for babble.

    Returns:
        [M]; M differs from N where the speed changed or silence was added.
    """

    def happens(chance: float) -> bool:
        return float(generator.random()) < chance

    def draw(bounds: tuple[float, float]) -> float:
        return float(generator.uniform(*bounds))

    heard = samples.astype(np.float32)
    if happens(config.speed):
        heard = change_speed(heard, rate, draw(config.speed_range))
    level = rms(heard)
    if happens(config.silence):
        heard = surround(heard, rate, draw(config.silence_seconds), draw(config.silence_seconds))
    if happens(config.reverb):
        heard = reverberate(heard, room_response(rate, draw(config.reverb_seconds), generator))
    kinds = [kind for kind in config.noises if kind != "babble" or len(others)]
    if happens(config.noise) and kinds and len(heard):
        kind = kinds[int(generator.integers(len(kinds)))]
        heard = add_noise(heard, make_noise(kind, len(heard), rate, generator, others), draw(config.snr_db), level)
    if happens(config.telephone):
        heard = telephone(heard, rate, generator)
    elif happens(config.muffle):
        heard = muffle(heard, rate, draw(config.muffle_hz))
    if happens(config.level):
        heard = scale_peak(heard, draw(config.level_db))
    return np.clip(heard, -1.0, 1.0).astype(np.float32)
