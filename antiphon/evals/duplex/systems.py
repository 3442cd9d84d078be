"""The system under test: adapters that give models of every kind one interface, many dialogues frame by frame.

system, at_once = system_under_test(model)                   # mini-duplex: many in a batch; one that takes turns: one
handle = system.join(seed=0)
said = system.step({handle: frame})[handle]                  # sounds during the next frame
words = system.leave(handle)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from antiphon.data.dialogue.format import Word
from antiphon.data.dialogue.monologue import monologue_words
from antiphon.dialogue.duplex.engine import DuplexEngine
from antiphon.dialogue.events import AudioEvent, EndEvent, Sampling, TextEvent
from antiphon.dialogue.turn_ends import endpointer
from antiphon.dialogue.turn_taking.decision import TakesTurns
from antiphon.errors import EvalError


class System(Protocol):
    """A system under test: many dialogues at once."""

    sample_rate: int
    frame_samples: int

    def join(self, seed: int) -> int:
        """A new dialogue; its handle."""

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """What each dialogue's model says in the next frame, [frame_samples], after hearing these."""

    def leave(self, handle: int) -> list[Word]:
        """Ends a dialogue; the words that the model said in it, with times on the clock of what it heard."""


class EngineAdapter:
    """A full-duplex model as a system: its dialogues in one batch.

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


class HalfDuplexAdapter:
    """A half-duplex session as a system of one dialogue, in real time: a step waits until its frame would have been
    recorded.

    Its sound is queued, as a loudspeaker would; its words are given out at a steady pace while it sounds, since a
    half-duplex session does not tell when each is said.

    Args:
        model: has `session("half-duplex")`.
        pace: seconds a word.
    """

    sample_rate, frame_samples = 24000, 1920

    def __init__(self, model: Any, pace: float = 0.32) -> None:
        self.model, self.pace = model, pace

    def join(self, seed: int) -> int:
        self._session = self.model.session("half-duplex", endpointer=endpointer(self.sample_rate))
        self._sound, self._text, self._words = torch.zeros(0), "", []
        self._played, self._began, self._frames = 0.0, time.perf_counter(), 0
        return 0

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        self._frames += 1
        seconds = self.frame_samples / self.sample_rate
        time.sleep(max(0.0, self._began + self._frames * seconds - time.perf_counter()))
        for event in self._session.step(frames[0]):
            if isinstance(event, AudioEvent):
                self._sound = torch.cat((self._sound, event.audio.resample(self.sample_rate).samples))
            elif isinstance(event, TextEvent):
                self._text += event.text
            elif isinstance(event, EndEvent):
                self._text += " "
                if event.interrupted:  # what wasn't played yet never is
                    self._sound, self._text = torch.zeros(0), ""
        said, self._sound = self._sound[: self.frame_samples], self._sound[self.frame_samples :]
        if len(said):
            self._played += seconds
            word, whole, rest = self._text.lstrip().partition(" ")
            if self._played >= self.pace and whole:
                # What is said to a frame sounds in the next.
                self._words.append(Word(word, self._frames * seconds, (self._frames + 1) * seconds))
                self._played, self._text = 0.0, rest
        return {0: torch.nn.functional.pad(said, (0, self.frame_samples - len(said)))}

    def leave(self, handle: int) -> list[Word]:
        """Ends the session; what is being made is dropped."""
        self._session.close()
        return self._words


class FullDuplexAdapter:
    """A model that takes turns, in full duplex, as a system of one dialogue on a simulated clock.

    A frame is heard, then answers are made for 80 ms of computing time: as on a machine that has a core for them and
    nothing else to do, however busy this one is. What takes longer comes late, in the frames after.

    Args:
        model: has `session("full-duplex")`.
        turns: makes what decides, for each dialogue; None for the session's own.
        live: answers are made on a thread, in real time: a step waits until its frame would have been recorded.

    Attributes:
        broken_off: seconds at which answers of the dialogue ended that were not over.
    """

    sample_rate, frame_samples = 24000, 1920

    def __init__(self, model: Any, turns: Callable[[], TakesTurns] | None = None, live: bool = False) -> None:
        self.model, self.turns, self.live = model, turns, live

    def join(self, seed: int) -> int:
        turns = self.turns() if self.turns is not None else None
        sampling = Sampling(seed)
        self._session = self.model.session("full-duplex", sampling, turns=turns, pace=None if self.live else 1.0)
        self._words: list[Word] = []
        self.broken_off: list[float] = []
        self._frames, self._began = 0, time.perf_counter()
        return 0

    def step(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor]:
        self._frames += 1
        seconds = self.frame_samples / self.sample_rate
        if self.live:
            time.sleep(max(0.0, self._began + self._frames * seconds - time.perf_counter()))
        said = torch.zeros(self.frame_samples)
        for event in self._session.step(frames[0]):
            if isinstance(event, AudioEvent):
                said = event.audio.samples
            elif isinstance(event, TextEvent):
                # What is said to a frame sounds in the next.
                at = self._frames * seconds
                self._words += [Word(word, at, at + seconds) for word in event.text.split()]
            elif isinstance(event, EndEvent) and event.interrupted:
                self.broken_off.append(self._frames * seconds)
        return {0: said}

    def leave(self, handle: int) -> list[Word]:
        """Ends the session; what is being made is dropped."""
        self._session.close()
        return self._words


def system_under_test(model: Any, batch: int = 8, mode: str = "half-duplex") -> tuple[System, int]:
    """A model behind the adapter that it needs, and how many dialogues it holds at once.

    Args:
        model: a full-duplex model (`models.moshi.bundle.Duplex`, or what holds one as `duplex`), anything with a
            half-duplex `session`, or a `System`.
        batch: dialogues at once, where that is possible.
        mode: of a model that takes turns: "full-duplex" on a simulated clock, "full-duplex-live", or "half-duplex".

    Raises:
        EvalError: it is none of these, or has no such mode.
    """
    if hasattr(model, "join") and hasattr(model, "leave"):
        return model, batch
    if (duplex := duplex_of(model)) is not None:
        sampling = getattr(model, "sampling", None)
        return EngineAdapter(DuplexEngine(duplex, sampling, capacity=batch)), batch
    if hasattr(model, "session"):
        if mode in ("full-duplex", "full-duplex-live") and hasattr(model, "backend"):
            return FullDuplexAdapter(model, live=mode == "full-duplex-live"), 1
        return HalfDuplexAdapter(model), 1
    raise EvalError(f"A {type(model).__name__} has no session that could be driven.")


def duplex_of(model: Any) -> Any:
    """A full-duplex model's weights, the `antiphon.models.moshi.bundle.Duplex`; None of any other model."""
    return model if hasattr(model, "moshi") else getattr(model, "duplex", None)
