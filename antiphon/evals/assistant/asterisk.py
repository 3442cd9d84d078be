"""Real speech with transcripts: the prompts of the Asterisk telephone exchange, 8 kHz, one speaker a language.

They come as Debian packages (CC BY-SA 3.0; John Todd, the English ones by Allison Smith), which need no installing:

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-wav
    for package in asterisk-core-sounds-en*.deb; do dpkg -x $package FOLDER; done

They are for measuring only: a set that trained on them could no longer tell how a model hears people.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

from antiphon.audio import io
from antiphon.errors import DataError
from antiphon.evals.assistant.material import Clip

SOUNDS = {
    "en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}  # fmt: skip
# Spoken otherwise than written, or not speech: what the list says of them is no transcript.
_NOT_TRANSCRIBED = re.compile(r"^(?:silence|letters|phonetic|digits)/|^spy-|tone$")


def asterisk_prompts(folder: Path, min_words: int = 4, language: str = "en") -> list[Clip]:
    """Real recordings of at least `min_words` words, 8 kHz.

    Args:
        folder: where Debian's packages are unpacked, or will be: they are fetched with apt-get where there is one.
        min_words: shorter prompts are left out.
        language: one of `SOUNDS`.

    Raises:
        DataError: the packages are not there and cannot be fetched.
    """
    try:
        prompts = read_prompts(folder, min_words, language)
    except DataError:
        _fetch(folder, language)
        prompts = read_prompts(folder, min_words, language)
    return [Clip(path.stem, text, io.load(path), SOUNDS[language].split("_")[-1].lower()) for path, text in prompts]


def clean_transcript(text: str) -> str:
    """The words of a transcript: without comments in brackets, dots of omission and the names of keys' signs.

    >>> clean_transcript("Please leave your message after the tone.  (simple tone sound plays)")
    'Please leave your message after the tone.'
    """
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text)
    text = text.replace("*", " star ").replace("#", " pound ")
    text = re.sub(r"\.{2,}|…", " ", text)
    return re.sub(r"\s+([.,?!;:])", r"\1", " ".join(text.split()))


def read_prompts(folder: str | Path, min_words: int = 4, language: str = "en") -> list[tuple[Path, str]]:
    """Recordings with their transcripts, in the order of the transcripts' list.

    Args:
        folder: Where the packages were unpacked ("/" where they are installed); searched in their usual places first.
        min_words: Prompts of fewer words are left out.
        language: One of `SOUNDS`.

    Returns:
        (wav file, transcript) of every prompt that has both.

    Raises:
        DataError: No transcripts or no recordings below `folder`.
    """
    folder = Path(folder)
    packages, listed, voice = _packages(language), f"core-sounds-{language}.txt.gz", SOUNDS[language]
    transcripts = _find(folder, f"usr/share/doc/{packages[0]}/{listed}", listed, packages)
    sounds = _find(folder, f"usr/share/asterisk/sounds/{voice}", voice, packages)
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
        raise DataError(f"{sounds} has none of the prompts in {transcripts}: unpack {packages[1]}.")
    return prompts


def _packages(language: str) -> tuple[str, str]:
    return f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-wav"


def _find(folder: Path, usual: str, name: str, packages: tuple[str, str]) -> Path:
    if (folder / usual).exists():
        return folder / usual
    found = next(iter(sorted(folder.rglob(name))), None) if folder != Path("/") else None
    if found is None:
        raise DataError(
            f"{folder} has no {name}: unpack Debian's {' and '.join(packages)} there (apt-get download, dpkg -x)."
        )
    return found


def _fetch(folder: Path, language: str) -> None:
    packages = _packages(language)
    names = " and ".join(packages)
    how = (
        f"Get Debian's {names} (.deb files), unpack both with `dpkg -x FILE {folder}`, and give that folder: "
        "--asterisk FOLDER."
    )
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise DataError(f"{folder} has no Asterisk prompts, and this system has no apt-get to fetch them with. {how}")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {names} from Debian ...", file=sys.stderr, flush=True)
    try:
        subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, stdout=sys.stderr, timeout=600)
        for package in sorted(folder.glob(f"{packages[0]}*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True, timeout=120)
            package.unlink()
    except (subprocess.SubprocessError, OSError) as error:
        raise DataError(f"Debian's Asterisk prompts could not be downloaded ({error}). {how}") from error
