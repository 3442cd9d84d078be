"""When the phones of recordings sound, written into a manifest that training reads.

write_aligned("my_recordings", Path("my_recordings/aligned.jsonl"), aligner, print)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from antiphon.data.recordings import Recording, recordings
from antiphon.errors import AntiphonError, DataError
from antiphon.models.asr.phone_times import PhoneAligner
from antiphon.models.tts.languages import ENGLISH, english_name, language
from antiphon.models.tts.phonemes import Phonemizer

LONGEST_SECONDS = 30.0  # that a speech encoder hears at once


def write_aligned(
    place: Path | str, out: Path, aligner: PhoneAligner, progress: Callable[[str], None]
) -> tuple[int, int]:
    """Writes a manifest of the recordings of a place that have a text: JSON lines with path, id, text, voice, phones.

    What it holds already is kept, so that a run that was stopped goes on. Recordings that can't be aligned are told.

    Args:
        place: what `recordings` takes, of files.
        out: the manifest; paths in it count from its folder.
        aligner: finds the times.
        progress: is told of recordings that are left out.

    Returns:
        How many are in it, and how many were left out.

    Raises:
        DataError: recordings that are no files, or none with a text.
    """
    found, phonemizer = recordings(place), Phonemizer()
    if any(recording.row is not None for recording in found):
        raise DataError(f"{place} isn't made of files, which a manifest names: copy its recordings into a folder first")
    texts = [recording for recording in found if recording.text.strip()]
    if not texts:
        raise DataError(f"{place}: no recording has a text; antiphon data transcribe {place} writes down what is said")
    there = _ids(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    left = 0
    with out.open("a", encoding="utf-8") as file:
        for recording in texts:
            if recording.id in there:
                continue
            try:
                phones = phone_times(recording, aligner, phonemizer)
            except AntiphonError as error:
                progress(f"{recording.id} is left out: {error}")
                left += 1
                continue
            file.write(json.dumps(_row(recording, phones, out.parent), ensure_ascii=False) + "\n")
            file.flush()
            there.add(recording.id)
    return len(there), left


def phone_times(recording: Recording, aligner: PhoneAligner, phonemizer: Phonemizer) -> list[tuple[str, float, float]]:
    """(phone, start, end), in seconds, of what is said in a recording.

    Raises:
        AntiphonError: no sound that can be read, one too long, or a text that isn't of it, or in another language.
    """
    audio = recording.load()
    if audio.duration > LONGEST_SECONDS:
        raise DataError(f"it lasts {audio.duration:.0f} s: cut it into sentences of at most {LONGEST_SECONDS:.0f} s")
    if (spoken := language(recording.text.split(), ended=True)) not in (ENGLISH, None):
        raise DataError(f"its text is in {english_name(spoken)}; the phones of English alone are known")
    return aligner.align(audio.resample(aligner.features.sample_rate).samples, phonemizer(recording.text))


def _ids(manifest: Path) -> set[str]:
    """Of the rows of a manifest that are whole; half a row, of a run that was killed, is cut off."""
    if not manifest.is_file():
        return set()
    data = manifest.read_bytes()
    if (whole := data.rfind(b"\n") + 1) < len(data):
        with manifest.open("rb+") as file:
            file.truncate(whole)
    try:
        return {json.loads(line)["id"] for line in data[:whole].splitlines()}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is no manifest that was made here: give another file (-o)") from error


def _row(recording: Recording, phones: list[tuple[str, float, float]], folder: Path) -> dict[str, object]:
    row: dict[str, object] = {
        "path": os.path.relpath(recording.path, folder), "id": recording.id, "text": recording.text,
        "phones": [[phone, round(start, 3), round(end, 3)] for phone, start, end in phones],
    }  # fmt: skip
    row |= {"voice": recording.voice} if recording.voice else {}
    row |= {"offset": recording.start} if recording.start else {}
    return row | ({"duration": recording.seconds} if recording.seconds is not None else {})
