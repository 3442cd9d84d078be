"""What was heard besides the words, as plain values: events with times, and how likely each label is of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from antiphon.models.scene.labels import label


@dataclass(frozen=True)
class SoundEvent:
    """One thing that was heard.

    Attributes:
        group: which question it answers ("kind", "feeling", "event", ...: `labels.GROUPS`, or "tempo").
        label: the answer ("speech", "angry", "dog"; of a tempo, the beats a minute as text).
        probability: how likely it is, 0 to 1.
        start, end: in seconds of the recording.
    """

    group: str
    label: str
    probability: float
    start: float
    end: float


@dataclass(frozen=True)
class Scene:
    """What was heard in a turn or a recording.

    Attributes:
        events: what is likely enough to be told, by start; those that are said of the whole last as long as it.
        duration: seconds that were heard.
        chances: of each group, how likely each of its labels is for the whole turn.
        vector: the network's summary of the turn, from which what reads a scene may learn more than the labels say.
        noteworthy: how likely a label has to be to be worth a note, by "group/label"; others as `notes.NOTED` says.
    """

    events: tuple[SoundEvent, ...] = ()
    duration: float = 0.0
    chances: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)  # hundreds of numbers
    vector: tuple[float, ...] = field(default=(), repr=False)
    noteworthy: Mapping[str, float] = field(default_factory=dict, repr=False)

    def of(self, group: str) -> tuple[SoundEvent, ...]:
        """The events of one group."""
        return tuple(event for event in self.events if event.group == group)

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it, without the vector and the thresholds."""
        return {
            "duration": round(self.duration, 2),
            "events": [
                asdict(event) | {"probability": round(event.probability, 3), "start": round(event.start, 2),
                                 "end": round(event.end, 2)}
                for event in self.events
            ],
            "chances": {
                group: {name: round(chance, 4) for name, chance in chances.items()}
                for group, chances in self.chances.items()
            },
        }  # fmt: skip

    def __str__(self) -> str:
        """A few words: "0.0-3.2 s speech (woman, angry); 1.4-2.0 s a dog barks"."""
        # What is said of the voice and of the music goes behind them.
        about: dict[str, list[str]] = {"speech": [], "music": []}
        for event in self.events:
            if event.group in ("sex", "age", "feeling", "manner", "speakers"):
                about["speech"].append(label(event.group, event.label).words)
            elif event.group in ("instrument", "genre", "tempo"):
                about["music"].append(label(event.group, event.label).words)
        told, said = [], set()
        timed = [event for event in self.events if event.group in ("kind", "event")]
        named = [event for event in timed if event.group == "event"]
        for event in timed:
            if event.group == "kind" and event.label in ("sound", "silence"):
                # A sound that has a name is told by it.
                overlapping = any(other.start < event.end and event.start < other.end for other in named)
                if event.label == "silence" or overlapping:
                    continue
            each = label(event.group, event.label)
            text = f"{event.start:.1f}-{event.end:.1f} s {each.phrase or each.words}"
            if event.group == "kind" and event.label not in said and about.get(event.label):
                text += f" ({', '.join(about[event.label])})"
                said.add(event.label)
            told.append(text)
        return "; ".join(told)
