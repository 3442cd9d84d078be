"""A live full-duplex session: microphone frames in, events out, and `step` never waits for the model.

    with model.session("full-duplex") as session:
        for frame in microphone:                          # 80 ms
            for event in session.step(frame): ...         # AudioEvent (80 ms to play), TextEvent, SpeakingEvent, ...

The model works on a thread of its own, frame by frame. When it falls behind it leaves out the oldest of what waits and
says so (`LostEvent`); when a frame doesn't come in time it goes on without. Times in events are seconds on the clock of
the frames that were given; what is heard in frame t is answered from frame t + 1 on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.duplex.stream import DuplexStream, Snapshot
from antiphon.dialogue.events import AudioEvent, Event, LostEvent
from antiphon.dialogue.live import LiveSession, check_frame
from antiphon.dialogue.transcriber import Scribe

if TYPE_CHECKING:
    from antiphon.models.asr.recognizer import Recognizer


class DuplexSession(LiveSession):
    """One live conversation with a duplex model. A context manager.

    Args:
        stream: the conversation; from now on nobody else may step it.
        ears: write down what the user says, as `HeardEvent`s at the end of each turn, on another thread.
        sample_rate: of the caller's sound, Hz; None is the model's own.
        most_waiting: frames that may wait. When there are more, all but the last one are left out, as one lost frame.
            None leaves out nothing: for recordings that are given faster than they sound.
        patience: seconds after which a frame that doesn't come counts as lost, and is passed over when it comes; None
            waits for it.
    """

    def __init__(
        self,
        stream: DuplexStream,
        ears: Recognizer | None = None,
        sample_rate: int | None = None,
        most_waiting: int | None = 12,
        patience: float | None = None,
    ):
        super().__init__("antiphon-duplex")
        self._stream, self.mode, self.direction = stream, stream.mode, stream.direction
        self.sample_rate = sample_rate or stream.sample_rate
        self.frame_samples = round(self.sample_rate * stream.frame_seconds)
        self._most_waiting, self._patience = most_waiting, patience
        self._owed = 0  # frames that the model went on without
        self._inward = _Resampler(self.sample_rate, stream.sample_rate)
        self._outward = _Resampler(stream.sample_rate, self.sample_rate)
        self._rest = torch.zeros(0)
        self._incoming: queue.SimpleQueue[Tensor | None | Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # held by whoever steps the stream, or looks at it
        self._scribe = _ScribeThread(Scribe(ears, stream.sample_rate), self._events) if ears is not None else None
        self._start()

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
        self._check_open()
        if frame is None:
            self._incoming.put(None)
            return self.poll()
        check_frame(frame)
        size = self._stream.frame_samples
        whole = torch.cat([self._rest, self._inward.step(frame.detach().float().cpu())])
        *frames, self._rest = whole.split([size] * (len(whole) // size) + [len(whole) % size])
        for each in frames:
            self._incoming.put(each)
        return self.poll()

    @property
    def waiting(self) -> int:
        """Frames that the model hasn't come to yet."""
        return self._incoming.qsize()

    def say(self, text: str) -> None:
        """Has the model say a text, see `DuplexEngine.say`."""
        self._incoming.put(lambda: self._stream.say(text))

    def end_of_turn(self) -> None:
        """Half-duplex: the user has finished; answer now."""
        self._incoming.put(self._stream.end_of_turn)

    def interrupt(self) -> None:
        """Half-duplex: the answer ends, and it is the user's turn."""
        self._incoming.put(self._stream.interrupt)

    def snapshot(self) -> Snapshot:
        """The conversation as it is now, a value; waits for the frame under way (frames that wait are not in it)."""
        with self._lock:
            return self._stream.snapshot()

    def rewind(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot, this session's or another's of the same mode. Frames that wait are heard then."""
        with self._lock:
            self._stream.rewind(snapshot)

    def _wake(self) -> None:
        self._incoming.put(lambda: None)
        if self._scribe is not None:
            self._scribe.close()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._next()

    def _next(self) -> None:
        """Waits for a frame or a command, and does what is to be done."""
        try:
            item = self._incoming.get(timeout=self._patience)
        except queue.Empty:  # it's late: the model goes on, and passes over it when it comes
            self._owed += 1
            self._hear(None, late=True)
            return
        if callable(item):
            with self._lock:
                item()
            return
        if self._owed and not self._closed.is_set():
            self._owed -= 1
            return
        if self._most_waiting is not None and self._incoming.qsize() > self._most_waiting:
            self._catch_up(item)
        elif not self._closed.is_set():
            self._hear(item)

    def _catch_up(self, oldest: Tensor | None) -> None:
        """Hears all that waits but the newest frame as one lost frame, and then that."""
        frames = [oldest]
        while not self._incoming.empty():
            item = self._incoming.get()
            if callable(item):
                with self._lock:
                    item()
            else:
                frames.append(item)
        if len(frames) > 1 and not self._closed.is_set():
            with self._lock:
                self._events.put(LostEvent(len(frames) - 1, self._stream.time, "behind"))
                self._stream.skip(len(frames) - 2)  # the lost frame is the last of them
                self._make(None)
            for frame in frames[:-1]:
                self._write_down(frame)
        self._hear(frames[-1])

    def _hear(self, frame: Tensor | None, late: bool = False) -> None:
        with self._lock:
            if late:
                self._events.put(LostEvent(1, self._stream.time, "late"))
            self._make(frame)
        self._write_down(frame)

    def _make(self, frame: Tensor | None) -> None:
        """The model's next frame, as events."""
        for event in self._stream.step(frame):
            if isinstance(event, AudioEvent):
                samples = self._outward.step(event.audio.samples)
                if not len(samples):
                    continue
                event = AudioEvent(Audio(samples, self.sample_rate))
            self._events.put(event)

    def _write_down(self, frame: Tensor | None) -> None:
        if self._scribe is not None:
            self._scribe.put(torch.zeros(self._stream.frame_samples) if frame is None else frame)


class _Resampler:
    """A stream from one sample rate to another."""

    def __init__(self, source: int, target: int):
        self.stream = None if source == target else soxr.ResampleStream(source, target, 1, dtype="float32")

    def step(self, samples: Tensor) -> Tensor:
        if self.stream is None:
            return samples
        return torch.from_numpy(self.stream.resample_chunk(np.ascontiguousarray(samples.numpy())))


class _ScribeThread:
    """A `Scribe` on a thread of its own: recognising takes longer than a frame."""

    def __init__(self, scribe: Scribe, events: queue.SimpleQueue):
        self._scribe, self._events = scribe, events
        self._frames: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="antiphon-scribe", daemon=True).start()

    def put(self, frame: Tensor) -> None:
        self._frames.put(frame)

    def close(self) -> None:
        self._closed.set()
        self._frames.put(None)

    def _run(self) -> None:
        try:
            while (frame := self._frames.get()) is not None and not self._closed.is_set():
                if (heard := self._scribe.step(frame)) is not None:
                    self._events.put(heard)
        except BaseException as error:
            self._events.put(error)
