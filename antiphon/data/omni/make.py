"""Items of generated pictures, videos and sounds with what may be asked about them, and conversations made of them.

    item = make("picture", None, "test", number=7)               # always the same one
    item.contents, item.asks                                     # as a processor takes them; questions with replies
    write_set(folder, OmniSet("audio/esc10"), print)             # a file of conversations for each maker

An item follows from its maker, the split, its number and the seed; ways to ask are those of the split. Recordings of a
split are those of `antiphon.data.scene.splits`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator

from antiphon.audio.io import Audio
from antiphon.data.omni import pictures, sounds, videos
from antiphon.data.omni.names import COLOURS, SHAPES, SOUNDS
from antiphon.data.omni.pictures import Ask, Drawn, ask, yes_or_no
from antiphon.data.omni.questions import worded
from antiphon.data.omni.sounds import Bank, HeardSound
from antiphon.data.omni.videos import Film
from antiphon.data.scene.example import RATE
from antiphon.data.speech.speak import generator_for
from antiphon.errors import DataError

Media = Drawn | Film | HeardSound


@dataclass
class Item:
    """What is seen and heard, in its order, and what may be asked about it."""

    media: list[Media]
    asks: list[Ask]

    def contents(self, folder: Path, name: str) -> list[dict[str, Any]]:
        """As messages have them; files are written into a folder, and named in relation to it."""
        found = []
        for each in self.media:
            if isinstance(each, Drawn):
                from PIL import Image

                file = f"{name}.png"
                Image.fromarray(each.image).save(folder / file)
                found.append({"type": "image", "image": file})
            elif isinstance(each, Film):
                file = f"{name}.mp4"
                videos.write(each, folder / file)
                found.append({"type": "video", "video": file})
            else:
                file = f"{name}.flac"
                Audio(torch.from_numpy(each.samples), RATE).save(folder / file)
                found.append({"type": "audio", "audio": file})
        return found


def _one_of(shares: dict[str, float], generator: Generator) -> str:
    return str(generator.choice(list(shares), p=list(shares.values())))


def _picture(bank: Bank | None, split: str, generator: Generator) -> Item:
    drawn = pictures.draw(_one_of({"shapes": 0.5, "words": 0.22, "chart": 0.28}, generator), generator)
    return Item([drawn], drawn.asks)


def _video(bank: Bank | None, split: str, generator: Generator) -> Item:
    kind = _one_of(
        {"motion": 0.25, "blink": 0.2, "appearing": 0.15, "recoloured": 0.15, "sounding": 0.25}, generator
    )  # fmt: skip
    film = videos.sounding(_given(bank), split, generator) if kind == "sounding" else videos.make_film(kind, generator)
    return Item([film], film.asks)


def _sound(bank: Bank | None, split: str, generator: Generator) -> Item:
    kind = _one_of({"single": 0.5, "pair": 0.3, "beeps": 0.2}, generator)
    heard = sounds.KINDS[kind](_given(bank), split, generator)
    return Item([heard], heard.asks)


def _both(bank: Bank | None, split: str, generator: Generator) -> Item:
    """A picture and a sound, and what only who has both can tell."""
    name = str(generator.choice(list(SOUNDS)))
    heard = sounds.single(_given(bank), split, generator, name)
    if generator.random() < 0.4:
        drawn = pictures.draw_things(generator, 1)
        thing = drawn.named[0].names
        said = f"{'an' if thing[0] == 'orange' else 'a'} {thing[0]} {thing[1]} and {SOUNDS[name][0]}"
        asks = [ask("see-and-hear", said, (*thing[:2], name), (*COLOURS, *SHAPES, *SOUNDS))]
        return Item([drawn, heard], asks)
    written = name
    if generator.random() < 0.35:
        written = str(generator.choice([other for other in SOUNDS if other != name]))
    drawn = pictures.sound_words(generator, written, without=name)
    asks = [yes_or_no("word-heard", written == name)]
    if written == name:
        colour = next(each.names[1] for each in drawn.named if each.names[0] == name)
        asks = [*asks, ask("word-heard-colour", f"it is {colour}", [colour], tuple(COLOURS))]
    return Item([drawn, heard], asks)


def _given(bank: Bank | None) -> Bank:
    if bank is None:
        raise DataError("sounds are made of recordings: give the folder of ESC-10 or ESC-50")
    return bank


MAKERS: dict[str, Callable[[Bank | None, str, Generator], Item]] = {
    "picture": _picture, "video": _video, "sound": _sound, "both": _both,
}  # fmt: skip


def make(maker: str, bank: Bank | None, split: str, number: int, seed: int = 0) -> Item:
    """An item.

    Args:
        maker: of `MAKERS`.
        bank: recordings; None where there is nothing to hear.
        split: "train" or "test".
        number: which.
        seed: of everything drawn.
    """
    return MAKERS[maker](bank, split, generator_for(seed, f"omni {maker} {split} {number}"))


@dataclass
class OmniSet:
    """What `antiphon data omni` makes."""

    recordings: str
    """Folder of ESC-10 or ESC-50."""
    made: dict[str, int] = field(default_factory=lambda: {"picture": 1500, "video": 900, "sound": 700, "both": 700})
    """How many conversations, by what they are about."""
    questions: int = 6
    """Most questions of a conversation."""
    seed: int = 0
    """Of everything."""


def conversation(item: Item, contents: list[dict[str, Any]], generator: Generator, most: int) -> dict[str, Any]:
    """Questions about an item, one after another, with their replies."""
    messages: list[dict[str, Any]] = []
    for place in generator.permutation(len(item.asks))[:most]:
        each = item.asks[int(place)]
        text = {"type": "text", "text": worded(each, "train", generator)}
        messages.append({"role": "user", "content": [text] if messages else [*contents, text]})
        messages.append({"role": "assistant", "content": each.reply})
    return {"messages": messages}


def write_set(folder: Path, config: OmniSet, progress: Callable[[str], None]) -> list[Path]:
    """Writes conversations to train on, a file a maker; one that is there already is left as it is.

    Returns:
        The files.
    """
    bank, files = Bank(config.recordings), []
    for maker, count in config.made.items():
        if maker not in MAKERS:
            raise DataError(f"there is no maker {maker!r} of items; there are: {', '.join(MAKERS)}")
        file, place = folder / f"{maker}.jsonl", folder / maker
        files.append(file)
        if file.exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        progress(f"{maker}: {count} conversations ...")
        lines = []
        for number in range(count):
            item = make(maker, bank, "train", number, config.seed)
            contents = item.contents(folder, f"{maker}/{number:05}")
            generator = generator_for(config.seed, f"asked {maker} {number}")
            lines.append(json.dumps(conversation(item, contents, generator, config.questions)) + "\n")
        file.write_text("".join(lines), encoding="utf-8")
    return files


def usual(asks: Iterable[Ask]) -> dict[str, tuple[str, ...]]:
    """The most frequent answer of each kind of question: what someone says who sees and hears nothing."""
    counts: dict[str, Counter[tuple[str, ...]]] = {}
    for each in asks:
        counts.setdefault(each.kind, Counter())[each.keys] += 1
    return {kind: some.most_common(1)[0][0] for kind, some in counts.items()}
