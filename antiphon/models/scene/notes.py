"""What of a scene is worth telling a language model, in words.

    [sound: a dog barks] [the user sounds angry]

`notes` are of what is noteworthy: of plain speech, in a neutral voice, where it is quiet, there are none.
`everything` is what is told to who asks: all that was heard, in its order, and who speaks, and how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from antiphon.models.llm.prompts import ASKED, HEARD, IF_ASKED, MINDED, MINDING, PLAIN_MANNER, UNASKED, USER
from antiphon.models.scene.labels import GROUPS, TEMPO, Label, label
from antiphon.models.scene.scene import Scene, SoundEvent

SURE = 0.5  # how likely something has to be to be told to who asks
RECENT_SECONDS = 60.0  # before the end, in which a sound is told
MOST_SOUNDS, MOST_EVENTS, MOST_INSTRUMENTS = 3, 8, 2  # that are noted, and told to who asks
# What is nothing to speak of: how a plain voice sounds, or one that reads; and speakers in turn, which one who reads a
# long sentence is often taken for.
PLAIN = {
    ("feeling", "neutral"),
    ("feeling", "bored"),
    ("manner", "question"),
    ("speakers", "one"),
    ("speakers", "in_turn"),
}
# How likely the rest has to be to be noted, by group, where a network doesn't come with better (`Scene.noteworthy`). A
# note of nothing changes an answer for no reason: what plain voices are easily taken for has to be sure.
NOTED = {"event": 0.6, "feeling": 0.9, "manner": 0.9, "speakers": 0.8}
SOUNDS = tuple(name for name in GROUPS["manner"].names if name in GROUPS["event"].names)  # of a voice: laughs, sobs
EFFORTS = ("whispered", "shouted")


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
Item = str | Named | tuple[str | Named, ...]


@dataclass(frozen=True)
class Note:
    """What was heard of one kind.

    Attributes:
        title: "sound", "music", "the user", "speaking", "heard in this order" or "place".
        told: what, each of them one or several parts.
    """

    title: str
    told: tuple[tuple[str | Named, ...], ...]

    def parts(self) -> Parts:
        """What was heard, with commas in between."""
        return [part for each in self.told for part in (",", *each)][1:]

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


def everything(scene: Scene | None) -> list[Note]:
    """All of a scene that a question may be about."""
    if scene is None or not scene.events:
        return []
    voice: list[Item] = []
    if _speaks(scene):
        manner: list[Named | str] = list(_manner(scene)) or [PLAIN_MANNER]
        voice = [
            *_likely(scene, "sex", " is a "),
            *_likely(scene, "age", " is of age: "),
            *_feeling(scene),
            *manner,
        ]
    return _found(
        ("heard in this order", _in_order(scene)),
        ("music", _music(scene)),
        ("speaking", _likely(scene, "speakers") if voice else []),
        ("the user", voice),
        ("place", _likely(scene, "surroundings")),
    )


def is_plain(scene: Scene) -> bool:
    """Whether nothing but a voice that is nothing to speak of was heard."""
    others = (event.group == "event" or event.label in ("music", "sound") for event in scene.events)
    return not notes(scene) and not any(others)


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


def everything_parts(notes: Sequence[Note], noteworthy: Sequence[Note] = ()) -> Parts:
    """All that was heard as a language model is told it that is asked about it; a tone is minded all the same.

    Args:
        notes: on everything.
        noteworthy: those on what is noteworthy.
    """
    parts: Parts = []
    for note in notes:
        title = USER if note.title == "the user" else f"{note.title[0].upper()}{note.title[1:]}:"
        parts += [title if not parts else f" {title}", *note.parts(), "."]
    for note in noteworthy:
        if note.title == "the user":
            said, then = MINDED[_first(note).name]
            return [*parts, MINDING.format(said, then + IF_ASKED)]
    return [*parts, ASKED]


def _found(*told: tuple[str, Sequence[Item]]) -> list[Note]:
    """Notes of those titles that anything was heard of."""
    each = ((title, tuple(one if isinstance(one, tuple) else (one,) for one in found)) for title, found in told)
    return [Note(title, found) for title, found in each if found]


def _sounds(scene: Scene) -> list[SoundEvent]:
    """The likeliest of the last sounds, each once, in the order in which they began; the voice's own are its manner."""
    voiced = set(GROUPS["manner"].names) if _speaks(scene) else set()
    best: dict[str, SoundEvent] = {}
    for event in sorted(scene.of("event"), key=lambda each: each.probability):
        if event.end >= scene.duration - RECENT_SECONDS and event.label not in voiced:
            best[event.label] = event
    likeliest = sorted(best.values(), key=lambda event: -event.probability)[:MOST_SOUNDS]
    return sorted(likeliest, key=lambda each: each.start)


def _in_order(scene: Scene) -> list[Item]:
    """The last sounds, speech and music as they came, and how often each where it came several times in a row."""
    told = {"speech", "music"} if scene.of("event") else {"speech", "music", "sound"}
    events = [event for event in scene.of("kind") if event.label in told] + list(scene.of("event"))
    events = [event for event in events if event.end >= scene.duration - RECENT_SECONDS]
    rows: list[Item] = []
    for _, group in groupby(sorted(events, key=lambda each: each.start), key=lambda each: (each.group, each.label)):
        row = list(group)
        what = Named(row[0].group, row[0].label, max(event.probability for event in row))
        often = (f" {len(row)} times",) if len(row) > 1 and what.group == "event" else ()
        rows.append((" the user speaks",) if what.name == "speech" and what.group == "kind" else (what, *often))
    return rows[-MOST_EVENTS:]


def _music(scene: Scene) -> list[Named]:
    """Its instruments, its genre and its tempo, as far as they are known."""
    if not any(event.label == "music" for event in scene.of("kind")):
        return []
    instruments = sorted(scene.of("instrument"), key=lambda event: -event.probability)[:MOST_INSTRUMENTS]
    rest = [event for group in ("genre", TEMPO) for event in scene.of(group) if event.probability >= SURE]
    named = [Named(event.group, event.label, event.probability) for event in (*instruments, *rest)]
    return named or [Named("kind", "music", 1.0)]


def _feeling(scene: Scene) -> list[Named]:
    """How the voice sounds."""
    return _likely(scene, "feeling", " sounds ")


def _voice(scene: Scene) -> list[Named]:
    """How the voice sounds and speaks; whispers and shouts seem to have feelings that aren't there."""
    manner = _manner(scene)
    return manner if any(each.name in EFFORTS for each in manner) else [*_feeling(scene), *manner]


def _first(note: Note) -> Named:
    """What an answer minds first: a sound of the voice, an effort, what else is likeliest."""
    named = [part for each in note.told for part in each if isinstance(part, Named)]
    return max(named, key=lambda each: (each.name in SOUNDS, each.name in EFFORTS, each.chance))


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
