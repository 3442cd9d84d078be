"""From frames as they come to a `Scene`: which labels are likely enough to be told, and from when to when.

    listener = SceneListener.from_pretrained(folder)
    state = listener.init_state()
    listener.step(features, state)        # as they come
    scene = listener.finish(state)        # at the end of a turn, or at any time

Thresholds are the network's own (config.json, "thresholds"): they were chosen on recordings that it wasn't trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import ModelError
from antiphon.models.scene.features import FRAME_SECONDS, SceneFeatures, extract
from antiphon.models.scene.labels import GROUPS, TEMPO
from antiphon.models.scene.network import Readings, SceneNetwork, SceneState
from antiphon.models.scene.scene import Scene, SoundEvent
from antiphon.nn.state import fork

OF_SPEECH = ("sex", "age", "feeling", "manner", "speakers")  # nobody has a feeling where nobody speaks
OF_MUSIC = ("instrument", "genre", TEMPO)


@dataclass(frozen=True)
class Thresholds:
    """When a label is told, with hysteresis.

    Attributes:
        times: of a group with times, how likely a label must be for it to begin, by "group/label"; others begin at .5.
        release: it goes on while it is at least so much of that likely.
        max_gap: seconds for which it may be less likely in between.
        min_seconds: that it must last.
        whole: of a turn as a whole, how likely a label must be, by "group/label"; others must be .5.
        min_heard: seconds of speech or music without which nothing is told about it.
        noteworthy: how likely what is said of a voice must be to be worth a note, by "group/label"; see `notes`.
    """

    times: Mapping[str, float] = field(default_factory=dict)
    release: float = 0.6
    max_gap: float = 0.3
    min_seconds: float = 0.2
    whole: Mapping[str, float] = field(default_factory=dict)
    min_heard: float = 0.3
    noteworthy: Mapping[str, float] = field(default_factory=dict)


@dataclass
class ListenerState:
    """A turn under way. Fields are replaced and never written into.

    Attributes:
        network: where the network stands, one row.
        likely: of each group with times, how likely its labels are, [T, labels].
        vectors: the network's vector of each 0.64 s, [chunks, width].
    """

    network: SceneState
    likely: dict[str, Tensor]
    vectors: Tensor

    def clone(self) -> ListenerState:
        """A snapshot that can go its own way."""
        return replace(self, network=fork(self.network), likely=dict(self.likely))


class SceneListener(nn.Module):
    """Listens to one speaker's turn.

    Args:
        network: names what is heard.
        thresholds: when a label is told.
    """

    def __init__(self, network: SceneNetwork, thresholds: Thresholds | None = None) -> None:
        super().__init__()
        self.network, self.thresholds = network.eval(), thresholds or Thresholds()

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SceneListener:
        """Reads a network's folder with its thresholds.

        Raises:
            ModelError: the folder holds something else.
        """
        network = SceneNetwork.from_pretrained(folder)
        chosen = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("thresholds", {})
        try:
            return cls(network, Thresholds(**chosen)).eval()
        except TypeError as error:
            raise ModelError(f"{folder}: its config.json tells of thresholds that are unknown here: {error}") from error

    def save(self, folder: Path, about: Mapping[str, object] | None = None) -> None:
        """Writes the network's folder, with the thresholds."""
        self.network.save(folder, {**(about or {}), "thresholds": asdict(self.thresholds)})

    def init_state(self) -> ListenerState:
        """The state before the first frame."""
        config = self.network.config
        likely = {name: torch.zeros(0, len(config.labels[name])) for name in config.timed}
        return ListenerState(self.network.init_state(1), likely, torch.zeros(0, config.width))

    @torch.no_grad()
    def step(self, features: SceneFeatures, state: ListenerState) -> None:
        """Takes frames, any number of one row; changes the state."""
        self._take(self.network.step(features, state.network), state)

    @torch.no_grad()
    def finish(self, state: ListenerState) -> Scene:
        """What was heard so far. The state stays as it is."""
        state = state.clone()
        summary = self.network.summary(state.network)
        rest = state.network.waiting.cut(0, 0)
        self._take(self.network.step(rest, state.network, last=True), state)
        duration = len(next(iter(state.likely.values()), state.vectors)) * FRAME_SECONDS
        labels = self.network.config.labels
        whole = likelihoods(summary.logits, labels)
        chances = {name: dict(zip(labels[name], likely[0].tolist())) for name, likely in whole.items()}
        events = [event for name, each in state.likely.items() for event in self._spans(name, each, duration)]
        heard = {
            kind: sum(event.end - event.start for event in events if (event.group, event.label) == ("kind", kind))
            for kind in ("speech", "music")
        }
        for name, each in chances.items():
            if self._tells(name, heard):
                events += self._of_the_whole(name, each, duration)
        if summary.tempo is not None and self.network.tempo is not None and heard["music"] >= 3.0:
            tempo, sure = (float(value) for value in self.network.tempo.tempo(summary.tempo))
            chances[TEMPO] = {f"{tempo:.1f}": sure}
            if sure >= self._least(TEMPO):
                events.append(SoundEvent(TEMPO, f"{tempo:.1f}", sure, 0.0, duration))
        order = [*GROUPS, TEMPO]
        events.sort(key=lambda event: (event.start, order.index(event.group)))
        vector = tuple(summary.vector[0].tolist())
        return Scene(tuple(events), duration, chances, vector, self.thresholds.noteworthy)

    def hear(self, samples: Tensor, encoder: WhisperBlockEncoder) -> Scene:
        """What is heard in a recording, [n] at 16 kHz.

        Args:
            samples: mono.
            encoder: the one whose layers the network was trained on.
        """
        if not len(samples):
            return Scene()
        state = self.init_state()
        self.step(extract(samples[None], encoder), state)
        return self.finish(state)

    def _take(self, readings: Readings, state: ListenerState) -> None:
        state.likely = {
            name: torch.cat([each, readings.frames[name][0].sigmoid()]) for name, each in state.likely.items()
        }
        state.vectors = torch.cat([state.vectors, readings.vectors[0]])

    def _least(self, group: str, label: str = "") -> float:
        return self.thresholds.whole.get(f"{group}/{label}" if label else group, 0.5)

    def _tells(self, group: str, heard: Mapping[str, float]) -> bool:
        """Whether a group is told of the whole turn: those with times have told theirs."""
        if GROUPS[group].timed:
            return False
        needs = "speech" if group in OF_SPEECH else "music" if group in OF_MUSIC else ""
        return not needs or heard[needs] >= self.thresholds.min_heard

    def _of_the_whole(self, group: str, chances: Mapping[str, float], duration: float) -> list[SoundEvent]:
        """The labels of a group that are likely enough: of those that exclude each other just one."""
        likely = dict([max(chances.items(), key=lambda each: each[1])]) if GROUPS[group].exclusive else chances
        return [
            SoundEvent(group, name, chance, 0.0, duration)
            for name, chance in likely.items()
            if chance >= self._least(group, name)
        ]

    def _spans(self, group: str, likely: Tensor, duration: float) -> list[SoundEvent]:
        """Stretches of time for each label of a group, from how likely it is each 80 ms."""
        events = []
        for number, name in enumerate(self.network.config.labels[group]):
            least = self.thresholds.times.get(f"{group}/{name}", 0.5)
            for first, last in spans(likely[:, number], least, self.thresholds):
                sure = float(likely[first:last, number].mean())
                events.append(SoundEvent(group, name, sure, first * FRAME_SECONDS, min(duration, last * FRAME_SECONDS)))
        return events


def likelihoods(logits: Mapping[str, Tensor], labels: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """How likely labels are of whole turns, [B, labels] by group.

    What a voice does besides speaking (a laugh) is both a manner and an event. Beside words the network is surer of the
    event: the likelier of the two holds for the manner.

    Args:
        logits: of a network's summary, [B, labels] by group.
        labels: the names of each group's.
    """
    likely = {name: x.softmax(-1) if GROUPS[name].exclusive else x.sigmoid() for name, x in logits.items()}
    if "manner" in likely and "event" in likely:
        manner, events = list(likely["manner"].unbind(1)), labels["event"]  # gradients go back through these
        for place, name in enumerate(labels["manner"]):
            if name in events:
                manner[place] = torch.maximum(manner[place], likely["event"][:, events.index(name)])
        likely["manner"] = torch.stack(manner, 1)
    return likely


def spans(likely: Tensor, least: float, thresholds: Thresholds) -> list[tuple[int, int]]:
    """Frames [first, last) in which a label is told: it begins where it is as likely as `least` and lasts while it is
    not much less so.

    Args:
        likely: [T].
        least: to begin.
        thresholds: how far it may fall and for how long.
    """
    values, found, begun = likely.tolist(), [], None
    for place, value in enumerate([*values, -1.0]):
        if begun is None and value >= least:
            begun = place
            while begun > 0 and values[begun - 1] >= least * thresholds.release:
                begun -= 1
        elif begun is not None and value < least * thresholds.release:
            if found and begun - found[-1][1] <= thresholds.max_gap / FRAME_SECONDS:
                found[-1] = (found[-1][0], place)
            else:
                found.append((begun, place))
            begun = None
    return [(first, last) for first, last in found if last - first >= thresholds.min_seconds / FRAME_SECONDS]
