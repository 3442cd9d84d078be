"""What was heard as segments with their times, and the ways of writing them: subtitles (srt, vtt), a table (tsv),
verbose JSON.

A segment is about a sentence: it ends where one does, at a pause, or where it would be too long to be read at once.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from antiphon.models.asr.heard import UNSPACED, Passage, Word, joined
from antiphon.models.asr.language import language_name

Format = Literal["text", "json", "verbose_json", "srt", "vtt", "tsv"]
Granularity = Literal["word", "segment"]
PAUSE_SECONDS = 0.6  # of quiet, after which a segment begins
MAX_SECONDS, MAX_LETTERS = 7.0, 84  # of a segment that is made of words: two lines of subtitles
ENDINGS = tuple(".?!…。？！।؟")  # of a sentence


@dataclass(frozen=True)
class Segment:
    """What was said from `start` to `end`, in seconds.

    Attributes:
        words: in it, where they are known.
        seek: seconds at which what was heard as one begins.
        language: that is spoken; None where nothing tells.
        no_speech: of what was heard as one, see `Passage`.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    seek: float = 0.0
    language: str | None = None
    no_speech: float | None = None

    def shown(self, number: int) -> dict[str, Any]:
        """As OpenAI's verbose_json shows it; what isn't known is null."""
        said = self.text.encode()
        sure = [math.log(max(word.confidence, 1e-6)) for word in self.words]
        return {
            "id": number,
            "seek": int(self.seek * 100),  # frames of 10 ms
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "tokens": [],  # not given
            "temperature": 0.0,  # the likeliest words are taken
            "avg_logprob": round(sum(sure) / len(sure), 3) if sure else None,
            "compression_ratio": round(len(said) / len(zlib.compress(said)), 3),
            "no_speech_prob": None if self.no_speech is None else round(self.no_speech, 4),
        }


def segments(passages: Iterable[Passage]) -> list[Segment]:
    """The segments of what was heard; a passage without times of its words is one."""
    return [segment for passage in passages if passage.text for segment in _segments(passage)]


def _segments(passage: Passage) -> Iterable[Segment]:
    if not passage.words:
        told = passage.start, passage.language, passage.no_speech
        yield Segment(passage.start, passage.end, passage.text, (), *told)
        return
    words: list[Word] = []
    for word in passage.words:
        if words and _is_over(words, word):
            yield _of_words(words, passage)
            words = []
        words.append(word)
    yield _of_words(words, passage)


def _is_over(words: Sequence[Word], following: Word) -> bool:
    """Whether a segment of these words ends before the one that follows."""
    letters = sum(len(word.text) + 1 for word in words) + len(following.text)
    too_long = following.end - words[0].start > MAX_SECONDS or letters > MAX_LETTERS
    return too_long or words[-1].text.endswith(ENDINGS) or following.start - words[-1].end >= PAUSE_SECONDS


def _of_words(words: Sequence[Word], passage: Passage) -> Segment:
    text = ("" if passage.language in UNSPACED else " ").join(word.text for word in words)
    told = passage.start, passage.language, passage.no_speech
    return Segment(words[0].start, words[-1].end, text, tuple(words), *told)


def written(
    found: Sequence[Segment],
    form: Format,
    duration: float,
    language: str | None = None,
    granularities: Sequence[Granularity] = ("segment",),
    task: str = "transcribe",
) -> str:
    """What was heard in one of the formats of OpenAI's transcriptions, or as a table.

    Args:
        found: from `segments`.
        form: of the result.
        duration: of the sound, seconds.
        language, granularities, task: as in `verbose`.
    """
    if form in ("srt", "vtt"):
        return _subtitles(found, form)
    if form == "text":
        return _text(found) + "\n"
    if form == "tsv":  # as Whisper's own command writes it: milliseconds, and no tab in the text
        rows = (f"{_ms(each.start)}\t{_ms(each.end)}\t{' '.join(each.text.split())}" for each in found)
        return "\n".join(["start\tend\ttext", *rows]) + "\n"
    about = (
        verbose(found, duration, language, granularities, task) if form == "verbose_json" else {"text": _text(found)}
    )
    return json.dumps(about, ensure_ascii=False) + "\n"


def verbose(
    found: Sequence[Segment],
    duration: float,
    language: str | None = None,
    granularities: Sequence[Granularity] = ("segment",),
    task: str = "transcribe",
) -> dict[str, Any]:
    """OpenAI's verbose_json.

    Args:
        found: from `segments`.
        duration: of the sound, seconds.
        language: that is spoken, as a code; None where nothing tells.
        granularities: what times are given of.
        task: "transcribe" or "translate".
    """
    name = language_name(language) if language is not None else None
    shown: dict[str, Any] = {"task": task, "language": name, "duration": round(duration, 3), "text": _text(found)}
    if "segment" in granularities:
        shown["segments"] = [segment.shown(number) for number, segment in enumerate(found)]
    if "word" in granularities:
        shown["words"] = [shown_word(word) for segment in found for word in segment.words]
    return shown


def shown_word(word: Word) -> dict[str, Any]:
    """A word as verbose_json shows it; the confidence is ours."""
    times = {"start": round(word.start, 3), "end": round(word.end, 3)}
    return {"word": word.text, **times, "confidence": round(word.confidence, 3)}


def _text(found: Sequence[Segment]) -> str:
    return joined((segment.text, segment.language) for segment in found)


def _subtitles(found: Sequence[Segment], form: Format) -> str:
    comma = "," if form == "srt" else "."
    blocks = ["WEBVTT\n"] if form == "vtt" else []
    for number, segment in enumerate(found, 1):
        times = f"{_clock(segment.start, comma)} --> {_clock(segment.end, comma)}"
        blocks.append(f"{number}\n{times}\n{segment.text}\n" if form == "srt" else f"{times}\n{segment.text}\n")
    return "\n".join(blocks) + "\n"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, comma: str) -> str:
    whole = _ms(seconds)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d}{comma}{whole % 1000:03d}"
