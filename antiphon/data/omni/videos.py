"""Generated videos of four seconds: something moves, blinks, appears, changes colour, or comes with a sound.

film = make_film("motion", np.random.default_rng(0))
film.picture(1.5), film.named(1.5, 2.0), film.asks      # at a time; names between two times; questions
write(film, "film.mp4")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.omni.names import COLOURS, MOTIONS, NUMBERS, SHAPES, SOUNDS
from antiphon.data.omni.pictures import (
    SIDE,
    Ask,
    Named,
    Thing,
    ask,
    background,
    blank,
    draw_thing,
    finished,
    middle,
    things,
    tint,
)
from antiphon.data.omni.sounds import HALF, Bank, HeardSound, pair
from antiphon.data.scene.example import RATE

SECONDS, STEP, RATE_SHOWN = 4.0, 0.5, 4  # of a film; between two pictures that are seen; frames a second in a file
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
At = Callable[[float], list[Thing]]


@dataclass
class Film:
    """A video.

    Attributes:
        at: the shapes that are there at a time.
        under, shades: the background, and each colour as it is drawn.
        asks: questions.
        way: the shape that moves, and where to; "" where none does.
        sound: its own.
    """

    at: At
    under: tuple[int, int, int]
    shades: dict[str, tuple[int, int, int]]
    asks: list[Ask] = field(default_factory=list)
    way: tuple[str, str] = ("", "")
    sound: HeardSound | None = None

    def picture(self, time: float) -> NDArray[np.uint8]:
        """What is shown at a time, uint8 [112, 112, 3]."""
        image, canvas = blank(self.under)
        for thing in self.at(time):
            draw_thing(canvas, thing, self.shades[thing.colour], self.under)
        return finished(image)

    def named(self, first: float, second: float) -> list[Named]:
        """Names of what two pictures show, and of what happens between them."""
        before, after = ({thing.shape: thing for thing in self.at(time)} for time in (first, second))
        found = []
        for shape, thing in {**before, **after}.items():
            was = before.get(shape, thing)
            here = replace(thing, x=(thing.x + was.x) / 2, y=(thing.y + was.y) / 2)
            events = [name for name, there in (("new", before), ("gone", after)) if shape not in there]
            if shape == self.way[0]:
                events += ["moving", MOTIONS[self.way[1]]]
            found.append(here.named(*events))
        return found


def _film(at: At, generator: Generator, colours: list[str]) -> Film:
    return Film(at, background(generator, colours), {colour: tint(colour, generator) for colour in colours})


def _alone(generator: Generator, count: int, ninths: list[int]) -> list[Thing]:
    """Shapes of which no two have a shape or a colour in common."""
    made = things(generator, count, ninths)
    shapes, colours = generator.permutation(list(SHAPES)), generator.permutation(list(COLOURS))
    return [replace(t, shape=str(s), colour=str(c)) for t, s, c in zip(made, shapes, colours)]


def _motion(generator: Generator) -> Film:
    way = str(generator.choice(list(WAYS)))
    across, lane = way in ("left", "right"), int(generator.integers(3))
    inside = [lane * 3 + k if across else lane + 3 * k for k in range(3)]
    others = _alone(generator, int(generator.integers(1, 4)), [n for n in range(9) if n not in inside])
    mover, still, beside = others[0], others[1:], middle(lane, generator)
    reach = float(generator.uniform(24, 38))

    def at(time: float) -> list[Thing]:
        along = SIDE / 2 + reach * (2 * time / (SECONDS - STEP) - 1) * sum(WAYS[way])
        x, y = (along, beside) if across else (beside, along)
        return [*still, replace(mover, x=x, y=y)]

    film = _film(at, generator, [t.colour for t in others])
    film.way = (mover.shape, way)
    film.asks = [
        ask("what-moves", f"the {mover.colour} {mover.shape}", (mover.colour, mover.shape), (*COLOURS, *SHAPES)),
        ask("which-way", f"it moves {way}", [way], tuple(WAYS)),
        ask("way-of", f"it moves {way}", [way], tuple(WAYS), shape=mover.shape),
        *_counted(others),
        *_coloured(others),
    ]
    return film


def _coloured(found: list[Thing]) -> list[Ask]:
    return [ask("colour-of", f"it is {t.colour}", [t.colour], tuple(COLOURS), shape=t.shape) for t in found]


def _counted(found: list[Thing]) -> list[Ask]:
    count = len(found)
    return [
        ask("video-count", "there is one" if count == 1 else f"there are {NUMBERS[count]}", [NUMBERS[count]], NUMBERS)
    ]


def _blink(generator: Generator) -> Film:
    found = _alone(generator, int(generator.integers(1, 4)), list(range(9)))
    count = int(generator.integers(1, 5))
    groups = sorted(int(group) for group in generator.permutation(4)[:count])
    gone = {2 * group + int(group == 0 or generator.random() < 0.5) for group in groups}
    blinking, still = found[0], found[1:]

    def at(time: float) -> list[Thing]:
        return still if int(time / STEP + 1e-6) in gone else [blinking, *still]

    film = _film(at, generator, [t.colour for t in found])
    told = "once" if count == 1 else f"{NUMBERS[count]} times"
    film.asks = [
        ask(
            "what-blinks",
            f"the {blinking.colour} {blinking.shape}",
            (blinking.colour, blinking.shape),
            (*COLOURS, *SHAPES),
        ),
        ask("blinks", told, ["once"] if count == 1 else [NUMBERS[count]], (*NUMBERS, "once"), shape=blinking.shape),
        *_counted(found),
        *_coloured(found),
    ]
    return film


def _appearing(generator: Generator) -> Film:
    found = _alone(generator, 2, list(range(9)))
    second = int(generator.integers(1, 4))
    first, new = found

    def at(time: float) -> list[Thing]:
        return [first, new] if time >= second - 1e-6 else [first]

    film = _film(at, generator, [t.colour for t in found])
    told = f"after {NUMBERS[second]} second" + ("s" if second > 1 else "")
    film.asks = [
        ask("what-appears", f"the {new.colour} {new.shape}", (new.colour, new.shape), (*COLOURS, *SHAPES)),
        ask("when-appears", told, [NUMBERS[second]], NUMBERS, shape=new.shape),
        ask("there-first", f"the {first.colour} {first.shape}", (first.colour, first.shape), (*COLOURS, *SHAPES)),
        *_coloured(found),
    ]
    return film


def _recoloured(generator: Generator) -> Film:
    found = _alone(generator, int(generator.integers(1, 3)), list(range(9)))
    changing, still = found[0], found[1:]
    colour = str(generator.choice([name for name in COLOURS if name not in [t.colour for t in found]]))
    step = int(generator.integers(2, 7))

    def at(time: float) -> list[Thing]:
        return [changing if time < step * STEP - 1e-6 else replace(changing, colour=colour), *still]

    film = _film(at, generator, [*(t.colour for t in found), colour])
    film.asks = [
        ask("becomes", f"it becomes {colour}", [colour], tuple(COLOURS), shape=changing.shape),
        ask("was", f"it was {changing.colour}", [changing.colour], tuple(COLOURS), shape=changing.shape),
        ask("what-changes", f"the {changing.shape}", [changing.shape], SHAPES),
    ]
    return film


KINDS = {"motion": _motion, "blink": _blink, "appearing": _appearing, "recoloured": _recoloured}


def make_film(kind: str, generator: Generator) -> Film:
    """A video of a kind of `KINDS`."""
    return KINDS[kind](generator)


def sounding(bank: Bank, split: str, generator: Generator) -> Film:
    """One shape while one sound is heard, then another while another is."""
    names = [str(name) for name in generator.choice(list(SOUNDS), 2, replace=False)]
    first, second = _alone(generator, 2, list(range(9)))

    def at(time: float) -> list[Thing]:
        return [first] if time < HALF - 1e-6 else [second]

    film = _film(at, generator, [first.colour, second.colour])
    film.sound = pair(bank, split, generator, names)
    for thing, name in zip((first, second), names):
        said, words = SOUNDS[name][0], f"the {thing.colour} {thing.shape}"
        film.asks += [
            ask("sound-with", f"I hear {said}", [name], tuple(SOUNDS), thing=f"{thing.colour} {thing.shape}"),
            ask("seen-with", words, (thing.colour, thing.shape), (*COLOURS, *SHAPES), sound=said),
        ]
    return film


def write(film: Film, path: str | Path) -> None:
    """Writes an mp4, with its sound if it has one."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_SHOWN, options={"crf": "12", "preset": "ultrafast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv444p"
        sound = container.add_stream("aac", rate=RATE, layout="mono") if film.sound is not None else None
        for number in range(int(SECONDS * RATE_SHOWN)):
            frame = av.VideoFrame.from_ndarray(film.picture(number / RATE_SHOWN), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None and film.sound is not None:
            samples = av.AudioFrame.from_ndarray(film.sound.samples[None].astype(np.float32), "fltp", "mono")
            samples.sample_rate = RATE
            container.mux(sound.encode(samples))
            container.mux(sound.encode())
