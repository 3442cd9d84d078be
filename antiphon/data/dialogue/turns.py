"""Conversations to learn turn taking from, and what there is to decide in each of their frames.

    material = TurnMaterial(Material.read(texts), TurnSources(turns=("audio/barista",), sounds=("audio/esc10",)))
    make_turn_set("sets/turns", material, TURNS_MIX, seed=0, hours=1.0)
    for identity, talk in read_dialogues("sets/turns"):
        decisions(talk)                                # [frames], of `DECISIONS`

They are those of `sample` and `compose`, with more pauses, interruptions and signs of listening, and longer waits for
the answer: who decides has to see the silence after a turn, not only its end. Beside made voices, turns of real people
are said, whole recordings of them. Into the user's channel come sounds that are nobody's turn: recorded ones, and
somebody who speaks far away. The model's channel holds speech of others: all that is learnt of it is when it sounds,
and its echo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.dialogue.compose import FRAME_SECONDS, apply_conditions, compose
from antiphon.data.dialogue.format import MODEL, USER, Dialogue, DialogueWriter, Event
from antiphon.data.dialogue.make import babblers, how_many
from antiphon.data.dialogue.phrases import RATE, SpokenUtterance, TtsCache, Voice, faded, sounding
from antiphon.data.dialogue.sample import Material, Mix, draw_conditions, draw_script
from antiphon.data.recordings import Recording, recordings
from antiphon.data.speech.augment import fit, muffle, reverberate, rms, room_response
from antiphon.data.speech.speak import generator_for
from antiphon.errors import DataError
from antiphon.models.turns.network import DECISIONS

LISTEN, TAKE, YIELD, IGNORE, BACKCHANNEL = range(len(DECISIONS))
TURNS_MIX = Mix(
    seconds=(20.0, 40.0),
    voices=(("hibari", 0.8), ("kokoro:jf_alpha", 0.07), ("kokoro:jf_gongitsune", 0.07), ("kokoro:jf_nezumi", 0.06)),
    paused=0.65, second_pause=0.35, pause_seconds=(0.25, 2.2), hesitating=0.35, long_turn=0.12, gap=(0.4, 1.8),
    early=0.0, interrupted=0.35, cut_in=(0.8, 2.5), stop=(0.3, 0.6), backchannelled=0.5, wait=(0.3, 2.0), silent=0.15,
    greeted=0.05,
)  # fmt: skip
HELD_OUT = 5  # one recording in as many is kept for "dev"
WORD_SECONDS = 0.34  # of what the model says, which nobody listens to
PIECE_SECONDS = 0.5  # of a recorded turn whose words nobody knows, between two places where it can pause
SMALL_WORDS = 2  # hesitations and signs of listening have no more, and are never a recorded turn


@dataclass(frozen=True)
class TurnSources:
    """Recordings, as `antiphon.data.recordings.recordings` takes them.

    Attributes:
        turns: each is somebody's whole turn.
        speech: of people who read or talk: the model's channel, and somebody far away.
        sounds: that nobody has to answer.
        recorded: share of the user's turns that are recordings.
        noisy: of them, a second of the conversation.
        noise_db: their loudest 10 ms against the user's.
    """

    turns: tuple[str, ...] = ()
    speech: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    recorded: float = 0.3
    noisy: float = 0.08
    noise_db: tuple[float, float] = (-24.0, 2.0)


def kept_out(recording: Recording) -> bool:
    """Whether a recording is for measuring alone, told by its name."""
    return int(hashlib.sha256(Path(recording.id).stem.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


@dataclass
class TurnMaterial:
    """What is said and heard.

    Attributes:
        said: requests and replies.
        sources: recordings.
        split: "train", or "dev": the recordings that are kept out.
    """

    said: Material
    sources: TurnSources = TurnSources()
    split: str = "train"
    _read: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def turns(self) -> list[Recording]:
        return self._of(self.sources.turns)

    @cached_property
    def speech(self) -> list[Recording]:
        return self._of(self.sources.speech)

    @cached_property
    def sounds(self) -> list[Recording]:
        return self._of(self.sources.sounds)

    def sound(self, recording: Recording) -> NDArray[np.float32]:
        """A recording from its first sound to its last, [n] at `RATE`, peaking at 0.5."""
        if recording.id not in self._read:
            samples = recording.load().resample(RATE).samples.numpy().astype(np.float32)
            first, last = sounding(samples)
            samples = faded(samples[first:last], 0.01, 0.03)
            self._read[recording.id] = samples * np.float32(0.5 / max(1e-4, float(np.abs(samples).max(initial=0.0))))
        return self._read[recording.id]

    def _of(self, places: Sequence[str]) -> list[Recording]:
        found = [each for place in places for each in recordings(place) if kept_out(each) == (self.split == "dev")]
        if places and not found:
            raise DataError(f"{', '.join(places)}: no recording of the split {self.split}")
        return found


def make_turn_dialogue(
    material: TurnMaterial, tts: TtsCache, mix: Mix, seed: int, index: int, others: list[NDArray[np.float32]]
) -> Dialogue:
    """Conversation `index` of a seed: drawn, spoken, heard by a microphone, with sounds in it."""
    script = draw_script(material.said, mix, seed, index)
    user = script.user

    def say(voice: Voice, text: str, take: int) -> SpokenUtterance:
        generator = generator_for(seed, f"said {index} {take} {text}")
        words = text.split()
        if voice is not user:
            return SpokenUtterance(text, _somebody(material, len(words) * WORD_SECONDS, generator), ())
        recorded = len(words) > SMALL_WORDS and generator.random() < material.sources.recorded
        if recorded and material.turns:
            return _recorded(text, material.sound(material.turns[int(generator.integers(len(material.turns)))]))
        return tts.utterance(voice, text, take)

    talk = compose(script, say)
    generator = generator_for(seed, f"surroundings {index}")
    conditions = draw_conditions(mix, generator, bool(others))
    talk = apply_conditions(talk, conditions, generator, others)
    return with_sounds(talk, material, generator)


def with_sounds(talk: Dialogue, material: TurnMaterial, generator: Generator) -> Dialogue:
    """The conversation with sounds in the user's channel that are nobody's turn, as events "noise".

    Args:
        talk: stays as it is.
        material: has the sounds; of its speech some is heard as from far away.
        generator: draws which, when and how loud.
    """
    sources, user, events = material.sources, talk.user.copy(), list(talk.events)
    spoken = user[np.abs(user) > 0.05 * np.abs(user).max(initial=0.0)]
    level = rms(spoken) or 0.03
    for _ in range(generator.poisson(sources.noisy * talk.seconds)):
        far = bool(material.speech) and (not material.sounds or generator.random() < 0.3)
        if not far and not material.sounds:
            break
        pool = material.speech if far else material.sounds
        sound = material.sound(pool[int(generator.integers(len(pool)))])
        size = min(len(sound), round(float(generator.uniform(0.15, 4.0)) * RATE))
        begun = int(generator.integers(len(sound) - size + 1))
        sound = faded(sound[begun : begun + size], 0.01, 0.05)
        gain = float(generator.uniform(*sources.noise_db))
        if far:
            room = room_response(RATE, float(generator.uniform(0.3, 0.8)), generator)
            sound = muffle(reverberate(sound, room), RATE, float(generator.uniform(1500.0, 4000.0)))
            gain = float(generator.uniform(-26.0, -12.0))
        at = int(generator.integers(max(1, len(user) - len(sound))))
        sound = fit(sound, min(len(sound), len(user) - at))
        loud = rms(sound) or 1.0
        user[at : at + len(sound)] += sound * np.float32(level * 10 ** (gain / 20) / loud)
        events.append(Event("noise", at / RATE, (at + len(sound)) / RATE, USER, "speech" if far else "sound"))
    return Dialogue(talk.model, np.clip(user, -1.0, 1.0), talk.sample_rate, talk.words, events, talk.info)


def turn_dialogues(
    material: TurnMaterial,
    tts: TtsCache,
    mix: Mix = TURNS_MIX,
    seed: int = 0,
    hours: float = 1.0,
    done: Collection[str] = (),
) -> Iterator[tuple[str, Dialogue]]:
    """Conversations with their ids, one after the other; see `antiphon.data.dialogue.make.dialogues`."""
    others = babblers(material.said, tts)
    for index in range(how_many(mix, hours)):
        if (identity := f"turns-{material.split}-{seed}-{index:06d}") not in done:
            yield identity, make_turn_dialogue(material, tts, mix, seed, index, others)


def make_turn_set(folder: str | Path, material: TurnMaterial, mix: Mix, seed: int, hours: float) -> None:
    """Makes conversations into a folder, until there are as many hours. Safe to stop and to rerun."""
    with DialogueWriter(folder, ".flac") as writer:
        for identity, talk in turn_dialogues(material, TtsCache(), mix, seed, hours, writer.done):
            writer.add(identity, talk)


def decisions(talk: Dialogue) -> NDArray[np.int64]:
    """What there is to decide in each 80 ms of a conversation, by its events, [frames].

    "take" stands where a turn of the user is over and nobody speaks; "yield" where the user has begun a turn into the
    model's, and the model still speaks; "ignore" where a sound is heard that is nobody's turn, while the user has none;
    "backchannel" where the model gives a sign of listening.
    """
    count = int(talk.seconds / FRAME_SECONDS + 1e-6)
    ends = (np.arange(count) + 1) * FRAME_SECONDS
    found = np.full(count, LISTEN, np.int64)

    def between(event: Event, after: float = 0.0) -> NDArray[np.bool_]:
        return (ends > event.start + 1e-6) & (ends <= event.end + after + 1e-6)

    def of(kind: str, speaker: str) -> list[Event]:
        return [event for event in talk.events if event.kind == kind and event.speaker == speaker]

    users, models = np.zeros(count, bool), np.zeros(count, bool)
    for event in of("turn", MODEL):
        models |= between(event)
    for event in of("turn", USER):
        users |= between(event)
        begun = [other.start for other in of("turn", MODEL) if other.start >= event.end - FRAME_SECONDS]
        until = min(begun, default=talk.seconds)
        found[(ends > event.end + 1e-6) & (ends <= until + 1e-6) & ~models] = TAKE
    for event in of("noise", USER):
        found[between(event) & ~users & (found != TAKE)] = IGNORE
    for event in of("backchannel", USER):
        found[between(event, after=0.24) & models & ~users] = IGNORE
    for event in of("backchannel", MODEL):
        found[between(event)] = BACKCHANNEL
    for event in of("turn", USER):
        found[between(event) & models] = YIELD
    return found


def speaking(talk: Dialogue, threshold: float = -45.0) -> NDArray[np.bool_]:
    """Whether the model's channel sounds, in each 80 ms, [frames]."""
    size = round(FRAME_SECONDS * talk.sample_rate)
    frames = talk.model[: len(talk.model) // size * size].reshape(-1, size).astype(np.float64)
    return 10 * np.log10(np.square(frames).mean(1) + 1e-12) > threshold


def _somebody(material: TurnMaterial, seconds: float, generator: Generator) -> NDArray[np.float32]:
    """So many seconds of somebody's speech; of a hum, where there is no speech."""
    size = round(seconds * RATE)
    parts: list[NDArray[np.float32]] = []
    while sum(len(part) for part in parts) < size:
        if not material.speech:
            parts.append((0.1 * np.sin(np.arange(size) * 2 * np.pi * 140 / RATE)).astype(np.float32))
            break
        parts.append(material.sound(material.speech[int(generator.integers(len(material.speech)))]))
    return faded(np.concatenate([*parts, np.zeros(0, np.float32)])[:size], 0.01, 0.03)


def _recorded(text: str, samples: NDArray[np.float32]) -> SpokenUtterance:
    """A recording as an utterance. Of its words nothing is known: pieces of it stand for them, between which there is
    room to look for a quiet place."""
    starts = np.arange(0.0, len(samples) / RATE, PIECE_SECONDS)
    words = tuple(("...", float(start), float(start + PIECE_SECONDS / 3)) for start in starts)
    return SpokenUtterance(text, samples, words)
