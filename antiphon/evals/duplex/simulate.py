"""Conversations on a simulated clock: a user who was recorded beforehand, and a model that hears and answers now.

    room, at_once = room_of(model)                               # antiphon.evals.duplex.systems
    for take in play(room, scenes, at_once):                      # both channels, what happened, the model's words
        outcome = judge(take)

The clock counts frames. While the user's frame i is heard, nothing of it can be answered yet; what `step` returns for
it sounds during frame i + 1. So a latency measured here is what a listener would measure in real time, if each step
takes no longer than a frame. An interrupting user listens, too: they start a given time after the model began to speak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.data.dialogue.format import USER, Event, Word
from antiphon.errors import EvalError
from antiphon.evals.duplex.metrics import Case, Outcome, Segment, Vad, cases, measure, speech
from antiphon.evals.duplex.systems import Room

LOUD = -45.0  # dB of full scale: above it a listener hears the model in a frame
BEGUN = 2  # frames in a row after which it has begun
HUSHED = 1.6  # seconds of silence after which an answer is over


@dataclass(frozen=True)
class Scene:
    """The user's side of a conversation.

    Attributes:
        id: its name.
        task: "pause", "turn", "interruption" or "backchannel", see `duplex_measures`.
        user: float32 [samples], the user's channel from the start to the end of what they say first.
        events: what happens in it; backchannels of the model are places where one would be fitting.
        sample_rate: Hz.
        second: what the user interrupts with, float32 [samples].
        delay: seconds after the start of the model's speech at which the interruption starts.
        patience: seconds after the end of the first request at which it starts if the model never spoke.
        after: least and most seconds of silence at the end; it ends when the model has answered and is silent again.
        texts: what the user asks for, in words.
        intents: and what kind of thing that is.
        voice: whose.
    """

    id: str
    task: str
    user: NDArray[np.float32]
    events: tuple[Event, ...]
    sample_rate: int = 24000
    second: NDArray[np.float32] | None = None
    delay: float = 1.0
    patience: float = 4.0
    after: tuple[float, float] = (5.0, 10.0)
    texts: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    voice: str = ""


@dataclass
class Take:
    """A conversation that was held.

    Attributes:
        scene: the user's part as planned.
        user, model: float32 [samples], as many in both.
        events: what the user did, at the times at which they did it.
        words: of the model.
    """

    scene: Scene
    user: NDArray[np.float32]
    model: NDArray[np.float32]
    events: list[Event]
    words: list[Word]

    @property
    def seconds(self) -> float:
        return len(self.user) / self.scene.sample_rate

    @property
    def case(self) -> Case:
        """What is measured: the last thing that the user does."""
        case = cases(self.events, self.seconds)[-1]
        return Case(self.scene.task, case.start, case.end, case.until, case.places)

    def speech(self, vad: Vad = Vad()) -> list[Segment]:
        """The model's stretches of speech."""
        return speech(self.model, self.scene.sample_rate, vad)


def judge(take: Take, vad: Vad = Vad()) -> Outcome:
    """What the model did, measured."""
    return measure(take.case, take.speech(vad), take.words)


@dataclass
class _User:
    """The user of one scene, who speaks and listens by frames."""

    scene: Scene
    size: int
    heard: list[NDArray[np.float32]] = field(default_factory=list)
    said: list[NDArray[np.float32]] = field(default_factory=list)
    plan: NDArray[np.float32] = field(init=False)
    events: list[Event] = field(init=False)
    loud: int = 0  # frames in a row in which the model was heard
    quiet: int = 0
    began: float | None = None  # when the model began to speak, after the user's last words
    cut_in: bool = False

    def __post_init__(self) -> None:
        self.plan, self.events = self.scene.user, list(self.scene.events)
        self.seconds = self.size / self.scene.sample_rate

    def frame(self) -> Tensor | None:
        """What they say next; None when the conversation is over."""
        i = len(self.said)
        if self._over(i):
            return None
        if self.scene.second is not None and not self.cut_in and self._may_cut_in(i):
            start = i * self.seconds
            self.plan = np.concatenate((np.pad(self.plan, (0, max(0, i * self.size - len(self.plan))))[: i * self.size],
                                        self.scene.second))  # fmt: skip
            end = start + len(self.scene.second) / self.scene.sample_rate
            self.events += [Event("interruption", start, end, USER), Event("turn", start, end, USER)]
            self.cut_in, self.began = True, None
        piece = self.plan[i * self.size : (i + 1) * self.size]
        piece = np.pad(piece, (0, self.size - len(piece)))
        self.said.append(piece)
        return torch.from_numpy(piece)

    def hear(self, sound: Tensor) -> None:
        """What the model says during the next frame."""
        samples = sound.detach().float().cpu().numpy()
        self.heard.append(samples)
        level = 10 * np.log10(float(np.mean(np.square(samples, dtype=np.float64))) + 1e-12)
        self.loud, self.quiet = (self.loud + 1, 0) if level > LOUD else (0, self.quiet + 1)
        now, end = len(self.heard) * self.seconds, len(self.plan) / self.scene.sample_rate
        if self.began is None and self.loud >= BEGUN and now >= end:
            # Who spoke before the user was done counts from then on.
            self.began = max(now - (self.loud - 1) * self.seconds, end)

    def _may_cut_in(self, frame: int) -> bool:
        end = len(self.plan) / self.scene.sample_rate
        start = end + self.scene.patience if self.began is None else self.began + self.scene.delay
        return frame * self.seconds >= start - 1e-6

    def _over(self, frame: int) -> bool:
        if self.scene.second is not None and not self.cut_in:
            return False
        silent = frame * self.seconds - len(self.plan) / self.scene.sample_rate
        least, most = self.scene.after
        return silent >= most or (silent >= least and self.began is not None and self.quiet * self.seconds >= HUSHED)

    def take(self, words: list[Word]) -> Take:
        """Both channels: what the model says for frame i sounds in frame i + 1."""
        silence = np.zeros(self.size, np.float32)
        model = np.concatenate([silence, *self.heard[:-1]]) if self.heard else silence[:0]
        user = np.concatenate(self.said) if self.said else silence[:0]
        return Take(self.scene, user.astype(np.float32), model.astype(np.float32), self.events, words)


def play(
    room: Room, scenes: Iterable[Scene], at_once: int = 8, seed: int = 0, progress: Callable[[], None] | None = None
) -> Iterator[Take]:
    """Holds the conversations; as one ends, the next joins.

    Args:
        room: the model.
        scenes: their sample rate must be the room's.
        at_once: conversations in a batch.
        seed: of scene i it is `seed + i`.
        progress: called whenever one is done.

    Yields:
        Takes, in the order in which they end.

    Raises:
        EvalError: a scene of another sample rate.
    """
    waiting = enumerate(scenes)
    live: dict[int, _User] = {}
    while True:
        while len(live) < at_once and (item := next(waiting, None)) is not None:
            number, scene = item
            if scene.sample_rate != room.sample_rate:
                raise EvalError(
                    f"Scene {scene.id} has {scene.sample_rate} Hz, the model {room.sample_rate}: resample the scene."
                )
            live[room.join(seed + number)] = _User(scene, room.frame_samples)
        if not live:
            return
        frames = {}
        for handle, user in list(live.items()):
            if (frame := user.frame()) is None:
                del live[handle]
                yield user.take(room.leave(handle))
                if progress:
                    progress()
            else:
                frames[handle] = frame
        if frames:
            for handle, sound in room.step(frames).items():
                live[handle].hear(sound)
