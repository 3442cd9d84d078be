"""Generated pictures: shapes in places, printed words, simple charts; with what is where, and what may be asked.

    drawn = draw("shapes", np.random.default_rng(0))
    drawn.image, drawn.named, drawn.asks         # uint8 [112, 112, 3]; names and where they are; questions

A thing's names stand at its middle alone, so that a thing is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from antiphon.data.omni.names import COLOURS, NUMBERS, PLACES, SHAPES, SOUNDS, WORDS

SIDE, FINER = 112, 3  # pixels of a picture; so much larger is it drawn
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold")
SIZES, LINE = (20, 17, 15, 13), 14  # pixels of letters, largest first; words stand on lines so far apart
LINES = {1: ((1, 2, 3, 4, 5, 6),), 2: ((1, 2), (5, 6)), 3: ((1,), (3, 4), (6,))}  # on which, by how many there are
THIRDS, RADII = ((1,), (3, 4), (6,)), (9.0, 11.5, 14.0)  # of the grid for shapes; of shapes, in pixels
Canvas = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Ask:
    """A question.

    Attributes:
        kind: of question, whose wordings `questions` has.
        slots: what stands in the wording.
        reply: a right one.
        keys: the words of a reply that make it right.
        among: words of which a right reply has these alone.
    """

    kind: str
    slots: dict[str, str]
    reply: str
    keys: tuple[str, ...]
    among: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """Names of something, and where its middle is, from 0 to 1 of the picture's width and height."""

    x: float
    y: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class Thing:
    """A shape: its colour, its middle and half its size in pixels."""

    shape: str
    colour: str
    x: float
    y: float
    size: float

    @property
    def words(self) -> str:
        """ "a red circle"."""
        return f"{'an' if self.colour == 'orange' else 'a'} {self.colour} {self.shape}"

    @property
    def place(self) -> tuple[str, ...]:
        """In which ninth of the picture it is: "top" and "left"; "middle"."""
        row, column = (min(2, max(0, int(3 * each / SIDE))) for each in (self.y, self.x))
        return tuple(filter(None, (ROWS[row], COLUMNS[column]))) or ("middle",)

    def named(self, *more: str) -> Named:
        """Its names, and more of them."""
        return Named(self.x / SIDE, self.y / SIDE, (self.colour, self.shape, *self.place, *more))


@dataclass
class Drawn:
    """A picture; `letters` are those of its words, each by itself."""

    image: NDArray[np.uint8]
    named: list[Named]
    asks: list[Ask] = field(default_factory=list)
    letters: list[Named] = field(default_factory=list)


def ask(kind: str, reply: str, keys: Sequence[str], among: Sequence[str], **slots: str) -> Ask:
    """A question; a reply begins with a capital and ends with a full stop."""
    return Ask(kind, slots, reply[0].upper() + reply[1:] + ".", tuple(keys), tuple(among))


def yes_or_no(kind: str, right: bool, **slots: str) -> Ask:
    """A question that is answered by yes or no."""
    word = "yes" if right else "no"
    return ask(kind, word, [word], ("yes", "no"), **slots)


# Drawing


def background(generator: Generator, colours: Sequence[str]) -> tuple[int, int, int]:
    """A light one, or a dark one where nothing black stands on it."""
    dark = "black" not in colours and "purple" not in colours and "blue" not in colours and generator.random() < 0.25
    base = generator.uniform(10, 50) if dark else generator.uniform(175, 240)
    return tuple(int(value) for value in np.clip(base + generator.normal(0, 6, 3), 0, 255))  # type: ignore[return-value]


def tint(colour: str, generator: Generator) -> tuple[int, int, int]:
    """A shade of a colour."""
    return tuple(int(v) for v in np.clip(np.array(COLOURS[colour]) + generator.normal(0, 9, 3), 0, 255))  # type: ignore[return-value]


def blank(colour: tuple[int, int, int]) -> tuple[Image.Image, Canvas]:
    """A picture to draw in, finer than it will be."""
    image = Image.new("RGB", (SIDE * FINER, SIDE * FINER), colour)
    return image, ImageDraw.Draw(image)


def finished(image: Image.Image, generator: Generator | None = None) -> NDArray[np.uint8]:
    """At its size, with a camera's noise if there is a generator."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    if generator is not None:
        pixels = pixels + generator.normal(0, generator.uniform(0, 5), pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def corners(thing: Thing) -> list[tuple[float, float]]:
    """Of a shape that has some, around its middle, from -1 to 1."""
    if thing.shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if thing.shape == "triangle":
        return [(0, -1), (0.95, 0.8), (-0.95, 0.8)]
    if thing.shape == "diamond":
        return [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)]
    if thing.shape == "star":
        turns = [(math.pi * (point / 5 - 0.5), 1.05 if point % 2 == 0 else 0.42) for point in range(10)]
        return [(far * math.cos(turn), far * math.sin(turn)) for turn, far in turns]
    if thing.shape == "cross":
        a, b = 0.33, 1.0
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    turns = [2 * math.pi * step / 40 for step in range(40)]  # a heart
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in turns
    ]


def draw_thing(canvas: Canvas, thing: Thing, colour: tuple[int, int, int], under: tuple[int, int, int]) -> None:
    """Draws a shape; `under` is the background, seen through a ring."""
    x, y, size = (each * FINER for each in (thing.x, thing.y, thing.size))
    if thing.shape in ("circle", "ring"):
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        if thing.shape == "ring":
            inner = 0.55 * size
            canvas.ellipse((x - inner, y - inner, x + inner, y + inner), fill=under)
        return
    canvas.polygon([(x + size * dx, y + size * dy) for dx, dy in corners(thing)], fill=colour)


@lru_cache(maxsize=256)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of `FONTS`, which come with matplotlib."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


# What is drawn


def middle(third: int, generator: Generator) -> float:
    """Where in a third of a picture's side a shape stands: on a grid, nearly."""
    return LINE * (int(generator.choice(THIRDS[third])) + 0.5) + float(generator.choice((-3, 0, 3)))


def things(generator: Generator, count: int, ninths: Sequence[int] = tuple(range(9))) -> list[Thing]:
    """So many shapes, each in a ninth of the picture of its own."""
    few = generator.random() < 0.5  # few colours and shapes: more that are alike
    colours = generator.permutation(list(COLOURS))[: 3 if few else 8]
    shapes = generator.permutation(list(SHAPES))[: 3 if few else 8]
    made = []
    for ninth in generator.permutation(list(ninths))[:count]:
        x, y = (middle(third, generator) for third in (ninth % 3, ninth // 3))
        shape, colour = str(generator.choice(shapes)), str(generator.choice(colours))
        made.append(Thing(shape, colour, x, y, float(generator.choice(RADII))))
    return made


def _shapes(generator: Generator) -> Drawn:
    return draw_things(generator, int(generator.choice([1, 2, 3, 4, 5], p=[0.15, 0.25, 0.25, 0.2, 0.15])))


def draw_things(generator: Generator, count: int) -> Drawn:
    """So many shapes."""
    found = things(generator, count)
    under = background(generator, [thing.colour for thing in found])
    image, canvas = blank(under)
    for thing in found:
        draw_thing(canvas, thing, tint(thing.colour, generator), under)
    return Drawn(finished(image, generator), [thing.named() for thing in found], about_shapes(found, generator))


def about_shapes(found: Sequence[Thing], generator: Generator) -> list[Ask]:
    """What may be asked about shapes."""
    asks, count = [], len(found)
    asks.append(ask("count", _there_are(count), [NUMBERS[count]], NUMBERS))
    shapes, colours = [thing.shape for thing in found], [thing.colour for thing in found]
    for thing in found:
        if shapes.count(thing.shape) == 1:
            asks.append(ask("colour-of", f"it is {thing.colour}", [thing.colour], tuple(COLOURS), shape=thing.shape))
        if colours.count(thing.colour) == 1:
            asks.append(ask("shape-of", f"a {thing.shape}", [thing.shape], SHAPES, colour=thing.colour))
        if sum((other.colour, other.shape) == (thing.colour, thing.shape) for other in found) == 1:
            where = f"{thing.colour} {thing.shape}"
            place = " ".join(thing.place)
            told = f"in the {place}" if place == "middle" else f"at the {place}"
            asks.append(ask("where", told, thing.place, PLACES, thing=where))
        at = " ".join(thing.place)
        at = f"{'in' if at == 'middle' else 'at'} the {at}"
        asks.append(ask("what-at", thing.words, (thing.colour, thing.shape), (*COLOURS, *SHAPES), place=at))
    if count > 1:
        asks += _counted(found, generator) + _related(found, generator)
    asks += _there(found, generator)
    return asks


def _there_are(count: int) -> str:
    return "there is one" if count == 1 else "there are none" if not count else f"there are {NUMBERS[count]}"


def _counted(found: Sequence[Thing], generator: Generator) -> list[Ask]:
    asks = []
    for kind, values in (("count-colour", [t.colour for t in found]), ("count-shape", [t.shape for t in found])):
        value = str(generator.choice(sorted(set(values))))
        number = values.count(value)
        slot = {"colour": value} if kind == "count-colour" else {"shapes": value + ("es" if value == "cross" else "s")}
        asks.append(ask(kind, _there_are(number), [NUMBERS[number]], NUMBERS, **slot))
    return asks


def _related(found: Sequence[Thing], generator: Generator) -> list[Ask]:
    shapes = [thing.shape for thing in found]
    alone = [thing for thing in found if shapes.count(thing.shape) == 1]
    asks = []
    for first, second in [(a, b) for a in alone for b in alone if a is not b]:
        across, down = first.x - second.x, first.y - second.y
        if abs(across) > SIDE / 4:
            asks.append(yes_or_no("left-of", across < 0, one=first.shape, other=second.shape))
        if abs(down) > SIDE / 4:
            asks.append(yes_or_no("above", down < 0, one=first.shape, other=second.shape))
    return [asks[place] for place in generator.permutation(len(asks))[:2]]


def _there(found: Sequence[Thing], generator: Generator) -> list[Ask]:
    """Whether something is there: something that is, or something nearly so."""
    asks, all_there = [], {(thing.colour, thing.shape) for thing in found}
    thing = found[int(generator.integers(len(found)))]
    colour, shape = thing.colour, thing.shape
    if generator.random() < 0.5:
        case = generator.random()
        colour = str(generator.choice(list(COLOURS))) if case < 0.5 else colour
        shape = shape if case < 0.5 else str(generator.choice(list(SHAPES)))
    words = replace(thing, colour=colour, shape=shape).words
    asks.append(yes_or_no("is-there", (colour, shape) in all_there, thing=words))
    return asks


def _words(generator: Generator) -> Drawn:
    count = int(generator.choice([1, 2, 3], p=[0.25, 0.3, 0.45]))
    return written([str(word) for word in generator.choice(WORDS, count, replace=False)], generator)


def written(words: Sequence[str], generator: Generator) -> Drawn:
    """Words below each other, each in a colour of its own."""
    colours = [str(colour) for colour in generator.permutation(list(COLOURS))[: len(words)]]
    under = background(generator, colours)
    image, canvas = blank(under)
    drawn = Drawn(np.zeros(0, np.uint8), [])
    for number, (word, colour) in enumerate(zip(words, colours)):
        name, first = str(generator.choice(FONTS)), int(generator.integers(3))
        wides = {size: font(name, size * FINER).getlength(word) / FINER for size in SIZES[first:]}
        size = next(size for size in wides if wides[size] < SIDE - 4 or size == SIZES[-1])
        wide = wides[size]
        x = wide / 2 + 2 + 7 * int(generator.integers(max(1, int((SIDE - 4 - wide) / 7) + 1)))
        y = LINE * (int(generator.choice(LINES[len(words)][number])) + 0.5)
        canvas.text((x * FINER, y * FINER), word, tint(colour, generator), font(name, size * FINER), anchor="mm")
        drawn.named.append(Named(x / SIDE, y / SIDE, (word, colour)))
        ends = [font(name, size * FINER).getlength(word[:end]) / FINER for end in range(len(word) + 1)]
        for letter, start, end in zip(word, ends, ends[1:]):
            drawn.letters.append(Named((x - wide / 2 + (start + end) / 2) / SIDE, y / SIDE, (letter,)))
    drawn.image = finished(image, generator)
    drawn.asks = about_words(words, colours)
    return drawn


def about_words(words: Sequence[str], colours: Sequence[str]) -> list[Ask]:
    """What may be asked about words."""
    if len(words) == 1:
        return [
            ask("read", f"it says {words[0]}", words, WORDS),
            ask("word-colour", f"it is {colours[0]}", colours, tuple(COLOURS), word=words[0]),
        ]
    asks = [ask("count-words", _there_are(len(words)), [NUMBERS[len(words)]], NUMBERS)]
    for place, (word, colour) in enumerate(zip(words, colours)):
        asks.append(ask("word-colour", f"it is {colour}", [colour], tuple(COLOURS), word=word))
        asks.append(ask("read-colour", f"it says {word}", [word], WORDS, colour=colour))
        if place in (0, len(words) - 1):
            asks.append(ask("read-first" if place == 0 else "read-last", f"it says {word}", [word], WORDS))
    return asks


def _bars(generator: Generator) -> Drawn:
    count = int(generator.integers(2, 5))
    colours = [str(colour) for colour in generator.permutation(list(COLOURS))[:count]]
    values = [int(value) for value in generator.permutation([1, 2, 3, 4, 5])[:count]]
    under = background(generator, [*colours, "black"])
    image, canvas = blank(under)
    unit = 19.0
    foot = SIDE - generator.uniform(4, 10)
    for line in range(1, 6):
        y = (foot - line * unit) * FINER
        canvas.line((4 * FINER, y, (SIDE - 4) * FINER, y), fill=(170, 170, 170), width=2)
    canvas.line((4 * FINER, foot * FINER, (SIDE - 4) * FINER, foot * FINER), fill=(40, 40, 40), width=4)
    drawn = Drawn(np.zeros(0, np.uint8), [])
    for column, (colour, value) in enumerate(zip(colours, values)):
        x, half = (column + 0.5) * 28 + generator.uniform(-2, 2), generator.uniform(7, 11)
        box = tuple(each * FINER for each in (x - half, foot - value * unit, x + half, foot))
        canvas.rectangle(box, fill=tint(colour, generator))
        place = "tallest" if value == max(values) else "shortest" if value == min(values) else ""
        names = tuple(filter(None, ("bar", colour, NUMBERS[value], place)))
        drawn.named.append(Named(x / SIDE, (SIDE - 14) / SIDE, names))
    drawn.image = finished(image, generator)
    tallest, shortest = (colours[values.index(pick(values))] for pick in (max, min))
    drawn.asks = [
        ask("count-bars", _there_are(count), [NUMBERS[count]], NUMBERS),
        ask("tallest", f"the {tallest} one", [tallest], tuple(COLOURS)),
        ask("shortest", f"the {shortest} one", [shortest], tuple(COLOURS)),
        *(
            ask("value", f"it is {NUMBERS[value]}", [NUMBERS[value]], NUMBERS, colour=colour)
            for colour, value in zip(colours, values)
        ),
    ]
    return drawn


def _pie(generator: Generator) -> Drawn:
    count = int(generator.integers(2, 5))
    colours = [str(colour) for colour in generator.permutation(list(COLOURS))[:count]]
    shares = np.array([1.0, 0.62, 0.35, 0.25][:count])
    ends = np.cumsum(shares / shares.sum()) * 360
    order = generator.permutation(count)
    under = background(generator, [*colours, "black"])
    image, canvas = blank(under)
    size, x, y = generator.uniform(36, 50), *(SIDE / 2 + generator.uniform(-5, 5, 2))
    box = tuple(each * FINER for each in (x - size, y - size, x + size, y + size))
    turn, sizes = generator.uniform(0, 360), np.diff(ends, prepend=0)
    for number in order:
        canvas.pieslice(box, turn, turn + sizes[number], fill=tint(colours[number], generator))
        turn += sizes[number]
    named = [Named(x / SIDE, y / SIDE, ("pie", colours[0], NUMBERS[count]))]
    asks = [
        ask("largest-part", f"the {colours[0]} one", [colours[0]], tuple(COLOURS)),
        ask("count-parts", _there_are(count), [NUMBERS[count]], NUMBERS),
    ]
    return Drawn(finished(image, generator), named, asks)


def _line(generator: Generator) -> Drawn:
    colour, rising = str(generator.choice(list(COLOURS))), bool(generator.random() < 0.5)
    heights = np.sort(generator.uniform(12, SIDE - 12, 5))
    heights = np.linspace(12, SIDE - 12, 5) * 0.5 + heights * 0.5 + generator.normal(0, 4, 5)
    heights = heights if not rising else heights[::-1]
    under = background(generator, [colour, "black"])
    image, canvas = blank(under)
    canvas.line([(6 * FINER, 6 * FINER), (6 * FINER, 106 * FINER), (106 * FINER, 106 * FINER)], (40, 40, 40), 4)
    points = [((14 + 21 * number) * FINER, float(y) * FINER) for number, y in enumerate(heights)]
    canvas.line(points, tint(colour, generator), int(generator.integers(8, 14)))
    way = "rising" if rising else "falling"
    asks = [
        ask("line-way", f"it is {way}", [way], ("rising", "falling")),
        ask("line-colour", f"it is {colour}", [colour], tuple(COLOURS)),
    ]
    return Drawn(finished(image, generator), [Named(0.5, 0.5, ("line", colour, way))], asks)


def _chart(generator: Generator) -> Drawn:
    return (_bars, _bars, _pie, _line)[int(generator.integers(4))](generator)


KINDS = {"shapes": _shapes, "words": _words, "chart": _chart}


def draw(kind: str, generator: Generator) -> Drawn:
    """A picture of a kind of `KINDS`."""
    return KINDS[kind](generator)


def sound_words(generator: Generator, name: str, without: str = "") -> Drawn:
    """Two or three words that name sounds, one of them this, none of them the one that is named `without`."""
    others = [other for other in generator.permutation(list(SOUNDS)) if other not in (name, without)]
    return written(
        [str(word) for word in generator.permutation([name, *others[: int(generator.integers(1, 3))]])], generator
    )
