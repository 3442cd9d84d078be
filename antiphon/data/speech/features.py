"""Speak sentences, make them sound as a user's microphone hears them, and keep what the frozen encoder makes of them.

Aligning the ears (antiphon.train.asr.align) reads each utterance many times and the encoder stays as it is, so its
features are computed once and kept as float16. A folder of features can be trained on while it still grows, and a run
that was killed goes on where it stopped: which voice, room and noise an utterance gets follows from its number and the
seed.

    python -m antiphon.data.speech.features --text texts --whisper WHISPER --out FOLDER --count 30000

A folder holds `sentences.txt` (all that could be said, from which the ears' pieces are taken), `manifest.jsonl` (id,
text, voice, source, shard, offset and frames; seconds) and `shard-*.npy` ([frames, width]).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.random import Generator
from torch import Tensor

from antiphon.audio.mel import SAMPLE_RATE, log_mel
from antiphon.data.speech.augment import Augment, augment
from antiphon.data.speech.voices.base import HibariVoice
from antiphon.data.text.corpora import Sentence, read_sentences, shuffled
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import DataError

SHARD = 256  # utterances in a shard
BATCH = 16  # utterances encoded at once, of like length
PAUSE = int(0.02 * SAMPLE_RATE)


@dataclass(frozen=True)
class Utterance:
    """Where one utterance's features are, and what was said.

    Attributes:
        id: names the text (antiphon.data.text.corpora.text_id), or the recording.
        text: what was said.
        voice: the speaker, or the numbers it was drawn with.
        source: where the text or the recording is from.
        shard: file name.
        offset: first row in the shard.
        frames: rows, 50 a second.
    """

    id: str
    text: str
    voice: str
    source: str
    shard: str
    offset: int
    frames: int


# Milder than what the language model's user may meet: sound that Whisper itself does not understand teaches nothing.
EARS_AUGMENT = Augment(
    speed=0.0, reverb=0.25, reverb_seconds=(0.1, 0.4), noise=0.5, snr_db=(10.0, 35.0), telephone=0.2, muffle=0.15,
    silence_seconds=(0.0, 0.4),
)  # fmt: skip


def draw_voice(generator: Generator) -> dict[str, float]:
    """Speed, pitch and formant factors of a speaker: of twenty nine are men, one a child, ten women."""
    kind = generator.random()
    if kind < 0.45:
        pitch, formant = generator.uniform(0.48, 0.75), generator.uniform(0.84, 0.97)
    elif kind < 0.95:
        pitch, formant = generator.uniform(0.75, 1.2), generator.uniform(0.92, 1.1)
    else:
        pitch, formant = generator.uniform(1.2, 1.45), generator.uniform(1.02, 1.15)
    return {"speed": generator.uniform(0.9, 1.35), "pitch": pitch, "formant": formant}


def speak_all(
    sentences: Iterable[tuple[int, Sentence]], seed: int, config: Augment, clean: float = 0.1
) -> Iterator[tuple[Sentence, str, np.ndarray]]:
    """Says each sentence with a voice of its own.

    Args:
        sentences: with their numbers, which with `seed` decide everything that is drawn.
        seed: of the whole set.
        config: how the sound is changed.
        clean: share that is left as the teacher said it.

    Yields:
        (sentence, voice, samples float32 [N] at 16 kHz); sentences without sound are passed over.
    """
    voice, others = HibariVoice(), []
    for number, sentence in sentences:
        generator = np.random.default_rng([seed, number])
        drawn = draw_voice(generator)
        spoken = voice.speak(sentence.text, seed=number, **drawn)
        if len(spoken.samples) < 0.2 * spoken.sample_rate:
            continue
        samples = soxr.resample(spoken.samples, spoken.sample_rate, SAMPLE_RATE).astype(np.float32)
        heard = samples
        if generator.random() >= clean:
            heard = augment(samples, SAMPLE_RATE, generator, config, others)
        others = [*others[-7:], samples]
        yield sentence, "hibari " + " ".join(f"{value:.2f}" for value in drawn.values()), heard


@torch.no_grad()
def encode(encoder: WhisperBlockEncoder, signals: list[np.ndarray]) -> list[Tensor]:
    """Encodes utterances in batches of like length.

    The shorter ones of a batch get silence after them; their features end a little after the speech does, as in use,
    where a turn ends some time after the last word.

    Args:
        encoder: in blocks.
        signals: float32 [N] at 16 kHz.

    Returns:
        Per signal float16 [frames, width].
    """
    out: list[Tensor] = [torch.zeros(0)] * len(signals)
    order = sorted(range(len(signals)), key=lambda index: len(signals[index]))
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        samples = torch.zeros(len(rows), max(len(signals[row]) for row in rows))
        for place, row in enumerate(rows):
            samples[place, : len(signals[row])] = torch.from_numpy(signals[row])
        features = encoder(log_mel(samples, encoder.config.bands))
        for place, row in enumerate(rows):
            frames = -(-(len(signals[row]) + PAUSE) // (2 * 160))
            out[row] = features[place, :frames].to(torch.float16)
    return out


class Writer:
    """Appends shards to a folder; a shard's lines stand in the manifest only once its file is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.shards = len(list(folder.glob("shard-*.npy")))

    def write(self, items: list[tuple[str, str, str, str, Tensor]]) -> None:
        """Writes one shard of (id, text, voice, source, features)."""
        name = f"shard-{self.shards:05d}.npy"
        partial = self.folder / (name + ".part")
        with partial.open("wb") as file:
            np.save(file, torch.cat([features for *_, features in items]).numpy())
        partial.rename(self.folder / name)
        offset, lines = 0, []
        for identity, text, voice, source, features in items:
            utterance = Utterance(identity, text, voice, source, name, offset, len(features))
            lines.append(
                json.dumps(vars(utterance) | {"seconds": round(len(features) / 50, 2)}, ensure_ascii=False) + "\n"
            )
            offset += len(features)
        with (self.folder / "manifest.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        self.shards += 1


def read_manifest(folder: Path | str) -> list[Utterance]:
    """Every utterance of a folder that is there so far.

    Raises:
        DataError: there is no manifest.
    """
    path = Path(folder) / "manifest.jsonl"
    if not path.is_file():
        raise DataError(f"{path} does not exist: make it with `python -m antiphon.data.speech.features` first")
    utterances = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            row.pop("seconds")
            utterances.append(Utterance(**row))
    return utterances


class Reader:
    """Reads features by utterance; shards are mapped into memory and stay open."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.shards: dict[str, np.ndarray] = {}

    def __call__(self, utterance: Utterance) -> Tensor:
        """float32 [frames, width]."""
        if utterance.shard not in self.shards:
            self.shards[utterance.shard] = np.load(self.folder / utterance.shard, mmap_mode="r")
        rows = self.shards[utterance.shard][utterance.offset : utterance.offset + utterance.frames]
        return torch.from_numpy(np.array(rows, dtype=np.float32))


def ears_sentences(text: Path | str, split: str = "train", words: tuple[int, int] = (2, 13)) -> list[Sentence]:
    """What the ears learn from: what users say and, so that they know statements too, some of what assistants say.

    Most of every dialogue corpus is templates, so only as many of its sentences are taken as of the questions; order
    as in `shuffled`, rare words early.
    """
    mine = list(read_sentences(text, "user", split, words=words))
    told = list(read_sentences(text, "assistant", split, words=words))
    chosen: dict[str, Sentence] = {}
    for sentences, source, most in [(mine, "dialogues", 6000), (told, "dialogues", 4000), (told, "questions", 6000)]:
        some = shuffled([sentence for sentence in sentences if sentence.source == source], seed=1)[:most]
        chosen |= {sentence.id: sentence for sentence in some}
    for sentence in [*mine, *told]:
        if sentence.source != "dialogues" and (sentence.role == "user" or sentence.source != "questions"):
            chosen[sentence.id] = sentence
    return shuffled(chosen.values(), seed=2)


def make(
    folder: Path, sentences: list[Sentence], encoder: WhisperBlockEncoder, seed: int, config: Augment, count: int
) -> None:
    """Makes the folder's features up to `count` utterances, going on after those that are there.

    Args:
        folder: made if there is none.
        sentences: in order; each is used once, then all again with other voices.
        encoder: whose features are kept.
        seed: of voices and changes.
        config: how the sound is changed.
        count: utterances wanted in all.
    """
    writer = Writer(folder)
    first, began = writer.shards * SHARD, time.monotonic()
    for start in range(first, count, SHARD):
        numbers = range(start, min(start + SHARD, count))
        chosen = ((number, sentences[number % len(sentences)]) for number in numbers)
        spoken = list(speak_all(chosen, seed, config))
        features = encode(encoder, [samples for _, _, samples in spoken])
        writer.write([(s.id, s.text, voice, s.source, f) for (s, voice, _), f in zip(spoken, features)])
        done = start + len(numbers)
        rate = (done - first) / (time.monotonic() - began)
        print(
            f"{done}/{count} utterances, {rate:.1f}/s, {(count - done) / rate / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder of texts")
    parser.add_argument("--whisper", type=Path, required=True, help="folder of the encoder, as in the cache")
    parser.add_argument("--out", type=Path, required=True, help="folder of features, made or added to")
    parser.add_argument("--count", type=int, default=30000, help="utterances wanted in all")
    parser.add_argument("--split", default="train", choices=["train", "dev"])
    parser.add_argument("--seed", type=int, default=0, help="of voices, rooms and noises")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = WhisperBlockEncoder.from_pretrained(arguments.whisper)
    sentences = ears_sentences(arguments.text, arguments.split)
    print(f"{len(sentences)} sentences", file=sys.stderr)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sentences.txt").write_text(
        "".join(sentence.text + "\n" for sentence in sentences), encoding="utf-8"
    )
    make(arguments.out, sentences, encoder, arguments.seed, EARS_AUGMENT, arguments.count)


if __name__ == "__main__":
    main()
