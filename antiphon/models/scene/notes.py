"""What of a scene is worth telling a language model, in words.

    [sound: a dog barks] [the user sounds angry]

`notes` are of what is noteworthy: of plain speech, in a neutral voice, where it is quiet, there are none.
`everything` is what a language model is told that is asked: all that was heard, and the answers to what people ask
about it, counted and placed. A small language model neither counts nor compares what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from antiphon.models.llm.prompts import ASKED, HEARD, MINDED, MINDING, UNASKED, USER
from antiphon.models.scene.labels import GROUPS, TEMPO, Label, label
from antiphon.models.scene.scene import Scene, SoundEvent

SURE = 0.5  # how likely something has to be to be told to who asks
RECENT_SECONDS = 60.0  # before the end, in which a sound is told
MOST_SOUNDS, MOST_EVENTS, MOST_INSTRUMENTS = 3, 8, 2  # that are noted, and told to who asks
# What is nothing to speak of: how a plain voice sounds, or one that reads; pauses, which who lists anything makes; and
# speakers in turn, which one who reads a long sentence is often taken for.
PLAIN = {
    ("feeling", "neutral"),
    ("feeling", "bored"),
    ("manner", "question"),
    ("manner", "hesitating"),
    ("speakers", "one"),
    ("speakers", "in_turn"),
}
# How likely the rest has to be to be noted, by group, where a network doesn't come with better (`Scene.noteworthy`). A
# note of nothing changes an answer for no reason: what plain voices are easily taken for has to be sure.
NOTED = {"event": 0.6, "feeling": 0.9, "manner": 0.9, "speakers": 0.8}
SOUNDS = tuple(name for name in GROUPS["manner"].names if name in GROUPS["event"].names)  # of a voice: laughs, sobs
EFFORTS = ("whispered", "shouted")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")


@dataclass(frozen=True)
class Named:
    """Words for something that was heard.

    Attributes:
        group, name: which label it is most likely.
        chance: how likely that is.
        before: text that stands before the words, a space if nothing else.
    """

    group: str
    name: str
    chance: float
    before: str = " "

    @property
    def label(self) -> Label:
        return label(self.group, self.name)

    def __str__(self) -> str:
        return self.before + written(self.label)


Parts = list[str | Named]  # text and names, that follow one another


@dataclass(frozen=True)
class Sound:
    """A sound beside the voice.

    Attributes:
        named: what it is.
        place: "before", "during" or "after" the words; "" where there are none.
        times: in a row.
    """

    named: Named
    place: str
    times: int = 1


@dataclass(frozen=True)
class Note:
    """What was heard of one kind.

    Attributes:
        title: "sound", "music", "the user" or "speaking".
        told: what.
    """

    title: str
    told: tuple[Named, ...]

    def parts(self) -> Parts:
        """What was heard, with commas in between."""
        return _listed(self.told)

    def __str__(self) -> str:
        colon = "" if self.title == "the user" else ":"
        return f"[{self.title}{colon}{''.join(map(str, self.parts()))}]"


def written(label: Label) -> str:
    """A label as a note has it."""
    return label.phrase or label.words


def noted(scene: Scene | None) -> str:
    """The notes on a scene as a person reads them; "" where nothing is worth one."""
    return " ".join(map(str, notes(scene)))


def notes(scene: Scene | None) -> list[Note]:
    """What of a scene is noteworthy: how the voice sounds, several voices, other sounds, music."""
    if scene is None:
        return []
    scene = replace(scene, events=tuple(event for event in scene.events if _is_noteworthy(event, scene.noteworthy)))
    return _found(
        ("sound", [Named("event", event.label, event.probability) for event in _sounds(scene)]),
        ("music", _music(scene)),
        ("speaking", _likely(scene, "speakers")),
        ("the user", _voice(scene) if _speaks(scene) else []),
    )


def everything(scene: Scene | None) -> Parts:
    """All of a scene that a question may be about, as a language model is told it that is asked."""
    if scene is None or not scene.events:
        return []
    parts: Parts = [ASKED.heard]
    sounds = _in_order(scene)
    several = "s" if len(sounds) > 1 else ""
    parts.append(f" {NUMBERS[len(sounds) - 1]} sound{several}." if sounds else ASKED.nothing)
    for which, sound in zip(ORDINALS, sounds):
        often = f" {sound.times} times," if sound.times > 1 else ""
        title = f" {which} sound:" if len(sounds) > 1 else " The sound:"
        parts += [title, sound.named, f",{often} {sound.place} the user's words." if sound.place else f".{often}"]
    if music := _music(scene):
        parts += [ASKED.music, *_listed(music), "."]
    if _speaks(scene):
        others = any(event.label != "one" for event in scene.of("speakers"))
        parts.append(ASKED.several if others else ASKED.alone)
        for title, group in ((ASKED.sex, "sex"), (ASKED.age, "age")):
            if likely := _likely(scene, group):
                parts += [title, *_listed(likely), "."]
        manner = _manner(scene)
        parts += [ASKED.manner, *(_listed(manner, " and") if manner else [ASKED.plain])]
        feeling = [each for each in _likely(scene, "feeling", " sounds ") if each.name != "neutral"]
        parts += [*([" and", *feeling] if feeling else []), "."]
    if place := _likely(scene, "surroundings"):
        parts += [ASKED.place, *_listed(place), "."]
    return [*parts, ASKED.answer]


def as_heard(name: str) -> Note:
    """The note that a user was surely heard to sound like that, "group/label"."""
    group, _, each = name.partition("/")
    return Note("the user", (Named(group, each, 1.0, " sounds " if group == "feeling" else " "),))


def noteworthy_parts(notes: Sequence[Note]) -> Parts:
    """Notes on what is noteworthy as a language model is told them, with what it is to make of them."""
    sounds, voice = (
        [note for note in notes if note.title != "the user"],
        [note for note in notes if note.title == "the user"],
    )
    parts: Parts = []
    for note in sounds:
        parts += [
            HEARD if not parts else " and",
            *([f" {note.title}:"] if note.title == "music" else []),
            *note.parts(),
        ]
    parts += [UNASKED] if sounds else []
    for note in voice:
        parts += [USER if not parts else f" {USER}", *note.parts(), "." + MINDING.format(*MINDED[_first(note).name])]
    return parts


def _found(*told: tuple[str, Sequence[Named]]) -> list[Note]:
    """Notes of those titles that anything was heard of."""
    return [Note(title, tuple(found)) for title, found in told if found]


def _listed(names: Sequence[Named], between: str = ",") -> Parts:
    return [part for each in names for part in (between, each)][1:]


def _sounds(scene: Scene) -> list[SoundEvent]:
    """The likeliest of the last sounds, each once, in the order in which they began; the voice's own are its manner."""
    voiced = set(GROUPS["manner"].names) if _speaks(scene) else set()
    best: dict[str, SoundEvent] = {}
    for event in sorted(scene.of("event"), key=lambda each: each.probability):
        if event.end >= scene.duration - RECENT_SECONDS and event.label not in voiced:
            best[event.label] = event
    likeliest = sorted(best.values(), key=lambda event: -event.probability)[:MOST_SOUNDS]
    return sorted(likeliest, key=lambda each: each.start)


def _in_order(scene: Scene) -> list[Sound]:
    """The last sounds and pieces of music, as they came; what came several times in a row stands once, and what is told
    by its name not as a sound besides."""
    named = [*scene.of("event"), *(event for event in scene.of("kind") if event.label == "music")]
    unnamed = [event for event in scene.of("kind") if event.label == "sound"]
    events = named + [one for one in unnamed if not any(one.start < o.end and o.start < one.end for o in named)]
    events = [event for event in events if event.end >= scene.duration - RECENT_SECONDS]
    spoken = [event for event in scene.of("kind") if event.label == "speech"]
    begun, over = min((each.start for each in spoken), default=0.0), max((each.end for each in spoken), default=0.0)

    def place(event: SoundEvent) -> str:
        middle = (event.start + event.end) / 2
        return "" if not spoken else "before" if middle < begun else "after" if middle > over else "during"

    rows: list[Sound] = []
    in_order = sorted(events, key=lambda each: each.start)
    for (kind, name, where), group in groupby(in_order, key=lambda each: (each.group, each.label, place(each))):
        chances = [event.probability for event in group]
        rows.append(Sound(Named(kind, name, max(chances)), where, len(chances) if kind == "event" else 1))
    return rows[-MOST_EVENTS:]


def _music(scene: Scene) -> list[Named]:
    """Its instruments, its genre and its tempo, as far as they are known."""
    if not any(event.label == "music" for event in scene.of("kind")):
        return []
    instruments = sorted(scene.of("instrument"), key=lambda event: -event.probability)[:MOST_INSTRUMENTS]
    rest = [event for group in ("genre", TEMPO) for event in scene.of(group) if event.probability >= SURE]
    named = [Named(event.group, event.label, event.probability) for event in (*instruments, *rest)]
    return named or [Named("kind", "music", 1.0)]


def _voice(scene: Scene) -> list[Named]:
    """How the voice sounds and speaks; whispers and shouts seem to have feelings that aren't there."""
    manner = _manner(scene)
    return manner if any(each.name in EFFORTS for each in manner) else [*_likely(scene, "feeling", " sounds "), *manner]


def _first(note: Note) -> Named:
    """What an answer minds first: a sound of the voice, an effort, what else is likeliest."""
    return max(note.told, key=lambda each: (each.name in SOUNDS, each.name in EFFORTS, each.chance))


def _manner(scene: Scene) -> list[Named]:
    """How the voice speaks, and what it does besides."""
    manner = {event.label: event for event in (*scene.of("event"), *scene.of("manner"))}  # the latter's where both are
    names = [name for name in GROUPS["manner"].names if name in manner and name != "question"]  # words tell that
    return [Named("manner", name, manner[name].probability) for name in names]


def _likely(scene: Scene, group: str, before: str = " ") -> list[Named]:
    """Labels of the whole turn that are likely enough."""
    likely = {event.label: event.probability for event in scene.of(group)}
    return [Named(group, name, chance, before) for name, chance in likely.items() if chance >= SURE]


def _is_noteworthy(event: SoundEvent, least: Mapping[str, float]) -> bool:
    if (event.group, event.label) in PLAIN:
        return False
    return event.probability >= least.get(f"{event.group}/{event.label}", NOTED.get(event.group, SURE))


def _speaks(scene: Scene) -> bool:
    return any(event.label == "speech" for event in scene.of("kind"))
