"""Ends of turns: turns with pauses and hesitations, made of questions in voices that no training set has.

A third of the turns are questions as they are. Another has a pause within the question, half of them after an "um".
The rest begin with something that calls for more ("I was wondering,") or is a sentence of its own ("Hello there.") and
pause before the question. Pauses last 0.3 to 1.6 s, in faint noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.audio.pauses import quietest
from antiphon.audio.speech import SpeechEvent
from antiphon.evals.assistant.material import Clip

RATE = 24000
FRAME = RATE * 2 // 25
HESITATIONS = ("Um,", "Uh,", "Hmm,")
OPENINGS = (
    "I was wondering,",
    "Could you tell me,",
    "Okay, so,",
    "So I wanted to ask you,",
    "Well, let me think,",
    "I have a question.",
    "Hello there.",
)
PAUSE_SECONDS = (0.3, 1.6)
AFTER_SECONDS = 6.0  # of near silence after a turn
NOISE = 10 ** (-62 / 20)
FAINT = 10 ** (-35 / 20)  # of a turn's loudest 20 ms: what is under it at its end is no speech

Say = Callable[[str, str], Audio]  # (voice, text) -> sound


@dataclass(frozen=True)
class Turn:
    """One made turn.

    Attributes:
        id, voice, kind: "plain", "paused", "hesitating" or "opened".
        samples: float32 [N] at 24 kHz, with silence after it.
        end: seconds, where the last word ends.
        pauses: (start, end) in seconds of those that were put in.
    """

    id: str
    voice: str
    kind: str
    samples: Tensor
    end: float
    pauses: tuple[tuple[float, float], ...]


def made_turns(clips: Sequence[Clip], say: Say) -> list[Turn]:
    """A turn of each clip. What becomes of one follows from its id alone."""
    return [_made(clip, say) for clip in clips]


def _made(clip: Clip, say: Say) -> Turn:
    draw = np.random.default_rng(int(hashlib.sha256(clip.id.encode()).hexdigest()[:8], 16))
    question = trimmed(clip.audio)
    kind = ("plain", "paused", "opened")[draw.integers(3)]
    parts = [question]
    if kind == "opened":
        parts = [trimmed(say(clip.voice, OPENINGS[draw.integers(len(OPENINGS))])), question]
    elif kind == "paused":
        seconds = len(question) / RATE
        cut = quietest(question, RATE, seconds * 0.3, seconds * 0.75)
        parts = [question[:cut], question[cut:]]
        if draw.random() < 0.5:
            kind, hesitation = "hesitating", HESITATIONS[draw.integers(len(HESITATIONS))]
            parts[0] = torch.cat([parts[0], torch.zeros(RATE // 10), trimmed(say(clip.voice, hesitation))])
    pieces, pauses, at = [torch.zeros(RATE // 2)], [], RATE // 2
    for number, part in enumerate(parts):
        if number:
            size = int(draw.uniform(*PAUSE_SECONDS) * RATE)
            pieces.append(torch.zeros(size))
            pauses.append((at / RATE, (at + size) / RATE))
            at += size
        pieces.append(part)
        at += len(part)
    samples = torch.cat([*pieces, torch.zeros(int(AFTER_SECONDS * RATE))])
    noise = torch.from_numpy(draw.standard_normal(len(samples)).astype(np.float32))
    return Turn(clip.id, clip.voice, kind, samples + NOISE * noise, at / RATE, tuple(pauses))


def trimmed(audio: Audio) -> Tensor:
    """Speech at 24 kHz from its first to its last sound, [N]."""
    samples = audio.mono().resample(RATE).samples.float()
    samples = samples / samples.abs().max().clamp_min(1e-3) * 0.5
    step = RATE // 50
    frames = samples[: len(samples) // step * step].view(-1, step)
    level = frames.square().mean(1).sqrt()
    (loud,) = (level > FAINT * level.max()).nonzero(as_tuple=True)
    return samples[int(loud[0]) * step : (int(loud[-1]) + 1) * step]


class Finder(Protocol):
    """Finds ends of turns: an `Endpointer`, or a `SpeechDetector`."""

    def step(self, samples: NDArray[np.float32]) -> list[SpeechEvent]: ...


def found_end(turn: Turn, finder: Finder) -> float | None:
    """Seconds at which a turn is taken for over, to a frame of 80 ms as sound comes live; None if it never is."""
    for number, frame in enumerate(turn.samples.split(FRAME), 1):
        if any(event.kind == "stop" for event in finder.step(frame.numpy())):
            return number * FRAME / RATE
    return None


@dataclass(frozen=True)
class Found:
    """What became of the ends of turns.

    Attributes:
        ends: of each turn, seconds; None where none was found.
        cut_off: share of the turns that were taken for over before they were.
        wait: median seconds from the true end, of the others; those without an end count as infinite.
    """

    ends: tuple[float | None, ...]
    cut_off: float
    wait: float


def ends_of(turns: Sequence[Turn], make: Callable[[], Finder]) -> Found:
    """Finds the ends of turns, each with a fresh finder."""
    ends = tuple(found_end(turn, make()) for turn in turns)
    early = [end is not None and end < turn.end for turn, end in zip(turns, ends, strict=True)]
    waits = [float("inf") if end is None else end - turn.end for turn, end, cut in zip(turns, ends, early) if not cut]
    return Found(ends, sum(early) / max(1, len(turns)), median(waits) if waits else float("inf"))
