"""Models as something that conversations can be held with, frame by frame: a room of many, whatever the model is.

room, at_once = room_of(model)                               # an EngineRoom, or Alone(factory) of one at a time
handle = room.join(seed=0)
said = room.step({handle: frame})[handle]                    # sounds during the next frame
words = room.leave(handle)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from antiphon.audio.speech import SpeechDetector
from antiphon.data.dialogue.format import Word
from antiphon.data.dialogue.monologue import monologue_words
from antiphon.dialogue.duplex.engine import DuplexEngine
from antiphon.dialogue.events import AudioEvent, EndEvent, TextEvent
from antiphon.dialogue.session import TURN_END_SECONDS
from antiphon.errors import EvalError


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
        engine: of the model.
    """

    def __init__(self, engine: DuplexEngine) -> None:
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
        self.model, self.pace = model, pace
        self.sample_rate, self.frame_samples = 24000, 1920
        self._session = None

    def close(self) -> None:
        """Ends the session; what is being made is dropped."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def start(self, seed: int) -> None:
        self.close()
        self._session = self.model.session("half-duplex", endpointer=SpeechDetector(silence=TURN_END_SECONDS))
        self._sound, self._text = torch.zeros(0), ""
        self._played, self._clock, self._frames = 0.0, time.perf_counter(), 0

    def step(self, frame: Tensor) -> tuple[Tensor, str]:
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


def room_of(model: Any, batch: int = 8) -> tuple[Room, int]:
    """A model as something that conversations can be held with, and how many at once.

    Args:
        model: a full-duplex model (`models.moshi.bundle.Duplex`, or what holds one as `duplex`), anything with a
            half-duplex `session`, or a `Room`.
        batch: conversations at once, where that is possible.

    Raises:
        EvalError: it is none of these.
    """
    if hasattr(model, "join") and hasattr(model, "leave"):
        return model, batch
    if (duplex := duplex_of(model)) is not None:
        sampling = getattr(model, "sampling", None)
        return EngineRoom(DuplexEngine(duplex, sampling, capacity=batch)), batch
    if hasattr(model, "session"):
        return Alone(lambda: HalfDuplexConversant(model)), 1
    raise EvalError(f"A {type(model).__name__} has no session that could be driven.")


def duplex_of(model: Any) -> Any:
    """A full-duplex model's weights, the `antiphon.models.moshi.bundle.Duplex`; None of any other model."""
    return model if hasattr(model, "moshi") else getattr(model, "duplex", None)
