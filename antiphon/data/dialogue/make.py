"""Make sets of conversations: drawn, spoken, heard through a microphone, and written down as sound or as codes.

    material = Material.read(texts)
    for identity, talk in dialogues(material, TtsCache(), Mix(), seed=0, hours=1.0): ...
    make_set("set", material, Mix(), seed=0, hours=10.0, codec=antiphon.codecs.load("mini"))

Dialogue i of a seed is always the same, whoever makes it, whenever; a set goes on where it was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from antiphon.codecs.base import Tokenizer
from antiphon.data.dialogue.codes import DialogueCodesWriter
from antiphon.data.dialogue.compose import apply_conditions, compose
from antiphon.data.dialogue.format import Dialogue, DialogueWriter
from antiphon.data.dialogue.phrases import SpokenUtterance, TtsCache, Voice
from antiphon.data.dialogue.sample import Material, Mix, dialogue_id, draw_conditions, draw_script
from antiphon.data.speech.augment import Samples
from antiphon.data.speech.speak import generator_for


def babblers(material: Material, tts: TtsCache) -> list[Samples]:
    """A few people who talk in the background."""
    intents = sorted(material.requests)[:12]
    return [
        tts.utterance(Voice("hibari", 1.0, pitch, pitch**0.25), material.requests[name][0].text).samples
        for name, pitch in zip(intents, np.linspace(0.6, 1.4, len(intents)).tolist())
    ]


def make_dialogue(
    material: Material, tts: TtsCache, mix: Mix, seed: int, index: int, others: list[Samples]
) -> Dialogue:
    """Dialogue `index` of a seed: drawn, spoken, and heard under acoustic conditions."""
    script = draw_script(material, mix, seed, index)

    def say(voice: Voice, text: str, take: int) -> SpokenUtterance:
        return tts.utterance(
            voice, text, take, keep=voice.name == script.model.name and voice.pitch == voice.formant == 1
        )

    talk = compose(script, say)
    generator = generator_for(seed, f"surroundings {index}")
    conditions = draw_conditions(mix, generator, bool(others))
    talk = apply_conditions(talk, conditions, generator, others)
    voice = {name: value for name, value in vars(script.user).items() if value != 1.0}
    heard = {name: value for name, value in vars(conditions).items() if value}
    talk.info = {"voice": voice, "conditions": heard, "seed": seed, "index": index}
    return talk


def dialogues(
    material: Material,
    tts: TtsCache,
    mix: Mix = Mix(),
    seed: int = 0,
    hours: float = 1.0,
    done: Collection[str] = (),
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[str, Dialogue]]:
    """Conversations with their ids, one after the other.

    How many there are follows from the hours and the mix alone, so that a set is taken up again where it stopped.

    Args:
        material: what is said.
        tts: who speaks.
        mix: how often things happen.
        seed: of everything.
        hours: how long they are together, about.
        done: ids that are not wanted again.
        share: (i, n): only every n-th, from the i-th on: the part of one of n workers.
    """
    others = babblers(material, tts)
    for index in range(share[0], how_many(mix, hours), share[1]):
        if dialogue_id(seed, index) not in done:
            yield dialogue_id(seed, index), make_dialogue(material, tts, mix, seed, index, others)


def how_many(mix: Mix, hours: float) -> int:
    """Conversations that make so many hours, by the mean length that is asked for."""
    return max(1, round(hours * 3600.0 / (sum(mix.seconds) / 2.0)))


def make_set(
    folder: str | Path,
    material: Material,
    mix: Mix = Mix(),
    seed: int = 0,
    hours: float = 1.0,
    codec: Tokenizer | None = None,
    keep_audio: int = 0,
    bar: bool = True,
) -> None:
    """Makes conversations into a folder, until there are as many hours of this seed. Safe to stop and to rerun.

    Args:
        folder: of the set. With a codec it gets the codes (`antiphon.data.dialogue.codes`), else the sound and its
            notes (`antiphon.data.dialogue.format`).
        material, mix, seed: what is said, how often things happen, and the seed of everything.
        hours: how long the set is, about.
        codec: encodes both channels.
        keep_audio: with a codec, conversations whose sound is kept besides, in `audio/`; the first ones.
        bar: show progress and the time left, on stderr.

    Raises:
        DataError: another process writes the folder, or it holds codes of another codec.
    """
    folder, tts = Path(folder), TtsCache()
    with ExitStack() as stack:
        sounds = codes = None
        if codec is None:
            sounds = stack.enter_context(DialogueWriter(folder, ".flac"))
            done = set(sounds.done)
        else:
            codes = stack.enter_context(DialogueCodesWriter(folder, codec))
            done = set(codes.done)
            if keep_audio:
                sounds = stack.enter_context(DialogueWriter(folder / "audio", ".flac"))
        kept = {dialogue_id(seed, index) for index in range(keep_audio)}
        total = how_many(mix, hours)
        there = sum(dialogue_id(seed, index) in done for index in range(total))
        talks = dialogues(material, tts, mix, seed, hours, done)
        progress = tqdm(
            talks, folder.name, total, initial=there, unit="talk", disable=not bar, mininterval=2.0, file=sys.stderr
        )
        for identity, talk in progress:
            if sounds is not None and (codes is None or identity in kept) and identity not in sounds.done:
                sounds.add(identity, talk)
            if codes is not None:
                codes.add_sound(identity, talk)
