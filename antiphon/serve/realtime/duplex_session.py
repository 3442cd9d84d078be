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

from torch import Tensor

from antiphon.dialogue.backend import Usage
from antiphon.dialogue.events import AudioEvent, Event, SpeakingEvent, TextEvent
from antiphon.dialogue.half_duplex import Message
from antiphon.serve.errors import RequestError
from antiphon.serve.realtime.commands import Limits, Mute, ServedModel
from antiphon.serve.realtime.input_buffer import SpeechPaused, SpeechStarted, SpeechStopped
from antiphon.serve.realtime.response import Response
from antiphon.serve.realtime.session import RealtimeSession

WORD = re.compile(r"\S+")
ONSET_FRAMES = 3  # frames before the one that is loud enough, in which a word may have begun


@dataclass
class DuplexAnswer:
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


class DuplexRealtimeSession(RealtimeSession):
    """See the module; arguments are those of a `RealtimeSession`."""

    def __init__(self, model: ServedModel, limits: Limits, now: float, wall: float = 0.0, transcription: bool = False):
        super().__init__(model, limits, now, wall, transcription)
        self._recent: deque[Tensor] = deque(maxlen=ONSET_FRAMES)
        self._text = ""
        self._held: SpeechStarted | None = None  # that the client hasn't been told of
        self._held_at = 0.0  # seconds of the answer at which that was
        self._from = 0.0  # when the answer's sound begins, in the model's seconds
        self._muted = False
        self._own_turns()

    def preset(self, given: dict[str, Any]) -> None:
        super().preset(given)
        self._own_turns()

    def _check_turns(self, how: dict[str, Any] | None) -> None:
        """The turn model is the model itself."""

    def _speech_paused(self, edge: SpeechPaused) -> None:
        """Nothing is begun before the model speaks."""

    def _own_turns(self) -> None:
        """Whatever was asked for: this is how it is."""
        heard = self.config["audio"]["input"]
        if heard["turn_detection"] is not None:
            heard["turn_detection"].update(create_response=False, interrupt_response=False)
        if not self.model.transcribes:
            heard["transcription"] = None

    def _audio_commit(self, event: dict[str, Any]) -> None:
        if self.input.finds_turns:
            raise RequestError("input_audio_buffer_commit_empty", "This model finds the ends of turns by itself.")
        super()._audio_commit(event)

    def _item_create(self, event: dict[str, Any]) -> None:
        raise RequestError("not_supported", "This model listens to sound alone; it can't be given items.", "type")

    def _ask(self, given: Any) -> None:
        raise RequestError("not_supported", "This model speaks when it wants; it can't be asked to.", "type")

    def _response_cancel(self, event: dict[str, Any]) -> None:
        super()._response_cancel(event)
        self._muted = True
        self.out.command(Mute(True))

    def respond(self) -> None:
        """The model decides."""

    def next_responses(self) -> None:
        """None waits for anything."""

    # The user's turns

    def _speech_started(self, edge: SpeechStarted) -> None:
        self._held, active = edge, self.active()
        if active is None:
            self._tell_start()
        else:
            self._held_at = active.seconds

    def _tell_start(self) -> None:
        if self._held is not None:
            super()._speech_started(self._held)
            self._held = None

    def _speech_stopped(self, edge: SpeechStopped) -> None:
        if self._held is None:
            super()._speech_stopped(edge)
        else:  # said while the model spoke on: a word of assent
            self._held = None
            self.input.drop()

    # The model's

    def frame(self, events: list[Event], now: float) -> None:
        """What the model made of a frame."""
        self.now = now
        for event in events:
            if isinstance(event, TextEvent):
                self._say(event.text)
            elif isinstance(event, SpeakingEvent):
                if event.speaking and not self._muted:
                    self._begin(event.time)
                elif not event.speaking:
                    self._end(event.time)
            elif isinstance(event, AudioEvent):
                response = self.active()
                if response is not None:
                    assert isinstance(response.answer, DuplexAnswer)
                    self.out.emit(*response.sound(event.audio.samples.numpy()))
                    response.answer.seconds = response.seconds
                else:
                    self._recent.append(event.audio.samples)

    def _say(self, text: str) -> None:
        response = self.active()
        if response is None:
            self._text = (self._text + text)[-200:]  # words come a little before their sound
            return
        assert isinstance(response.answer, DuplexAnswer)
        said = text if response.text else text.lstrip()
        response.answer.say(said)
        if said:
            self.out.emit(*response.say(said))

    def _begin(self, time: float) -> None:
        if self.active() is not None:
            return
        output = self.config["audio"]["output"]
        answer = DuplexAnswer()
        response = Response(
            self.conversation, self.conversation_id, True, output["format"], output["voice"], "inf", None, answer
        )
        self.responses[response.id] = response
        self.spoken = True
        self.out.emit(*response.created())
        text, self._text = self._text, ""
        if text.strip():
            self._say(text)
        for samples in self._recent:
            self.out.emit(*response.sound(samples.numpy()))
        answer.seconds = response.seconds
        self._from = time - response.seconds
        self._recent.clear()

    def _end(self, time: float) -> None:
        if self._muted:
            self._muted = False
            self.out.command(Mute(False))
        response = self.active()
        if response is None:
            return
        del self.responses[response.id]
        held = self._held is not None and self._held.turn is self.input.turn
        gave_way = held and self._held_at < time - self._from  # and hadn't been silent before
        if held:
            self._tell_start()
        if gave_way:
            self._over(response, "cancelled", "turn_detected")
        else:
            self._over(response, "completed")
