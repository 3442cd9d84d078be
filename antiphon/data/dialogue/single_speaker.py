"""One voice alone as conversations in which the user is silent: what the unsupervised audio stage learns from.

    talks = SingleSpeakerDialogues(CodeSet("codes"), codec)
    talks.share                                                    # how many of the utterances could be used
    talks[0].words                                                 # of the text, with times

Sets of codes know when each phone sounds, and texts are words; the two go together where there are as many words in the
text as were spoken. Elsewhere ("$44" is three words) a recording is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from antiphon.codecs.base import Tokenizer
from antiphon.data.codes import CodeSet, device_of
from antiphon.data.dialogue.codes import CodedDialogue
from antiphon.data.dialogue.format import MODEL, Event, Word
from antiphon.data.speech.timed_codes import Phones
from antiphon.errors import DataError
from antiphon.models.tts.phonemes import STRESS


def timed_words(text: str, spoken: Sequence[tuple[str, float, float]]) -> list[Word] | None:
    """The words of a text with the times of what was spoken.

    Args:
        text: words with their punctuation; a dash between spaces may be spoken or not.
        spoken: (phonemes, start, end) of each spoken word, seconds.

    Returns:
        Words of the model, or None where the numbers differ.
    """
    written = text.split()
    if len(written) != len(spoken):
        written = [word for word in written if any(char.isalnum() for char in word)]
    if len(written) != len(spoken):
        return None
    return [Word(word, float(start), float(end), MODEL) for word, (_, start, end) in zip(written, spoken)]


def spoken_words(phones: Phones) -> list[tuple[str, float, float]]:
    """(phonemes, start, end) of each word of what was spoken: (phone, start, end), seconds, " " between words.

    Words end with their last phone: the time of the punctuation behind is a pause.
    """
    words: list[tuple[str, float, float]] = []
    word, first, last = "", 0.0, 0.0
    for phone, start, end in [*phones, (" ", 0.0, 0.0)]:
        if phone == " ":
            if any(char.isalpha() for char in word):
                words.append((word, first, last))
            word = ""
            continue
        if not word:
            first = start
        word += phone
        if phone.isalpha() or phone in STRESS:
            last = end
    return words


class SingleSpeakerDialogues(Sequence[CodedDialogue]):
    """The recordings of a set of codes, each as a dialogue: the voice is the model's, the user is silent.

    Args:
        codes: of single voices.
        codec: that the codes are of; gives the codes of silence.

    Attributes:
        kept: which recordings are used: those whose words and their times are known, and those without any text, whose
            dialogues have no words.
        share: of the recordings that are used.
        frames: of each dialogue, int64 [len].

    Raises:
        DataError: no recording can be used, or the codes are of another codec.
    """

    def __init__(self, codes: CodeSet, codec: Tokenizer) -> None:
        codes.info.check(codec, codes.folder)
        self.codes, self.frame_rate = codes, codec.frame_rate
        words = [
            (timed_words(row.text, spoken_words(row.phones)) if row.text else []) if row.length else None
            for row in codes.rows
        ]
        self.kept = [i for i, found in enumerate(words) if found is not None]
        if not self.kept:
            raise DataError(
                f"{codes.folder}: no recording has as many words in its text as were spoken (see `phones` in its "
                "manifest), and none is without text."
            )
        self.words = [words[i] for i in self.kept]
        self.share = len(self.kept) / len(codes)
        self.frames = codes.frames[self.kept]
        self.silence = silence_codes(codec, int(self.frames.max()))[: codes.info.codebooks]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> CodedDialogue:
        frames, words = int(self.frames[index]), self.words[index]
        codes = np.concatenate([self.codes[self.kept[index]], self.silence[:, :frames]])
        turns = [Event("turn", words[0].start, words[-1].end, MODEL)] if words else []
        return CodedDialogue(codes, words, turns, frames / self.frame_rate, self.frame_rate, str(self.kept[index]))


@torch.no_grad()
def silence_codes(codec: Tokenizer, frames: int) -> np.ndarray:
    """Codes [codebooks, frames] of so much silence."""
    samples = frames * round(codec.sample_rate / codec.frame_rate)
    return codec.encode(torch.zeros(1, 1, samples, device=device_of(codec)))[0, :, :frames].cpu().numpy()
