"""One run of `antiphon eval hearing`: what listens, and the labelled recordings that it is measured on.

Recordings are encoded once, by the encoder that hears the words, and kept (`antiphon.data.scene.encoded`): what names
the scene and the linear probes beside it read the same numbers. Whatever is measured on is of the split "test", which
holds no speaker, recording or rhythm of "train" (`antiphon.data.scene.splits`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from antiphon.data.scene.encoded import EncodedExample, EncodedSet, encode
from antiphon.data.scene.make import Job, Material, Sources, make
from antiphon.data.scene.splits import TEST_VOICES
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import DataError
from antiphon.evals.assistant.evaluation import AssistantConfig, AssistantEvaluation
from antiphon.evals.rows import spread
from antiphon.models.lora import WEIGHTS
from antiphon.models.scene.features import SceneFeatures
from antiphon.models.scene.hearing import ENCODER, scene_encoder
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.scene import Scene

MIXED = ("emodb", "esc10", "emogator", "barista")  # sets from which mixtures are made
CLEAN = ("emodb", "librispeech", "ljspeech-mini")  # recorded in quiet


@dataclass(frozen=True)
class HearingConfig(AssistantConfig):
    """How to measure; see also `AssistantConfig`.

    Attributes:
        audio: folder of labelled recordings, a folder a set: emodb, esc10, emogator, sonic-pi, ...
        speech: folder of read speech by many people, in LibriSpeech's layout.
        sets: where `antiphon data scene` put what the network was trained on; the probes learn from the same. Without
            it they learn from what is made here.
        material: where test recordings are kept once they are made and encoded; None is a folder in the cache.
        feelings: another corpus of feelings, to measure on what was never trained on.
        without_emodb: a network that was trained without EmoDB, to measure the same on EmoDB.
        pictures: folder for confusion tables; None draws none.
    """

    audio: Path | None = None
    speech: Path | None = None
    sets: Path | None = None
    material: Path | None = None
    feelings: Path | None = None
    without_emodb: Path | None = None
    pictures: Path | None = None


@dataclass(frozen=True)
class Recorded:
    """An encoded example and where its features are.

    Attributes:
        source: its set.
        example: its labels.
    """

    source: EncodedSet
    example: EncodedExample

    @property
    def features(self) -> SceneFeatures:
        """As the encoder gave them, one row."""
        return self.source(self.example)

    def label(self, group: str, among: Sequence[str] | None = None) -> str:
        """Its label of a group where it has just one (of those `among`), and it is known; else ""."""
        found = {
            span.label
            for span in self.example.spans
            if span.group == group and (among is None or span.label in among) and self.knows(group, span.label)
        }
        return found.pop() if len(found) == 1 else ""

    def has(self, group: str, label: str) -> bool | None:
        """Whether a label is true of it at any time; None where nobody knows."""
        if not self.knows(group, label):
            return None
        return any((span.group, span.label) == (group, label) for span in self.example.spans)

    def knows(self, group: str, label: str) -> bool:
        """Whether it is known if a label is true of it."""
        return group in self.example.known or f"{group}/{label}" in self.example.known


class HearingEvaluation(AssistantEvaluation):
    """What the figures of hearing share.

    Args:
        config: how to measure.
    """

    config: HearingConfig

    def __init__(self, config: HearingConfig) -> None:
        super().__init__(config)
        self._recordings: dict[tuple[str, ...], Material] = {}

    # What listens

    @cached_property
    def encoder(self) -> WhisperBlockEncoder:
        """The encoder whose layers are looked at: that which hears the words, with the scene network's own pairs."""
        from antiphon import hub

        encoder = WhisperBlockEncoder.from_pretrained(hub.folder(self.config.parts.get("asr", "asr")))
        return encoder if self.scene is None else scene_encoder(self.scene, encoder)

    @cached_property
    def listener(self) -> SceneListener | None:
        """What names the scene; None where the model has nothing that does: then the probes alone are measured."""
        return None if self.scene is None else SceneListener.from_pretrained(self.scene)

    @cached_property
    def scene(self) -> Path | None:
        """The folder of what names the scene."""
        from antiphon import hub

        if (given := self.config.parts.get("scene")) is not None:
            return hub.folder(given)
        part = hub.preset(self.config.model).parts.get("scene") if _is_preset(self.config.model) else None
        if part is not None:
            return hub.folder(part)
        saved = Path(self.config.model) / "scene"
        return saved if saved.is_dir() else None

    def scenes(self, title: str, recorded: Sequence[Recorded], listener: SceneListener | None) -> list[Scene] | None:
        """What is heard in each example; None where nothing listens."""
        if listener is None:
            return None
        return self.each(title, recorded, lambda each: scene_of(listener, each.features))

    # What it is measured on

    @cached_property
    def folder(self) -> Path:
        """Where test recordings are kept, encoded; of an encoder with pairs of its own, in a folder of their name."""
        folder = self.config.material or self.cached("hearing")
        pairs = None if self.scene is None else self.scene / ENCODER / WEIGHTS
        if pairs is None or not pairs.is_file():
            return folder
        return folder / f"{ENCODER}-{hashlib.sha256(pairs.read_bytes()).hexdigest()[:12]}"

    @cached_property
    def sets(self) -> Path | None:
        """Training sets that are encoded already; None where the encoder is another than theirs."""
        own = self.scene is not None and (self.scene / ENCODER).is_dir()
        return None if own else self.config.sets

    def place(self, name: str) -> Path:
        """A set's folder of recordings.

        Raises:
            DataError: it isn't there.
        """
        if name == "librispeech":
            folder, option = self.config.speech, "--speech FOLDER (LibriSpeech's layout)"
        else:
            folder, option = self.config.audio and self.config.audio / name, f"--audio FOLDER (with {name} in it)"
        if folder is None or not folder.is_dir():
            raise DataError(f"There are no recordings of {name}: name their folder with {option}.")
        return folder

    def has(self, name: str) -> bool:
        """Whether a set's recordings are there."""
        try:
            self.place(name)
        except DataError:
            return False
        return True

    def recordings(self, *names: str) -> Material:
        """Sets, ready to be drawn from; those for mixtures without names."""
        if names not in self._recordings:
            self._recordings[names] = self._opened(names)
        return self._recordings[names]

    def _opened(self, names: tuple[str, ...]) -> Material:
        chosen = names or tuple(name for name in (*MIXED, "librispeech") if self.has(name))
        if not chosen:
            raise DataError("There are no recordings to make mixtures of: name their folder with --audio FOLDER.")
        places = [str(self.place(name)) for name in chosen]
        return Material(
            Sources(
                recordings=places,
                clean=[*CLEAN, *({Path(place).name for place in places if "librispeech" in Path(place).name.lower()})],
                sex_by_pitch=[Path(self.place("librispeech")).name] if "librispeech" in chosen else [],
                texts=str(self.config.texts or "") if not names else "",
                voices=["hibari", *sorted(TEST_VOICES)],
            )
        )

    def whole(self, name: str, split: str, group: str = "", most: int | None = None) -> list[Recorded]:
        """Recordings of a set as they are, of one split; only those that have a label of `group`, at most so many."""
        if self.sets is not None and (found := self._read(self.sets / name)):
            some = [each for each in found if each.example.split == split and (not group or each.label(group))]
            return some if most is None else spread(some, most)
        material = self.recordings(name)
        some = [each for each in material.found if each.split == split and (not group or each.label(group))]
        some = some if most is None else spread(some, most)
        jobs = [(each.recording.id, functools.partial(material.load, each), split) for each in some]
        return self.encoded(name, jobs)

    def made(self, maker: str, split: str, count: int) -> list[Recorded]:
        """So many examples that a maker makes for a split: by number the same as `antiphon data scene` makes.

        What the training sets have is not made again, and where they have any it is all that a probe learns from.
        """
        there = self._read(self.sets / maker) if self.sets is not None else []
        there = [each for each in there if each.example.split == split]
        if split == "train" and there:
            return there
        material, seed, lasts = self.recordings(), self.config.seed, (9,) if split == "test" else range(8)
        numbers = [10 * tens + last for tens in range(count) for last in lasts][:count]
        jobs: list[Job] = [
            (f"{maker}-{number}", functools.partial(make, maker, material, split, number, seed), split)
            for number in numbers
        ]
        return self.encoded(f"{maker}-{split}-{seed}", jobs, there if not seed else ())

    def encoded(self, name: str, jobs: Iterable[Job], known: Iterable[Recorded] = ()) -> list[Recorded]:
        """Examples by their jobs, in that order, without those too short.

        Args:
            name: of the folder in which they are kept.
            jobs: what to make and encode; what is there isn't made again.
            known: some that are elsewhere.
        """
        jobs, folder = list(jobs), self.folder / name
        there = {each.example.id: each for each in (*known, *self._read(folder))}
        missing = [job for job in jobs if job[0] not in there]
        if missing:
            encode(folder, missing, self.encoder)
            there |= {each.example.id: each for each in self._read(folder)}
        return [there[identity] for identity, _, _ in jobs if identity in there]

    def _read(self, folder: Path) -> list[Recorded]:
        """What a set has; nothing where there is none."""
        if not (folder / "manifest.jsonl").is_file():
            return []
        source = EncodedSet(folder)
        return [Recorded(source, example) for example in source.examples]


def scene_of(listener: SceneListener, features: SceneFeatures) -> Scene:
    """What is heard in a whole recording."""
    state = listener.init_state()
    listener.step(features, state)
    return listener.finish(state)


def likeliest(names: Sequence[str], group: str) -> Callable[[Scene], str]:
    """Tells which of these labels of a group is likeliest in a scene; "" where it knows none of them."""

    def tell(scene: Scene) -> str:
        chances = {name: scene.chances.get(group, {}).get(name, -1.0) for name in names}
        best = max(chances, key=lambda name: chances[name])
        return best if chances[best] >= 0 else ""

    return tell


def _is_preset(model: str) -> bool:
    from antiphon import hub

    return model in {preset.name for preset in hub.PRESETS}
