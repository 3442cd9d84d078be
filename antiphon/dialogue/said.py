"""A reply whose words are given: spoken like any other, and as much of it remembered as was heard."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from antiphon.dialogue.backend import Backend, Usage
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, Sampling, TextEvent
from antiphon.dialogue.tool_calls import Message


@dataclass
class SaidReply:
    """See `StreamingReply`.

    Args:
        backend: says it.
        text: of the reply.
        sampling: how it is said.

    Attributes:
        seconds: of its sound so far.
    """

    backend: Backend
    text: str
    sampling: Sampling
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    seconds: float = 0.0

    def events(self) -> Generator[Event | None, None, None]:
        """Text and sound, then the end."""
        self.message = Message("assistant", self.text)
        yield TextEvent(self.text)
        for audio in self.backend.say(self.text, self.sampling):
            self.seconds += audio.duration
            yield AudioEvent(audio)
        yield EndEvent(self.text)

    def until(self, seconds: float) -> str:
        """The words in the first `seconds`, as if each took as long as any other."""
        words = self.text.split()
        return " ".join(words[: int(len(words) * min(1.0, seconds / self.seconds))]) if self.seconds else ""
