"""What is said in conversations with the duplex model, and the voices that say it.

The model answers with fixed replies (`antiphon.data.dialogue.replies`), in the voice "heart" as it is; users ask in
their own words and in many voices.

    tts = TtsCache()
    said = tts.utterance(Voice("hibari", pitch=0.6), "Set a timer for ten minutes.")
    said.samples, said.words                   # float32 at 24 kHz, without silence around; (word, start, end)
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.data.speech.augment import resample
from antiphon.data.speech.speak import Speaker
from antiphon.data.speech.voices.base import HibariVoice, Spoken
from antiphon.data.text.corpora import clean, read_sentences, text_id

RATE = 24000
MARKS = '.,!?;:-—…"“”() '  # phonemes that are silences
QUIET_DB = -35.0  # under an utterance's loudest 10 ms: silence
MARGIN_SECONDS = 0.02  # kept around the sound of an utterance
FADE_SECONDS = 0.01


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        name: as `antiphon.data.speech.speak.Speaker` knows it: "hibari", "joe", "flite:NAME", "kokoro:STYLE".
        speed, pitch, formant: factors; the pitch alone only hibari can change.
    """

    name: str = "hibari"
    speed: float = 1.0
    pitch: float = 1.0
    formant: float = 1.0


@dataclass(frozen=True)
class SpokenUtterance:
    """Something said, from its first sound to its last.

    Attributes:
        text: its words.
        samples: float32 [N] at `RATE`.
        words: (word, start, end) in seconds from the first sample, one for each of `text.split()`.
    """

    text: str
    samples: NDArray[np.float32]
    words: tuple[tuple[str, float, float], ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


@dataclass(frozen=True)
class Request:
    """Something that a user asks for.

    Attributes:
        id: of its text, see `antiphon.data.text.corpora.text_id`.
        text: with case and punctuation.
        intent: what it asks for; "oos" for what no reply fits.
    """

    id: str
    text: str
    intent: str


def read_requests(
    folder: str | Path, split: str = "train", words: tuple[int, int] = (1, 16)
) -> dict[str, tuple[Request, ...]]:
    """Requests by intent, cleaned and split as all texts are (`antiphon.data.text.corpora`).

    Args:
        folder: holds requests.jsonl.gz, lines {"text", "intent"}.
        split: "train" or "dev".
        words: smallest and largest number of words.

    Raises:
        DataError: no such file, or a broken one.
    """
    sentences = list(read_sentences(folder, "user", split, ("requests",), words))
    intents = {}
    with gzip.open(Path(folder) / "requests.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            intents.setdefault(text_id(clean(row["text"]) or ""), row["intent"])
    found: dict[str, list[Request]] = defaultdict(list)
    for sentence in sentences:
        if sentence.id in intents:
            found[intents[sentence.id]].append(Request(sentence.id, sentence.text, intents[sentence.id]))
    return {intent: tuple(found[intent]) for intent in sorted(found)}


def loudness(samples: NDArray[np.float32], rate: int = RATE, step: float = 0.01) -> NDArray[np.float64]:
    """RMS of every `step` seconds, [ceil(N / step)]."""
    size = max(1, round(step * rate))
    padded = np.pad(samples, (0, -len(samples) % size)).astype(np.float64)
    return np.sqrt(np.square(padded).reshape(-1, size).mean(axis=1))


def sounding(samples: NDArray[np.float32], rate: int = RATE) -> tuple[int, int]:
    """First sample of the sound and the one after its last; (0, 0) where there is none."""
    size = max(1, round(0.01 * rate))
    level = loudness(samples, rate)
    loud = np.nonzero(level > max(level.max(initial=0.0) * 10 ** (QUIET_DB / 20), 1e-5))[0]
    return (int(loud[0]) * size, min((int(loud[-1]) + 1) * size, len(samples))) if len(loud) else (0, 0)


def quiet_place(samples: NDArray[np.float32], start: float, end: float, rate: int = RATE) -> float:
    """The middle of the quietest 10 ms between two times, seconds: where one cuts between words."""
    first, last = max(0, round(start * rate)), min(len(samples), round(end * rate))
    if last - first < 2:
        return min(max(0.0, (start + end) / 2), len(samples) / rate)
    level = loudness(samples[first:last], rate)
    return min((first + (int(np.argmin(level)) + 0.5) * max(1, round(0.01 * rate))) / rate, last / rate)


def sounding_clock(samples: NDArray[np.float32], rate: int = RATE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of the sound has been heard at each time, silences not counted: (seconds, share from 0 to 1), [M] each.

    The share rises strictly, a little in silence too, so that it can be read either way.
    """
    level = loudness(samples, rate)
    heard = np.cumsum((level > level.max(initial=0.0) * 10 ** (QUIET_DB / 20)) + 1e-6)
    heard = np.concatenate([[0.0], heard]) / max(heard[-1], 1e-6) if len(heard) else np.zeros(1)
    return np.arange(len(heard)) * max(1, round(0.01 * rate)) / rate, heard


def faded(samples: NDArray[np.float32], start: float, end: float, rate: int = RATE) -> NDArray[np.float32]:
    """A copy that rises over its first `start` seconds and falls over its last `end` seconds."""
    samples = np.array(samples, np.float32)
    rise, fall = min(round(start * rate), len(samples)), min(round(end * rate), len(samples))
    if rise:
        samples[:rise] *= np.linspace(0.0, 1.0, rise, endpoint=False, dtype=np.float32)
    if fall:
        samples[-fall:] *= np.linspace(1.0, 0.0, fall, endpoint=False, dtype=np.float32)
    return samples


def phoneme_words(spoken: Spoken) -> list[tuple[float, float]]:
    """Start and end of each word by a voice's own phoneme times, silent phonemes (punctuation) left out."""
    times: list[tuple[float, float]] = []
    starts = [spoken.phonemes_start, *spoken.phoneme_ends[:-1]]
    fresh = True
    for phoneme, start, end in zip(spoken.phonemes, starts, spoken.phoneme_ends):
        if phoneme == " ":
            fresh = True
        elif phoneme not in MARKS:
            if fresh:
                times.append((float(start), float(end)))
            else:
                times[-1] = (times[-1][0], float(end))
            fresh = False
    return times


def pair_words(text: str, times: list[tuple[float, float]], counts: list[int]) -> list[tuple[str, float, float]]:
    """Joins the words as written with the words as spoken, which may be more ("10" is one, "a hundred" two).

    Args:
        text: as written.
        times: of the spoken words.
        counts: how many spoken words each written one has, as far as one can tell; where that does not add up, the
            whole time is shared out by the words' letters.
    """
    written = text.split()
    if len(written) != len(times):
        if sum(counts) != len(times) or len(counts) != len(written) or min(counts, default=0) < 1:
            return shared_out(written, times[0][0], times[-1][1]) if times else []
        firsts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        times = [(times[a][0], times[b - 1][1]) for a, b in itertools.pairwise(firsts)]
    return [(word, start, end) for word, (start, end) in zip(written, times)]


def shared_out(words: list[str], start: float, end: float) -> list[tuple[str, float, float]]:
    """Words one after the other, each with time for its letters."""
    lengths = np.array([len(word) + 1.0 for word in words])
    edges = start + (end - start) * np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    return [(word, float(a), float(b)) for word, a, b in zip(words, edges[:-1], edges[1:])]


@dataclass
class TtsCache:
    """Every voice by name, loaded when it first speaks; what the model's voice says is kept.

    Attributes:
        kept: what the model says.
    """

    kept: dict[tuple[Voice, str, int], SpokenUtterance] = field(default_factory=dict)
    _speakers: dict[str, Speaker] = field(default_factory=dict)

    def speaker(self, name: str) -> Speaker:
        """The voice of this name.

        Raises:
            DataError: there is none.
        """
        if name not in self._speakers:
            self._speakers[name] = Speaker(name)
        return self._speakers[name]

    def utterance(self, voice: Voice, text: str, take: int = 0, keep: bool = False) -> SpokenUtterance:
        """Something said by a voice.

        Args:
            voice: who.
            text: what; a sentence.
            take: seed of what varies when the same is said again.
            keep: remember it for the next time.
        """
        key = (voice, text, take)
        if key in self.kept:
            return self.kept[key]
        changes = {"speed": voice.speed, "pitch": voice.pitch, "formant": voice.formant}
        spoken = self.speaker(voice.name).speak(text, take, changes)
        said = self._trim(text, spoken)
        if keep:
            self.kept[key] = said
        return said

    def _trim(self, text: str, spoken: Spoken) -> SpokenUtterance:
        samples = resample(spoken.samples, spoken.sample_rate, RATE)
        first, last = sounding(samples)
        words = self._words(text, spoken, first / RATE, last / RATE)
        first, last = (
            max(0, first - round(MARGIN_SECONDS * RATE)),
            min(len(samples), last + round(MARGIN_SECONDS * RATE)),
        )
        shift, longest = first / RATE, (last - first) / RATE
        inside = [(word, min(max(a - shift, 0.0), longest), min(max(b - shift, 0.0), longest)) for word, a, b in words]
        return SpokenUtterance(text, faded(samples[first:last], FADE_SECONDS, FADE_SECONDS), tuple(inside))

    def _words(self, text: str, spoken: Spoken, first: float, last: float) -> list[tuple[str, float, float]]:
        """Times of the words: the voice's own, or after hibari's of the same text: where as large a part of the sound
        has been heard, moved to where it is quiet."""
        if spoken.phonemes:
            return pair_words(text, phoneme_words(spoken), self._counts(text, phoneme_words(spoken)))
        other = self.speaker("hibari").voice.speak(text)
        times = phoneme_words(other)
        words = pair_words(text, times, self._counts(text, times))
        if not words:
            return []
        samples = resample(spoken.samples, spoken.sample_rate, RATE)
        theirs, ours = sounding_clock(resample(other.samples, other.sample_rate, RATE)), sounding_clock(samples)
        edges = [first]
        for (_, _, end), (_, begin, _) in itertools.pairwise(words):
            share = np.interp((end + begin) / 2, *theirs)
            middle = float(np.interp(share, ours[1], ours[0]))
            edges.append(max(quiet_place(samples, middle - 0.06, middle + 0.06), edges[-1]))
        edges.append(max(last, edges[-1]))
        return [(word, a, b) for (word, _, _), a, b in zip(words, edges[:-1], edges[1:])]

    def _counts(self, text: str, times: list[tuple[float, float]]) -> list[int]:
        """Spoken words of each written one; only asked for where the numbers differ."""
        written = text.split()
        if len(written) == len(times):
            return [1] * len(written)
        hibari = self.speaker("hibari").voice
        assert isinstance(hibari, HibariVoice)
        return [len(hibari.phonemize(word).strip(MARKS).split()) for word in written]
