"""Words with their times and how sure the decoder is of each; and how each was heard.

Some heads of Whisper's decoder look at the sound of the token that they are about to write. Dynamic time warping finds
the way through what they look at that goes forward both in the text and in the sound; where it enters a word, the word
begins (the way of openai/whisper's `timing.py`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.decoder import Reading
from antiphon.models.asr.heard import UNSPACED, SpokenWords, Word

FRAME_SECONDS = 0.02  # of Whisper's encoder
SMOOTH_FRAMES = 7  # of attention of which the median is taken
QUIET = 35.0  # decibels under the loudest of a word, below which nothing of it is left at its edges
EDGE_FRAMES = 1  # between the sounds of two words, that belong to neither: as measured on speech whose times are known
FLOOR_SHARE, ABOVE_FLOOR = 0.05, 3.0  # of frames that are as quiet as the noise, and decibels over it that still are


def split_words(tokenizer: Tokenizer, tokens: list[int], language: str | None = None) -> list[tuple[str, int]]:
    """The words of a transcript, and how many of its tokens each has.

    A word begins with a space; in a language without spaces, with each character or run of Latin letters that is a
    token. Punctuation goes with the word before it, if it opens something or stands alone with the one after it.

    Args:
        tokenizer: Whisper's.
        tokens: of the transcript.
        language: its code.

    Returns:
        (word without spaces around it, count); the counts sum to `len(tokens)`, unless the transcript is blank.
    """
    words: list[tuple[str, int]] = []
    for piece, count in _pieces(tokenizer, tokens):
        if words and _continues(words[-1][0], piece, language not in UNSPACED):
            words[-1] = (words[-1][0] + piece, words[-1][1] + count)
        else:
            words.append((piece, count))
    if len(words) > 1 and not _says(words[-1][0]):
        (text, count), (last, more) = words[-2:]
        words[-2:] = [(text + last, count + more)]
    return [(text.strip(), count) for text, count in words if text.strip()]


def _pieces(tokenizer: Tokenizer, tokens: list[int]) -> Iterable[tuple[str, int]]:
    """The text of tokens, one by one; those that are parts of one character, together."""
    begun: list[int] = []
    for at, token in enumerate(tokens):
        begun.append(token)
        text = tokenizer.decode(begun)
        if "\ufffd" not in text or at == len(tokens) - 1:
            yield text, len(begun)
            begun = []


def _says(text: str) -> bool:
    """Whether there is anything to say in it."""
    return any(unicodedata.category(c)[0] in "LNMS" for c in text)


def _continues(before: str, piece: str, spaced: bool) -> bool:
    """Whether a piece belongs to the word before it."""
    if not _says(before):  # nothing but punctuation so far
        return True
    if piece.startswith(" "):
        return False
    if spaced or not piece:
        return True
    if not _says(piece):
        return unicodedata.category(piece[0]) not in ("Ps", "Pi")  # what opens something belongs to what follows
    return (before[-1] + piece[0]).isascii() and before[-1].isalnum() and piece[0].isalnum()


def warp(cost: NDArray[np.floating]) -> NDArray[np.intp]:
    """The cheapest way from the first row and column to the last, by steps to the next row, the next column or both.

    A row at a time: what a cell costs is the cheapest entry into its row from above, at its column or before, and the
    walk along the row from there, which is a difference of sums.

    Args:
        cost: [rows, columns], of each cell that is passed.

    Returns:
        The column at which each row is entered, [rows].
    """
    rows, columns = cost.shape
    totals = np.empty((rows, columns))  # of the cheapest way to each cell
    entries = np.zeros((rows, columns), np.intp)  # the column at which it entered the row
    totals[0] = np.cumsum(cost[0])
    places = np.arange(columns)
    for row in range(1, rows):
        walked = np.concatenate([[0.0], np.cumsum(cost[row], dtype=np.float64)])
        entered = np.minimum(totals[row - 1], np.concatenate([[np.inf], totals[row - 1, :-1]])) - walked[:-1]
        best = np.minimum.accumulate(entered)
        entries[row] = np.maximum.accumulate(np.where(entered <= best, places, 0))
        totals[row] = best + walked[1:]
    begins, column = np.zeros(rows, np.intp), columns - 1
    for row in range(rows - 1, 0, -1):
        begins[row] = column = entries[row, column]
        if column and totals[row - 1, column - 1] <= totals[row - 1, column]:
            column -= 1
    return begins


def token_frames(attention: Tensor) -> NDArray[np.intp]:
    """The frame at which each token, and the end, begins.

    Args:
        attention: of the alignment heads, [heads, tokens + 1, frames].
    """
    weights = attention - attention.mean(1, keepdim=True)
    weights = weights / weights.square().mean(1, keepdim=True).sqrt().clamp_min(1e-10)
    reach = min(SMOOTH_FRAMES // 2, weights.shape[2] - 1)
    smooth = F.pad(weights, (reach, reach), mode="reflect").unfold(2, 2 * reach + 1, 1).median(-1).values
    return warp(-smooth.mean(0).double().numpy())


def timed_words(
    reading: Reading,
    tokens: list[int],
    tokenizer: Tokenizer,
    samples: Tensor,
    language: str | None = None,
    begun: float = 0.0,
) -> tuple[Word, ...]:
    """The words of a transcript with their times.

    A word lasts until the next begins, but not through a pause: what is quiet at its edges isn't part of it.

    Args:
        reading: the decoder's, of the frames that `samples` reach into.
        tokens: of the transcript.
        tokenizer: Whisper's.
        samples: that were heard, [n] at 16 kHz.
        language: of the transcript, its code.
        begun: seconds at which the samples begin.
    """
    words = split_words(tokenizer, tokens, language)
    if not words:
        return ()
    frames, levels = token_frames(reading.attention), frame_levels(samples)
    floor = float(np.quantile(levels, FLOOR_SHARE))
    sure, made, at = reading.sure.exp().tolist(), [], 0
    for text, count in words:
        first, last = int(frames[at]), max(int(frames[at]) + 1, int(frames[at + count]))
        first, last = _loud(levels, first, min(last, len(levels)), floor)
        if last - first > 3 * EDGE_FRAMES:
            first, last = first + EDGE_FRAMES, last - EDGE_FRAMES
        confidence = sum(sure[at : at + count]) / count
        made.append(Word(text, begun + first * FRAME_SECONDS, begun + last * FRAME_SECONDS, confidence))
        at += count
    return tuple(made)


def spoken_words(
    reading: Reading, tokens: list[int], tokenizer: Tokenizer, features: Tensor, language: str | None = None
) -> SpokenWords | None:
    """How the words of a transcript were heard; None where there are none.

    Args:
        reading: the decoder's, of as many frames as `features` has.
        tokens: of the transcript.
        tokenizer: Whisper's.
        features: the encoder's output, [frames, width].
        language: of the transcript, its code.
    """
    words = split_words(tokenizer, tokens, language)
    if not words:
        return None
    each = torch.cat([reading.hidden, reading.attention.mean(0) @ features], 1)[: len(tokens)]
    states = [part.mean(0) for part in each.split([count for _, count in words])]
    return SpokenWords(tuple(text for text, _ in words), torch.stack(states))


def frame_levels(samples: Tensor) -> NDArray[np.floating]:
    """Decibels of full scale of each frame, a last one that isn't full included: [n] at 16 kHz -> [frames]."""
    frames = F.pad(samples, (0, -len(samples) % FRAME_SAMPLES)).view(-1, FRAME_SAMPLES)
    return (10 * (frames.square().mean(1) + 1e-10).log10()).numpy()


def _loud(levels: NDArray[np.floating], first: int, last: int, floor: float) -> tuple[int, int]:
    """The part from the first to the last frame that is loud, of the frames `first` to `last`; at least one."""
    if last <= first:
        return first, first + 1
    quiet = max(float(levels[first:last].max()) - QUIET, floor + ABOVE_FLOOR)
    loud = np.flatnonzero(levels[first:last] > quiet)
    return (first + int(loud[0]), first + int(loud[-1]) + 1) if len(loud) else (first, last)
