"""A recording -> segments of text with their times: cut at pauses, heard one by one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from antiphon.audio.pcm import RATE
from antiphon.audio.speech import SpeechDetector, activity
from antiphon.dialogue.half_duplex import Backend

PAUSE = 0.6  # seconds of quiet between two segments
LEAST = 5.0  # seconds of a segment, if the recording has so many: words need their context
BLOCK = RATE


@dataclass(frozen=True)
class Span:
    """Samples of a recording: `first` to `last` are heard, of which `start` to `end` is loud."""

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True)
class Segment:
    """What was said from `start` to `end`, in seconds; `seek`: 10 ms frames before what was heard as one."""

    start: float
    end: float
    text: str
    seek: int = 0

    def shown(self, number: int) -> dict[str, Any]:
        """As verbose_json shows it; what isn't known is null."""
        said = self.text.encode()
        return {
            "id": number,
            "seek": self.seek,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "tokens": [],  # not given
            "temperature": 0.0,  # the likeliest words are taken
            "avg_logprob": None,  # the ears don't say how sure they are
            "compression_ratio": round(len(said) / len(zlib.compress(said)), 3),
            "no_speech_prob": None,
        }


def cut(samples: Tensor, vad: str = "silero") -> list[Span]:
    """Cuts a recording in the middle of its pauses. Nothing is left out, however faint it is.

    Args:
        samples: float32 [N] at 24 kHz.
        vad: how speech is found, as `activity` names it.
    """
    detector = SpeechDetector(activity(vad, RATE), silence=PAUSE)
    signs = detector.step(samples.numpy())
    starts = [sign.at for sign in signs if sign.kind == "start"]
    ends = [sign.at - int(PAUSE * RATE) for sign in signs if sign.kind == "stop"]
    ends += [len(samples) - detector.quiet] * (len(starts) - len(ends))
    joined: list[tuple[int, int]] = []
    for start, end in zip(starts, ends):
        if joined and end - joined[-1][0] < LEAST * RATE:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    if not joined:
        return [Span(0, len(samples), 0, len(samples))]
    borders = [0, *((one[1] + next_one[0]) // 2 for one, next_one in zip(joined, joined[1:])), len(samples)]
    return [Span(first, last, *span) for first, last, span in zip(borders, borders[1:], joined)]


def transcribe(backend: Backend, samples: Tensor, span: Span) -> Iterator[Segment | None]:
    """Hears a span: None for each step of work, then its segment, if something was said."""
    listener = backend.listen()
    yield None
    for part in samples[span.first : span.last].split(BLOCK):
        listener.step(part)
        yield None
    said = listener.finish().text.strip()
    if said:
        yield Segment(span.start / RATE, span.end / RATE, said, span.first * 100 // RATE)


def as_subtitles(segments: Sequence[Segment], kind: str) -> str:
    """Segments as "srt" or "vtt"."""
    comma = "," if kind == "srt" else "."
    blocks = ["WEBVTT\n"] if kind == "vtt" else []
    for number, segment in enumerate(segments, 1):
        times = f"{_clock(segment.start, comma)} --> {_clock(segment.end, comma)}"
        blocks.append(f"{number}\n{times}\n{segment.text}\n" if kind == "srt" else f"{times}\n{segment.text}\n")
    return "\n".join(blocks) + "\n"


def _clock(seconds: float, comma: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d}{comma}{whole % 1000:03d}"
