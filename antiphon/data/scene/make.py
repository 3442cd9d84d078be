"""What the scene network's sets are made of: recordings as they are, and makers that put them together anew.

    material = Material(Sources(recordings=["audio/emodb", "audio/esc10", "librispeech"], clean=["librispeech"]))
    example = make("mixture", material, split="test", number=7)      # always the same one

A maker's example follows from its name, the split, its number and the seed alone, whatever else is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from antiphon.data.scene.electronic import MACHINES, electronic
from antiphon.data.scene.example import RATE, Example, silences
from antiphon.data.scene.labelled import LONGEST, Labelled, example_of, spans_of
from antiphon.data.scene.manner import manner, sex_by_pitch, tone
from antiphon.data.scene.mixtures import Clip, alone, coloured, conversation, excerpt, mixture
from antiphon.data.scene.music import INSTRUMENTS, instrument_alone, note, piece, sound_fonts
from antiphon.data.scene.published import labelled
from antiphon.data.scene.signals import SIGNALS, signal
from antiphon.data.scene.splits import TEST_VOICES
from antiphon.data.speech.augment import change_speed, resample
from antiphon.data.speech.speak import MANY_SPEAKERS, Speaker, generator_for
from antiphon.data.text.corpora import read_sentences
from antiphon.errors import DataError

VOICES = 0.2  # share of speech that a made voice says
SPEECH = (1.2, 5.0)  # seconds of speech in a mixture
SOUND = (0.5, 4.0)  # seconds of a sound in a mixture


@dataclass
class Sources:
    """Where the recordings lie."""

    recordings: list[str] = field(default_factory=list)
    """Folders with labels (a manifest.jsonl, or a published layout): speech, sounds and music."""
    clean: list[str] = field(default_factory=list)
    """Names of those sets, of speech, that were recorded in quiet: only of them it is known that they are quiet, and
    only they are said in another manner."""
    sex_by_pitch: list[str] = field(default_factory=list)
    """Names of sets of read speech whose speakers' sex nobody wrote down: the pitch tells it where that is clear."""
    texts: str = ""
    """Folder of texts for the voices to say; empty for no voices."""
    voices: list[str] = field(default_factory=lambda: ["hibari"])
    """Voices that train; those for measuring alone (`splits.TEST_VOICES`) say test sentences if they are named too."""
    signals: float = 0.25
    """Share of the sounds in mixtures that are made: sirens, bells, beeps, knocks."""
    share_alike: bool = False
    """Whether recordings under licences that don't allow giving weights away (see `splits.trains`) may train too."""


class Material:
    """Recordings by split, and voices, ready to be drawn from.

    Args:
        sources: where they are from; folders are looked at, no sound is read yet.

    Raises:
        DataError: a folder cannot be read.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.found = [each for place in sources.recordings for each in labelled(place)]
        self._load = functools.lru_cache(maxsize=128)(self._read)
        self._kinds: dict[tuple[str, str], dict[str, list[Labelled]]] = {}

    def of(self, split: str, kind: str) -> dict[str, list[Labelled]]:
        """Recordings of one kind, by their set's name; of train and dev those alone that may be learned from."""
        if (split, kind) not in self._kinds:
            sets: dict[str, list[Labelled]] = {}
            for each in self.found:
                if each.split == split and each.label("kind") == kind and not each.turns and self.free(each):
                    sets.setdefault(each.place, []).append(each)
            self._kinds[split, kind] = sets
        return self._kinds[split, kind]

    def free(self, each: Labelled) -> bool:
        """Whether a recording may be used for what its split is for."""
        return each.split == "test" or self.sources.share_alike or each.trains

    def load(self, each: Labelled) -> Example:
        """A recording's example; the last ones are kept."""
        return self._load(each)

    def _read(self, each: Labelled) -> Example:
        example = example_of(each)
        if each.place in self.sources.sex_by_pitch and not each.label("sex") and (sex := sex_by_pitch(example.samples)):
            span = replace(next(span for span in example.spans if span.label == "speech"), group="sex", label=sex)
            example = replace(example, spans=(*example.spans, span), known=example.known | {"sex"})
        return example

    def clean(self, place: str) -> bool:
        """Whether a set was recorded in quiet."""
        return place in self.sources.clean

    def drawn(self, split: str, kind: str, generator: Generator, group: str = "", clean: bool = False) -> Labelled:
        """A recording. With a group each of its labels comes as often as any other, whatever the set; without, larger
        sets come more often, but less than by their size.

        Args:
            split, kind: of which.
            generator: draws it.
            group: only those with a label of this group.
            clean: only sets that were recorded in quiet.

        Raises:
            DataError: there is none.
        """
        choices: dict[str, list[Labelled]] = {}
        for place, all_of in self.of(split, kind).items():
            for each in all_of if not clean or self.clean(place) else ():
                if not group or each.label(group):
                    choices.setdefault(each.label(group) if group else place, []).append(each)
        if not choices:
            quiet = ", recorded in quiet," if clean else ""
            raise DataError(f"there are no recordings of {kind}{quiet}{' with ' + group if group else ''} in {split}.")
        weights = np.array([1.0 if group else len(some) ** 0.5 for some in choices.values()])
        some = list(choices.values())[int(generator.choice(len(choices), p=weights / weights.sum()))]
        return some[int(generator.integers(len(some)))]

    @functools.cached_property
    def _speakers(self) -> dict[str, Speaker]:
        return {name: Speaker(name) for name in self.sources.voices}

    @functools.cached_property
    def _sentences(self) -> dict[str, list[str]]:
        train, held = (
            [each.text for each in read_sentences(self.sources.texts, "user", split, words=(4, 14))]
            for split in ("train", "dev")
        )
        return {"train": train, "dev": held[::2], "test": held[1::2]}

    def voices(self, split: str) -> list[str]:
        """Names of the voices that speak for a split."""
        if not self.sources.texts:
            return []
        return [name for name in self.sources.voices if (name in TEST_VOICES) == (split == "test")]

    def spoken(self, split: str, generator: Generator) -> Example:
        """A sentence by one of the voices, each time another speaker where that is to be learnt from. The test
        voices keep their throats."""
        names = self.voices(split)
        sentences = self._sentences[split]
        for _ in range(20):
            name, text = names[int(generator.integers(len(names)))], sentences[int(generator.integers(len(sentences)))]
            changes = MANY_SPEAKERS.draw(generator)
            changes |= {"speed": 1.0} | ({"formant": 1.0} if name in TEST_VOICES else {})
            said = self._speakers[name].speak(text, int(generator.integers(1 << 30)), changes)
            if len(said.samples) > said.sample_rate:
                break
        samples = resample(said.samples, said.sample_rate, RATE)[: int(LONGEST * RATE)]
        known = frozenset({"kind", "event", "instrument", "speakers"})
        spans = spans_of(samples, (("kind", "speech"), ("speakers", "one")))
        return Example(samples, (*spans, *silences(spans, len(samples) / RATE)), known, text, f"voice {name}")

    def speech(
        self, split: str, generator: Generator, clean: bool = False, seconds: tuple[float, float] = SPEECH
    ) -> Clip:
        """A stretch of speech, by a voice in a fifth of the cases."""
        if self.voices(split) and generator.random() < VOICES:
            example = self.spoken(split, generator)
        else:
            example = self.load(self.drawn(split, "speech", generator, clean=clean))
        return excerpt(example, float(generator.uniform(*seconds)), generator)

    def sound(self, split: str, generator: Generator) -> Clip:
        """A sound with a name."""
        if generator.random() < self.sources.signals:
            example = signal(_one_of(sorted(SIGNALS), generator), generator)
        else:
            example = self.load(self.drawn(split, "sound", generator, group="event"))
        clip = excerpt(example, float(generator.uniform(*SOUND)), generator)
        return varied(clip, generator) if split == "train" else clip

    def two_speakers(self, split: str, generator: Generator) -> list[Clip]:
        """Two stretches of each of two speakers of one set, whose recordings sound alike but for who speaks."""
        sets = self.of(split, "speech")
        able = {p: some for p, some in sets.items() if len({each.original for each in some}) > 1 and self.clean(p)}
        if not able:
            raise DataError(f"there is no set, recorded in quiet, with two speakers in {split}.")
        sizes = np.sqrt([len({each.original for each in some}) for some in able.values()])
        some = list(able.values())[int(generator.choice(len(able), p=sizes / sizes.sum()))]
        speakers = sorted({each.original for each in some})
        clips = []
        for who in generator.choice(speakers, 2, replace=False):
            mine = [each for each in some if each.original == who]
            for _ in range(2):
                example = self.load(mine[int(generator.integers(len(mine)))])
                clips.append(excerpt(example, float(generator.uniform(*SPEECH)), generator))
        return clips


def varied(clip: Clip, generator: Generator, most: float = 1.18) -> Clip:
    """Another one of its kind: a smaller or larger dog, another microphone."""
    faster = float(np.exp(generator.uniform(-1, 1) * np.log(most)))
    samples = change_speed(clip.samples, RATE, faster)
    if generator.random() < 0.5:
        samples = coloured(samples, generator, 8.0)
    spans = tuple(replace(s, start=s.start / faster, end=s.end / faster) for s in clip.spans)
    return replace(clip, samples=samples, spans=spans)


Maker = Callable[[Material, str, Generator], Example]
Job = tuple[str, Callable[[], Example], str]


def _mixture(material: Material, split: str, generator: Generator) -> Example:
    return mixture(
        functools.partial(material.speech, split),
        functools.partial(material.sound, split),
        lambda drawn: _bed(split, drawn),
        generator,
    )


def _bed(split: str, generator: Generator) -> Clip:
    """Music to lie under or between other things."""
    example = piece(split, generator) if generator.random() < 0.7 else _instrument(None, split, generator)
    spans = tuple(span for span in example.spans if span.label != "silence" and span.group != "tempo")
    return Clip(example.samples, spans, example.source, example.known - {"tempo"})


def _conversation(material: Material, split: str, generator: Generator) -> Example:
    return conversation(functools.partial(material.two_speakers, split), generator)


def _manner(material: Material, split: str, generator: Generator) -> Example:
    return manner(material.speech(split, generator, clean=True, seconds=(1.5, 4.5)), generator)


def _tone(material: Material, split: str, generator: Generator) -> Example:
    return tone(material.speech(split, generator, clean=True, seconds=(1.2, 3.0)), generator)


def _alone(kind: str, group: str) -> Maker:
    def make_one(material: Material, split: str, generator: Generator) -> Example:
        each = material.drawn(split, kind, generator, group)
        clip = excerpt(material.load(each), float(generator.uniform(2.0, 6.0)), generator)
        if group == "feeling":  # a slightly other throat, too
            faster = float(generator.uniform(0.94, 1.06))
            samples = change_speed(clip.samples, RATE, faster)
            spans = tuple(replace(s, start=s.start / faster, end=s.end / faster) for s in clip.spans)
            clip = replace(clip, samples=samples, spans=spans)
        elif split == "train":
            clip = varied(clip, generator)
        return alone(clip, generator, material.clean(each.place))

    return make_one


def _reader(material: Material, split: str, generator: Generator) -> Example:
    each = material.drawn(split, "speech", generator, clean=True)
    return alone(excerpt(material.load(each), float(generator.uniform(1.5, 5.0)), generator), generator, True)


def _one_of(names: Sequence[str], generator: Generator) -> str:
    return names[int(generator.integers(len(names)))]


def _signal(material: Material | None, split: str, generator: Generator) -> Example:
    example = signal(_one_of(sorted(SIGNALS), generator), generator)
    return alone(excerpt(example, float(generator.uniform(1.0, 5.0)), generator), generator, clean=False)


def _piece(material: Material | None, split: str, generator: Generator) -> Example:
    return piece(split, generator)


def _instrument(material: Material | None, split: str, generator: Generator) -> Example:
    return instrument_alone(_one_of([*INSTRUMENTS, "drums"], generator), generator)


def _note(material: Material | None, split: str, generator: Generator) -> Example:
    name = "drums" if generator.random() < 0.15 else _one_of(sorted(INSTRUMENTS), generator)
    font = _one_of(sound_fonts(), generator) if split == "train" else None
    example = instrument_alone(name, generator, note, font)
    spans = tuple(span for span in example.spans if span.label != "silence")
    clip = Clip(coloured(example.samples, generator), spans, example.source, example.known)
    return alone(clip, generator, clean=False)


def _electronic(material: Material | None, split: str, generator: Generator) -> Example:
    example = electronic(_one_of(sorted(MACHINES), generator), generator)
    spans = tuple(span for span in example.spans if span.label != "silence")
    clip = Clip(coloured(example.samples, generator), spans, example.source, example.known)
    return alone(clip, generator, clean=False)


MAKERS: dict[str, Maker] = {
    "mixture": _mixture,
    "manner": _manner,
    "tone": _tone,
    "conversation": _conversation,
    "feeling": _alone("speech", "feeling"),
    "event": _alone("sound", "event"),
    "reader": _reader,
    "piece": _piece,
    "instrument": _instrument,
    "note": _note,
    "electronic": _electronic,
    "signal": _signal,
}


def make(maker: str, material: Material, split: str, number: int, seed: int = 0) -> Example:
    """An example by its number.

    Args:
        maker: of `MAKERS`; docs/hearing-data.md tells what each makes.
        material: to draw from.
        split: what it is for: nothing of another split is in it.
        number, seed: any.

    Raises:
        DataError: no such maker, or nothing to make it of.
    """
    if maker not in MAKERS:
        raise DataError(f"there is no maker {maker!r}; there are {', '.join(MAKERS)}.")
    return MAKERS[maker](material, split, generator_for(seed, f"{maker} {split} {number}"))


@dataclass
class SceneSets:
    """What the sets are made of: recipes/scene/sets.yaml."""

    sources: Sources = field(default_factory=Sources)
    """Where the recordings lie."""
    whole: list[str] = field(default_factory=list)
    """Names of the sets whose recordings are taken as they are, each in a set of its own."""
    made: dict[str, int] = field(default_factory=dict)
    """How many examples each maker makes: a tenth of them for dev, a tenth for test."""
    seed: int = 0
    """Of all that is drawn."""

    def examples(self, material: Material, rounds: int = 10) -> Iterator[tuple[str, list[Job]]]:
        """What is to be made, by the name of its set, in rounds: after any of them there is some of everything.

        Yields:
            The set's name; (id, how to make it, split) of some examples.
        """
        for name in self.whole:
            some = [each for each in material.found if each.place == name and material.free(each)]
            # Of one whose kind is all that is known there is nothing to learn.
            some = [each for each in some if each.turns or len(each.labels) > 1]
            yield name, [(each.recording.id, functools.partial(material.load, each), each.split) for each in some]
        for part in range(rounds):
            for maker, count in self.made.items():
                numbers = range(count * part // rounds, count * (part + 1) // rounds)
                jobs = []
                for number in numbers:
                    split = {8: "dev", 9: "test"}.get(number % 10, "train")
                    one = functools.partial(make, maker, material, split, number, self.seed)
                    jobs.append((f"{maker}-{number}", one, split))
                yield maker, jobs
