"""Codes with the times of what is said: which symbol sounds when, on the clock of the frames; for the talker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from antiphon.data.codes import CodeSet
from antiphon.data.speech.utterances import Turn
from antiphon.errors import DataError
from antiphon.models.tts.phonemes import SILENCE, Phonemizer, alphabet

log = logging.getLogger(__name__)

Phones = Sequence[tuple[str, float, float]]


@dataclass
class TimedCodes:
    """An utterance on the frame clock, as the talker learns it.

    Attributes:
        symbols: phoneme ids [length], silence first and last.
        ends: seconds at which each symbol ends [length]; the last ends with the last frame.
        codes: [codebooks, frames].
        text: what is said.
        voice: by whom; empty where not known.
    """

    symbols: NDArray[np.int64]
    ends: NDArray[np.float64]
    codes: NDArray[np.int64]
    text: str
    voice: str = ""


def timeline(phones: Phones, length: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Symbols of speech and when each ends, seconds, with a silence before and one after.

    Args:
        phones: (phone, start, end); those that the alphabet hasn't are left out.
        length: seconds of the speech.
    """
    known, symbols, ends = alphabet(), [SILENCE], [phones[0][1] if phones else length]
    for phone, start, end in phones:
        if start > ends[-1] + 1e-6 and len(symbols) > 1 and phone != " ":
            symbols.append(known[" "])
            ends.append(start)
        if phone in known:
            symbols.append(known[phone])
            ends.append(end)
    clipped = np.maximum.accumulate(np.clip([*ends, length], 0.0, length))
    return np.array([*symbols, SILENCE], np.int64), clipped


def spread(phonemes: str, seconds: float, lead: float, tail: float) -> list[tuple[str, float, float]]:
    """Phones of which nobody knows when they sound: one as long as the other, between two silences.

    Args:
        phonemes: what is said, one character a phone.
        seconds: length of the speech.
        lead, tail: seconds of silence before and after it, as far as there is room.
    """
    start, end = min(lead, seconds / 4), max(seconds - tail, seconds * 3 / 4)
    edges = np.linspace(start, end, len(phonemes) + 1).tolist()
    return list(zip(phonemes, edges[:-1], edges[1:]))


class TimedSet(Sequence[TimedCodes]):
    """The recordings of a set of codes of which it is known what is said.

    Where a recording has a text but no phones, the phones of the text are spread evenly over it: a beginning, and worse
    than an aligner's times (a manifest's "phones").

    Args:
        codes: the set.
        lead, tail: seconds of silence around speech, where nobody knows.
        hours: use only the first hours of the set.

    Attributes:
        ids: of those that are used.
        voices: of all of them, sorted.
        frames: of each, int64 [len].
    """

    def __init__(self, codes: CodeSet, lead: float = 0.08, tail: float = 0.12, hours: float | None = None) -> None:
        self.codes, self.lead, self.tail = codes, lead, tail
        self._timelines: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        ends = np.cumsum(codes.frames) / codes.info.frame_rate
        count = len(codes) if hours is None else int(np.searchsorted(ends, 3600.0 * hours)) + 1
        rows = enumerate(codes.rows[:count])
        self.places = [i for i, row in rows if row.length and (row.phones or row.text.strip())]
        self.ids = [codes.rows[i].id for i in self.places]
        self.frames = codes.frames[self.places]
        self.voices = sorted({codes.rows[i].voice for i in self.places})
        if unknown := sum(not codes.rows[i].phones for i in self.places):
            log.warning(
                "%s: of %d of %d recordings it is not known when their phones sound; they are spread evenly "
                "(antiphon data align finds their times).",
                codes.folder, unknown, len(self.places),
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> TimedCodes:
        symbols, ends = self._timeline(index)
        row = self.codes.rows[self.places[index]]
        return TimedCodes(symbols, ends, self.codes[self.places[index]], row.text, row.voice)

    def context(self, index: int) -> tuple[Turn, ...]:
        """What was said before; none where nobody knows.

        Raises:
            DataError: the manifest's context is no list of turns.
        """
        row = self.codes.rows[self.places[index]]
        try:
            return tuple(Turn(**turn) for turn in row.context)
        except TypeError:
            raise DataError(
                f"{self.codes.folder}: the context of {row.id} is no list of turns but {row.context!r}: write it as "
                '[{"role": "user", "text": "..."}], and encode anew.'
            ) from None

    def _timeline(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Found once for each recording, and kept."""
        if index not in self._timelines:
            row = self.codes.rows[self.places[index]]
            seconds = row.length / self.codes.info.frame_rate
            phones = row.phones or spread(self._phonemizer(row.text), seconds, self.lead, self.tail)
            self._timelines[index] = timeline(phones, seconds)
        return self._timelines[index]

    @cached_property
    def _phonemizer(self) -> Phonemizer:
        return Phonemizer()
