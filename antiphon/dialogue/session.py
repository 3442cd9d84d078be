"""A live half-duplex session: microphone frames in, events out, and `step` never waits for the model.

The model works on a thread of its own. While the user speaks it encodes what has come so far; when the turn ends,
because silence lasted or because the caller says so, it answers; what the user says meanwhile is not listened to
(half-duplex). `interrupt` stops an answer.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.dialogue.turn import Answer, EndEvent, Event, HeardEvent, Sampling
from antiphon.errors import AntiphonError

if TYPE_CHECKING:
    from antiphon.model import Model

HEARING_RATE = 16000


class SessionError(AntiphonError):
    """A session that was closed, or a mode or a frame that it can't take."""


@dataclass
class Endpointer:
    """Finds the end of a turn by loudness: speech was there, and then `silence` seconds without.

    Attributes:
        silence: seconds of quiet that end a turn.
        margin: decibels above the quietest frames at which a frame counts as speech.
        threshold: decibels of full scale below which nothing counts as speech.
        least: seconds of speech without which there is no turn.
    """

    silence: float = 0.7
    margin: float = 10.0
    threshold: float = -48.0
    least: float = 0.16
    floor: float = -60.0
    spoken: float = 0.0
    quiet: float = 0.0

    def step(self, frame: Tensor, seconds: float) -> bool:
        """Takes the next frame [samples]; true when it ends the turn."""
        level = 10 * float(torch.log10(frame.square().mean() + 1e-10))
        # The floor follows quieter frames at once and louder ones slowly, so that a steady noise becomes quiet.
        self.floor = (
            min(level, self.floor + 3.0 * seconds)
            if level < self.floor
            else self.floor + min(level - self.floor, 3.0 * seconds)
        )
        if level > max(self.threshold, self.floor + self.margin):
            self.spoken, self.quiet = self.spoken + seconds, 0.0
        else:
            self.quiet += seconds
        return self.spoken >= self.least and self.quiet >= self.silence

    def reset(self) -> None:
        self.spoken = self.quiet = 0.0


class HalfDuplexSession:
    """Turns: the user speaks, then the model. A context manager.

    Args:
        model: what listens, thinks and speaks; sessions share its weights and nothing else.
        sampling: how answers are drawn.
        endpointer: finds the end of a turn; None leaves that to `end_of_turn`.
    """

    sample_rate = 24000
    frame_samples = 1920

    def __init__(self, model: Model, sampling: Sampling | None = None, endpointer: Endpointer | None = None):
        self.model, self.sampling, self.endpointer = model, sampling or Sampling(), endpointer
        self._incoming: queue.SimpleQueue[Tensor | str] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._interrupted, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="antiphon-session", daemon=True)
        self._thread.start()

    def __enter__(self) -> HalfDuplexSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, frame: Tensor) -> list[Event]:
        """Gives the session what the microphone heard and takes what is ready; returns at once.

        Args:
            frame: float32 [samples] at `sample_rate`, usually 80 ms (`frame_samples`) of it.

        Returns:
            Events since the last call, in order. Sound comes as fast as it is made, faster than it is to be played.

        Raises:
            SessionError: the session is closed, or the frame isn't one-dimensional.
        """
        if self._closed.is_set():
            raise SessionError("the session is closed; open a new one with model.session()")
        if frame.ndim != 1:
            raise SessionError(f"a frame is [samples], got {list(frame.shape)}; mix channels down first")
        self._incoming.put(frame)
        return self.poll()

    def poll(self) -> list[Event]:
        """What is ready, without giving anything."""
        events = []
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, BaseException):
                self.close()
                raise event
            events.append(event)
        return events

    def end_of_turn(self) -> None:
        """The user has finished: answer now."""
        self._incoming.put("end")

    def interrupt(self) -> None:
        """Stops the answer that is being made; it ends with an EndEvent marked so."""
        self._interrupted.set()

    def close(self) -> None:
        """Ends the session; what is being made is dropped."""
        if not self._closed.is_set():
            self._closed.set()
            self._interrupted.set()
            self._incoming.put("close")
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            state = self.model.thinker.init_state(voice=True)
            while not self._closed.is_set():
                if (heard := self._listen()) is not None:
                    self._answer(heard, state)
        except BaseException as error:  # handed to the caller: a thread must not die in silence
            self._events.put(error)

    def _listen(self):
        """Hears one turn; None if the session was closed or nothing was said."""
        ears, resampler = (
            self.model.ears.init_state(),
            soxr.ResampleStream(self.sample_rate, HEARING_RATE, 1, dtype="float32"),
        )
        if self.endpointer:
            self.endpointer.reset()
        while True:
            item = self._incoming.get()
            if isinstance(item, str):
                if item == "close":
                    return None
                self.model.ears.step(_resampled(resampler, np.zeros(0, np.float32), last=True), ears)
                return self.model.ears.finish(ears)
            self.model.ears.step(_resampled(resampler, item.numpy()), ears)
            if self.endpointer and self.endpointer.step(item, len(item) / self.sample_rate):
                return self.model.ears.finish(ears)

    def _answer(self, heard, state) -> None:
        self._interrupted.clear()  # before the first event: who has seen one may interrupt
        self._events.put(HeardEvent(heard.text))
        if not heard.text.strip():
            self._events.put(EndEvent(""))
            return
        self.model.thinker.add_user(state, heard.embeddings)
        answer = Answer(self.model.thinker, state, self.model.voice, self.sampling)
        for event in answer.events():
            if self._interrupted.is_set() or self._closed.is_set():
                self._events.put(EndEvent(answer.text, interrupted=True))
                break
            self._events.put(event)
        while not self._incoming.empty():  # half-duplex: what was said meanwhile is gone
            if self._incoming.get() == "close":
                return


def _resampled(stream: soxr.ResampleStream, samples: np.ndarray, last: bool = False) -> Tensor:
    return torch.from_numpy(stream.resample_chunk(samples, last=last))
