"""A live full-duplex session: microphone frames in, events out, and `step` never waits for the model.

    with model.session("full-duplex") as session:
        for frame in microphone:                          # 80 ms
            for event in session.step(frame): ...         # AudioEvent (80 ms to play), TextEvent, SpeakingEvent, ...

The session is a slot of a `BatchedEngine`, which works on a thread of its own, frame by frame. When it falls behind it
leaves out the oldest of what waits and says so (`LostEvent`); when a frame doesn't come in time it goes on without.
Times in events are seconds on the clock of the frames that were given; what is heard in frame t is answered from frame
t + 1 on.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.duplex.batched import BatchedEngine
from antiphon.dialogue.duplex.stream import MODES, DuplexStream, Snapshot
from antiphon.dialogue.events import AudioEvent, Event
from antiphon.dialogue.session import Session
from antiphon.dialogue.transcriber import Transcriber

if TYPE_CHECKING:
    from antiphon.models.asr.recognizer import Recognizer


class DuplexSession(Session):
    """One live conversation with a duplex model. A context manager.

    Args:
        stream: the conversation; from now on nobody else may step it.
        recognizer: writes down what the user says, as `HeardEvent`s at the end of each turn, on another thread.
        sample_rate: of the caller's sound, Hz; None is the model's own.
        max_waiting: frames that may wait. When there are more, all but the last one are left out, as one lost frame.
            None leaves out nothing: for recordings that are given faster than they sound.
        patience: see `BatchedEngine.join`.
    """

    def __init__(
        self,
        stream: DuplexStream,
        recognizer: Recognizer | None = None,
        sample_rate: int | None = None,
        max_waiting: int | None = 12,
        patience: float | None = None,
    ):
        super().__init__(stream.mode, stream.direction, MODES)
        self.sample_rate = sample_rate or stream.sample_rate
        self.frame_samples = round(self.sample_rate * stream.frame_seconds)
        self._stream_frame = stream.frame_samples
        self._inward = _Resampler(self.sample_rate, stream.sample_rate)
        self._outward = _Resampler(stream.sample_rate, self.sample_rate)
        self._rest = torch.zeros(0)
        self._transcriber = None
        if recognizer is not None:
            self._transcriber = _TranscriberThread(Transcriber(recognizer, stream.sample_rate), self._events)
        self._engine = BatchedEngine(stream.engine.duplex, max_waiting=max_waiting, engine=stream.engine)
        self._slot = self._engine.join(self._give, stream=stream, patience=patience)

    def step(self, frame: Tensor | None) -> list[Event]:
        """Gives the session what the microphone heard and takes what is ready; returns at once.

        Args:
            frame: float32 [samples] at `sample_rate`, usually 80 ms (`frame_samples`) of it; None for 80 ms that were
                lost on their way.

        Returns:
            Events since the last call, in order: an AudioEvent for each 80 ms, also when the model is silent.

        Raises:
            SessionError: the session is closed, or the frame isn't one-dimensional.
        """
        if frame is not None:
            return super().step(frame)
        self._check_open()
        self._push(None)
        return self.poll()

    @property
    def waiting(self) -> int:
        """Frames that the model hasn't come to yet."""
        return self._slot.waiting

    def say(self, text: str) -> None:
        """Has the model say a text, see `DuplexEngine.say`."""
        self._slot.command(lambda stream: stream.say(text))

    def end_of_turn(self) -> None:
        """Half-duplex: the user has finished; answer now."""
        self._slot.command(DuplexStream.end_of_turn)

    def interrupt(self, heard: float | None = None) -> None:
        """Half-duplex: the answer ends, and it is the user's turn. It is made as it is played, so `heard` tells
        nothing new."""
        self._slot.command(DuplexStream.interrupt)

    def snapshot(self) -> Snapshot:
        """See `Slot.snapshot`."""
        return self._slot.snapshot()

    def rewind(self, snapshot: Snapshot) -> None:
        """See `Slot.rewind`."""
        self._slot.rewind(snapshot)

    def _take(self, frame: Tensor) -> None:
        size = self._stream_frame
        whole = torch.cat([self._rest, self._inward.step(frame.detach().float().cpu())])
        *frames, self._rest = whole.split([size] * (len(whole) // size) + [len(whole) % size])
        for each in frames:
            self._push(each)

    def _push(self, frame: Tensor | None) -> None:
        self._slot.push(frame)
        if self._transcriber is not None:
            self._transcriber.put(torch.zeros(self._stream_frame) if frame is None else frame)

    def _give(self, events: list[Event] | BaseException) -> None:
        """Takes what the engine made, on its thread."""
        for event in [events] if isinstance(events, BaseException) else events:
            if isinstance(event, AudioEvent):
                samples = self._outward.step(event.audio.samples)
                if not len(samples):
                    continue
                event = AudioEvent(Audio(samples, self.sample_rate))
            self._events.put(event)

    def _end(self) -> None:
        self._slot.leave()
        self._engine.close()
        if self._transcriber is not None:
            self._transcriber.close()


class _Resampler:
    """A stream from one sample rate to another."""

    def __init__(self, source: int, target: int):
        self.stream = None if source == target else soxr.ResampleStream(source, target, 1, dtype="float32")

    def step(self, samples: Tensor) -> Tensor:
        if self.stream is None:
            return samples
        return torch.from_numpy(self.stream.resample_chunk(np.ascontiguousarray(samples.numpy())))


class _TranscriberThread:
    """A `Transcriber` on a thread of its own: recognising takes longer than a frame."""

    def __init__(self, transcriber: Transcriber, events: queue.SimpleQueue):
        self._transcriber, self._events = transcriber, events
        self._frames: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="antiphon-transcriber", daemon=True).start()

    def put(self, frame: Tensor) -> None:
        self._frames.put(frame)

    def close(self) -> None:
        self._closed.set()
        self._frames.put(None)

    def _run(self) -> None:
        try:
            while (frame := self._frames.get()) is not None and not self._closed.is_set():
                if (heard := self._transcriber.step(frame)) is not None:
                    self._events.put(heard)
        except BaseException as error:
            self._events.put(error)
