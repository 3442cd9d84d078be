"""Speak sentences, make them sound as a user's microphone hears them, and keep what the frozen encoder makes of them.

Aligning the audio encoder (antiphon.train.asr.align) reads each utterance many times and the encoder stays as it is, so
its features are computed once and kept as float16. A folder of features can be trained on while it still grows, and a
run that was killed goes on where it stopped: which voice, room and noise an utterance gets follows from its number and
the seed. On disk it is a store (`antiphon.data.store`) of kind "features", float16 [frames, width], with
`sentences.txt` beside it: all that could be said, from which the recognizer's tokens are taken.
"""

from __future__ import annotations

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
from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.data.text.corpora import Sentence, read_sentences, shuffled
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder

SHARD_SENTENCES = 256  # sentences in a shard
BATCH_UTTERANCES = 16  # utterances encoded at once, of like length
PAUSE_SAMPLES = int(0.02 * SAMPLE_RATE)


@dataclass(frozen=True)
class EncodedUtterance:
    """Where one utterance's features are, and what was said.

    Attributes:
        id: unique in the set.
        text: what was said.
        voice: the speaker, or the numbers it was drawn with.
        source: where the text or the recording is from.
        shard, offset, length: where the features are; the length is in frames, 50 a second.
    """

    id: str
    text: str
    voice: str = ""
    source: str = ""
    shard: str = ""
    offset: int = 0
    length: int = 0


# Milder than what the language model's user may meet: sound that Whisper itself does not understand teaches nothing.
ASR_AUGMENT = Augment(
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
    for first in range(0, len(order), BATCH_UTTERANCES):
        rows = order[first : first + BATCH_UTTERANCES]
        samples = torch.zeros(len(rows), max(len(signals[row]) for row in rows))
        for place, row in enumerate(rows):
            samples[place, : len(signals[row])] = torch.from_numpy(signals[row])
        features = encoder(log_mel(samples, encoder.config.bands))
        for place, row in enumerate(rows):
            frames = -(-(len(signals[row]) + PAUSE_SAMPLES) // (2 * 160))
            out[row] = features[place, :frames].to(torch.float16)
    return out


class FeatureSet:
    """Reads a set of features, also while it is being written.

    Args:
        folder: the set's.

    Attributes:
        utterances: those that have been read.

    Raises:
        DataError: no such set.
    """

    def __init__(self, folder: Path | str) -> None:
        self._store = ArrayStore(folder, "features")
        self.utterances = [EncodedUtterance(**row) for row in self._store.rows]

    def refresh(self) -> list[EncodedUtterance]:
        """Takes in what was written since, and returns it."""
        came = [EncodedUtterance(**row) for row in self._store.refresh()]
        self.utterances += came
        return came

    def __call__(self, utterance: EncodedUtterance) -> Tensor:
        """float32 [frames, width]."""
        return torch.from_numpy(np.array(self._store.array(vars(utterance)), dtype=np.float32))


def asr_sentences(text: Path | str, split: str = "train", words: tuple[int, int] = (2, 13)) -> list[Sentence]:
    """What the recognizer learns from: what users say and, for statements too, some of what assistants say.

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
    # Each shard is flushed whole, so their number tells how many sentences have been tried.
    rows = {"shard_rows": 1 << 40, "shard_seconds": float("inf")}
    with ArrayWriter(folder, "features", {"width": encoder.config.width}, **rows) as writer:
        first, began = writer.shards * SHARD_SENTENCES, time.monotonic()
        for start in range(first, count, SHARD_SENTENCES):
            numbers = range(start, min(start + SHARD_SENTENCES, count))
            chosen = ((number, sentences[number % len(sentences)]) for number in numbers)
            spoken = list(speak_all(chosen, seed, config))
            features = encode(encoder, [samples for _, _, samples in spoken])
            for number, (sentence, voice, _), each in zip(numbers, spoken, features):
                about = {"text": sentence.text, "voice": voice, "source": sentence.source}
                writer.add({"id": f"{sentence.id}-{number}", **about}, each.numpy())
            writer.flush()
            done = start + len(numbers)
            rate = (done - first) / (time.monotonic() - began)
            left = (count - done) / rate / 60
            print(f"{done}/{count} utterances, {rate:.1f}/s, {left:.0f} min left", file=sys.stderr, flush=True)
