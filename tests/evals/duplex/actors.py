"""Systems whose figures one knows by hand, and scenarios of tones: no speech needed."""

from __future__ import annotations

import numpy as np
import torch

from antiphon.data.dialogue.format import Event, Word
from antiphon.evals.duplex.simulate import RecordedDialogue, Scenario, simulate

RATE, FRAME = 2000, 160  # 80 ms


def tone(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def scenario(task: str, number: int = 0) -> Scenario:
    """One of each task, all times whole frames: the user starts at 0.8 s.

    pause: speaks to 2.4 s, is silent to 3.2 s, speaks to 4.8 s. turn: to 2.4 s. interruption: to 2.4 s, and again for
    1.6 s, 0.8 s after the model began. backchannel: 3.2 s of speech, 0.8 s of silence, and so on, to 16 s.
    """
    lead, say = quiet(0.8), tone(1.6)
    if task == "pause":
        user, events = (lead, say, quiet(0.8), say), [Event("turn", 0.8, 4.8), Event("pause", 2.4, 3.2)]
    elif task == "backchannel":
        user = (lead, *[tone(3.2), quiet(0.8)] * 3, tone(3.2))
        events = [Event("turn", 0.8, 16.0, note="story")]
        events += [Event("backchannel", t, t + 0.32, "model") for t in (4.0, 8.0, 12.0)]
    else:
        user, events = (lead, say), [Event("turn", 0.8, 2.4)]
    return Scenario(
        f"{task}-{number}", task, np.concatenate(user), tuple(events), RATE, say if task == "interruption" else None,
        0.8, 4.0, texts=("What time is it?",), intents=("time",),
    )  # fmt: skip


class Actor:
    """Silent unless its `speaks` says so for a frame; says a word every 4 frames of its speech."""

    def __init__(self) -> None:
        self.frames = self.run = self.since = self.spoken = 0
        self.heard = False  # anything at all
        self.left = 0  # frames that it still wants to speak
        self.words: list[Word] = []

    def step(self, frame: torch.Tensor) -> torch.Tensor:
        loud = float(frame.abs().max()) > 0.1
        self.since = 0 if loud else self.since + 1
        self.heard |= loud
        talk = self.speaks(loud)
        self.run = self.run + 1 if talk else 0
        self.frames += 1
        if talk and self.run % 4 == 1:  # it sounds in the next frame
            self.words.append(Word("word", self.frames * 0.08, (self.frames + 1) * 0.08))
        return torch.from_numpy(tone(0.08)) if talk else torch.zeros(FRAME)

    def speaks(self, loud: bool) -> bool:
        return False


class Stage:
    """A system under test: an actor for each dialogue."""

    sample_rate, frame_samples = RATE, FRAME

    def __init__(self, actor: type[Actor]) -> None:
        self.actor, self.live, self.joined = actor, {}, 0

    def join(self, seed: int) -> int:
        self.joined += 1
        self.live[self.joined] = self.actor()
        return self.joined

    def step(self, frames: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        return {handle: self.live[handle].step(frame) for handle, frame in frames.items()}

    def leave(self, handle: int) -> list[Word]:
        return self.live.pop(handle).words


class Silent(Actor):
    """Never says anything."""


class Chatterbox(Actor):
    """Always speaks."""

    def speaks(self, loud: bool) -> bool:
        return True


class Hasty(Actor):
    """Answers as soon as the user has been silent for 4 frames, for 2.4 s, whatever the user does."""

    wait = 4

    def speaks(self, loud: bool) -> bool:
        if not self.left and self.heard and self.since == self.wait:
            self.left = 30
        self.left = max(0, self.left - 1)
        return self.left > 0


class Ideal(Hasty):
    """Waits through pauses of 0.8 s, and stops when the user has spoken for 3 frames."""

    wait = 12

    def speaks(self, loud: bool) -> bool:
        self.spoken = self.spoken + 1 if loud else 0
        if self.spoken == 3:
            self.left = 0
        return super().speaks(loud)


class Nodder(Actor):
    """Says "mhm" for 4 frames as soon as the user is silent, and nothing else."""

    def speaks(self, loud: bool) -> bool:
        if self.heard and self.since == 1:
            self.left = 5
        self.left = max(0, self.left - 1)
        return self.left > 0


def dialogues(actor: type[Actor], task: str, n: int = 1, at_once: int = 1) -> list[RecordedDialogue]:
    """What comes of the first scenarios of a task."""
    return list(simulate(Stage(actor), [scenario(task, i) for i in range(n)], at_once))
