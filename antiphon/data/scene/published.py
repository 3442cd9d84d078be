"""Published sets, as they come."""

from __future__ import annotations

import re
from pathlib import Path

from antiphon.data.recordings import Recording, recordings, sound_files
from antiphon.data.scene.labelled import Labelled, from_manifest
from antiphon.data.scene.splits import split_of


def labelled(place: str | Path) -> list[Labelled]:
    """Recordings of a folder with a manifest.jsonl, of a manifest, or of a set that is laid out as it was published.

    Raises:
        DataError: nothing there, or it cannot be read.
    """
    place = Path(place)
    for read in (librispeech,) if place.is_dir() else ():
        if (found := read(place)) is not None:
            return found
    manifest = place / "manifest.jsonl"
    name = place.parent.name if place.is_file() else place.name
    return [from_manifest(each, name) for each in recordings(manifest if manifest.is_file() else place)]


def librispeech(place: Path) -> list[Labelled] | None:
    """LibriSpeech: SPEAKER-CHAPTER-UTTERANCE.flac, in folders or not; SPEAKERS.TXT says who is a woman, who a man."""
    names = [name for name in sound_files(place) if re.fullmatch(r"\d+-\d+-\d+\.\w+", name.rsplit("/", 1)[-1])]
    if not names:
        return None
    table = next((path for path in (place / "SPEAKERS.TXT", place.parent / "SPEAKERS.TXT") if path.is_file()), None)
    rows = [] if table is None else [row.split("|") for row in table.read_text(encoding="utf-8").splitlines()]
    sexes = {row[0].strip(): {"F": "female", "M": "male"}.get(row[1].strip(), "") for row in rows if len(row) > 2}
    found = []
    for name in names:
        speaker = name.rsplit("/", 1)[-1].split("-")[0]
        original, sex = f"librispeech_{speaker}", sexes.get(speaker, "")
        labels = (("kind", "speech"), ("speakers", "one"), *([("sex", sex)] if sex else []))
        known = frozenset({"kind", "event", "instrument", "speakers", *(["sex"] if sex else [])})
        recording = Recording(name, str(place / name), voice=original)
        found.append(Labelled(recording, labels, known, split_of(original), place.name, original, "CC BY 4.0"))
    return found
