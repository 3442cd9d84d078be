"""What codes tell about phones: phone-normalised mutual information, phone purity and cluster purity.

Measured over frames, each of which has a code and a phone that sounds in its middle (Hsu et al. 2021, section IV-E).
The sets that `antiphon data speak` makes with the voice "hibari" hold the times of their phonemes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.codecs.base import Tokenizer
from antiphon.data.speech.utterances import SpeechSet, Utterance
from antiphon.errors import EvalError
from antiphon.models.tts.phonemes import SILENCE, STRESS, phone_at


@dataclass(frozen=True)
class Segment:
    """A phone and when it sounds.

    Attributes:
        phone: one character.
        start, end: seconds.
    """

    phone: str
    start: float
    end: float


@dataclass(frozen=True)
class PhoneFigures:
    """What codes tell about phones; each from 0 to 1.

    Attributes:
        pnmi: the share of the phones' entropy that the codes tell.
        phone_purity: how often one guesses the phone right from the code alone.
        cluster_purity: how often one guesses the code right from the phone alone; it falls with the number of codes.
        frames: that were counted.
    """

    pnmi: float
    phone_purity: float
    cluster_purity: float
    frames: int


def segments(said: Utterance) -> list[Segment | None]:
    """The phones of an utterance in order, None where a pause stands (punctuation with a length of its own).

    A stress mark's time belongs to the phone behind it, a space's to nobody: the phones at both sides are neighbours.

    Raises:
        EvalError: the utterance has no phoneme times.
    """
    if not said.phonemes or len(said.phonemes) != len(said.phoneme_ends):
        raise EvalError(
            f"Utterance {said.id} has no times of its phonemes: make the set with `antiphon data speak --voice hibari`."
        )
    found: list[Segment | None] = []
    start, held = said.phonemes_start, None
    for phone, end in zip(said.phonemes, said.phoneme_ends):
        if phone in STRESS:
            held = start if held is None else held
        elif phone.isalpha():
            found.append(Segment(phone, start if held is None else held, end))
            held = None
        elif phone != " " and end > start and found and found[-1] is not None:
            found.append(None)
        start = end
    return found


def touching(phones: Iterable[tuple[str, float, float]]) -> list[Segment | None]:
    """Phones (phone, start, end) in order, None where a pause stands between two: a millisecond or more of nothing."""
    found: list[Segment | None] = []
    last = math.inf
    for phone, start, end in phones:
        if start - last >= 1e-3:
            found.append(None)
        found.append(Segment(phone, start, end))
        last = end
    return found


def phones_at(phones: Sequence[tuple[str, float, float]], times: np.ndarray) -> list[str]:
    """The phone that sounds at each of the times, "" where none does; phones are (phone, start, end) in order."""
    places = np.searchsorted([start for _, start, _ in phones], times, side="right") - 1
    return [phones[i][0] if i >= 0 and time < phones[i][2] else "" for i, time in zip(places.tolist(), times.tolist())]


def joint_counts(codes: Tensor, phones: Tensor) -> Tensor:
    """How often each code meets each phone: ids [n] and [n] -> [codes, phones], float64."""
    if codes.shape != phones.shape or codes.ndim != 1 or not len(codes):
        raise EvalError(f"codes {list(codes.shape)} and phones {list(phones.shape)} must be as many, at least one")
    size = int(phones.max()) + 1
    counts = torch.bincount(codes * size + phones, minlength=(int(codes.max()) + 1) * size)
    return counts.view(-1, size).double()


def phone_figures(codes: Tensor, phones: Tensor) -> PhoneFigures:
    """The figures of codes [n] and the phones that sound with them [n], ids both."""
    joint = joint_counts(codes, phones) / len(codes)
    code, phone = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    there = joint > 0
    information = (joint * torch.log(joint / (code * phone)))[there].sum()
    entropy = -torch.xlogy(phone, phone).sum()
    return PhoneFigures(
        pnmi=float(information / entropy) if entropy > 1e-9 else 0.0,
        phone_purity=float(joint.amax(1).sum()),
        cluster_purity=float(joint.amax(0).sum()),
        frames=len(codes),
    )


def utterance_audio(speech: SpeechSet, index: int, sample_rate: int) -> Tensor:
    """An utterance's samples [n] at a sample rate, Hz."""
    samples = speech.samples(index)
    if speech.sample_rate != sample_rate:
        samples = soxr.resample(samples, speech.sample_rate, sample_rate)
    return torch.from_numpy(np.ascontiguousarray(samples, np.float32))


@torch.no_grad()
def codes_and_phones(
    tokenizer: Tokenizer, speech: SpeechSet, indices: Iterable[int], codebook: int = 0, silence: bool = True
) -> tuple[Tensor, Tensor]:
    """A tokenizer's codes of utterances and the phones that sound in the middle of each frame.

    Args:
        tokenizer: any, also a codec.
        speech: with phoneme times.
        indices: of the utterances.
        codebook: whose codes.
        silence: count the frames too in which no phone sounds, as one more phone.

    Returns:
        ids [n] and [n].
    """
    codes, phones = [], []
    for index in indices:
        said = speech.utterances[index]
        segments(said)  # says what is wrong where there are no times
        audio = utterance_audio(speech, index, tokenizer.sample_rate)
        given = tokenizer.encode(audio.expand(1, tokenizer.channels, -1), codebook + 1)[0, codebook].cpu()
        middles = (np.arange(len(given)) + 0.5) / tokenizer.frame_rate
        sounding = phone_at(said.phonemes, np.asarray(said.phoneme_ends), said.phonemes_start, middles)
        kept = torch.from_numpy(sounding)
        counted = torch.ones(len(kept), dtype=torch.bool) if silence else kept != SILENCE
        codes.append(given[counted])
        phones.append(kept[counted])
    if not codes:
        raise EvalError("There is no utterance to measure: give a set that holds some.")
    return torch.cat(codes), torch.cat(phones)


def measure_phones(
    tokenizer: Tokenizer, speech: SpeechSet, indices: Iterable[int], codebook: int = 0, silence: bool = True
) -> PhoneFigures:
    """`phone_figures` of a tokenizer; arguments as in `codes_and_phones`.

    Codes must be many times fewer than frames: every code that occurs once tells its phone for sure.
    """
    return phone_figures(*codes_and_phones(tokenizer, speech, indices, codebook, silence))
