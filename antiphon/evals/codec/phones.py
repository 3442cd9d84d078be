"""What the first codebook of a codec or tokenizer tells about phones, where the recordings say when each one sounds.

Those are the speech sets that `antiphon data speak` makes with the voice "hibari", and manifests whose rows have
"phones"; of other material nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from antiphon.data.recordings import Recording, fitted
from antiphon.data.shards import SpeechSet
from antiphon.data.tokenize.encode import encode
from antiphon.errors import AntiphonError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.metrics.abx import abx, items_of, measure_abx
from antiphon.evals.metrics.phones import PhoneFigures, measure_phones, phone_figures, phones_at, touching

# Title of the column, unit.
PHONE_MEASURES = {
    "phone-information": ("phone MI", "share of the phones' entropy"),
    "phone-purity": ("phones", "share of frames"),
    "abx": ("ABX", "error rate, triphones, within speaker and context"),
}


@dataclass(frozen=True)
class PhoneValues:
    """What the first codebook tells about phones.

    Attributes:
        values: by name, as in `PHONE_MEASURES`.
        n: recordings.
    """

    values: dict[str, float]
    n: int


class EncodeOnce:
    """A tokenizer that encodes each sound once: two measures ask for the same ones."""

    def __init__(self, codec: Any) -> None:
        self.codec, self.codes = codec, {}
        self.sample_rate, self.channels, self.frame_rate = codec.sample_rate, codec.channels, codec.frame_rate
        self.codebooks, self.codebook_size = codec.codebooks, codec.codebook_size

    def encode(self, audio: torch.Tensor, codebooks: int | None = None) -> torch.Tensor:
        """audio [1, channels, N] -> codes [1, codebooks, frames]."""
        key = audio.contiguous().numpy().tobytes()
        if key not in self.codes:
            self.codes[key] = torch.from_numpy(encode(self.codec, audio[0]))[None]
        return self.codes[key][:, :codebooks]


def phone_measures(
    codec: Any, who: str, clips: Sequence[tuple[Recording, str]], cache: ResultCache, names: Sequence[str]
) -> PhoneValues:
    """The measures of the first codebook; kept in the cache like any other.

    Args:
        codec: a `Tokenizer`.
        who: it and its weights, for the cache.
        clips: all recordings that were measured, with keys that tell their sound; those that don't say when their
            phones sound are left out.
        cache: old and new results.
        names: of `PHONE_MEASURES`.

    Returns:
        Those that could be taken.
    """
    known = [recording for recording, _ in clips if recording.phones]
    if not known or not names:
        return PhoneValues({}, 0)
    tokenizer = EncodeOnce(codec)
    what = key_of(*(f"{key} {each.voice} {each.phones}" for each, key in clips if each.phones))

    def take(name: str) -> float | None:
        try:
            if name == "abx":
                return _abx(tokenizer, known)
            figures = _figures(tokenizer, known)
            return figures.pnmi if name == "phone-information" else figures.phone_purity
        except AntiphonError:
            return None  # too little speech to compare

    found = {}
    for name in names:
        found[name] = cache.get([f"{who}/codebook-1/{name}/{what}"], lambda _, name=name: [take(name)])[0]
    return PhoneValues({name: value for name, value in found.items() if value is not None}, len(known))


def _abx(tokenizer: EncodeOnce, known: Sequence[Recording]) -> float:
    if known[0].row is not None:
        return measure_abx(tokenizer, SpeechSet(known[0].path), [each.row for each in known])
    items = [
        item
        for each in known
        for item in items_of(_codes(tokenizer, each)[:, None], tokenizer.frame_rate, touching(each.phones), each.voice)
    ]
    return abx(items, distance="identical")


def _figures(tokenizer: EncodeOnce, known: Sequence[Recording]) -> PhoneFigures:
    if known[0].row is not None:
        return measure_phones(tokenizer, SpeechSet(known[0].path), [each.row for each in known])
    codes = [_codes(tokenizer, each) for each in known]
    middles = [(np.arange(len(row)) + 0.5) / tokenizer.frame_rate for row in codes]
    sounding = [phone for each, times in zip(known, middles) for phone in phones_at(each.phones, times)]
    ids = {phone: i for i, phone in enumerate(sorted(set(sounding)))}
    return phone_figures(torch.cat(codes), torch.tensor([ids[phone] for phone in sounding]))


def _codes(tokenizer: EncodeOnce, recording: Recording) -> torch.Tensor:
    samples = fitted(recording.load(), tokenizer.sample_rate, tokenizer.channels)
    return tokenizer.encode(samples[None], 1)[0, 0]
