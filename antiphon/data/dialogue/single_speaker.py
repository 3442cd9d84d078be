"""One voice alone as conversations in which the user is silent: what the unsupervised audio stage learns from.

    talks = Soliloquies(CodeSet("codes"), codec)
    talks.share                                                    # how many of the utterances could be used
    talks[0].words                                                 # of the text, with times

Code sets know when each phoneme sounds, and texts are words; the two go together where there are as many words in
the text as were spoken. Elsewhere ("$44" is three words) an utterance is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from antiphon.codecs.base import Tokenizer
from antiphon.data.codes import CodeSet
from antiphon.data.dialogue.codes import CodedConversation
from antiphon.data.dialogue.format import MODEL, Event, Word
from antiphon.errors import DataError
from antiphon.models.tts.phonemes import STRESS, alphabet


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


def spoken_words(symbols: Sequence[int], ends: Sequence[float]) -> list[tuple[str, float, float]]:
    """(phonemes, start, end) of each word of an utterance on the frame clock (see `antiphon.data.codes.Coded`).

    Args:
        symbols: phoneme ids [length], silence first and last.
        ends: seconds at which each ends [length].

    Returns:
        Words end with their last phone: the time of the punctuation behind is a pause.
    """
    phones = {number: char for char, number in alphabet().items()}
    words: list[tuple[str, float, float]] = []
    word, start, end = "", 0.0, 0.0
    for i in range(1, len(symbols)):
        char = phones.get(int(symbols[i]), " ")  # silence parts words as a space does
        if char == " ":
            if any(c.isalpha() for c in word):
                words.append((word, start, end))
            word = ""
            continue
        if not word:
            start = float(ends[i - 1])
        word += char
        if char.isalpha() or char in STRESS:
            end = float(ends[i])
    return words


class Soliloquies(Sequence[CodedConversation]):
    """The utterances of a code set, each as a conversation: the voice is the model's, the user is silent.

    Args:
        codes: of one voice, with the times of its phonemes.
        codec: that the codes are of; gives the codes of silence.

    Attributes:
        kept: which utterances are used.
        share: of the utterances that are used.
        frames: of each conversation [len].

    Raises:
        DataError: no utterance can be used, or the codes are of another codec.
    """

    def __init__(self, codes: CodeSet, codec: Tokenizer) -> None:
        self.codes, self.frame_rate = codes, codec.frame_rate
        if codes.codes.shape[0] != codec.codebooks:
            raise DataError(
                f"The codes have {codes.codes.shape[0]} codebooks, the codec {codec.codebooks}: give the codec that "
                "they were made with."
            )
        words = [
            timed_words(row["text"], spoken_words(row["symbols"], row["ends"])) if row["frames"] else None
            for row in codes.index
        ]
        self.kept = [i for i, found in enumerate(words) if found]
        if not self.kept:
            raise DataError("No utterance has as many words in its text as were spoken.")
        self.words = [words[i] for i in self.kept]
        self.share = len(self.kept) / len(codes)
        self.frames = np.array([codes.lengths[i] for i in self.kept], np.int64)
        self.silence = silence_codes(codec, int(self.frames.max()))

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> CodedConversation:
        at, frames = self.codes.offsets[self.kept[index]], int(self.frames[index])
        codes = np.concatenate([self.codes.codes[:, at : at + frames], self.silence[:, :frames]])
        words, seconds = self.words[index], frames / self.frame_rate
        turn = Event("turn", words[0].start, words[-1].end, MODEL)
        return CodedConversation(codes, words, [turn], seconds, self.frame_rate, str(self.kept[index]))


@torch.no_grad()
def silence_codes(codec: Tokenizer, frames: int) -> np.ndarray:
    """Codes int16 [codebooks, frames] of so much silence."""
    samples = frames * round(codec.sample_rate / codec.frame_rate)
    device = next((p.device for p in codec.parameters()), "cpu") if hasattr(codec, "parameters") else "cpu"
    return codec.encode(torch.zeros(1, 1, samples, device=device))[0, :, :frames].cpu().numpy().astype(np.int16)
