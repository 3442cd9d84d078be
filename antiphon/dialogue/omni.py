"""Qwen2.5-Omni as a model that takes turns: it hears with its own tower, sees, thinks, and speaks while it thinks.

    backend = OmniBackend.from_pretrained("Qwen2.5-Omni-3B")
    listener = backend.listen()
    listener.step(samples)                             # as they come: every 2 s are encoded while the user speaks
    answer = backend.chat().answer([listener.finish().message()])
    for event in answer.events(): ...                  # TextEvent, AudioEvent, EndEvent

What is heard isn't written down: the language model reads the sound itself (`Hearing.embeddings`), `Hearing.text` is
empty. Conversations are remembered as in `half_duplex`: what a past begins with as before isn't read again, and a
message that was cut to what was heard of it is read anew, cut.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio.io import SILENCE_PEAK, Audio
from antiphon.audio.mel import HOP, WINDOW
from antiphon.dialogue.backend import HEARING_RATE, MAX_PROMPT_CHARACTERS, Hearing, Usage
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, Sampling, TextEvent
from antiphon.dialogue.tool_calls import Functions, Message
from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.features import log_mel
from antiphon.errors import ModelError, ToolCallError, TooLongError, UnsayableError
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions, Passage
from antiphon.models.llm.detokenizer import IncrementalDetokenizer
from antiphon.models.omni import weights
from antiphon.models.omni.model import SPEAKING, Omni, OmniMark, OmniState, ReplySettings, Spoken, Written
from antiphon.models.omni.processor import AFTER, REPLY, OmniProcessor
from antiphon.models.omni.thinker import Seen, Watched, Words

PROMPT = (  # as published: with another one the talker speaks less well
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory "
    "and visual inputs, as well as generating text and speech."
)
WRITE_DOWN = ("You are a speech recognition model.", "Transcribe the audio into text without any punctuation marks.")
TRANSLATE = ("You are a speech translation model.", "Translate the audio into English text.")
READ_ALOUD = "Read this text aloud, word for word: "
WRITTEN_SECONDS = 30  # of sound that are written down at once
LETTERS_A_SECOND = 15.0  # of speech, as far as nothing better is known of it
PATIENCE = (50, 100)  # codes: a second for each token of a text, and two
MIN_FRAMES = 3  # of a spectrogram, that make a token
LANGUAGES = (ENGLISH, "zh")  # that it was published for


class OmniBackend:
    """A `Backend`. Conversations share its weights and nothing else.

    Args:
        model: all of it, or the thinker alone, which writes and doesn't speak.
        processor: reads messages.
        name: what it is called.
        folder: that it was read from.
    """

    calls_functions, sees, writes_down, structured = False, True, False, False

    def __init__(self, model: Omni, processor: OmniProcessor, name: str = "omni", folder: Path | None = None):
        if model.thinker is None:
            raise ModelError("This model has no thinker, so it can't be talked to: load the whole folder.")
        self.model, self.processor, self.name, self.folder = model, processor, name, folder
        speaks = model.talker is not None and model.token2wav is not None and bool(model.voices)
        self.voices: Sequence[str] = tuple(model.voices) if speaks else ()
        self.sample_rate = model.sample_rate if speaks else 24000
        tokenizer = processor.tokenizer
        known = (tokenizer.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>"))
        self.ends = tuple(token for token in known if token is not None)
        if not self.ends:
            raise ModelError("The tokenizer has no <|im_end|>, which ends turns: it isn't that of a Qwen2.5-Omni.")

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, language_model: Path | str | None = None, name: str | None = None
    ) -> OmniBackend:
        """Opens a folder; see `antiphon.models.omni.weights.load`."""
        folder = Path(folder)
        model = weights.load(folder, language_model=language_model)
        if model.thinker is None:
            raise ModelError(f"{folder} holds a talker alone, which can't be talked to: load the whole folder.")
        return cls(model, OmniProcessor.from_pretrained(folder, model.config.thinker), name or folder.name, folder)

    def save(self, folder: Path | str) -> None:
        """Writes a folder that `from_pretrained` and `transformers` read."""
        weights.save(self.model, folder)
        self.processor.tokenizer.save(str(Path(folder) / "tokenizer.json"))

    @property
    def languages(self) -> Collection[str]:
        return LANGUAGES

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> OmniListener:
        return OmniListener(self, options, live)

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """A whole turn, as it is answered."""
        listener = OmniListener(self, options, sample_rate=audio.sample_rate)
        listener.step(audio.mono().samples.float())
        return listener.finish()

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None, scene: bool = True) -> Heard:
        """What is said in a recording, written down by the thinker, half a minute at a time.

        Args:
            sound: of any sample rate, mono or not; or in pieces [n] at 16 kHz.
            options: how; words have no times here.
            scene: makes no difference.

        Raises:
            ModelError: the times of words are asked for.
        """
        options = options or HearingOptions()
        if options.words:
            raise ModelError("This model tells no times of words: leave words out, or load 'base'.")
        if not isinstance(sound, Audio):
            sound = Audio(torch.cat([torch.zeros(0), *sound]), HEARING_RATE)
        samples, passages = sound.mono().resample(HEARING_RATE).samples.float(), []
        for at, piece in enumerate(samples.split(WRITTEN_SECONDS * HEARING_RATE)):
            hearing = self.heard(Audio(piece, HEARING_RATE))
            if hearing.is_speech:
                start, seconds = float(at * WRITTEN_SECONDS), len(piece) / HEARING_RATE
                text = self._written_down(hearing, options)
                passages.append(Passage(text, "", start, start + seconds, options.language, voiced=seconds))
        return Heard.of(passages, len(samples) / HEARING_RATE)

    def _written_down(self, hearing: Hearing, options: HearingOptions) -> str:
        told, asked = TRANSLATE if options.translate else WRITE_DOWN
        contents = (hearing.content(), {"type": "text", "text": asked})
        answer = self.chat().answer([Message("user", "", contents=contents)], None, told, spoken=False)
        for _ in answer.events():
            pass
        return answer.text.strip()

    def chat(self, assistant: bool = True) -> OmniChat:
        """A conversation; it is the same model that writes and that speaks."""
        return OmniChat(self)

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        """Reads a text aloud, 80 ms at a time.

        Raises:
            UnsayableError: nothing of it can be said.
            ModelError: the model can't speak.
        """
        script = tuple(self.processor.plain.encode(text.strip(), add_special_tokens=False).ids)
        if not script:
            raise UnsayableError("There is nothing to be said in the text.")
        reply = OmniReply(
            self.chat(), [Message("user", READ_ALOUD + text.strip())], sampling or Sampling(), script=script
        )
        with closing(reply.events()) as events:
            for event in events:
                if isinstance(event, AudioEvent):
                    yield event.audio


class OmniListener:
    """One turn, heard by the audio tower 2 s at a time while it goes on; see `Listener`.

    What is more than 80 dB under the loudest moment of the whole turn is cut off, which isn't known before the end:
    blocks that would have been others are encoded again then, so what is heard is what a whole recording gives.

    Args:
        backend: whose tower hears.
        options: how.
        live: somebody waits for the end; otherwise what is said is written down, too.
        sample_rate: Hz; by default the backend's.
    """

    def __init__(
        self, backend: OmniBackend, options: HearingOptions | None = None, live: bool = True,
        sample_rate: int | None = None,
    ):  # fmt: skip
        self.backend, self.options, self.live = backend, options or HearingOptions(), live
        self.tower = backend.model.thinker.audio_tower
        self.resampler = soxr.ResampleStream(sample_rate or backend.sample_rate, HEARING_RATE, 1, dtype="float32")
        self._samples = torch.zeros(0)  # from half a window before the next frame on
        self._begun = False
        self._count, self._peak = 0, 0.0
        self._logs: list[Tensor] = []  # of whole blocks, [bands, frames] each
        self._blocks: list[tuple[Tensor, Tensor]] = []  # spectrograms as they were encoded, and what came of them
        self._loudest = -torch.inf

    def step(self, samples: Tensor) -> None:
        self._take(torch.from_numpy(self.resampler.resample_chunk(samples.numpy())))

    def draft(self) -> str:
        return ""

    def passages(self) -> Sequence[Passage]:
        return ()

    @torch.inference_mode()
    def peek(self) -> Hearing:
        frames = -(-self._count // HOP) - sum(log.shape[1] for log in self._logs)
        if self._peak < SILENCE_PEAK or -(-self._count // HOP) < MIN_FRAMES:
            return Hearing("")
        total = 2 * -(-self._count // FRAME_SAMPLES) - sum(log.shape[1] for log in self._logs)
        samples = self._samples if self._begun else self._mirrored(self._samples)
        rest = self._log(F.pad(samples, (0, total * HOP + WINDOW - len(samples))), total)
        loudest = max([self._loudest, *(float(part.max()) for part in (rest,) if part.numel())])
        for at, log in enumerate(self._logs):
            if not torch.equal(mel := _cut_off(log, loudest), self._blocks[at][0]):
                self._blocks[at] = self._encoded(mel)
        heard = [features for _, features in self._blocks]
        if frames >= MIN_FRAMES:
            heard.append(self._encoded(_cut_off(rest[:, :frames], loudest))[1])
        hearing = Hearing("", torch.cat(heard), self.options.language)
        if self.live:
            return hearing
        text = self.backend._written_down(hearing, self.options)
        return replace(hearing, text=text, passages=(Passage(text, end=self._count / HEARING_RATE),) if text else ())

    def finish(self) -> Hearing:
        self._take(torch.from_numpy(self.resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
        return self.peek()

    @torch.inference_mode()
    def _take(self, samples: Tensor) -> None:
        if not len(samples):
            return
        self._count, self._peak = self._count + len(samples), max(self._peak, float(samples.abs().max()))
        self._samples = torch.cat([self._samples, samples])
        if not self._begun and len(self._samples) > WINDOW // 2:
            self._samples, self._begun = self._mirrored(self._samples), True
        size = self.tower.config.block
        while self._begun and len(self._samples) >= size * HOP + WINDOW:
            log = self._log(self._samples, size)
            self._samples = self._samples[size * HOP :]
            self._loudest = max(self._loudest, float(log.max()))
            self._logs.append(log)
            self._blocks.append(self._encoded(_cut_off(log, self._loudest)))

    def _mirrored(self, samples: Tensor) -> Tensor:
        """With what stands before the first sample of a spectrogram."""
        short = F.pad(samples, (0, max(0, WINDOW // 2 + 1 - len(samples))))
        return torch.cat([short[1 : WINDOW // 2 + 1].flip(0), samples])

    def _log(self, samples: Tensor, frames: int) -> Tensor:
        windows = samples.unfold(0, WINDOW, HOP)[:frames]
        return log_mel(windows, self.tower.config.num_mel_bins).T

    def _encoded(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        return mel, self.tower(mel[None].to(self.tower.conv1.weight.device))[0][0]


def _cut_off(log: Tensor, loudest: float) -> Tensor:
    """Whisper's scaling of logarithms of mel bands."""
    return (log.clamp_min(loudest - 8.0) + 4.0) / 4.0


class OmniChat:
    """One conversation's memory. Not for two answers at once.

    Args:
        backend: what answers.
    """

    def __init__(self, backend: OmniBackend):
        self.backend = backend
        self.state: OmniState | None = None
        self._prompt = ""
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
        if spoken and not self.backend.voices:
            raise ModelError("This model has no voice: it can only write. Ask for text alone.")
        return OmniReply(self, kept, sampling or Sampling(), instructions or None, spoken)

    def read_ahead(
        self, past: Sequence[Message], said: str, instructions: str | None = None, functions: Functions | None = None
    ) -> Iterator[None]:
        """See `ChatSession.read_ahead`: reads the past."""
        for _ in self.brought(self._readable(past, functions), instructions or None, Usage()):
            yield None

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
        prompt = (instructions or PROMPT)[:MAX_PROMPT_CHARACTERS]
        if self.state is None or prompt != self._prompt:
            self.state, self._read, self._prompt = model.init_state(), [], prompt
            model.read(self.state, processor([{"role": "system", "content": prompt}], reply=False))
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
    """An answer while it is made; see `StreamingReply`.

    Attributes:
        script: what it says, token by token, where that is given.
        seconds: of its sound so far.
    """

    chat: OmniChat
    past: list[Message]
    sampling: Sampling
    instructions: str | None = None
    spoken: bool = True
    script: tuple[int, ...] | None = None
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    text: str = ""
    seconds: float = 0.0
    _ended: bool = False

    def events(self) -> Generator[Event | None, None, None]:
        """Text and sound in the order in which they are ready, then the end; None where only work was done.

        Raises:
            TooLongError: there is no room for an answer.
        """
        chat, backend = self.chat, self.chat.backend
        model, processor = backend.model, backend.processor
        for _ in chat.brought(self.past, self.instructions, self.usage):
            yield None
        state = chat.state
        model.read(state, [Words(torch.tensor(processor.tokenizer.encode(REPLY, add_special_tokens=False).ids))])
        voice, settings = self._voice(), self._settings(state)
        detokenizer, held = IncrementalDetokenizer(processor.tokenizer, {}), torch.zeros(0)
        size = backend.sample_rate * 2 // 25
        try:
            with closing(model.reply(state, voice, settings)) as made:
                for event in made:
                    if isinstance(event, Spoken):
                        held = torch.cat([held, event.samples.float().cpu()])
                        while len(held) >= size:
                            yield self._sounding(held[:size])
                            held = held[size:]
                    elif isinstance(event, Written) and event.token not in settings.ends:
                        self.usage.output += 1
                        self.text += (piece := detokenizer.add(event.token))
                        yield TextEvent(piece) if piece else None
            if len(held):
                yield self._sounding(held)
            self._ended = True
        finally:
            if self.text.strip():
                self.message = Message("assistant", self.text)
            last = state.reply[-1:]
            self.cut = self._ended and self.script is None and not set(last) <= set(settings.ends)
            if self._ended and self.message is not None:  # of one that was broken off, what was heard is read later
                end = processor.tokenizer.encode(AFTER, add_special_tokens=False).ids
                model.read(state, [Words(torch.tensor([*(last if self.cut else ()), *end]))])
                chat.remember(self.message)
        yield EndEvent(self.text)

    def until(self, seconds: float) -> str:
        """The words that were said aloud in the first `seconds`, whole ones; of a written answer all of them.

        The talker tells no times: letters are taken to be said at an even pace, that of the whole answer once it is
        made, and until then that of usual speech.
        """
        if not self.spoken or (self._ended and seconds >= self.seconds):
            return self.text
        pace = len(self.text) / self.seconds if self._ended and self.seconds else LETTERS_A_SECOND
        letters = int(pace * max(0.0, min(seconds, self.seconds)))
        if letters >= len(self.text) or self.text[letters : letters + 1].isspace():
            return self.text[:letters]
        begun = self.text[:letters].split(" ")
        return " ".join(begun[:-1])

    def _sounding(self, samples: Tensor) -> AudioEvent:
        rate = self.chat.backend.sample_rate
        self.seconds += len(samples) / rate
        return AudioEvent(Audio(samples, rate))

    def _voice(self) -> str | None:
        return (self.sampling.voice or self.chat.backend.voices[0]) if self.spoken else None

    def _settings(self, state: OmniState) -> ReplySettings:
        how, usual, backend = self.sampling, Sampling(), self.chat.backend
        speaking = replace(SPEAKING, seed=how.seed)
        if (how.temperature, how.top_k) != (usual.temperature, usual.top_k):  # those are another talker's
            speaking = replace(speaking, temperature=how.temperature, top_k=how.top_k)
        thinking = how.thinking
        read = int(state.thinker.length) + 8
        room = backend.model.thinker.language_model.context - read
        wanted = how.max_tokens if self.script is None else len(self.script) + 1
        if self.spoken:
            room = min(room, backend.model.talker.lm.context - read)
        if room < 1 or (self.script is not None and room < wanted):
            raise TooLongError("The conversation leaves no room for an answer: begin a new one, or give less.")
        codes = ReplySettings.max_codes
        if self.spoken:  # the talker reads all of the conversation, too
            codes = min(codes, backend.model.talker.lm.context - read)
        return ReplySettings(
            min(wanted, room), codes, ends=backend.ends, thinking=thinking, speaking=speaking, seed=how.seed,
            script=self.script, patience=PATIENCE,
        )  # fmt: skip
