"""Real speech with transcripts: the prompts of the Asterisk telephone exchange, one professional speaker, 8 kHz.

They come as Debian packages (CC BY-SA 3.0; John Todd, recordings by Allison Smith), which need no installing:

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-wav
    for package in asterisk-core-sounds-en*.deb; do dpkg -x $package FOLDER; done

They are for measuring only: a set that trained on them could no longer tell how the ears do on people.
"""
import gzip
import re
from pathlib import Path

from antiphon.errors import DataError

TRANSCRIPTS = "core-sounds-en.txt.gz"
SOUNDS = "en_US_f_Allison"
# Spoken otherwise than written, or not speech: what the list says of them is no transcript.
_NOT_TRANSCRIBED = re.compile(r"^(?:silence|letters|phonetic|digits)/|^spy-|tone$")


def clean_transcript(text: str) -> str:
    """The words of a transcript: without comments in brackets, dots of omission and the names of keys' signs.

    >>> clean_transcript("Please leave your message after the tone.  (simple tone sound plays)")
    'Please leave your message after the tone.'
    """
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text)
    text = text.replace("*", " star ").replace("#", " pound ")
    text = re.sub(r"\.{2,}|…", " ", text)
    return re.sub(r"\s+([.,?!;:])", r"\1", " ".join(text.split()))


def read_prompts(folder: str | Path, min_words: int = 4) -> list[tuple[Path, str]]:
    """Recordings with their transcripts, in the order of the transcripts' list.

    Args:
        folder: Where the packages were unpacked ("/" where they are installed); searched in their usual places first.
        min_words: Prompts of fewer words are left out.

    Returns:
        (wav file, transcript) of every prompt that has both.

    Raises:
        DataError: No transcripts or no recordings below `folder`.
    """
    folder = Path(folder)
    transcripts = _find(folder, f"usr/share/doc/asterisk-core-sounds-en/{TRANSCRIPTS}", TRANSCRIPTS)
    sounds = _find(folder, f"usr/share/asterisk/sounds/{SOUNDS}", SOUNDS)
    prompts = []
    with gzip.open(transcripts, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, colon, text = line.rstrip("\n").partition(":")
            if line.startswith(";") or not colon or _NOT_TRANSCRIBED.search(name):
                continue
            words, path = clean_transcript(text), sounds / f"{name.strip()}.wav"
            if len(words.split()) >= min_words and path.is_file():
                prompts.append((path, words))
    if not prompts:
        raise DataError(f"{sounds} has none of the prompts in {transcripts}: unpack asterisk-core-sounds-en-wav.")
    return prompts


def _find(folder: Path, usual: str, name: str) -> Path:
    if (folder / usual).exists():
        return folder / usual
    found = next(iter(sorted(folder.rglob(name))), None) if folder != Path("/") else None
    if found is None:
        raise DataError(
            f"{folder} has no {name}: unpack Debian's asterisk-core-sounds-en and asterisk-core-sounds-en-wav there "
            "(apt-get download, dpkg -x)."
        )
    return found
