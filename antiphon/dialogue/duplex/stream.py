"""One full-duplex conversation on the clock of its frames: 80 ms in, events out, on the caller's thread.

    stream = DuplexStream(duplex, seed=1)
    for frame in frames:                                  # [1920] samples each, or None for a lost one
        for event in stream.step(frame): ...              # AudioEvent (the 80 ms to be played next), TextEvent, ...

What a `DuplexSession` does on a thread, a replay and a measurement do here: a function of what went in. Times in events
are seconds; what is heard in frame t is answered from frame t + 1 on.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.duplex.engine import DuplexEngine, DuplexFrame, DuplexState
from antiphon.dialogue.events import AudioEvent, Event, SpeakingEvent, TextEvent
from antiphon.dialogue.live import check_mode
from antiphon.dialogue.session import Endpointer
from antiphon.dialogue.transcriber import FloorTracker
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import MoshiSampling

MODES = ("full-duplex", "half-duplex", "simplex")
ANSWER_WITHIN = 3.0  # seconds in which a half-duplex answer must begin; else it is the user's turn again
ANSWER_OVER = 0.8  # seconds without sound that end a half-duplex answer


@dataclass
class TurnTaking:
    """Who has the floor where only one may: the model is silent in the user's turn and deaf in its own.

    Attributes:
        endpointer: finds the end of the user's turn; None leaves that to `end_of_turn`.
        answering: whether it is the model's turn.
        spoke: whether it has said anything in it.
        waited: seconds of its turn without a sound of it.
    """

    endpointer: Endpointer | None
    answering: bool = False
    spoke: bool = False
    waited: float = 0.0

    def step(self, heard: Tensor | None, speaking: bool, seconds: float) -> None:
        """Takes a frame heard, None if it was lost, and whether the model was speaking after it."""
        if not self.answering:
            if heard is not None and self.endpointer is not None and self.endpointer.step(heard):
                self.end_of_turn()
            return
        self.spoke = self.spoke or speaking
        self.waited = 0.0 if speaking else self.waited + seconds
        if self.waited >= (ANSWER_OVER if self.spoke else ANSWER_WITHIN) - 1e-6:
            self.interrupt()

    def end_of_turn(self) -> None:
        self.answering, self.spoke, self.waited = True, False, 0.0

    def interrupt(self) -> None:
        self.answering = False
        if self.endpointer is not None:
            self.endpointer.reset()


@dataclass
class Progress:
    """Where a stream stands, besides its conversation.

    Attributes:
        floor: whether the model is speaking.
        turns: in half-duplex mode.
        frames: so far, those left out too: the clock.
    """

    floor: FloorTracker = field(default_factory=FloorTracker)
    turns: TurnTaking | None = None
    frames: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A stream or session at a moment, a value."""

    conversation: DuplexState
    progress: Progress


class DuplexStream:
    """One conversation with a duplex model.

    Args:
        duplex: the weights; streams share them and nothing else.
        mode: "full-duplex"; "half-duplex": turns, the model is silent while the user has the floor and doesn't listen
            while it answers; "simplex": it only listens or only speaks.
        direction: of a simplex stream. "listen": the model's own stream is silence. "speak": the user's is, and `say`
            tells it what to say.
        start: where the conversation begins, e.g. what `DuplexEngine.prompt` gave. None: afresh.
        sampling: how text and codes are drawn.
        seed: the same seed and frames give the same conversation; of a fresh start.
        endpointer: of half-duplex turns; None leaves their ends to `end_of_turn`.

    Attributes:
        progress: where it stands.

    Raises:
        SessionError: a mode or a direction that there isn't.
    """

    def __init__(
        self,
        duplex: Duplex,
        mode: str = "full-duplex",
        direction: str = "listen",
        start: DuplexState | None = None,
        sampling: MoshiSampling | None = None,
        seed: int = 0,
        endpointer: Endpointer | None = None,
    ):
        check_mode(mode, direction, MODES)
        self.mode, self.direction = mode, direction
        self.sample_rate, self.frame_samples = duplex.sample_rate, duplex.frame_samples
        self.frame_seconds = 1 / duplex.frame_rate
        self.engine = DuplexEngine(duplex, sampling)
        self.handle = self.engine.join(start, seed)
        self.progress = Progress(turns=TurnTaking(endpointer) if mode == "half-duplex" else None)

    @property
    def time(self) -> float:
        """Seconds that have been heard: when the next frame begins, and what is made of the last one is played."""
        return self.progress.frames * self.frame_seconds

    def step(self, frame: Tensor | None) -> list[Event]:
        """One frame.

        Args:
            frame: float32 [frame_samples] that was heard; None if it was lost.

        Returns:
            An AudioEvent of 80 ms, to be played from `time` (after this call) on, and before it what is in it.

        Raises:
            DuplexError: a frame of another size.
        """
        if self.mode != "full-duplex":
            self.engine.mute(self.handle, *self._muted())
        made = self.engine.step({self.handle: frame})[self.handle]
        self.progress.frames += 1
        events = frame_events(made, self.progress.floor, self.time, self.frame_seconds, self.sample_rate)
        if (turns := self.progress.turns) is not None:
            turns.step(frame, self.progress.floor.speaking, self.frame_seconds)
        return events

    def skip(self, frames: int) -> None:
        """Moves the clock on by frames that the model doesn't even know to be lost."""
        self.progress.frames += frames

    def say(self, text: str) -> None:
        """Has the model say a text, see `DuplexEngine.say`."""
        self.engine.say(self.handle, text)

    def end_of_turn(self) -> None:
        """Half-duplex: the user has finished; answer now."""
        if self.progress.turns is not None:
            self.progress.turns.end_of_turn()

    def interrupt(self) -> None:
        """Half-duplex: the answer ends, and it is the user's turn."""
        if self.progress.turns is not None:
            self.progress.turns.interrupt()

    def snapshot(self) -> Snapshot:
        """Where it stands, a value."""
        return Snapshot(self.engine.snapshot(self.handle), copy.deepcopy(self.progress))

    def rewind(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot, its own or that of another stream of the same mode; the clock, too."""
        self.engine.restore(self.handle, snapshot.conversation)
        self.progress = copy.deepcopy(snapshot.progress)

    def _muted(self) -> tuple[bool, bool]:
        """Whether the model is to be silent, and deaf, in the next frame."""
        if self.mode == "simplex":
            return self.direction == "listen", self.direction == "speak"
        answering = self.progress.turns.answering
        return not answering, answering


def frame_events(made: DuplexFrame, floor: FloorTracker, time: float, seconds: float, sample_rate: int) -> list[Event]:
    """What the model made of a frame, as events: its sound last, and before it what is in it.

    Args:
        made: by the engine.
        floor: follows whether the model speaks.
        time: seconds at which the frame begins to sound.
        seconds: that it lasts.
        sample_rate: Hz.
    """
    events: list[Event] = []
    if (change := floor.step(made.audio, time, seconds)) is not None:
        events.append(SpeakingEvent(*change))
    if made.text:
        events.append(TextEvent(made.text, time))
    return [*events, AudioEvent(Audio(made.audio.cpu(), sample_rate))]
