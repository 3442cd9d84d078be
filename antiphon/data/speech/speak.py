"""Speak sentences with teacher voices into a set of shards.

    config = SpeakConfig(out=Path("sets/heart"), voices=("hibari",), hours=10.0)
    speak(mixed_sentences(texts, {"assistant": 0.85, "user": 0.15}), config)

What is drawn for a sentence (its speed, its noise, ...) follows from the config's seed and the sentence's id alone; so
a set comes out the same however often its making was stopped and taken up again.
"""

import functools
import hashlib
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from antiphon.data.speech.augment import Augment, Samples, augment, resample
from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.data.speech.voices.base import HibariVoice, Spoken, word_times
from antiphon.data.text.corpora import Sentence, read_sentences, shuffled
from antiphon.errors import DataError, ModelError
from antiphon.models.asr.phone_times import PhoneAligner
from antiphon.models.tts.phonemes import Phonemizer

BABBLERS = 12
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}, {rate_fmt}]"


@dataclass(frozen=True)
class Variety:
    """Ranges of what makes one voice into many speakers; 1 leaves a thing as it is. Draws are uniform in the logarithm.

    Attributes:
        speed: Factor on the speed of speech.
        pitch: Factor on the fundamental frequency (voices that can: hibari).
        throat: Factor on the formants' frequencies beyond what the pitch's change brings along.
        coupling: Formants move by pitch to this power: lower voices come from longer throats.
    """

    speed: tuple[float, float] = (1.0, 1.0)
    pitch: tuple[float, float] = (1.0, 1.0)
    throat: tuple[float, float] = (1.0, 1.0)
    coupling: float = 0.25

    def draw(self, generator: Generator) -> dict[str, float]:
        """`speed`, `pitch` and `formant` of one utterance, rounded to 3 digits; always three draws."""
        speed, pitch, throat = (
            float(np.exp(generator.uniform(*np.log(bounds)))) for bounds in (self.speed, self.pitch, self.throat)
        )
        return {"speed": round(speed, 3), "pitch": round(pitch, 3), "formant": round(throat * pitch**self.coupling, 3)}


MANY_SPEAKERS = Variety(speed=(0.8, 1.3), pitch=(0.5, 1.4), throat=(0.88, 1.12))


@dataclass(frozen=True)
class SpeakConfig:
    """How sentences become a set.

    Attributes:
        out: The set's folder.
        voices: Names for `Speaker`; each sentence is spoken by one of them, drawn evenly.
        hours: Stop after as many hours by these voices (0: no such limit).
        count: Stop after as many utterances by these voices (0: no such limit).
        seconds: Shortest and longest utterance; others are left out.
        sample_rate: Hz of the set.
        seed: Of everything drawn.
        variety: Of speed, pitch and throat.
        augment: Changes made to what was spoken (phoneme times are then left out), or None.
        times: Find when phones sound (an aligner, English) where the voice doesn't tell, so that a talker can learn it.
        shard_seconds: Length of a shard.
    """

    out: Path
    voices: tuple[str, ...] = ("hibari",)
    hours: float = 0.0
    count: int = 0
    seconds: tuple[float, float] = (0.5, 12.0)
    sample_rate: int = 24000
    seed: int = 0
    variety: Variety = Variety()
    augment: Augment | None = None
    times: bool = False
    shard_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not self.voices:
            raise DataError("No voice was named: give at least one, such as hibari.")
        if self.hours < 0 or self.count < 0:
            raise DataError(f"hours {self.hours} and count {self.count} must not be negative; 0 means no limit.")
        if not 0 <= self.seconds[0] < self.seconds[1]:
            raise DataError(f"seconds {self.seconds} must be a shortest and a longest length.")


class Speaker:
    """One voice by name, with what it can vary.

    Args:
        name: "hibari", "joe", "flite:NAME", or "kokoro:STYLE" (several styles joined by "+" are blended evenly).

    Raises:
        DataError: There is no such voice.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        kind, _, style = name.partition(":")
        if kind == "hibari":
            self.voice = HibariVoice()
        elif kind == "joe":
            from antiphon.data.speech.voices.piper import PiperVoice

            self.voice = PiperVoice()
        elif kind == "flite":
            from antiphon.data.speech.voices.flite import VOICES, FliteVoice

            self.voice = FliteVoice(style or VOICES[0])
        elif kind == "kokoro":
            from antiphon.data.speech.voices.kokoro import STYLES, KokoroVoice

            self.voice = KokoroVoice(style or STYLES[0])
        else:
            raise DataError(f"There is no voice {name!r}: name hibari, joe, flite:NAME, or kokoro:STYLE.")

    @property
    def changes_pitch(self) -> bool:
        """Whether it can, and how far its pitch moves."""
        return isinstance(self.voice, HibariVoice)

    def speak(self, text: str, seed: int, changes: dict[str, float]) -> Spoken:
        """Speak with the changes that this voice can make; those that it cannot are passed over.

        A voice that knows no throats speaks slower by the factor and is played faster: its pitch rises along.
        """
        if self.changes_pitch:
            return self.voice.speak(text, seed=seed, **changes)
        throat = changes.get("formant", 1.0)
        spoken = self.voice.speak(text, seed=seed, speed=changes["speed"] / throat)
        if throat != 1.0:
            samples = resample(spoken.samples, round(spoken.sample_rate * throat), spoken.sample_rate)
            spoken = replace(spoken, samples=samples)
        return spoken

    def made(self, changes: dict[str, float]) -> dict[str, float]:
        """Those of the changes that `speak` makes and that are any change."""
        able = changes if self.changes_pitch else {k: v for k, v in changes.items() if k in ("speed", "formant")}
        return {name: value for name, value in able.items() if value != 1.0}


@functools.cache
def _aligner() -> tuple[PhoneAligner, Phonemizer]:
    from antiphon.hub import folder
    from antiphon.hub.parts import PHONE_TIMES

    return PhoneAligner.from_pretrained(folder(PHONE_TIMES)), Phonemizer()


def timed(spoken: Spoken, text: str) -> Spoken:
    """The same with the times of its phones, as an aligner hears them; as it is where none are heard."""
    aligner, phonemizer = _aligner()
    samples = resample(spoken.samples, spoken.sample_rate, aligner.features.sample_rate)
    try:
        phones = aligner.align(torch.from_numpy(samples), phonemizer(text))
    except ModelError:
        return spoken
    phonemes, ends = "".join(phone for phone, _, _ in phones), np.array([end for _, _, end in phones])
    return replace(
        spoken, phonemes=phonemes, phoneme_ends=ends, phonemes_start=phones[0][1],
        words=word_times(phonemes, ends, phones[0][1]),
    )  # fmt: skip


def generator_for(seed: int, identity: str) -> Generator:
    """The generator of one utterance: by the set's seed and the utterance's id."""
    digest = hashlib.sha256(f"{seed} {identity}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def mixed_sentences(
    folder: str | Path,
    shares: dict[str, float],
    split: str = "train",
    seed: int = 0,
    words: tuple[int, int] = (1, 32),
    questions: bool = False,
) -> list[Sentence]:
    """Sentences of several roles, in even proportion from first to last.

    For training each role comes in its shuffled order, rare words first; for measuring ("dev") in the order of ids,
    which is a fair sample wherever it is cut.

    Args:
        folder: With the text sources.
        shares: Role -> share, summing to 1 or not.
        split: "train" or "dev".
        seed: Of the order.
        words: Fewest and most words.
        questions: Take only what ends with a question mark.

    Returns:
        Every sentence of the role that runs out first, and as many of the others as their shares say; a text that both
        roles hold comes once.
    """
    roles = {}
    for role in (role for role, share in shares.items() if share > 0):
        found = list(read_sentences(folder, role, split, words=words))
        if questions:
            found = [sentence for sentence in found if sentence.text.endswith("?")]
        roles[role] = sorted(found, key=lambda each: each.id) if split == "dev" else shuffled(found, seed)
    if not roles or not all(roles.values()):
        raise DataError(f"{folder} has no {split} sentences for the roles {shares}: give other texts or roles.")
    placed = dict.fromkeys(roles, 0)
    seen, mixed = set(), []
    while True:
        role = min(roles, key=lambda role: (placed[role] + 0.5) / shares[role])
        if placed[role] == len(roles[role]):
            return mixed
        sentence = roles[role][placed[role]]
        placed[role] += 1
        if sentence.id not in seen:
            seen.add(sentence.id)
            mixed.append(sentence)


def make_utterance(
    sentence: Sentence,
    speakers: Sequence[Speaker],
    config: SpeakConfig,
    others: Sequence[Samples] = (),
    changes: dict[str, float] | None = None,
) -> tuple[Utterance, NDArray[np.float32]]:
    """Speak one sentence as the config says, or with given changes; a pure function of its arguments.

    Returns:
        The utterance, without its place in a shard, and its samples at the config's rate.
    """
    generator = generator_for(config.seed, sentence.id)
    speaker = speakers[int(generator.integers(len(speakers)))]
    seed = int(generator.integers(2**31))
    if changes is None:
        changes = config.variety.draw(generator)
    spoken = speaker.speak(sentence.text, seed, changes)
    samples = resample(spoken.samples, spoken.sample_rate, config.sample_rate)
    utterance = Utterance(
        id=sentence.id,
        text=sentence.text,
        voice=speaker.name,
        seed=seed,
        role=sentence.role,
        source=sentence.source,
        changes=speaker.made(changes),
    )
    if config.augment is not None and len(samples):
        samples = augment(samples, config.sample_rate, generator, config.augment, others)
        return replace(utterance, changes={**utterance.changes, "augmented": 1.0}), samples
    if config.times and len(samples) and not spoken.phonemes:
        spoken = timed(spoken, sentence.text)
    return replace(
        utterance,
        phonemes=spoken.phonemes,
        phoneme_ends=[round(float(end), 4) for end in spoken.phoneme_ends],
        phonemes_start=round(float(spoken.phonemes_start), 4),
        words=[(word, round(start, 4), round(end, 4)) for word, start, end in spoken.words],
    ), samples


def babblers(sentences: Sequence[Sentence], speaker: Speaker, config: SpeakConfig) -> list[Samples]:
    """A few utterances to make babble of: the first sentences by the first voice, pitched apart."""
    voices = []
    for index, sentence in enumerate(sentences[:BABBLERS]):
        pitch = 0.6 + 0.7 * index / BABBLERS
        changes = {"speed": 1.0, "pitch": pitch, "formant": pitch**0.25}
        spoken = speaker.speak(sentence.text, index, changes)
        voices.append(resample(spoken.samples, spoken.sample_rate, config.sample_rate))
    return [voice for voice in voices if len(voice)]


def _by(writer: SpeechWriter, voices: tuple[str, ...]) -> tuple[int, float]:
    """Utterances and seconds that these voices have in the set already."""
    have = SpeechSet(writer.folder, voices=list(voices))
    return len(have), have.duration


def _speak_share(sentences: list[Sentence], config: SpeakConfig, worker: int, workers: int, bar: bool = True) -> None:
    """The part of `speak` that one of several workers does: every `workers`-th sentence."""
    if workers > 1:
        torch.set_num_threads(1)
    with SpeechWriter(config.out, config.sample_rate, worker, config.shard_seconds) as writer:
        count, seconds = _by(writer, config.voices)
        # Each worker goes on from an even share of what is there, whoever wrote it.
        count, seconds = count / workers, seconds / workers
        most, longest = config.count / workers, config.hours * 3600.0 / workers
        speakers = [Speaker(name) for name in config.voices]
        others = babblers(sentences, speakers[0], config) if config.augment is not None else []
        with tqdm(
            total=round(longest) if config.hours else round(most) or len(sentences) // workers,
            initial=min(round(seconds), round(longest)) if config.hours else min(round(count), round(most)),
            unit="s" if config.hours else "utt",
            desc=f"{config.out.name}" + (f" {worker + 1}/{workers}" if workers > 1 else ""),
            position=worker,
            disable=not bar,
            mininterval=1.0,
            bar_format=BAR,
            file=sys.stderr,
        ) as progress:
            for sentence in sentences[worker::workers]:
                if (config.hours and seconds >= longest) or (config.count and count >= most):
                    break
                if sentence.id in writer.done:
                    continue
                utterance, samples = make_utterance(sentence, speakers, config, others)
                duration = len(samples) / config.sample_rate
                if not config.seconds[0] <= duration <= config.seconds[1]:
                    writer.skip(sentence.id, f"{duration:.2f} s")
                    continue
                writer.add(utterance, samples)
                count, seconds = count + 1, seconds + duration
                # No further than the end: past it tqdm forgets the total, which the bar's format needs.
                progress.update(min(duration, progress.total - progress.n) if config.hours else 1)


def speak(sentences: Sequence[Sentence], config: SpeakConfig, workers: int = 1, bar: bool = True) -> None:
    """Speak sentences into the config's set until it is as long as asked or they run out. Safe to stop and to rerun.

    Args:
        sentences: In the order in which they are wanted.
        config: How and how much.
        workers: Processes that share the work; what is spoken does not depend on their number, where it stands does.
        bar: Show progress and the time left, on stderr.

    Raises:
        DataError: An unknown voice, or a worker that failed.
        DataError: A set of another rate, or another process writing it.
    """
    sentences = list(sentences)
    if workers < 1:
        raise DataError(f"workers is {workers}: give 1 or more.")
    if workers == 1:
        _speak_share(sentences, config, 0, 1, bar)
        return
    SpeechWriter(config.out, config.sample_rate).close()  # clears up after a kill before the workers come
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_speak_share, args=(sentences, config, worker, workers, bar))
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
    failed = [str(index) for index, process in enumerate(processes) if process.exitcode]
    if failed:
        raise DataError(f"Worker {', '.join(failed)} failed (see above); rerun to go on where it stopped.")
