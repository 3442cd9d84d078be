"""The whole model as one object: hear, think, speak.

model = antiphon.load("mini")
reply = model.reply("question.wav")               # .heard, .text, .audio, .timings
reply.audio.save("answer.wav")
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from antiphon import hub
from antiphon.audio.given import as_audio
from antiphon.audio.io import MAX_HEARD_SECONDS, Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.events import Answer, AudioEvent, Sampling, TextEvent
from antiphon.dialogue.live import check_mode
from antiphon.dialogue.session import Endpointer, HalfDuplexSession
from antiphon.dialogue.simplex import ListeningSession, SpeakingSession
from antiphon.errors import UnsaidWarning
from antiphon.models.asr.recognizer import Heard, Recognizer
from antiphon.models.llm.thinker import Thinker
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker

if TYPE_CHECKING:
    from antiphon.audio.given import Sound
    from antiphon.models.llm.thinker import ThinkerState


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        heard: what the user said, or typed.
        text: the answer.
        audio: the answer aloud; None for a written one.
        timings: seconds: "hear" from the call to the words, "first text" and "first audio" likewise to those, "total";
            and "speech", the length of the answer.
    """

    heard: str
    text: str
    audio: Audio | None = None
    timings: dict[str, float] = field(default_factory=dict)


class Model:
    """Recognizer, thinker and synthesizer. Weights are shared by every conversation; what differs is kept in states.

    Args:
        ears, thinker, talker, codec: loaded parts.
    """

    def __init__(self, ears: Recognizer, thinker: Thinker, talker: Talker, codec: MiniCodec):
        self.ears, self.thinker, self.talker, self.codec = ears, thinker, talker, codec
        self.voice = Synthesizer(talker, codec, Phonemizer())

    @classmethod
    def from_pretrained(cls, name: str = "mini", **parts: str | Path) -> Model:
        """Loads a preset; `parts` replaces any of asr, llm, adapter, lora, codec, talker by a folder or a hub id.

        Raises:
            HubError: a part that isn't there and can't be had.
        """
        known, parts = hub.preset(name).parts, {hub.role_of(role): part for role, part in parts.items()}
        if unknown := set(parts) - set(known):
            raise hub.HubError(f"{name!r} has no part {sorted(unknown)[0]!r}; its parts are {', '.join(known)}")
        # What ships comes first: a part that is missing is told before anything is downloaded.
        roles = ("adapter", "lora", "codec", "talker", "asr", "llm")
        folder = {role: hub.folder(parts.get(role, role), name) for role in roles}
        ears = Recognizer.from_pretrained(folder["asr"], folder["adapter"], folder["llm"])
        thinker = Thinker.from_pretrained(folder["llm"], folder["lora"])
        return cls(ears, thinker, Talker.from_pretrained(folder["talker"]), MiniCodec.from_pretrained(folder["codec"]))

    def hear(self, audio: Sound, sample_rate: int | None = None) -> Heard:
        """What was said: `.text`, and the pieces and embeddings that the thinker reads.

        Args:
            audio, sample_rate: see `as_audio`.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
        """
        return self.ears.hear(as_audio(audio, sample_rate, MAX_HEARD_SECONDS))

    def think(self, heard: Heard) -> str:
        """The answer to what was heard, as text and without speaking it."""
        state = self.thinker.init_state(voice=True)
        self.thinker.add_user(state, heard.embeddings)
        return _text(Answer(self.thinker, state, None))

    def reply_text(self, text: str) -> str:
        """The answer of the voice assistant to typed words, without speaking it."""
        state = self.thinker.init_state(voice=True)
        self.thinker.add_user(state, text)
        return _text(Answer(self.thinker, state, None))

    def reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float = 0.25,
        top_k: int = 5,
        sample_rate: int | None = None,
    ) -> Reply:
        """Answers a spoken question aloud.

        Args:
            audio, sample_rate: the question; see `as_audio`.
            seed: the same seed gives the same wav.
            temperature, top_k: of the voice.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
        """
        return self.chat(Sampling(seed, temperature, top_k)).say_spoken(as_audio(audio, sample_rate))

    @torch.no_grad()
    def say(self, text: str, seed: int = 0, temperature: float = 0.25, top_k: int = 5) -> Audio:
        """Reads a text aloud; words of it that aren't English letters are left out, with an `UnsaidWarning`.

        Raises:
            UnsayableError: nothing of it can be said.
        """
        state = self.voice.init_state(seed, temperature, top_k)
        self.voice.read(text, state)
        if unsaid := state.speller.unsaid:
            left_out = ", ".join(unsaid)
            left_out = left_out if len(left_out) <= 100 else left_out[:100] + "..."
            warnings.warn(f"The voice speaks English and left out: {left_out}", UnsaidWarning, stacklevel=2)
        pieces = []
        while (piece := self.voice.step(state)) is not None:
            pieces.append(piece)
        return Audio(torch.cat(pieces) if pieces else torch.zeros(0), self.voice.sample_rate)

    def chat(self, sampling: Sampling | None = None) -> Conversation:
        """A conversation in turns, typed or spoken, that remembers."""
        return Conversation(self, sampling or Sampling())

    def session(
        self,
        mode: str = "half-duplex",
        sampling: Sampling | None = None,
        endpointer: Endpointer | None = None,
        direction: str = "listen",
    ) -> HalfDuplexSession:
        """A live conversation: microphone frames in, events out.

        Args:
            mode: "half-duplex": turns; "simplex": it only listens or only speaks.
            sampling: how answers are drawn.
            endpointer: finds the end of a turn.
            direction: of a simplex session: "listen" writes down each turn, "speak" reads aloud what `say` gives it.

        Raises:
            SessionError: a mode or a direction that this model doesn't have.
        """
        check_mode(mode, direction, ("half-duplex", "simplex"))
        if mode == "half-duplex":
            return HalfDuplexSession(self, sampling, endpointer)
        return ListeningSession(self, endpointer) if direction == "listen" else SpeakingSession(self, sampling)


class Conversation:
    """Turns that build on each other.

    Args:
        model: what answers.
        sampling: how answers are drawn.
    """

    def __init__(self, model: Model, sampling: Sampling):
        self.model, self.sampling, self.text_only = model, sampling, False
        self._states: dict[bool, ThinkerState] = {}

    def say_typed(self, text: str) -> Reply:
        """A typed turn, answered aloud; with `text_only` by the plain language model, in writing."""
        return self._answer(text, text, time.perf_counter(), {})

    def say_spoken(self, audio: Audio) -> Reply:
        """A spoken turn."""
        began = time.perf_counter()
        heard = self.model.hear(audio)
        timings = {"hear": time.perf_counter() - began}
        if not heard.text.strip():
            return Reply("", "", Audio(torch.zeros(0), self.model.voice.sample_rate), timings)
        return self._answer(heard.text, heard.text if self.text_only else heard.embeddings, began, timings)

    @torch.no_grad()
    def _answer(self, said: str, turn: str | torch.Tensor, began: float, timings: dict[str, float]) -> Reply:
        voice, thinker = None if self.text_only else self.model.voice, self.model.thinker
        aloud = voice is not None
        if aloud not in self._states:
            self._states[aloud] = thinker.init_state(voice=aloud)
        state = self._states[aloud]
        thinker.add_user(state, turn)
        sampling = self.sampling if voice else replace(self.sampling, max_tokens=256)
        answer, pieces = Answer(thinker, state, voice, sampling), []
        for event in answer.events():
            now = time.perf_counter() - began
            if isinstance(event, TextEvent):
                timings.setdefault("first text", now)
            elif isinstance(event, AudioEvent):
                timings.setdefault("first audio", now)
                pieces.append(event.audio.samples)
        timings["total"] = time.perf_counter() - began
        if voice is None:
            return Reply(said, answer.text.strip(), None, timings)
        audio = Audio(torch.cat(pieces) if pieces else torch.zeros(0), voice.sample_rate)
        return Reply(said, answer.text.strip(), audio, timings | {"speech": audio.duration})


def _text(answer: Answer) -> str:
    for _ in answer.events():
        pass
    return answer.text.strip()
