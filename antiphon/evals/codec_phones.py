"""What the first codebook of a codec or tokenizer tells about phones, where the recordings say when each one sounds.

Those are the speech sets that `antiphon data speak` makes with the voice "hibari"; of other material nothing is
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from antiphon.data.recordings import Recording
from antiphon.data.shards import SpeechSet
from antiphon.data.tokenize import encode
from antiphon.errors import AntiphonError
from antiphon.evals.memo import Memo, key_of

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


class Kept:
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
    codec: Any, who: str, recordings: Sequence[Recording], memo: Memo, names: Sequence[str]
) -> PhoneValues:
    """The measures of the first codebook; kept in the memo like any other.

    Args:
        codec: a `Tokenizer`.
        who: it and its weights, for the memo.
        recordings: all that were measured; those that don't say when their phones sound are left out.
        memo: old and new results.
        names: of `PHONE_MEASURES`.

    Returns:
        Those that could be taken.
    """
    known = [recording for recording in recordings if recording.row is not None and recording.phones]
    if not known or not names:
        return PhoneValues({}, 0)
    from antiphon.evals.abx import measure_abx
    from antiphon.evals.phones import measure_phones

    speech, rows, kept = SpeechSet(known[0].path), [recording.row for recording in known], Kept(codec)
    what = key_of(*(recording.id for recording in known))

    def take(name: str) -> float | None:
        try:
            if name == "abx":
                return measure_abx(kept, speech, rows)
            figures = measure_phones(kept, speech, rows)
            return figures.pnmi if name == "phone-information" else figures.phone_purity
        except AntiphonError:
            return None  # too little speech to compare

    found = {}
    for name in names:
        found[name] = memo.all([f"{who}/codebook-1/{name}/{what}"], lambda _, name=name: [take(name)])[0]
    return PhoneValues({name: value for name, value in found.items() if value is not None}, len(known))
