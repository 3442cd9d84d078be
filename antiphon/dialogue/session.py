"""A live half-duplex session: microphone frames in, events out, and `step` never waits for the model.

The model works on a thread of its own. While the user speaks it encodes what has come so far; when the turn ends,
because silence lasted or because the caller says so, it answers; what the user says meanwhile is not listened to
(half-duplex). `interrupt` stops an answer.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.audio.speech import Activity, SileroActivity
from antiphon.dialogue.events import Answer, EndEvent, Event, HeardEvent, Sampling
from antiphon.dialogue.live import LiveSession, check_frame

if TYPE_CHECKING:
    from antiphon.model import Model
    from antiphon.models.asr.recognizer import Heard
    from antiphon.models.llm.thinker import ThinkerState

HEARING_RATE = 16000


@dataclass
class Endpointer:
    """Finds the end of a turn: somebody spoke, and then `silence` seconds nobody did.

    Attributes:
        silence: seconds without speech that end a turn.
        min_speech: seconds of speech without which there is no turn.
        activity: what counts as speech; its sample rate is that of the frames.
        spoken, quiet: seconds of speech in this turn, and without it since.
    """

    silence: float = 0.7
    min_speech: float = 0.16
    activity: Activity = field(default_factory=SileroActivity)
    spoken: float = 0.0
    quiet: float = 0.0

    def step(self, frame: Tensor) -> bool:
        """Takes the next frame [samples]; true when it ends the turn."""
        seconds = self.activity.hop / self.activity.sample_rate
        for speech in self.activity.step(frame.numpy()):
            if speech:
                self.spoken, self.quiet = self.spoken + seconds, 0.0
            else:
                self.quiet += seconds
        return self.spoken >= self.min_speech and self.quiet >= self.silence

    def reset(self) -> None:
        self.spoken = self.quiet = 0.0


class HalfDuplexSession(LiveSession):
    """Turns: the user speaks, then the model. A context manager.

    Args:
        model: what listens, thinks and speaks; sessions share its weights and nothing else.
        sampling: how answers are drawn.
        endpointer: finds the end of a turn; None leaves that to `end_of_turn`.
    """

    sample_rate = 24000
    frame_samples = 1920

    def __init__(self, model: Model, sampling: Sampling | None = None, endpointer: Endpointer | None = None):
        super().__init__("antiphon-session")
        self.model, self.sampling, self.endpointer = model, sampling or Sampling(), endpointer
        self._incoming: queue.SimpleQueue[Tensor | str] = queue.SimpleQueue()
        self._interrupted = threading.Event()
        self._start()

    def step(self, frame: Tensor) -> list[Event]:
        """Gives the session what the microphone heard and takes what is ready; returns at once.

        Args:
            frame: float32 [samples] at `sample_rate`, usually 80 ms (`frame_samples`) of it.

        Returns:
            Events since the last call, in order. Sound comes as fast as it is made, faster than it is to be played.

        Raises:
            SessionError: the session is closed, or the frame isn't one-dimensional.
        """
        self._check_open()
        check_frame(frame)
        self._incoming.put(frame)
        return self.poll()

    def end_of_turn(self) -> None:
        """The user has finished: answer now."""
        self._incoming.put("end")

    def interrupt(self) -> None:
        """Stops the answer that is being made; it ends with an EndEvent marked so."""
        self._interrupted.set()

    def _wake(self) -> None:
        self._interrupted.set()
        self._incoming.put("close")

    def _work(self) -> None:
        state = self.model.thinker.init_state(voice=True)
        while not self._closed.is_set():
            if (heard := self._listen()) is not None:
                self._answer(heard, state)

    def _listen(self) -> Heard | None:
        """Hears one turn; None if the session was closed."""
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
            if self.endpointer and self.endpointer.step(item):
                return self.model.ears.finish(ears)

    def _answer(self, heard: Heard, state: ThinkerState) -> None:
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
