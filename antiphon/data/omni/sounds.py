"""Short sounds with names, real ones and made ones, alone, one after another, or several times; when each is heard.

bank = Bank("audio/esc10")
heard = single(bank, "train", np.random.default_rng(0))
heard.samples, heard.named, heard.asks       # float32 [N] at 16 kHz; (name, start, end) in seconds; questions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.random import Generator

from antiphon.data.omni.names import NUMBERS, SOUNDS
from antiphon.data.omni.pictures import Ask, ask, yes_or_no
from antiphon.data.scene.example import RATE
from antiphon.data.scene.labelled import Labelled, example_of
from antiphon.data.scene.make import varied
from antiphon.data.scene.mixtures import Clip, excerpt, levelled
from antiphon.data.scene.published import labelled
from antiphon.data.scene.signals import SIGNALS, signal
from antiphon.data.scene.splits import trains
from antiphon.data.speech.augment import Samples
from antiphon.errors import DataError

HALF = 2.0  # seconds: of a single sound, and of each of two


@dataclass
class HeardSound:
    """A sound: samples at 16 kHz; names with their start and end in seconds; questions."""

    samples: Samples
    named: list[tuple[str, float, float]]
    asks: list[Ask] = field(default_factory=list)


class Bank:
    """Recordings by name and split, kept once they are read; what has no recording is made anew.

    Raises:
        DataError: the folder holds none of a name that can't be made.
    """

    def __init__(self, place: str | Path):
        self._found: dict[tuple[str, str], list[Labelled]] = {}
        self._read: dict[str, Clip] = {}
        names = {label: name for name, (_, label) in SOUNDS.items()}
        for each in labelled(place):
            events = [label for group, label in each.labels if group == "event"]
            if len(events) == 1 and events[0] in names and trains(each.licence):
                split = "test" if each.split == "test" else "train"
                self._found.setdefault((names[events[0]], split), []).append(each)
        for split in ("train", "test"):
            for name, (_, label) in SOUNDS.items():
                if label not in SIGNALS and (name, split) not in self._found:
                    raise DataError(f"{place} has no recording of {name!r} for {split}: give the folder of ESC-10")

    def clip(self, name: str, split: str, seconds: float, generator: Generator) -> Samples:
        """A stretch of such a sound, at most so many seconds long."""
        label = SOUNDS[name][1]
        if label in SIGNALS:
            example = signal(label, generator)
        else:
            some = self._found[name, split]
            example = self._example(some[int(generator.integers(len(some)))])
        clip = excerpt(example, seconds, generator)
        clip = varied(clip, generator) if split == "train" else clip
        return clip.samples[: int(seconds * RATE)]

    def _example(self, each: Labelled):
        key = str(each.recording.id)
        if key not in self._read:
            self._read[key] = example_of(each)
        return self._read[key]


def placed(parts: Sequence[tuple[Samples, float]], seconds: float, generator: Generator) -> Samples:
    """Sounds from their starts on, at levels near one another, over a little noise."""
    out = generator.normal(0, 10 ** (generator.uniform(-70, -50) / 20), int(seconds * RATE)).astype(np.float32)
    for samples, start in parts:
        first = int(start * RATE)
        samples = levelled(samples, float(generator.uniform(-26, -18)))[: len(out) - first]
        out[first : first + len(samples)] += samples
    return out.clip(-1, 1)


def _name(generator: Generator, *without: str) -> str:
    return str(generator.choice([name for name in SOUNDS if name not in without]))


def one(bank: Bank, split: str, name: str, start: float, generator: Generator) -> tuple[Samples, float, float]:
    """A sound of a half, which begins at `start`: samples, when it begins and when it ends."""
    begin = start + float(generator.uniform(0.0, 0.5))
    samples = bank.clip(name, split, start + HALF - begin - 0.05, generator)
    return samples, begin, begin + len(samples) / RATE


def single(bank: Bank, split: str, generator: Generator, name: str = "") -> HeardSound:
    """One sound."""
    name = name or _name(generator)
    samples, begin, end = one(bank, split, name, 0.0, generator)
    said = SOUNDS[name][0]
    other = name if generator.random() < 0.5 else _name(generator, name)
    asks = [
        ask("hear", f"I hear {said}", [name], tuple(SOUNDS)),
        yes_or_no("hear-this", other == name, sound=SOUNDS[other][0]),
    ]
    return HeardSound(placed([(samples, begin)], HALF, generator), [(name, begin, end)], asks)


def pair(bank: Bank, split: str, generator: Generator, names: Sequence[str] = ()) -> HeardSound:
    """Two sounds, one after another."""
    first = names[0] if names else _name(generator)
    second = names[1] if names else _name(generator, first)
    parts = [one(bank, split, name, HALF * place, generator) for place, name in enumerate((first, second))]
    asks = [
        ask("hear-first", f"first I hear {SOUNDS[first][0]}", [first], tuple(SOUNDS)),
        ask("hear-last", f"last I hear {SOUNDS[second][0]}", [second], tuple(SOUNDS)),
        ask("hear-both", f"{SOUNDS[first][0]} and {SOUNDS[second][0]}", [first, second], tuple(SOUNDS)),
    ]
    samples = placed([(part[0], part[1]) for part in parts], 2 * HALF, generator)
    return HeardSound(samples, [(n, p[1], p[2]) for n, p in zip((first, second), parts)], asks)


def beeps(bank: Bank, split: str, generator: Generator) -> HeardSound:
    """A tone, one to four times."""
    count, hertz = int(generator.integers(1, 5)), float(generator.uniform(500, 2500))
    length = float(generator.uniform(0.12, 0.22))
    every = length + float(generator.uniform(0.18, 0.26))
    time = np.arange(int(length * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * n * time) / n**2 for n in range(1, int(generator.integers(2, 5))))
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.005)
    begin = float(generator.uniform(0.02, HALF - 0.05 - every * count)) if every * count < HALF - 0.1 else 0.02
    starts = [begin + every * number for number in range(count)]
    level = float(generator.uniform(-26, -18))
    out = placed([], HALF, generator)
    for start in starts:
        first = int(start * RATE)
        part = levelled((tone * edge).astype(np.float32), level)[: len(out) - first]
        out[first : first + len(part)] += part
    asks = [ask("beeps", "once" if count == 1 else f"{NUMBERS[count]} times", _times(count), (*NUMBERS, "once"))]
    return HeardSound(out, [("beep", start, start + length) for start in starts], asks)


def _times(count: int) -> list[str]:
    return ["once"] if count == 1 else [NUMBERS[count]]


KINDS = {"single": single, "pair": pair, "beeps": beeps}
