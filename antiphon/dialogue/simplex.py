"""Sessions in which only one side speaks: the model writes down what is said, or reads aloud what it is given.

with model.session("simplex", direction="listen") as session: ...     # HeardEvent at the end of each turn
with model.session("simplex", direction="speak") as session:
    session.say("Good morning.")                                      # TextEvent, AudioEvents, EndEvent
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.session import Endpointer, HalfDuplexSession

if TYPE_CHECKING:
    from antiphon.model import Model


class ListeningSession(HalfDuplexSession):
    """Turns of the user, each written down when it ends, and not answered. See `HalfDuplexSession`.

    Without an endpointer given, silence ends a turn.
    """

    def __init__(self, model: Model, endpointer: Endpointer | None = None):
        super().__init__(model, None, endpointer or Endpointer())

    def _work(self) -> None:
        while not self._closed.is_set():
            if (heard := self._listen()) is not None and heard.text.strip():
                self._events.put(HeardEvent(heard.text))


class SpeakingSession(HalfDuplexSession):
    """Texts, each read aloud as it is given with `say`; frames that are given are not listened to.

    Args:
        model: its voice speaks.
        sampling: seed, temperature and top_k of the voice.
    """

    def __init__(self, model: Model, sampling: Sampling | None = None):
        super().__init__(model, sampling)

    def say(self, text: str) -> None:
        """Something to be read aloud, after what was given before.

        Raises:
            SessionError: the session is closed.
        """
        self._check_open()
        self._incoming.put(f"say {text}")

    def _work(self) -> None:
        while not self._closed.is_set():
            item = self._incoming.get()
            if isinstance(item, str) and item.startswith("say "):
                self._interrupted.clear()
                self._speak(item.removeprefix("say "))

    def _speak(self, text: str) -> None:
        voice, how = self.model.voice, self.sampling
        self._events.put(TextEvent(text))
        state = voice.init_state(how.seed, how.temperature, how.top_k)
        voice.add(text, state)
        voice.end(state)
        while (samples := voice.step(state)) is not None:
            if self._interrupted.is_set() or self._closed.is_set():
                self._events.put(EndEvent(text, interrupted=True))
                return
            self._events.put(AudioEvent(Audio(samples, voice.sample_rate)))
        self._events.put(EndEvent(text))
