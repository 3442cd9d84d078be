"""A sound with labels over time, and those labels as numbers a network can be trained on.

example = Example(samples, (Span("kind", "speech", 0.4, 2.1), Span("feeling", "sad", 0.4, 2.1)), frozenset({"kind"}))
values, mask = targets(example.spans, example.known, "kind", frames=40, step=0.08)     # [40, 4] each
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from antiphon.data.speech.augment import Samples
from antiphon.errors import DataError
from antiphon.models.scene.labels import GROUPS, TEMPO

RATE = 16000  # Hz, of every example
FRAME = 0.08  # seconds, of the features
HOP = 0.02  # seconds, in which activity is looked for


@dataclass(frozen=True)
class Span:
    """One label, and when it is true.

    Attributes:
        group: of `antiphon.models.scene.labels.GROUPS`, or "tempo".
        label: of the group; of a tempo the beats a minute, as text.
        start, end: in seconds.
    """

    group: str
    label: str
    start: float
    end: float

    def moved(self, seconds: float) -> Span:
        """The same, later."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Example:
    """A sound and what is known of it.

    Attributes:
        samples: float32 [N] at 16 kHz.
        spans: what is heard, and when.
        known: the groups whose labels are complete here; "manner/loud" says it of one label of a group that isn't.
            Nothing is learned about others.
        text: what is said, where that is known.
        source: who and what it is made of, for people.
    """

    samples: Samples
    spans: tuple[Span, ...]
    known: frozenset[str]
    text: str = ""
    source: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE


def activity(
    samples: Samples, below: float = 35.0, gap: float = 0.3, shortest: float = 0.04, steady: bool = False
) -> list[tuple[float, float]]:
    """When something is heard in a recording: where it isn't far softer than at its loudest.

    Args:
        samples: [N] at 16 kHz.
        below: how many dB under the loudest 60 ms still count. Where the recording's own floor lies higher, what is
            6 dB over the floor counts; a sound that never pauses has no such floor, and all of it counts.
        gap: seconds of less that don't part two stretches.
        shortest: seconds of a stretch that counts.
        steady: whether the softest that there is belongs to it, as with rain or waves: it has no floor of noise.

    Returns:
        (start, end) in seconds, in order; none of digital silence.
    """
    size = int(HOP * RATE)
    count = -(-len(samples) // size)
    power = np.pad(np.square(samples, dtype=np.float64), (0, count * size - len(samples))).reshape(count, size).mean(1)
    power = np.convolve(np.pad(power, 1, mode="edge"), np.full(3, 1 / 3), "valid") if count else power
    level = 10.0 * np.log10(power + 1e-12)
    if not count or level.max() < -80.0:
        return []
    floor = float(np.percentile(level, 10))
    threshold = level.max() - below
    if not steady and floor > threshold and floor < level.max() - 12.0:
        threshold = floor + 6.0
    found = stretches(level > threshold, HOP, gap)
    return [
        (start, end) for start, end in ((s, min(e, len(samples) / RATE)) for s, e in found) if end - start >= shortest
    ]


def stretches(there: NDArray[np.bool_], step: float, gap: float) -> list[tuple[float, float]]:
    """Where something is true: (start, end) in seconds.

    Args:
        there: [T], in steps of `step` seconds.
        step: seconds.
        gap: seconds of less that don't part two stretches.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]])))
    found: list[tuple[float, float]] = []
    for start, end in zip((edges[::2] * step).tolist(), (edges[1::2] * step).tolist()):
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def silences(spans: Iterable[Span], seconds: float, shortest: float = 0.2) -> tuple[Span, ...]:
    """The stretches of "silence" between the other kinds' spans."""
    at, found = 0.0, []
    for span in sorted((each for each in spans if each.group == "kind"), key=lambda each: each.start):
        if span.start - at >= shortest:
            found.append(Span("kind", "silence", at, span.start))
        at = max(at, span.end)
    if seconds - at >= shortest:
        found.append(Span("kind", "silence", at, seconds))
    return tuple(found)


def coverage(
    spans: Iterable[Span], group: str, labels: tuple[str, ...], frames: int, step: float
) -> NDArray[np.float32]:
    """The share of each frame's time for which each label is true.

    Args:
        spans: of any groups; those of one label may overlap.
        group: whose spans count.
        labels: the columns; labels that aren't among them are passed over.
        frames: how many.
        step: seconds of a frame.

    Returns:
        float32 [frames, labels], 0 to 1.
    """
    columns = {label: number for number, label in enumerate(labels)}
    by_label: dict[str, list[tuple[float, float]]] = {}
    for span in spans:
        if span.group == group and span.label in columns:
            by_label.setdefault(span.label, []).append((span.start, span.end))
    out = np.zeros((frames, len(labels)), np.float32)
    starts = np.arange(frames) * step
    for label, times in by_label.items():
        at = -np.inf
        for start, end in sorted(times):
            start, at = max(start, at), max(end, at)
            shared = np.minimum(starts + step, end) - np.maximum(starts, start)
            out[:, columns[label]] += np.clip(shared / step, 0.0, 1.0)
    return np.minimum(out, 1.0)


def targets(
    spans: Collection[Span],
    known: Collection[str],
    group: str,
    frames: int,
    step: float,
    labels: tuple[str, ...] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One group's labels as numbers, and where they are known.

    Args:
        spans, known: an example's.
        group: its name.
        frames, step: how many frames of how many seconds: 0.08 for the features' own, 0.64 for the network's; one frame
            as long as the example says what is true of the whole.
        labels: the columns; None for all of the group's.

    Returns:
        values float32 [frames, labels]: the share of the frame for which the label is true;
        mask bool [frames, labels]: whether it is known. Of an exclusive group (sex, feeling, ...) it is known only
        where one of its labels is true: where nobody speaks there is no sex to tell.

    Raises:
        DataError: no such group.
    """
    if group not in GROUPS:
        raise DataError(f"there is no group of labels {group!r}; there are {', '.join(GROUPS)}.")
    labels = GROUPS[group].names if labels is None else labels
    values = coverage(spans, group, labels, frames, step)
    mask = np.array([[group in known or f"{group}/{label}" in known for label in labels]]).repeat(frames, 0)
    if GROUPS[group].exclusive:
        mask &= values.max(1, keepdims=True, initial=0.0) > 0.0
    return values, mask


def tempos(spans: Iterable[Span], frames: int, step: float) -> NDArray[np.float32]:
    """Beats a minute of each frame, float32 [frames]; 0 where there is no beat, or none is known."""
    out = np.zeros(frames, np.float32)
    for span in spans:
        if span.group == TEMPO:
            out[round(span.start / step) : round(span.end / step)] = float(span.label)
    return out
