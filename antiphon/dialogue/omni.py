"""Qwen2.5-Omni or Qwen3-Omni as a model that takes turns: it hears by itself, sees, thinks, and speaks meanwhile.

    backend = OmniBackend.from_pretrained("Qwen2.5-Omni-3B")
    listener = backend.listen()
    listener.step(samples)                             # as they come: every 2 s are encoded while the user speaks
    answer = backend.chat().answer([listener.finish().message()])
    for event in answer.events(): ...                  # TextEvent, AudioEvent, EndEvent

What is heard isn't written down: the language model reads the sound itself (`Hearing.embeddings`), `Hearing.text` is
empty. A folder may name a recognizer instead, which hears turns as `half_duplex`'s does; sounds that are contents of a
message are the tower's in any case. Conversations are remembered as in `half_duplex`: what a past begins with as before
isn't read again, and a message that was cut to what was heard of it is read anew, cut.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.backend import MAX_PROMPT_CHARACTERS, Hearing, Listener, Usage
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, Sampling, TextEvent
from antiphon.dialogue.tool_calls import Functions, Message
from antiphon.dialogue.turn_hearing import Hears, RecognizerHears, TowerHears
from antiphon.errors import ModelError, ToolCallError, TooLongError
from antiphon.models.asr.heard import Heard, HearingOptions
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.omni import weights
from antiphon.models.omni.model import Omni, OmniMark, OmniState, ReplySettings
from antiphon.models.omni.parts import BESIDE, beside
from antiphon.models.omni.processor import AFTER, REPLY, OmniProcessor
from antiphon.models.omni.speech import ROOM, Manner, Piece, Speaker, Speech, Writing, framed, pieces, speaker_of
from antiphon.models.omni.thinker import Seen, Watched, Words

WRITE_DOWN = ("You are a speech recognition model.", "Transcribe the audio into text without any punctuation marks.")
TRANSLATE = ("You are a speech translation model.", "Translate the audio into English text.")


class OmniBackend:
    """A `Backend`. Conversations share its weights and nothing else.

    Args:
        model: all of it, or the thinker alone.
        processor: reads messages.
        name: what it is called.
        folder: that it was read from.
        speaker: says what is thought; None: the model's own talker, or nobody where it has none.
        recognizer: hears turns; None: the thinker's own tower does.
    """

    calls_functions, sees, structured, shares_steps = False, True, False, False

    def __init__(
        self, model: Omni, processor: OmniProcessor, name: str = "omni", folder: Path | None = None,
        speaker: Speaker | None = None, recognizer: Recognizer | None = None,
    ):  # fmt: skip
        if model.thinker is None:
            raise ModelError("This model has no thinker, so it can't be talked to: load the whole folder.")
        self.model, self.processor, self.name, self.folder = model, processor, name, folder
        self.speaker = speaker = speaker or speaker_of(model, processor, {})
        tower = TowerHears(model.thinker.audio_tower, self._written_down)
        self.hears: Hears = tower if recognizer is None else RecognizerHears(recognizer)
        self.writes_down = self.hears.writes_down
        self.voices: Sequence[str] = speaker.voices if speaker is not None else ()
        self.sample_rate = speaker.sample_rate if speaker is not None else 24000
        self.ends = processor.ends

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, language_model: Path | str | None = None, name: str | None = None,
        parts: Mapping[str, str | Path | None] | None = None,
    ) -> OmniBackend:  # fmt: skip
        """Opens a folder.

        Args:
            folder, language_model: see `antiphon.models.omni.weights.load`.
            name: what it is called.
            parts: that stand beside it, in the place of those that it names; see `antiphon.models.omni.parts.beside`.
        """
        folder = Path(folder)
        model = weights.load(folder, language_model=language_model)
        if model.thinker is None:
            raise ModelError(f"{folder} holds a talker alone, which can't be talked to: load the whole folder.")
        processor, others = OmniProcessor.from_pretrained(folder, model.config.thinker), beside(folder, parts)
        recognizer = Recognizer.from_pretrained(others["recognizer"]) if "recognizer" in others else None
        speaker = speaker_of(model, processor, others)
        return cls(model, processor, name or folder.name, folder, speaker, recognizer)

    def save(self, folder: Path | str) -> None:
        """Writes a folder that `from_pretrained` reads, and `transformers` where no part of it lies elsewhere. What
        stands beside the model in its own folder is copied."""
        weights.save(self.model, folder)
        self.processor.tokenizer.save(str(Path(folder) / "tokenizer.json"))
        for place in BESIDE if self.folder is not None and self.folder != Path(folder) else ():
            if (own := self.folder / place).is_dir():
                shutil.copytree(own, Path(folder) / place, dirs_exist_ok=True)

    @property
    def languages(self) -> Collection[str]:
        return self.hears.languages

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> Listener:
        return self.hears.listen(self.sample_rate, options, live)

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """A whole turn, as it is answered."""
        return self.hears.heard(audio, options)

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None, scene: bool = True) -> Heard:
        """What is said in a recording, written down.

        Args:
            sound: of any sample rate, mono or not; or in pieces [n] at 16 kHz.
            options: how; words have times where a recognizer hears.
            scene: makes no difference.

        Raises:
            ModelError: the times of words are asked for, and there are none.
        """
        return self.hears.hear(sound, options)

    def chat(self, assistant: bool = True) -> OmniChat:
        """A conversation; it is the same model that writes and that speaks."""
        return OmniChat(self)

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        """Reads a text aloud, 80 ms at a time.

        Raises:
            UnsayableError: nothing of it can be said.
            ModelError: the model can't speak, or not so much at once.
        """
        for samples in framed(self.speaking().say(text, _manner(sampling or Sampling())), self.sample_rate * 2 // 25):
            yield Audio(samples, self.sample_rate)

    def _written_down(self, hearing: Hearing, options: HearingOptions) -> str:
        """What was said, by the thinker."""
        told, asked = TRANSLATE if options.translate else WRITE_DOWN
        contents = (hearing.content(), {"type": "text", "text": asked})
        answer = self.chat().answer([Message("user", "", contents=contents)], None, told, spoken=False)
        for _ in answer.events():
            pass
        return answer.text.strip()

    def speaking(self) -> Speaker:
        """What says replies.

        Raises:
            ModelError: there is nothing that does.
        """
        if self.speaker is None:
            raise ModelError("This model has no voice: it can only write. Ask for text alone.")
        return self.speaker


class OmniChat:
    """One conversation's memory. Not for two answers at once.

    Args:
        backend: what answers.
    """

    def __init__(self, backend: OmniBackend):
        self.backend = backend
        self.state: OmniState | None = None
        self._opening: list[dict[str, Any]] = []
        self._read: list[Message] = []
        self._seen: list[int] = []  # of each of those, tokens of its pictures and videos
        self._marks: list[OmniMark] = []  # behind the instructions and behind each message

    def answer(
        self,
        past: Sequence[Message],
        sampling: Sampling | None = None,
        instructions: str | None = None,
        spoken: bool = True,
        functions: Functions | None = None,
    ) -> OmniReply:
        """See `HalfDuplexChat.answer`.

        Raises:
            ToolCallError: functions are given, which it can't call.
            ModelError: it can't speak.
        """
        kept = self._readable(past, functions)
        if spoken:
            self.backend.speaking()
        return OmniReply(self, kept, sampling or Sampling(), instructions or None, spoken)

    def read_ahead(
        self, past: Sequence[Message], said: str, instructions: str | None = None, functions: Functions | None = None
    ) -> Iterator[None]:
        """See `ChatSession.read_ahead`: reads the past."""
        for _ in self.brought(self._readable(past, functions), instructions or None, Usage()):
            yield None

    @property
    def likelihoods(self) -> None:
        """See `ChatSession.likelihoods`: the words aren't read."""
        return None

    def addressed(self, said: str) -> float:
        """See `ChatSession.addressed`: there may be no words."""
        return 0.0

    def interrupts(self, said: str) -> float:
        """See `ChatSession.interrupts`, likewise."""
        return 0.0

    def sounds_over(self) -> float:
        """See `ChatSession.sounds_over`: there are no words, so how it sounds decides alone."""
        return 1.0

    def _readable(self, past: Sequence[Message], functions: Functions | None) -> list[Message]:
        if functions is not None or any(message.calls or message.results for message in past):
            raise ToolCallError("This model can't call functions: its chat template doesn't take them.")
        return [message for message in past if message.is_something]

    def brought(self, past: Sequence[Message], instructions: str | None, usage: Usage) -> Iterator[None]:
        """Brings the memory to `past`, a step for each part of a message."""
        model, processor = self.backend.model, self.backend.processor
        opening = processor.opening(instructions and instructions[:MAX_PROMPT_CHARACTERS])
        if self.state is None or opening != self._opening:
            self.state, self._read, self._opening = model.init_state(), [], opening
            if opening:
                model.read(self.state, processor(opening, reply=False))
            self._marks = [model.mark(self.state)]
        same = 0
        while same < min(len(past), len(self._read)) and past[same].same(self._read[same]):
            same += 1
        del self._marks[same + 1 :], self._read[same:], self._seen[same:]
        model.rewind(self.state, self._marks[-1])
        usage.cached = self._marks[-1].length
        heard = [0, *(self._tokens(at) if message.heard else 0 for at, message in enumerate(self._read))]
        usage.heard = usage.heard_cached = sum(heard)
        usage.seen = usage.seen_cached = sum(self._seen)
        yield None
        for message in past[same:]:
            given = {"role": message.role, "content": _contents(message)}
            seen = 0
            for part in processor([given], reply=False):  # a picture may take a while
                before = int(self.state.thinker.length)
                model.read(self.state, [part])
                seen += int(self.state.thinker.length) - before if isinstance(part, (Seen, Watched)) else 0
                yield None
            self.remember(message, seen)
            usage.seen += seen
            usage.heard += self._tokens(len(self._read) - 1) if message.heard else 0
        usage.input = self._marks[-1].length

    def remember(self, message: Message, seen: int = 0) -> None:
        """The message has been read, with so many tokens of pictures and videos."""
        self._read.append(message)
        self._seen.append(seen)
        self._marks.append(self.backend.model.mark(self.state))

    def _tokens(self, at: int) -> int:
        """Of a message, but those of its pictures and videos."""
        return self._marks[at + 1].length - self._marks[at].length - self._seen[at]


def _contents(message: Message) -> list[Mapping[str, Any]]:
    if message.contents:
        return list(message.contents)
    sound = [{"type": "audio", "heard": message.embeddings}] if message.embeddings is not None else []
    return [*sound, {"type": "text", "text": message.text}] if message.text else sound


@dataclass
class OmniReply:
    """An answer while it is made; see `StreamingReply`."""

    chat: OmniChat
    past: list[Message]
    sampling: Sampling
    instructions: str | None = None
    spoken: bool = True
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    _speech: Speech | None = None

    @property
    def text(self) -> str:
        """What was thought so far."""
        return self._speech.text if self._speech is not None else ""

    def events(self) -> Generator[Event | None, None, None]:
        """Text and sound in the order in which they are ready, then the end; None where only work was done.

        Raises:
            TooLongError: there is no room for an answer.
        """
        chat, backend = self.chat, self.chat.backend
        model, processor = backend.model, backend.processor
        for _ in chat.brought(self.past, self.instructions, self.usage):
            yield None
        state, ended = chat.state, False
        model.read(state, [Words(torch.tensor(processor.tokenizer.encode(REPLY, add_special_tokens=False).ids))])
        self._speech = self._made(state)
        try:
            with closing(self._speech.events()) as made:
                for each in framed(made, backend.sample_rate * 2 // 25):
                    if isinstance(each, Piece):
                        self.usage.output += 1
                        yield TextEvent(each.text) if each.text else None
                    else:
                        yield AudioEvent(Audio(each, backend.sample_rate))
            ended = True
        finally:
            if self.text.strip():
                self.message = Message("assistant", self.text)
            last = state.reply[-1:]
            self.cut = ended and not set(last) <= set(backend.ends)
            if ended and self.message is not None:  # of one that was broken off, what was heard is read later
                end = processor.tokenizer.encode(AFTER, add_special_tokens=False).ids
                model.read(state, [Words(torch.tensor([*(last if self.cut else ()), *end]))])
                chat.remember(self.message)
        yield EndEvent(self.text)

    def until(self, seconds: float) -> str:
        """The words that were said aloud in the first `seconds`, whole ones; of a written answer all of them."""
        return "" if self._speech is None else self._speech.until(seconds)

    def _made(self, state: OmniState) -> Speech:
        """The reply that is due, said or written.

        Raises:
            TooLongError: there is no room for it.
        """
        how, backend = self.sampling, self.chat.backend
        speaker = backend.speaking() if self.spoken else None
        context = backend.model.thinker.language_model.context if speaker is None else speaker.context
        room = context - int(state.thinker.length) - ROOM
        if room < 1:
            raise TooLongError("The conversation leaves no room for an answer: begin a new one, or give less.")
        settings = ReplySettings(min(how.max_tokens, room), ends=backend.ends, thinking=how.thinking)
        if speaker is None:
            return Writing(pieces(backend.model, backend.processor, state, settings))
        return speaker.speak(state, settings, _manner(how))


def _manner(how: Sampling) -> Manner:
    """How it is said: as the speaker does by itself, where nothing else was asked for."""
    usual = Sampling()
    given = (how.temperature, how.top_k) != (usual.temperature, usual.top_k)
    return Manner(how.voice, how.seed, *((how.temperature, how.top_k) if given else (None, None)))
