"""A Realtime session with a duplex model: the same protocol, with the turns that the model itself takes.

The model hears everything and speaks when it wants. Its speaking is a response; what the user says is an item, found as
ever, but it doesn't cancel anything: a client is told of the user's speech at once if the model is silent,
and otherwise only when the model gives way to it (the response is then "cancelled", by "turn_detected"). So a mere
"mhm" of the listener neither stops the model nor makes the client throw away what it is playing. The configuration
says so, whatever the client asks for: `create_response` and `interrupt_response` are false, and `transcription` is null
where nobody writes down what the user says.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from antiphon.audio.pcm import RATE
from antiphon.dialogue.events import AudioEvent, Event, SpeakingEvent, TextEvent
from antiphon.dialogue.half_duplex import Message, Usage
from antiphon.serve.realtime.commands import Drop
from antiphon.serve.realtime.config import ProtocolError
from antiphon.serve.realtime.response import Response
from antiphon.serve.realtime.session import RealtimeSession

WORD = re.compile(r"\S+")
ONSET = 3  # frames before the one that is loud enough, in which a word may have begun


@dataclass(frozen=True)
class Frames:
    """Command: this was heard, float32 [N] at 24 kHz."""

    samples: np.ndarray


@dataclass(frozen=True)
class Mute:
    """Command: the model is to be silent, or may speak again."""

    silent: bool


@dataclass
class LiveAnswer:
    """What is known of an answer that nobody asked for."""

    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    text: str = ""
    seconds: float = 0.0
    begins: list[tuple[float, int]] = field(default_factory=list)  # of each word: its second, and where in the text

    def events(self) -> Any:
        return iter(())

    def say(self, text: str) -> None:
        """More of the text: it begins to sound with the next of the sound."""
        self.text += text
        words = [word.start() for word in WORD.finditer(self.text)]
        self.begins += [(self.seconds, at) for at in words[len(self.begins) :]]

    def until(self, seconds: float) -> str:
        """What had been said: a word has ended when the next one begins, the last one when the answer does."""
        if seconds >= self.seconds:
            return self.text
        begun = [at for second, at in self.begins if second <= seconds]
        return self.text[: begun[-1]].rstrip() if begun else ""


class LiveSession(RealtimeSession):
    """See the module; arguments are those of a `RealtimeSession`.

    Args:
        writes: the words of the user are written down, by ears beside the model.
    """

    def __init__(self, *args: Any, writes: bool = False, **options: Any):
        super().__init__(*args, **options)
        self.writes = writes
        self._recent: deque[Tensor] = deque(maxlen=ONSET)
        self._text = ""
        self._held: dict[str, int] | None = None  # speech_started that the client hasn't been told of
        self._held_at = 0.0  # seconds of the answer at which that was
        self._from = 0.0  # when the answer's sound begins, in the model's seconds
        self._hushed = False
        self._own_turns()

    def preset(self, given: dict[str, Any]) -> None:
        super().preset(given)
        self._own_turns()

    def _own_turns(self) -> None:
        """Whatever was asked for: this is how it is."""
        heard = self.config["audio"]["input"]
        if heard["turn_detection"] is not None:
            heard["turn_detection"].update(create_response=False, interrupt_response=False)
        if not self.writes:
            heard["transcription"] = None

    def take_sound(self, samples: np.ndarray) -> None:
        self.command(Frames(samples))
        super().take_sound(samples)

    def audio_commit(self, event: dict[str, Any]) -> None:
        if self._vad is None:
            super().audio_commit(event)
            return
        raise ProtocolError("input_audio_buffer_commit_empty", "This model finds the ends of turns by itself.")

    def _item_create(self, event: dict[str, Any]) -> None:
        raise ProtocolError("not_supported", "This model listens to sound alone; it can't be given items.", "type")

    def _ask(self, given: Any) -> None:
        raise ProtocolError("not_supported", "This model speaks when it wants; it can't be asked to.", "type")

    def _response_cancel(self, event: dict[str, Any]) -> None:
        super()._response_cancel(event)
        self._hushed = True
        self.command(Mute(True))

    def respond(self) -> None:
        """The model decides."""

    def next_responses(self) -> None:
        """None waits for anything."""

    # The user's turns

    def _speech_started(self, at: int) -> None:
        turn = self._new_turn()
        self._held = {"audio_start_ms": at * 1000 // RATE}
        active = self.active()
        if active is None:
            self._tell_start(turn.id)
        else:
            self._held_at = active.seconds

    def _tell_start(self, item_id: str) -> None:
        if self._held is not None:
            self.emit({"type": "input_audio_buffer.speech_started", **self._held, "item_id": item_id})
            self._held = None

    def _speech_stopped(self) -> None:
        if self._held is None:
            super()._speech_stopped()
            self._due.clear()
            return
        turn, self._held = self._turn, None  # said while the model spoke on: a word of assent
        if turn is not None:
            self.command(Drop(turn.id))
        self._turn, self._turn_samples = None, 0

    def _commit(self, heard: bool = True) -> None:
        turn = self._turn
        super()._commit(heard and self.writes)
        if turn is not None and heard and not self.writes:
            self.command(Drop(turn.id))

    # The model's

    def frame(self, events: list[Event], now: float) -> None:
        """What the model made of a frame."""
        self.now = now
        for event in events:
            if isinstance(event, TextEvent):
                self._say(event.text)
            elif isinstance(event, SpeakingEvent):
                if event.speaking and not self._hushed:
                    self._begin(event.time)
                elif not event.speaking:
                    self._end(event.time)
            elif isinstance(event, AudioEvent):
                response = self.active()
                if response is not None:
                    assert isinstance(response.answer, LiveAnswer)
                    self.emit_all(response.sound(event.audio.samples.numpy()))
                    response.answer.seconds = response.seconds
                else:
                    self._recent.append(event.audio.samples)

    def _say(self, text: str) -> None:
        response = self.active()
        if response is None:
            self._text = (self._text + text)[-200:]  # words come a little before their sound
            return
        assert isinstance(response.answer, LiveAnswer)
        said = text if response.text else text.lstrip()
        response.answer.say(said)
        if said:
            self.emit_all(response.say(said))

    def _begin(self, time: float) -> None:
        if self.active() is not None:
            return
        output = self.config["audio"]["output"]
        answer = LiveAnswer()
        response = Response(
            self.conversation, self.conversation_id, True, output["format"], output["voice"], "inf", None, answer
        )
        self.responses[response.id] = response
        self.spoken = True
        self.emit_all(response.created())
        text, self._text = self._text, ""
        if text.strip():
            self._say(text)
        for samples in self._recent:
            self.emit_all(response.sound(samples.numpy()))
        answer.seconds = response.seconds
        self._from = time - response.seconds
        self._recent.clear()

    def _end(self, time: float) -> None:
        if self._hushed:
            self._hushed = False
            self.command(Mute(False))
        response = self.active()
        if response is None:
            return
        del self.responses[response.id]
        turn = self._turn
        held = turn is not None and self._held is not None
        gave_way = held and self._held_at < time - self._from  # and hadn't been silent before
        if held:
            self._tell_start(turn.id)
        if gave_way:
            self._over(response, "cancelled", "turn_detected")
        else:
            self._over(response, "completed")
