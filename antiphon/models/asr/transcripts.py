"""What a transcript is worth: whether anybody spoke, whether words are missing, where it loops; and drafts joined.

Pure functions of the voice activity detector's answers and of tokens. The numbers were measured on real recordings.
"""

from __future__ import annotations

import difflib

from torch import Tensor
from torch.nn import functional as F

from antiphon.audio.mel import SAMPLE_RATE as RATE
from antiphon.audio.vad import CHUNK
from antiphon.encoders.whisper.decoder import Transcript

SILENT_PEAK = 1e-3  # nothing louder than -60 dB of full scale was said
VOICED = 0.5  # the detector's probability from which a chunk is speech
MIN_VOICED_SECONDS = 0.09  # of speech in a row, without which nobody spoke
NO_SPEECH, UNSURE = 0.6, -1.0  # above the one and below the other, nothing was said (Radford et al. 2022, section 4.5)
WORD_SECONDS = 1.0  # of speech; in less there is a word, which the decoder may be as unsure of as of a cough
CLEAR, CLEAR_SECONDS = 0.87, 0.22  # the mean of the detector's answers, and how long in a row, for a clear voice
DOUBT = 0.05  # detector's mean and decoder's confidence together, under which other words are not believed
CLEAR_SHARE, CLEAR_UNSURE = 0.25, -1.5  # of a recording, for which words of a clear voice are believed whatever
MOST_TOKENS_A_SECOND, LEAST_TOKENS = 15, 3  # of English speech, besides some at its edges: nobody says more
GUESSED = -0.35  # confidence under which more than that were made up
MISSING_WORDS = 6  # in a row that only the draft has: some were not written down
FEW_WORDS_A_SECOND = 1.5  # of speech; people say two or three
LONGEST_WORD, UNWRITTEN_SECONDS = 1.5, 1.2  # seconds of the last word, and of speech behind it that was surely words
MIN_WORDS_A_SECOND = 0.8  # of speech; fewer are a transcript that began late or ended early


def voiced_run(voice: Tensor) -> int:
    """The most chunks in a row that the detector takes for speech; voice is its answers, [chunks]."""
    edges = F.pad((voice > VOICED).int(), (1, 1)).diff().nonzero()[:, 0].view(-1, 2)
    return int((edges[:, 1] - edges[:, 0]).max()) if len(edges) else 0


def voiced_seconds(voice: Tensor) -> float:
    """Seconds that the detector takes for speech; voice is its answers, [chunks]."""
    return int((voice > VOICED).sum()) * CHUNK / RATE


def was_spoken(voice: Tensor, samples: Tensor | None = None) -> bool:
    """Whether the detector found speech.

    Args:
        voice: its answers, [chunks].
        samples: what they are about; sound that is too faint to be anything counts as none.
    """
    if samples is not None and float(samples.abs().max()) < SILENT_PEAK:
        return False
    return voiced_run(voice) * CHUNK / RATE >= MIN_VOICED_SECONDS


def was_nothing(transcript: Transcript, voice: Tensor, english: bool = True) -> bool:
    """Whether words are better not believed: detector and decoder together know a cough, a bark or a cry.

    The numbers were found on 347 clips of sounds and music, of which two are left with words (a voice on the radio, and
    a baby), and on 330 clips of a word or a few by many speakers, of which one in fifty loses them. That more tokens
    than anybody says are no words came later: of 100 clips of speech and of single words it takes the words of none.

    Args:
        transcript: the decoder's.
        voice: the detector's answers, [chunks].
        english: it is English and no translation; of others the decoder is less sure, however clear the voice.
    """
    voiced = voice[voice > VOICED]
    surely = float(voiced.mean())
    seconds, unlikely = len(voiced) * CHUNK / RATE, transcript.no_speech > NO_SPEECH and transcript.confidence < UNSURE
    too_many = english and transcript.ended and len(transcript.tokens) > MOST_TOKENS_A_SECOND * seconds + LEAST_TOKENS
    if too_many and transcript.confidence < GUESSED:
        return True
    clear = surely >= CLEAR and voiced_run(voice) * CHUNK / RATE >= CLEAR_SECONDS
    if clear and seconds < WORD_SECONDS:
        return len(voiced) < CLEAR_SHARE * len(voice) and (unlikely or transcript.confidence <= CLEAR_UNSURE)
    if clear and not english:
        return unlikely
    return unlikely or transcript.confidence + surely < DOUBT or not (transcript.ended or clear)


def misses_words(text: str, drafted: str, voice: Tensor, spaced: bool = True) -> bool:
    """Whether a transcript is shorter than the speech: for its length, or where the adapter heard words.

    Args:
        text: the decoder's.
        drafted: the adapter's; "" without one.
        voice: the detector's answers, [chunks].
        spaced: the language has spaces between its words; without them each letter counts as a word.
    """
    words, others = ("".join(c if c.isalnum() else " " for c in t.lower()).split() for t in (text, drafted))
    if (len(words) if spaced else sum(map(len, words))) < MIN_WORDS_A_SECOND * voiced_seconds(voice) - 2:
        return True
    changes = difflib.SequenceMatcher(a=others, b=words, autojunk=False).get_opcodes()
    return any((end - start) - (to - at) >= MISSING_WORDS for _, start, end, at, to in changes)


def few_words(text: str, voice: Tensor) -> bool:
    """Whether a transcript is so short for the speech that it is worth looking where it stops."""
    return len(text.split()) < FEW_WORDS_A_SECOND * voiced_seconds(voice)


def stops_early(last: float, voice: Tensor) -> bool:
    """Whether much speech follows a transcript's last word: a decoder may take a pause in the middle for the end.

    Args:
        last: seconds from the beginning of the sound at which that word begins.
        voice: the detector's answers for the sound, [chunks].
    """
    return voiced_seconds(voice[int((last + LONGEST_WORD) * RATE) // CHUNK :]) > UNWRITTEN_SECONDS


def cut_loop(tokens: list[int], repeats: int = 3) -> list[int]:
    """Ends a transcript that ran to its limit where it begins to say over and over what it has just said.

    >>> cut_loop([5, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1])
    [5, 1, 2, 3]
    >>> cut_loop([7, 7, 1, 2, 3])
    [7, 7, 1, 2, 3]
    """
    for length in range(1, len(tokens) // repeats + 1):
        start = len(tokens) - length
        while start > 0 and tokens[start - 1] == tokens[start - 1 + length]:
            start -= 1
        if len(tokens) - start >= repeats * length:
            return tokens[: start + length]
    return tokens


def join_drafts(early: list[int], whole: list[int]) -> list[int]:
    """A good draft of the beginning, then what a worse draft of the whole says after it.

    >>> join_drafts([1, 2, 3], [1, 9, 3, 4, 5])
    [1, 2, 3, 4, 5]
    """
    if not early:
        return list(whole)
    for reach in (3, 2, 1):
        tail = early[-reach:]
        for start in range(len(whole) - reach, -1, -1):
            if len(early) >= reach and whole[start : start + reach] == tail:
                return early + whole[start + reach :]
    return list(early)
