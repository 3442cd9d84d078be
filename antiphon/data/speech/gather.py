"""Any recordings as a speech set: a task that draws crops at random needs them where they can be mapped into memory."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from antiphon.data.recordings import Recording, fitted, recordings
from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.data.store import kind_of
from antiphon.errors import AudioError, DataError

log = logging.getLogger(__name__)


def speech_set(
    place: str | Path, sample_rate: int, out: str | Path, hours: float | None = None, resumed: bool = False
) -> SpeechSet:
    """A place's recordings as a speech set: the set itself if `place` is one, else a copy in `out` (16 bits, mono).

    What cannot be read is left out, with a warning. A run that was stopped goes on.

    Args:
        place: what `recordings` takes.
        sample_rate: of the copy, Hz.
        out: the folder of the copy.
        hours: take only the first hours.
        resumed: take the copy as it is, if there is one.

    Raises:
        DataError: no recordings, or not one that can be read.
    """
    if kind_of(place) == "speech":
        return SpeechSet(place, hours)
    if not (resumed and kind_of(out) == "speech"):
        found = recordings(place)
        with SpeechWriter(out, sample_rate) as writer:
            missing = [each for each in found if each.id not in writer.done]
            for recording in tqdm(missing, desc=f"reading {Path(place).name}", file=sys.stderr, mininterval=1):
                try:
                    samples = fitted(recording.load(), sample_rate)[0].numpy()
                except AudioError as error:
                    log.warning("%s: left out: %s", recording.id, error)
                    writer.skip(recording.id, str(error))
                    continue
                writer.add(_utterance(recording), samples)
    speech = SpeechSet(out, hours)
    if not len(speech):
        raise DataError(f"Not one recording of {place} could be read; {out}/skipped.jsonl says why.")
    return speech


def _utterance(recording: Recording) -> Utterance:
    """With its phones where each is one character and begins where the one before it ends, as an utterance has them."""
    phones = recording.phones
    joined = all(abs(after[1] - before[2]) < 1e-3 for before, after in itertools.pairwise(phones))
    if not phones or not joined or any(len(phone) != 1 for phone, _, _ in phones):
        return Utterance(recording.id, recording.text, recording.voice)
    ends = [end for _, _, end in phones]
    spelled = "".join(phone for phone, _, _ in phones)
    return Utterance(
        recording.id, recording.text, recording.voice, phonemes=spelled, phoneme_ends=ends, phonemes_start=phones[0][1]
    )
