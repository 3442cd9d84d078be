"""A full-duplex model as one object: it listens and speaks at once.

model = antiphon.load("mini-duplex")
with model.session("full-duplex") as session:             # live: 80 ms frames in, events out
    for frame in microphone:
        for event in session.step(frame): ...
replay = model.replay("user.wav")                         # a recording, as if somebody said it now
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon import hub
from antiphon.audio.io import Audio, load
from antiphon.dialogue.duplex.engine import Conversation, DuplexEngine
from antiphon.dialogue.duplex.replay import Replay, replay_recording
from antiphon.dialogue.duplex.session import DuplexSession
from antiphon.dialogue.duplex.stream import DuplexStream
from antiphon.dialogue.session import Endpointer
from antiphon.models.moshi.bundle import Duplex, codec_name

if TYPE_CHECKING:
    from antiphon.models.asr.recognizer import Recognizer
    from antiphon.models.moshi.model import MoshiSampling


class DuplexModel:
    """Weights alone; conversations share them and nothing else.

    Args:
        duplex: Moshi, codec and text pieces.
    """

    def __init__(self, duplex: Duplex):
        self.duplex = duplex

    @classmethod
    def from_pretrained(cls, name: str = "mini-duplex", **parts: str | Path) -> DuplexModel:
        """Loads a preset; `parts` replaces `duplex` or `codec` by a folder or a hub id.

        The codec of a folder of one's own is the one that its config.json names, unless one is given.

        Raises:
            HubError: a part that isn't there and can't be had.
            ModelError: parts that don't fit each other.
        """
        known = hub.preset(name).parts
        if unknown := set(parts) - set(known):
            raise hub.HubError(f"{name!r} has no part {sorted(unknown)[0]!r}; its parts are {', '.join(known)}")
        folder = hub.folder(parts.get("duplex", "duplex"), name)
        codec = hub.folder(parts["codec"], name) if "codec" in parts else codec_name(folder)
        return cls(Duplex.from_pretrained(folder, codec))

    @cached_property
    def ears(self) -> Recognizer:
        """Write down what the user says, where that is asked for: those of the preset "mini", fetched when first used.
        The model itself needs no words for what it hears."""
        from antiphon.models.asr.recognizer import Recognizer

        return Recognizer.from_pretrained(*(hub.folder(role) for role in ("asr", "adapter", "llm")))

    def session(
        self,
        mode: str = "full-duplex",
        sampling: MoshiSampling | None = None,
        endpointer: Endpointer | None = None,
        direction: str = "listen",
        start: Conversation | None = None,
        seed: int = 0,
        hear: bool = False,
        sample_rate: int | None = None,
        patience: float | None = None,
    ) -> DuplexSession:
        """A live conversation on a thread of its own.

        Args:
            mode: "full-duplex"; "half-duplex": turns; "simplex": it only listens or only speaks (`direction`).
            sampling, endpointer, direction, start, seed: see `DuplexStream`.
            sample_rate, patience: see `DuplexSession`.
            hear: also write down what the user says (`HeardEvent`), with `ears`.

        Raises:
            SessionError: a mode or a direction that there isn't.
        """
        stream = self.stream(mode, sampling, endpointer, direction, start, seed)
        return DuplexSession(stream, self.ears if hear else None, sample_rate, patience=patience)

    def stream(
        self,
        mode: str = "full-duplex",
        sampling: MoshiSampling | None = None,
        endpointer: Endpointer | None = None,
        direction: str = "listen",
        start: Conversation | None = None,
        seed: int = 0,
    ) -> DuplexStream:
        """The same without a thread, on the clock of the frames: see `DuplexStream`."""
        return DuplexStream(self.duplex, mode, direction, start, sampling, seed, endpointer)

    def engine(self, sampling: MoshiSampling | None = None, capacity: int = 1) -> DuplexEngine:
        """Many conversations in one batch: see `DuplexEngine`."""
        return DuplexEngine(self.duplex, sampling, capacity)

    def prompt(self, text: str = "", voice: Audio | Path | str | None = None, seed: int = 0) -> Conversation:
        """A start for conversations, with a past: see `DuplexEngine.prompt`. `voice` may be a file."""
        return self.engine().prompt(text, load(voice) if isinstance(voice, (str, Path)) else voice, seed)

    def replay(
        self,
        recording: Audio | Path | str,
        after: float = 4.0,
        seed: int = 0,
        sampling: MoshiSampling | None = None,
        start: Conversation | None = None,
        hear: bool = False,
    ) -> Replay:
        """Plays a recording to the model, as if somebody said it now.

        Args:
            recording: the user, or its file.
            after: seconds of silence after it, in which it can answer.
            seed, sampling, start: of the conversation.
            hear: also write down what the user says.
        """
        audio = load(recording) if isinstance(recording, (str, Path)) else recording
        stream = self.stream(sampling=sampling, start=start, seed=seed)
        return replay_recording(stream, audio, after, self.ears if hear else None)
