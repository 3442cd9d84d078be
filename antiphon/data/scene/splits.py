"""Which recordings train, which are looked at while training, and which are kept for measuring: one rule for all.

The parts are told apart by who speaks and by what recording a clip was cut from, never by the clip. A few small sets
have a list; for all others a hash of the speaker's or the original's name decides, so that new ones change nothing.
"""

from __future__ import annotations

import hashlib

SPLITS = ("train", "dev", "test")
TEST, DEV = 0.2, 0.1  # shares of speakers and originals

# Eight speakers are too few for a hash: two (a man, a woman) are for measuring, one is looked at while training.
_EMODB = {"emodb_11": "test", "emodb_13": "test", "emodb_12": "dev"}
# Sets that come in folds by original recording (ESC-10, ESC-50): this one is for measuring.
TEST_FOLD = 4
# All of these are for measuring: real single sounds and loops beside rendered ones, real turns, and what may not train
# weights that are given away (see `trains`).
MEASURED = frozenset({"sonic-pi", "sms-tools", "tuxpaint-sfx", "tuxpaint-words", "ami-turns", "opsound-music"})
# Voices that speak test sentences alone.
TEST_VOICES = frozenset({"joe", "kokoro:jm_kumo", "kokoro:jf_tebukuro"})

_FREE = ("cc0", "cc-0", "public domain", "apache", "mit", "bsd", "isc", "zlib", "unlicense")
_ATTRIBUTION = ("cc by 3", "cc by 4", "cc-by 3", "cc-by 4", "cc-by-3", "cc-by-4", "cc by 2", "cc-by-2", "cc-by 2")


def hashed(name: str) -> float:
    """A number from 0 to 1 that a name always gives."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64


def split_of(original: str, place: str = "", fold: int | None = None) -> str:
    """ "train", "dev" or "test".

    Args:
        original: who speaks, where that is known; else what a clip was cut from.
        place: name of the set, for those that are for measuring as a whole.
        fold: of a set that comes in folds.
    """
    if place in MEASURED or original in TEST_VOICES:
        return "test"
    if original.startswith("emodb_"):
        return _EMODB.get(original, "train")
    if fold is not None:
        return "test" if fold == TEST_FOLD else "dev" if hashed(original) < DEV else "train"
    share = hashed(original)
    return "test" if share < TEST else "dev" if share < TEST + DEV else "train"


def trains(licence: str) -> bool:
    """Whether weights that are given away may be trained on a recording under this licence.

    Those that ask for nothing or for the author's name may; share-alike, copyleft and unknown ones may not: such
    recordings measure.

    >>> trains("CC BY 4.0"), trains("CC BY-SA 4.0"), trains("GPL-2"), trains("")
    (True, False, False, False)
    """
    licence = licence.lower()
    if any(word in licence for word in ("-sa", " sa ", "share", "gpl", "odbl", "-nc", "noncommercial", "-nd")):
        return False
    return licence.startswith(_FREE) or licence.startswith(_ATTRIBUTION)
