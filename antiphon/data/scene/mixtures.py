"""Sounds put together at known times and levels: what real recordings with labels over time are too few for.

Every function is pure: the same sounds and the same generator give the same example. Samples are float32 [N] at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.scene.example import HOP, RATE, Example, Span, activity, silences, stretches
from antiphon.data.scene.labelled import pause
from antiphon.data.speech.augment import (
    NOISES,
    Samples,
    make_noise,
    reverberate,
    rms,
    room_response,
    scale_peak,
    telephone,
)
from antiphon.models.scene.labels import GROUPS

# What is heard over something else: in one of the ear's bands it is as strong. (Fainter sounds are noticed, but when
# they begin and end isn't.)
BANDS = 24  # as many as Bark counts
WINDOW = 640  # samples of a spectrum, every `HOP` seconds
MASKED_DB, FAINT_DB = 0.0, 35.0  # over the rest; below its own loudest
LEAST = 0.1  # seconds for which something must be heard, to be there
TAIL = 0.6  # seconds for which a room may ring on
FADE = 0.015  # seconds, where a sound is cut out of a longer one
NOISY_DB, QUIET_DB = 12.0, 25.0  # what lies this little over the noise is in noise, what lies this far over it in quiet
_VOICE_GROUPS = ("sex", "age", "feeling", "manner")


@dataclass(frozen=True)
class Clip:
    """A stretch of one recording: what mixtures are made of.

    Attributes:
        samples: float32 [N] at 16 kHz.
        spans: its labels, from its own start.
        source: where it is from.
        known: groups that are complete for it.
    """

    samples: Samples
    spans: tuple[Span, ...]
    source: str = ""
    known: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE


Draw = Callable[[Generator], Clip]
"""Draws a clip of one kind."""


def faded(samples: Samples, seconds: float = FADE) -> Samples:
    """With a short rise at the start and a fall at the end."""
    count = min(int(seconds * RATE), len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, count, dtype=np.float32)
    out = samples.astype(np.float32).copy()
    out[:count] *= ramp
    out[len(out) - count :] *= ramp[::-1]
    return out


def levelled(samples: Samples, level: float) -> Samples:
    """Scaled so that the RMS of what is heard in it is `level` dB of full scale."""
    heard = activity(samples)
    active = np.concatenate([samples[int(s * RATE) : int(e * RATE)] for s, e in heard]) if heard else samples
    return samples * np.float32(10.0 ** (level / 20.0) / max(rms(active), 1e-9))


def excerpt(example: Example, seconds: float, generator: Generator) -> Clip:
    """A stretch of an example in which something is heard, at most `seconds` long, from pause to pause if it can be."""
    parts = _parts(example)
    if not parts:
        return Clip(example.samples, example.spans, example.source, example.known)
    first = last = int(generator.integers(len(parts)))
    # Grown on both sides as far as it may be, later ones first.
    while last + 1 < len(parts) and parts[last + 1][1] - parts[first][0] <= seconds:
        last += 1
    while first > 0 and parts[last][1] - parts[first - 1][0] <= seconds:
        first -= 1
    start, end = parts[first][0], parts[last][1]
    if end - start > seconds:  # it doesn't pause for so long
        start += float(generator.uniform(0.0, end - start - seconds))
        end = start + seconds
    start, end = max(start - FADE, 0.0), min(end + FADE, example.seconds)
    samples = faded(example.samples[int(start * RATE) : int(end * RATE)])
    cut = (Span(s.group, s.label, max(s.start, start), min(s.end, end)) for s in example.spans if s.label != "silence")
    spans = tuple(span.moved(-start) for span in cut if span.end - span.start > 0.02)
    return Clip(samples, spans, example.source, example.known)


def _parts(example: Example) -> list[tuple[float, float]]:
    """Between what an example may be cut: a sound's stretches as its labels have them, else what pauses part."""
    sounds = [(span.start, span.end) for span in example.spans if (span.group, span.label) == ("kind", "sound")]
    return sounds or activity(example.samples, gap=0.12)


def coloured(samples: Samples, generator: Generator, decibels: float = 12.0) -> Samples:
    """Through another microphone, loudspeaker or body: a drawn smooth curve of gain over frequency, now and then with
    some overdrive. What is rendered all has one colour; what is recorded has any."""
    if not len(samples):
        return samples
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 40.0) / 40.0)
    curve = np.interp(octaves, np.linspace(0.0, 7.7, 6), generator.uniform(-decibels, decibels, 6))
    out = np.fft.irfft(np.fft.rfft(samples) * 10.0 ** (curve / 20.0), len(samples))
    out /= max(float(np.abs(out).max()), 1e-6)
    if generator.random() < 0.25:
        out = np.tanh(generator.uniform(1.0, 5.0) * out)
    return out.astype(np.float32)


Part = tuple[int, Samples, tuple[Span, ...]]
"""One of the things in a recording: from which sample on it is there, its samples alone, and its labels."""


@dataclass
class Canvas:
    """A recording being put together.

    Attributes:
        samples: so far.
        spans: so far.
        sources: of what is in it.
        parts: each thing that is in it, alone: from which sample on, its samples, and its spans.
    """

    samples: Samples
    spans: list[Span] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @classmethod
    def empty(cls, seconds: float) -> Canvas:
        """Silence."""
        return cls(np.zeros(int(seconds * RATE), np.float32))

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE

    def put(self, clip: Clip, at: float, level: float) -> None:
        """Adds a clip at a time, so loud (dB of full scale); what goes over the end is cut off."""
        first = int(at * RATE)
        room = len(self.samples) - first
        if room <= 0:
            return
        samples = levelled(clip.samples, level)
        if len(samples) > room:
            samples = faded(samples[:room])
        self.samples[first : first + len(samples)] += samples
        end = len(self.samples) / RATE
        moved = (span.moved(at) for span in clip.spans)
        spans = tuple(Span(s.group, s.label, s.start, min(s.end, end)) for s in moved if s.start < end)
        self.parts.append((first, samples, spans))
        self.spans += spans
        self.sources.append(clip.source)

    def finished(self, known: frozenset[str], text: str = "") -> Example:
        """The example, with the silences between what was put in."""
        spans = (*self.spans, *silences(self.spans, self.seconds))
        return Example(self.samples, spans, known, text, " + ".join(dict.fromkeys(self.sources)))


def audible(parts: Sequence[Part], noise: Samples, room: Samples | None = None) -> list[Span]:
    """When each of several things is heard over the others: their labels with times, cut to that.

    Whatever is masked by something louder has no beginning and no end that anybody could tell. As in the ear that goes
    by bands of frequency (Fletcher 1940): a high bell is heard over a low voice.

    Args:
        parts: from which sample on, samples, and labels with the times of the whole.
        noise: what else there is all the time, [N].
        room: the response of the room in which the parts are, and ring on.
    """
    count = len(noise)

    def placed(first: int, samples: Samples) -> Samples:
        alone = np.pad(samples, (first, count - first - len(samples)))
        return alone if room is None else reverberate(alone, room)

    power = [_power(placed(first, samples)) for first, samples, _ in parts]
    total, found = sum(power) + _power(noise), []
    times = np.arange(len(total)) * HOP
    for own, (_, _, spans) in zip(power, parts):
        over = own >= (total - own) * 10.0 ** (MASKED_DB / 10.0)
        heard = (over & (own >= own.max(initial=0.0) * 10.0 ** (-FAINT_DB / 10.0)) & (own > 1e-12)).any(1)
        timed = [span for span in spans if GROUPS[span.group].timed and span.label != "silence"]
        gap = pause((span.group, span.label) for span in timed)
        for span in timed:
            end = span.end if room is None else span.end + TAIL
            inside = heard & (times >= span.start - HOP / 2) & (times < end)
            mine = [(a, min(b, count / RATE)) for a, b in stretches(inside, HOP, gap)]
            found += [Span(span.group, span.label, a, b) for a, b in mine if b - a >= LEAST]
    return found


def _power(samples: Samples) -> NDArray[np.float64]:
    """In each of the ear's bands, every `HOP` seconds, over 60 ms: [T, BANDS]."""
    hop, half = int(HOP * RATE), WINDOW // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (half, WINDOW)), WINDOW)[half // 2 :: hop]
    frames = frames[: -(-len(samples) // hop)] * np.hanning(WINDOW).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    bark = 26.81 * hertz / (1960.0 + hertz) - 0.53  # Traunmueller 1990
    edges = np.searchsorted(bark, np.linspace(0.0, bark[-1], BANDS + 1)[:-1])
    bands = np.add.reduceat(spectrum, np.unique(edges), axis=1)
    return np.stack([np.convolve(band, np.full(3, 1 / 3), "same") for band in bands.T], 1)


def surround(
    example: Example, generator: Generator, clean: bool, others: Sequence[Samples] = (), parts: Sequence[Part] = ()
) -> Example:
    """Puts a recording into surroundings: quiet, noise, a room, a telephone; and changes its level.

    Args:
        example: as it was recorded.
        generator: draws them.
        clean: whether it was recorded in quiet, without echo: only then is it known that it *isn't* in noise or a room.
        others: other people's speech, for babble.
        parts: what it was put together of: then labels with times are true where each is heard over the others.

    Returns:
        The same with the group "surroundings"; loud noise also counts as "sound".
    """
    samples, spans, named, room = example.samples, list(example.spans), [], None
    noise = np.zeros(len(samples), np.float32)
    if generator.random() < 0.25:
        room = room_response(RATE, float(generator.uniform(0.4, 1.0)), generator)
        samples = reverberate(samples, room)
        named.append("room")
    drawn = generator.random()
    if drawn < 0.6 and len(samples):
        kinds = [kind for kind in NOISES if kind != "babble" or len(others)]
        kind = kinds[int(generator.integers(len(kinds)))]
        loud = drawn < 0.25
        snr = float(generator.uniform(2.0, NOISY_DB) if loud else generator.uniform(QUIET_DB, 45.0))
        heard = activity(samples)
        active = [samples[int(start * RATE) : int(end * RATE)] for start, end in heard]
        level = rms(np.concatenate(active)) if active else 0.01
        noise = make_noise(kind, len(samples), RATE, generator, others) * np.float32(level * 10.0 ** (-snr / 20.0))
        samples = samples + noise
        if loud:
            named.append("noise")
    if parts:
        spans = _heard(spans, parts, audible(parts, noise, room), example.seconds)
    if "noise" in named:
        spans = [span for span in spans if span.label != "silence"]
        spans.append(Span("kind", "sound", 0.0, example.seconds))
    if generator.random() < 0.15:
        samples = telephone(samples, RATE, generator)
        named.append("telephone")
    if not named and clean:
        named.append("quiet")
    if clean:
        known = {"surroundings"}
    else:
        known = {f"surroundings/{each}" for each in ("telephone", *named, *(["quiet"] if named else []))}
    spans += [Span("surroundings", each, 0.0, example.seconds) for each in named]
    samples = scale_peak(samples, float(generator.uniform(-24.0, -1.0)))
    return Example(samples, tuple(spans), example.known | known, example.text, example.source)


def _heard(spans: Sequence[Span], parts: Sequence[Part], found: Sequence[Span], seconds: float) -> list[Span]:
    """An example's labels with those that have times as they were found, without what isn't heard at all."""
    there = {(span.group, span.label) for span in found}
    gone = {span for *_, own in parts for span in own if not any((o.group, o.label) in there for o in own)}
    kept = [span for span in spans if not GROUPS[span.group].timed and span not in gone]
    return [*kept, *found, *silences(found, seconds)]


def mixture(speech: Draw, sound: Draw, music: Draw, generator: Generator) -> Example:
    """Speech, sounds, music and silence at drawn times, alone and over each other.

    Known are kind and event over time, speakers and surroundings; the instrument where the music's is known.
    """
    canvas = Canvas.empty(float(generator.uniform(5.0, 10.0)))
    seconds, level = canvas.seconds, float(generator.uniform(-30.0, -18.0))
    known = {"kind", "event", "speakers", "instrument"}
    talks = int(generator.choice([0, 1, 2], p=[0.25, 0.55, 0.2]))
    sounds = int(generator.choice([0, 1, 2, 3], p=[0.25, 0.4, 0.25, 0.1]))
    if generator.random() < (0.3 if talks or sounds else 0.8):
        clip = music(generator)
        at = float(generator.choice([0.0, generator.uniform(0.0, 0.6 * seconds)]))
        count = int(generator.uniform(0.4, 1.0) * (seconds - at) * RATE)
        end = count / RATE
        spans = tuple(replace(span, end=min(span.end, end)) for span in clip.spans if span.start < end)
        bed = Clip(faded(clip.samples[:count], float(generator.uniform(0.02, 0.5))), spans, clip.source)
        canvas.put(bed, at, level + float(generator.uniform(-15.0, 3.0)))
        known -= set() if "instrument" in clip.known else {"instrument"}
    at, voice = float(generator.uniform(0.0, 0.4 * seconds)), None
    for _ in range(talks):
        clip = speech(generator)
        # A voice that comes twice is one speaker; two voices would need their times, which `conversation` has.
        voice = clip if voice is None else voice
        canvas.put(voice, at, level)
        at += voice.seconds + float(generator.uniform(0.4, 2.5))
    if talks:
        spoken = [span for span in canvas.spans if (span.group, span.label) == ("kind", "speech")]
        canvas.spans = [span for span in canvas.spans if span.group not in ("speakers", *_VOICE_GROUPS)]
        if spoken:
            start, end = min(span.start for span in spoken), max(span.end for span in spoken)
            canvas.spans.append(Span("speakers", "one", start, end))
    for _ in range(sounds):
        clip = sound(generator)
        canvas.put(
            clip,
            float(generator.uniform(0.0, max(0.1, seconds - 0.7 * clip.seconds))),
            level + float(generator.uniform(-10.0, 6.0)),
        )
        known -= set() if "event" in clip.known else {"event"}
    return surround(canvas.finished(frozenset(known)), generator, clean=False, parts=canvas.parts)


def conversation(speech: Callable[[Generator], list[Clip]], generator: Generator) -> Example:
    """One speaker, two in turn, or two at once.

    Args:
        speech: draws two clips of each of two speakers: [a, a, b, b].
        generator: draws everything else.
    """
    first, again, second, _ = speech(generator)
    case = generator.choice(["one", "in_turn", "at_once"], p=[0.4, 0.3, 0.3])
    level, gap = float(generator.uniform(-28.0, -18.0)), float(generator.uniform(0.05, 1.2))
    start = float(generator.uniform(0.0, 0.8))
    second_level = level + float(generator.uniform(-5.0, 5.0))
    if case == "one":
        # One who goes on may have turned the head: softer or louder tells of nobody else.
        parts = [(first, start, level), (again, start + first.seconds + gap, second_level)]
    elif case == "in_turn":
        parts = [(first, start, level), (second, start + first.seconds + gap, second_level)]
        if generator.random() < 0.4:
            parts.append((again, parts[-1][1] + second.seconds + float(generator.uniform(0.05, 0.8)), level))
    else:
        shared = float(generator.uniform(0.5, 1.0)) * min(first.seconds, second.seconds)
        parts = [(first, start, level), (second, max(0.0, start + first.seconds - shared), second_level)]
    end = max(at + clip.seconds for clip, at, _ in parts)
    canvas = Canvas.empty(min(end + float(generator.uniform(0.1, 0.8)), 12.0))
    for clip, at, db in parts:
        canvas.put(clip, at, db)
    canvas.spans = [span for span in canvas.spans if span.group == "kind"]
    end = min(end, canvas.seconds)
    if case == "one":
        canvas.spans.append(Span("speakers", "one", start, end))
    elif case == "in_turn":
        canvas.spans.append(Span("speakers", "in_turn", start, end))
    else:  # whether they also take turns is a question of taste
        canvas.spans.append(Span("speakers", "at_once", parts[1][1], min(start + first.seconds, end)))
    known = {"kind", "event", "instrument", "speakers/one", "speakers/at_once"}
    known |= {"speakers/in_turn"} if case != "at_once" else set()
    return surround(canvas.finished(frozenset(known)), generator, clean=False)


def alone(clip: Clip, generator: Generator, clean: bool) -> Example:
    """One recording with a little silence around it, in drawn surroundings: what is true of it is learned in many rooms
    and at many levels."""
    before, after = float(generator.uniform(0.0, 0.8)), float(generator.uniform(0.0, 0.8))
    canvas = Canvas.empty(before + clip.seconds + after)
    canvas.put(clip, before, -22.0)
    return surround(canvas.finished(clip.known), generator, clean)
