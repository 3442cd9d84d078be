"""Training the network of turns on made conversations (`antiphon data turns`), each 80 ms of which is labelled.

A batch is windows of conversations, drawn by the seed and the step. What is hard is rare: the first second of a
silence, which may be a pause or the end, and the first of a sound while the model speaks. So these frames count for
more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from antiphon.data.dialogue.compose import FRAME_SECONDS
from antiphon.data.dialogue.format import USER, Dialogue, read_dialogues
from antiphon.data.dialogue.turns import IGNORE, TAKE, YIELD, decisions, speaking
from antiphon.data.speech.augment import resample
from antiphon.errors import ConfigError
from antiphon.models.turns.network import BANDS, DECISIONS, SAMPLE_RATE, TurnConfig, TurnNetwork, frames_of
from antiphon.train.config import Measures, StageConfig

DB = 1 / 40  # of the spectrogram's scale, a decibel of gain
MEASURED_SECONDS = 0.24  # into a silence or a sound, after which it is measured what is decided
EARLY_SECONDS = 1.0  # of a silence or a sound, which count for more


@dataclass
class TurnsModel:
    """Sizes of the network; see `TurnConfig`."""

    width: int = 160
    """Of a frame's vector."""
    hidden: int = 192
    """Of the recurrent layers."""
    depth: int = 2
    """Recurrent layers."""
    dropout: float = 0.1
    """In training."""


@dataclass
class TurnsData:
    """What is heard."""

    sets: list[str] = MISSING
    """Folders of conversations."""
    dev: list[str] = field(default_factory=list)
    """Folders of those that are measured."""
    seconds: float = 14.0
    """Of a window."""
    early: float = 3.0
    """Weight of the first second of a silence or a sound, against 1 of other frames."""
    gain_db: float = 8.0
    """Windows are made louder or softer by up to so much."""
    bands: int = 12
    """At most so many bands of a window are taken out."""
    late: int = 2
    """Frames by which what is known of the own voice may be late."""


@dataclass
class Talk:
    """A conversation as the network sees it.

    Attributes:
        hops: spectrogram by frames, float16 [frames, bands * hops].
        voice: how likely speech is, [frames].
        own: 1 where the model speaks, [frames].
        decisions: [frames].
        weights: of the frames, [frames].
        ends: (frame, 1 at the end of a turn or 0 in a pause): where a silence has lasted `MEASURED_SECONDS`.
        sounds: (frame, 1 for the beginning of a turn, 0 for a sign of listening or a noise) likewise, while the model
            speaks.
    """

    hops: Tensor
    voice: Tensor
    own: Tensor
    decisions: Tensor
    weights: Tensor
    ends: list[tuple[int, int]]
    sounds: list[tuple[int, int]]

    @classmethod
    def of(cls, talk: Dialogue, early: float) -> Talk:
        """A conversation, heard."""
        samples = torch.from_numpy(resample(talk.user, talk.sample_rate, SAMPLE_RATE))
        hops, voice = frames_of(samples)
        wanted, own = decisions(talk)[: len(hops)], speaking(talk)[: len(hops)]
        count = min(len(hops), len(wanted), len(own))
        weights = np.ones(count, np.float32)
        marked = _silences(talk), _sounds(talk, own[:count])
        places = []
        for events in marked:
            places.append([(frame, label) for at, label in events if (frame := _frame(at)) < count])
            for at, _ in events:
                first = int(at / FRAME_SECONDS)
                weights[first : first + round(EARLY_SECONDS / FRAME_SECONDS)] = early
        return cls(
            hops[:count].half(), voice[:count], torch.from_numpy(own[:count].astype(np.float32)),
            torch.from_numpy(wanted[:count]), torch.from_numpy(weights), *places,
        )  # fmt: skip


def _frame(begun: float) -> int:
    """The frame in which something that began then has lasted `MEASURED_SECONDS`."""
    return int((begun + MEASURED_SECONDS) / FRAME_SECONDS)


def _silences(talk: Dialogue) -> list[tuple[float, int]]:
    of_user = [event for event in talk.events if event.speaker == USER]
    pauses = [(e.start, 0) for e in of_user if e.kind == "pause" and e.end - e.start > MEASURED_SECONDS]
    return pauses + [(e.end, 1) for e in of_user if e.kind == "turn" and talk.seconds - e.end > MEASURED_SECONDS]


def _sounds(talk: Dialogue, own: NDArray[np.bool_]) -> list[tuple[float, int]]:
    found = []
    for event in talk.events:
        label = {"turn": 1, "backchannel": 0, "noise": 0}.get(event.kind)
        first, last = int(event.start / FRAME_SECONDS), _frame(event.start)
        if event.speaker == USER and label is not None and last < len(own) and own[first] and own[last]:
            found.append((event.start, label))
    return found


class TurnsTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = TurnsModel, TurnsData

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.data: TurnsData = config.data
        torch.manual_seed(config.seed)
        self.model = TurnNetwork(TurnConfig(**asdict(config.model)))
        self.train, self.dev = self._read(self.data.sets), self._read(self.data.dev)
        if not self.train:
            raise ConfigError(
                f"data.sets: no conversation in {', '.join(self.data.sets)}; antiphon data turns makes some"
            )

    def _read(self, folders: Sequence[str]) -> list[Talk]:
        found = []
        for place in folders:
            talks = tqdm(read_dialogues(place), Path(place).name, unit="talk", file=sys.stderr, mininterval=10.0)
            found += [Talk.of(talk, self.data.early) for _, talk in talks]
        return found

    def batch(self, step: int) -> dict[str, Tensor]:
        """Windows of conversations, drawn by their lengths."""
        generator = np.random.default_rng([self.config.seed, step])
        size = max(2, round(self.data.seconds / FRAME_SECONDS))
        shares = np.array([len(talk.voice) for talk in self.train], float)
        rows: dict[str, list[Tensor]] = {name: [] for name in ("hops", "voice", "own", "decisions", "weights")}
        for place in generator.choice(len(self.train), self.config.batch, p=shares / shares.sum()):
            talk = self.train[place]
            start = int(generator.integers(max(1, len(talk.voice) - size)))
            for name in rows:
                row = getattr(talk, name)[start : start + size]
                rows[name].append(
                    F.pad(row, (0, 0) * (row.ndim - 1) + (0, size - len(row)))
                )  # weight 0 where nothing is
        batch = {name: torch.stack(each) for name, each in rows.items()}
        batch["hops"] = self._changed(batch["hops"].float(), generator)
        late = int(generator.integers(self.data.late + 1))
        batch["own"] = F.pad(batch["own"], (late, 0))[:, : batch["own"].shape[1]]
        return batch

    def _changed(self, hops: Tensor, generator: np.random.Generator) -> Tensor:
        """Louder or softer, and without some bands."""
        bands = hops.unflatten(2, (BANDS, -1))
        gains = torch.from_numpy(generator.uniform(-1, 1, len(hops)).astype(np.float32)) * self.data.gain_db * DB
        bands = bands + gains[:, None, None, None]
        for row in bands:
            width = int(generator.integers(self.data.bands + 1))
            first = int(generator.integers(BANDS - width + 1))
            row[:, first : first + width] = row.mean()
        return bands.flatten(2)

    def losses(self, batch: dict[str, Tensor], group: str = "model") -> dict[str, Tensor]:
        """Cross-entropy of the decisions, nats a frame."""
        logits = self.model(batch["hops"], batch["voice"], batch["own"])
        each = F.cross_entropy(logits.flatten(0, 1), batch["decisions"].flatten(), reduction="none")
        weights = batch["weights"].flatten()
        return {"decision": (each * weights).sum() / weights.sum()}

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """How well pauses and ends of turns, and turns and other sounds, are told apart in `dev` (area under the
        curve), and the share of frames decided right."""
        self.model.eval()
        ends: list[tuple[float, int]] = []
        sounds: list[tuple[float, int]] = []
        right = frames = 0
        for talk in self.dev:
            chances = self.model(talk.hops.float()[None], talk.voice[None], talk.own[None])[0].softmax(-1)
            right += int((chances.argmax(-1) == talk.decisions).sum())
            frames += len(chances)
            ends += [(float(chances[frame, TAKE]), label) for frame, label in talk.ends]
            sounds += [(float(chances[f, YIELD] - chances[f, IGNORE]), label) for f, label in talk.sounds]
        self.model.train()
        found = {"frames-right": right / max(1, frames), "ends-auc": area(ends), "sounds-auc": area(sounds)}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is decided in the first conversations of `dev`: a line of letters under what there was."""
        folder.mkdir(parents=True, exist_ok=True)
        lines, letters = [], np.array([name[0] for name in DECISIONS])
        for talk in self.dev[:6]:
            with torch.no_grad():
                chosen = self.model(talk.hops.float()[None], talk.voice[None], talk.own[None])[0].argmax(-1)
            lines += ["".join(letters[talk.decisions.numpy()]), "".join(letters[chosen.numpy()]), ""]
        (folder / f"dev-{step:06d}.txt").write_text("\n".join(lines), encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes the network's folder."""
        self.model.save(folder)


def area(scored: Sequence[tuple[float, int]]) -> float:
    """Area under the curve: how often of one of each label the one with 1 has the higher score, ties by half; not a
    number where there is but one label."""
    high = np.array([score for score, label in scored if label])
    low = np.array([score for score, label in scored if not label])
    if not len(high) or not len(low):
        return float("nan")
    return float((high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean())
