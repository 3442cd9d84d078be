"""Ends of turns: turns with pauses and hesitations, made of questions in voices that no training set has.

A third of the turns are questions as they are. Another has a pause within the question, half of them after an "um".
The rest begin with something that calls for more ("I was wondering,") or is a sentence of its own ("Hello there.") and
pause before the question. Pauses last 0.3 to 1.6 s, in faint noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import median

import numpy as np
import torch
from torch import Tensor

from antiphon.audio.endpoint import Endpointer, FindsEnds
from antiphon.audio.io import Audio
from antiphon.audio.pauses import quietest
from antiphon.audio.speech import LoudnessActivity, SpeechDetector
from antiphon.dialogue.turn_ends import endpointer
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.assistant.material import Clip
from antiphon.evals.harness import rows_of
from antiphon.evals.report import Figure

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


Words = Callable[[Tensor], float]  # what was said up to a pause, [N] at 24 kHz -> how likely the words are all


def found_end(turn: Turn, finder: FindsEnds, words: Words | None = None) -> float | None:
    """Seconds at which a turn is taken for over, to a frame of 80 ms as sound comes live; None if it never is.

    Args:
        turn: is heard from its beginning.
        finder: fresh.
        words: looks at what was said where the sound says that it's likely all; for an `Endpointer`.
    """
    for number, frame in enumerate(turn.samples.split(FRAME), 1):
        for event in finder.step(frame.numpy()):
            if event.kind == "stop":
                return number * FRAME / RATE
            if event.kind == "likely" and words is not None and isinstance(finder, Endpointer):
                finder.judge_words(words(turn.samples[: number * FRAME]))
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


def ends_of(turns: Sequence[Turn], found: Sequence[float | None]) -> Found:
    """What became of turns whose ends were found at these seconds."""
    early = [end is not None and end < turn.end for turn, end in zip(turns, found, strict=True)]
    waits = [float("inf") if end is None else end - turn.end for turn, end, cut in zip(turns, found, early) if not cut]
    return Found(tuple(found), sum(early) / max(1, len(turns)), median(waits) if waits else float("inf"))


def by_loudness() -> SpeechDetector:
    """What it is measured against: 0.7 s without anything loud."""
    return SpeechDetector(LoudnessActivity(RATE), silence=0.7)


def speakers() -> Say:
    """The held-out voices, each loaded when it is first needed; what was said once is kept."""
    from antiphon.data.speech.speak import Speaker

    voice = lru_cache(maxsize=None)(Speaker)

    @cache
    def say(name: str, text: str) -> Audio:
        spoken = voice(name).speak(text, 0, {"speed": 1.0})
        return Audio(torch.from_numpy(spoken.samples), spoken.sample_rate)

    return say


def turn_ends(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Ends of turns as a half-duplex session finds them; reference: 0.7 s without anything loud.

    Waits are in the time of the sound: that the model takes to find out is not among them.
    """
    model, turns = evaluation.model, made_turns(evaluation.questions(n), speakers())
    chat = model.backend.chat()

    def words(samples: Tensor) -> float:
        for _ in chat.read_ahead([], model.hear(Audio(samples, RATE)).text.strip()):
            pass
        return chat.sounds_over()

    def found(turn: Turn) -> float | None:
        finder = endpointer(RATE)
        finder.worded = True
        return found_end(turn, finder, words)

    ours = ends_of(turns, evaluation.each("ends of turns", turns, found))
    loud = ends_of(turns, [found_end(turn, by_loudness()) for turn in turns])
    columns = {"id": [turn.id for turn in turns], "voice": [turn.voice for turn in turns]}
    columns |= {"kind": [turn.kind for turn in turns], "end": [turn.end for turn in turns]}
    evaluation.save_items("turn-ends", rows_of(columns | {"found": list(ours.ends), "loudness": list(loud.ends)}))
    half = f"<= {loud.cut_off / 2:.3f}"
    return [
        Figure("false-cutoffs", ours.cut_off, "share of turns", half, loud.cut_off, len(turns)),
        Figure("endpoint-wait-s", ours.wait, "s", "<= 0.5", loud.wait, len(turns)),
    ]
