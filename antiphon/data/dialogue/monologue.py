"""The inner monologue: what a voice says, written on the frame clock, one piece of text a frame.

Moshi (Defossez et al. 2024, section 3.4.4): the text stream is PAD wherever nothing begins. A word's pieces start in
the frame in which the word starts to sound and take a frame each. A word that starts before the pieces of the one
before are done waits for them. The frame before a word, where it is PAD, becomes EPAD: the model first decides that it
will speak, and then what.

    frame   0    1    2     3   4    5     6    7
    text    PAD  EPAD "Hel" "lo" PAD  EPAD "you" PAD         "Hello" from 0.16 s on, "you" from 0.48 s on

moshi-finetune (finetune/data/interleaver.py) does the same with `keep_and_shift`; without, it loses the rest of a word
where the next one starts early. Like it, words that last no time are left out: recognisers write those where they
heard nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from antiphon.data.dialogue.format import MODEL, Word
from antiphon.models.moshi.text_tokenizer import END_PAD, PAD


class Pieces(Protocol):
    """Words to pieces and back, such as `antiphon.models.moshi.text_tokenizer.TextTokenizer`."""

    def encode_word(self, word: str, first: bool = False) -> list[int]:
        """Ids of a word with the space before it, which the first of a text has not."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def starts_word(self, piece: int) -> bool:
        """Whether a piece begins with the space before a word."""


def first_frame(seconds: float, frame_rate: float) -> int:
    """The frame in which a moment lies; moments a millionth of a frame before its start count as in it."""
    return math.floor(seconds * frame_rate + 1e-6)


def inner_monologue(
    words: Iterable[Word],
    frames: int,
    frame_rate: float,
    pieces: Pieces,
    pad: int = PAD,
    end_pad: int = END_PAD,
    shift: float = 0.0,
) -> NDArray[np.int64]:
    """The text stream of one voice.

    Every word is encoded with a space before it, also the first: what stands at a place does not depend on where the
    conversation began.

    Args:
        words: of this voice alone; in any order.
        frames: length of the stream.
        frame_rate: frames a second.
        pieces: encodes words.
        pad, end_pad: ids of PAD and EPAD.
        shift: seconds by which the text comes later than the sound; below 0 earlier. What would come before the first
            frame is pushed into it.

    Returns:
        Ids [frames]. Pieces that would stand past the end are left out.
    """
    row = np.full(frames, pad, np.int64)
    free = 0  # the first frame that no piece has
    for word in sorted(words, key=lambda word: word.start):
        ids = pieces.encode_word(word.text, first=False) if word.end > word.start else []
        at = max(free, first_frame(word.start + shift, frame_rate))
        if not ids or at >= frames:
            continue
        if at > 0 and row[at - 1] == pad:
            row[at - 1] = end_pad
        free = at + len(ids)
        row[at:free] = ids[: frames - at]
    return row


def monologue_words(
    row: Sequence[int] | NDArray[np.integer],
    frame_rate: float,
    pieces: Pieces,
    pad: int = PAD,
    end_pad: int = END_PAD,
    speaker: str = MODEL,
) -> list[Word]:
    """The words of a text stream with their times: `inner_monologue` the other way round.

    Args:
        row: ids [frames]; below 0 where there is none.
        frame_rate: frames a second.
        pieces: decodes.
        pad, end_pad: ids of PAD and EPAD.
        speaker: of the words.

    Returns:
        Words; each starts with the frame of its first piece and ends with that of its last one (the text does not say
        for how long it sounds).
    """
    words: list[Word] = []
    run: list[int] = []
    ids = [int(token) for token in row]
    for frame, token in enumerate([*ids, pad]):
        if token >= 0 and token not in (pad, end_pad):
            run.append(token)
        elif run:
            words += _run_words(run, frame - len(run), frame_rate, pieces, speaker)
            run = []
    return words


def _run_words(run: list[int], at: int, frame_rate: float, pieces: Pieces, speaker: str) -> list[Word]:
    """Words of pieces that stand in frames `at`, `at + 1` and so on, with nothing between them."""
    begins = [0, *(i for i in range(1, len(run)) if pieces.starts_word(run[i])), len(run)]
    texts = [pieces.decode(run[begin:end]).strip() for begin, end in itertools.pairwise(begins)]
    return [
        Word(text, (at + begin) / frame_rate, (at + end) / frame_rate, speaker)
        for text, begin, end in zip(texts, begins, begins[1:])
        if text
    ]
