"""Conversations on a simulated clock: a user who was recorded beforehand, and a model that hears and answers now.

    room = EngineRoom(DuplexEngine(duplex))                      # or Alone(factory) of anything with start and step
    for take in play(room, scenes, at_once=8):                   # both channels, what happened, the model's words
        outcome = judge(take)

The clock counts frames. While the user's frame i is heard, nothing of it can be answered yet; what `step` returns for
it sounds during frame i + 1. So a latency measured here is what a listener would measure in real time, if each step
takes no longer than a frame. An interrupting user listens, too: they start a given time after the model began to speak.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.data.conversations import USER, Event, Word
from antiphon.data.monologue import monologue_words
from antiphon.evals.duplex_measures import Case, Outcome, Segment, Vad, cases, measure, speech

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


class Conversant(Protocol):
    """One conversation at a time, frame by frame. One that has a `close` is told when it is over."""

    sample_rate: int
    frame_samples: int

    def start(self, seed: int) -> None:
        """A new conversation."""

    def step(self, frame: Tensor) -> tuple[Tensor, str]:
        """Hears a frame [frame_samples]; what it says in the next one, and the letters that begin with it."""


class Room(Protocol):
    """Many conversations at once, of one model."""

    sample_rate: int
    frame_samples: int

    def join(self, seed: int) -> int:
        """A new conversation; its handle."""

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """What each conversation says in the next frame, [frame_samples], after hearing these."""

    def leave(self, handle: int) -> list[Word]:
        """Ends a conversation; the words that the model said in it, with times on the clock of what it heard."""


class EngineRoom:
    """A full-duplex model's conversations in one batch.

    Args:
        engine: an `antiphon.dialogue.duplex.DuplexEngine`.
    """

    def __init__(self, engine) -> None:
        self.engine = engine
        self.sample_rate, self.frame_samples = engine.sample_rate, engine.frame_samples
        self._tokens: dict[int, list[int]] = {}

    def join(self, seed: int) -> int:
        handle = self.engine.join(seed=seed)
        self._tokens[handle] = [-1]  # what is decided in a frame sounds in the next
        return handle

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        made = self.engine.step(frames)
        for handle, frame in made.items():
            self._tokens[handle].append(frame.token)
        return {handle: frame.audio for handle, frame in made.items()}

    def leave(self, handle: int) -> list[Word]:
        self.engine.leave(handle)
        duplex = self.engine.duplex
        config = duplex.moshi.config
        row = self._tokens.pop(handle)
        return monologue_words(row, duplex.frame_rate, duplex.pieces, config.pad, config.end_pad)


class Alone:
    """Makes a room of a conversant that knows one conversation at a time: each gets a conversant of its own.

    Args:
        make: a fresh conversant.
    """

    def __init__(self, make: Callable[[], Conversant]) -> None:
        self._make = make
        self._free = [make()]
        self.sample_rate, self.frame_samples = self._free[0].sample_rate, self._free[0].frame_samples
        self._live: dict[int, tuple[Conversant, list[str]]] = {}
        self._next = 0

    def join(self, seed: int) -> int:
        conversant = self._free.pop() if self._free else self._make()
        conversant.start(seed)
        self._next += 1
        self._live[self._next] = (conversant, [""])
        return self._next

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        said = {}
        for handle, frame in frames.items():
            conversant, letters = self._live[handle]
            said[handle], text = conversant.step(frame)
            letters.append(text)
        return said

    def leave(self, handle: int) -> list[Word]:
        conversant, letters = self._live.pop(handle)
        if close := getattr(conversant, "close", None):
            close()
        self._free.append(conversant)
        return letter_words(letters, self.frame_samples / self.sample_rate)


def letter_words(letters: Iterable[str], seconds: float) -> list[Word]:
    """Words from the letters that came in each frame: a space begins a new one.

    Args:
        letters: of frame 0, 1, ...
        seconds: of a frame.
    """
    words: list[Word] = []
    fresh = True
    for frame, text in enumerate(letters):
        for character in text:
            if character.isspace():
                fresh = True
            elif fresh:
                words.append(Word(character, frame * seconds, (frame + 1) * seconds))
                fresh = False
            else:
                words[-1] = Word(words[-1].text + character, words[-1].start, (frame + 1) * seconds)
    return words


class HalfDuplexConversant:
    """A half-duplex session as a conversant, in real time: a step waits until its frame would have been recorded.

    Its sound is queued, as a loudspeaker would; its words are given out at a steady pace while it sounds, since a
    half-duplex session does not tell when each is said.

    Args:
        model: has `session("half-duplex")`.
        pace: seconds a word.
    """

    def __init__(self, model, pace: float = 0.32) -> None:
        from antiphon.dialogue.session import HalfDuplexSession

        self.model, self.pace = model, pace
        self.sample_rate, self.frame_samples = HalfDuplexSession.sample_rate, HalfDuplexSession.frame_samples
        self._session = None

    def close(self) -> None:
        """Ends the session; what is being made is dropped."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def start(self, seed: int) -> None:
        from antiphon.dialogue.session import Endpointer

        self.close()
        self._session = self.model.session("half-duplex", endpointer=Endpointer())
        self._sound, self._text = torch.zeros(0), ""
        self._played, self._clock, self._frames = 0.0, time.perf_counter(), 0

    def step(self, frame: Tensor) -> tuple[Tensor, str]:
        from antiphon.dialogue.turn import AudioEvent, EndEvent, TextEvent

        self._frames += 1
        seconds = self.frame_samples / self.sample_rate
        time.sleep(max(0.0, self._clock + self._frames * seconds - time.perf_counter()))
        for event in self._session.step(frame):
            if isinstance(event, AudioEvent):
                self._sound = torch.cat((self._sound, event.audio.resample(self.sample_rate).samples))
            elif isinstance(event, TextEvent):
                self._text += event.text
            elif isinstance(event, EndEvent):
                self._text += " "
        said, self._sound = self._sound[: self.frame_samples], self._sound[self.frame_samples :]
        text = ""
        if len(said):
            self._played += seconds
            word, whole, rest = self._text.lstrip().partition(" ")
            if self._played >= self.pace and whole:
                self._played, text, self._text = 0.0, f" {word}", rest
        return torch.nn.functional.pad(said, (0, self.frame_samples - len(said))), text


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
        ValueError: a scene of another sample rate.
    """
    waiting = enumerate(scenes)
    live: dict[int, _User] = {}
    while True:
        while len(live) < at_once and (item := next(waiting, None)) is not None:
            number, scene = item
            if scene.sample_rate != room.sample_rate:
                raise ValueError(f"Scene {scene.id} has {scene.sample_rate} Hz, the model {room.sample_rate}.")
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
