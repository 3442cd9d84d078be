"""One full-duplex conversation on the clock of its frames: 80 ms in, events out, on the caller's thread.

    stream = DuplexStream(duplex, seed=1)
    for frame in frames:                                  # [1920] samples each, or None for a lost one
        for event in stream.step(frame): ...              # AudioEvent (the 80 ms to be played next), TextEvent, ...

Streams of one engine are stepped together by `step_together`. What a `BatchedEngine` does on a thread, a replay and a
measurement do here: a function of what went in. Times in events are seconds; what is heard in frame t is answered from
frame t + 1 on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from antiphon.audio.endpoint import FindsEnds
from antiphon.audio.io import Audio
from antiphon.audio.speech import LevelActivity, SpeechDetector
from antiphon.dialogue.duplex.engine import DuplexEngine, DuplexFrame, DuplexState
from antiphon.dialogue.events import AudioEvent, Event, SpeakingEvent, TextEvent
from antiphon.dialogue.session import check_mode
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import MoshiSampling

MODES = ("full-duplex", "half-duplex", "simplex")
SPEECH_GAP_SECONDS = 0.4  # without sound that end the model's speech; shorter ones are pauses between words
ANSWER_WITHIN_SECONDS = 3.0  # in which a half-duplex answer must begin; else it is the user's turn again
ANSWER_OVER_SECONDS = 0.8  # without sound that end a half-duplex answer


@dataclass
class TurnTaking:
    """Who has the floor where only one may: the model is silent in the user's turn and deaf in its own.

    Attributes:
        endpointer: finds the end of the user's turn; None leaves that to `end_of_turn`.
        answering: whether it is the model's turn.
        spoke: whether it has said anything in it.
        waited: seconds of its turn without a sound of it.
    """

    endpointer: FindsEnds | None
    answering: bool = False
    spoke: bool = False
    waited: float = 0.0

    def step(self, heard: Tensor | None, speaking: bool, seconds: float) -> None:
        """Takes a frame heard, None if it was lost, and whether the model was speaking after it."""
        if not self.answering:
            if heard is not None and self.endpointer is not None and self.endpointer.ends(heard.numpy()):
                self.end_of_turn()
            return
        self.spoke = self.spoke or speaking
        self.waited = 0.0 if speaking else self.waited + seconds
        if self.waited >= (ANSWER_OVER_SECONDS if self.spoke else ANSWER_WITHIN_SECONDS) - 1e-6:
            self.interrupt()

    def end_of_turn(self) -> None:
        self.answering, self.spoke, self.waited = True, False, 0.0

    def interrupt(self) -> None:
        self.answering = False
        if self.endpointer is not None:
            self.endpointer.stop()


@dataclass
class Progress:
    """Where a stream stands, besides its conversation.

    Attributes:
        speech: whether the model is speaking.
        turns: in half-duplex mode.
        frames: so far, those left out too: the clock.
    """

    speech: SpeechDetector
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
        endpointer: finds the ends of half-duplex turns; None leaves them to `end_of_turn`.
        engine: that it shares with other streams, which then draws as that does; None for one of its own.

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
        endpointer: FindsEnds | None = None,
        engine: DuplexEngine | None = None,
    ):
        check_mode(mode, direction, MODES)
        self.mode, self.direction = mode, direction
        self.sample_rate, self.frame_samples = duplex.sample_rate, duplex.frame_samples
        self.frame_seconds = 1 / duplex.frame_rate
        self.engine = engine or DuplexEngine(duplex, sampling)
        self.handle = self.engine.join(start, seed)
        speech = SpeechDetector(LevelActivity(self.sample_rate, self.frame_samples), SPEECH_GAP_SECONDS)
        self.progress = Progress(speech, TurnTaking(endpointer) if mode == "half-duplex" else None)

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
            ModelError: a frame of another size.
        """
        return step_together({self: frame})[self]

    def skip(self, frames: int) -> None:
        """Moves the clock on by frames that the model doesn't even know to be lost."""
        self.progress.frames += frames

    def say(self, text: str) -> None:
        """Has the model say a text, see `DuplexEngine.say`."""
        self.engine.say(self.handle, text)

    @property
    def has_script(self) -> bool:
        """Whether there is text left of what it was given to say."""
        return self.engine.has_script(self.handle)

    @property
    def speaking(self) -> bool:
        """Whether the model is."""
        return self.progress.speech.speaking

    def mute(self, own: bool) -> None:
        """Full-duplex: makes the model silent, or lets it speak again."""
        self.engine.mute(self.handle, own=own)

    def leave(self) -> None:
        """Ends it; its place in the engine is free."""
        self.engine.leave(self.handle)

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

    def _before(self) -> None:
        """Silences or deafens the model as the mode wants it, for the next frame."""
        if self.mode == "simplex":
            self.engine.mute(self.handle, self.direction == "listen", self.direction == "speak")
        elif self.progress.turns is not None:
            answering = self.progress.turns.answering
            self.engine.mute(self.handle, not answering, answering)

    def _after(self, heard: Tensor | None, made: DuplexFrame) -> list[Event]:
        """What the model made of a frame, as events: its sound last, and before it what is in it."""
        speech, events = self.progress.speech, []
        self.progress.frames += 1
        audio, over = made.audio.cpu(), self.time + self.frame_seconds  # when this sound is over
        for found in speech.step(audio.numpy()):
            at = found.at if found.kind == "start" else found.quiet_from
            events.append(SpeakingEvent(found.kind == "start", over - (speech.position - at) / self.sample_rate))
        if made.text:
            events.append(TextEvent(made.text, self.time))
        if self.progress.turns is not None:
            self.progress.turns.step(heard, self.speaking, self.frame_seconds)
        return [*events, AudioEvent(Audio(audio, self.sample_rate))]


def step_together(frames: Mapping[DuplexStream, Tensor | None]) -> dict[DuplexStream, list[Event]]:
    """One frame of each of these streams, in one batch: see `DuplexStream.step`. They are of the same engine.

    Raises:
        ModelError: a frame of another size.
    """
    for stream in frames:
        stream._before()
    made = next(iter(frames)).engine.step({stream.handle: frame for stream, frame in frames.items()})
    return {stream: stream._after(frame, made[stream.handle]) for stream, frame in frames.items()}
