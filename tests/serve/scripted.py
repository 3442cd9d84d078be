"""A backend that costs nothing and says what it is told to: for tests of everything around a model."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.backend import Hearing, Usage
from antiphon.dialogue.events import AudioEvent, CallEvent, EndEvent, Event, Sampling, TextEvent
from antiphon.dialogue.half_duplex import HalfDuplexBackend, Message
from antiphon.dialogue.tool_calls import Call, Functions, joined
from antiphon.errors import ToolCallError, UnsayableError
from antiphon.models.asr.heard import HearingOptions, Passage, Word
from antiphon.models.tts.normalization.normalize import can_be_said
from tests.dialogue.pretended import loud_turns

FRAME = 1920
CALL = re.compile(r"call (\w+) (\{.*?\})")


@dataclass
class ScriptedListener:
    """Hears the loudness of what it got, as a word: "level 0.25" for sound around a quarter of full scale."""

    owner: Scripted
    options: HearingOptions
    parts: list[Tensor] = field(default_factory=list)

    def step(self, samples: Tensor) -> None:
        if self.owner.deaf:
            raise RuntimeError("the ears have fallen off")
        self.parts.append(samples)

    def draft(self) -> str:
        return self.owner.hears or ""

    def peek(self) -> Hearing:
        sound = torch.cat(self.parts) if self.parts else torch.zeros(1)
        self.owner.heard.append(sound)
        if float(sound.abs().max()) < 1e-3:
            return Hearing("")
        text, words = self.owner.hears or f"level {float(sound.abs().max()):.2f}", ()
        language = self.options.language or self.options.expected
        loud = (sound.abs() > 1e-3).nonzero()[:, 0] / 24000
        start, end = float(loud[0]), float(loud[-1])
        if self.options.words:
            each = (end - start) / len(text.split())
            words = tuple(
                Word(word, start + at * each, start + (at + 1) * each, 0.5) for at, word in enumerate(text.split())
            )
        text = f"in English: {text}" if self.options.translate else text
        return Hearing(text, None, language, (Passage(text, "", start, end, language, words, no_speech=0.125),))

    def passages(self) -> Sequence[Passage]:
        return ()

    def finish(self) -> Hearing:
        return self.peek()


@dataclass
class ScriptedAnswer:
    """Says `owner.words`, a frame of sound (the level that was heard) for each.

    Asked to "say Well. call weather {}", it says "Well." and then calls functions, if there are any.
    """

    owner: Scripted
    past: list[Message]
    how: Sampling
    instructions: str | None
    spoken: bool
    functions: Functions | None = None
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    text: str = ""
    called: list[Call] = field(default_factory=list)

    def events(self) -> Iterator[Event | None]:
        self.usage.input = 2 + sum(len(message.text.split()) for message in self.past)
        self.usage.heard, self.usage.cached = self.usage.input // 2, 1
        words = self.owner.words
        if self.past and self.past[-1].text.startswith("say "):
            words = self.past[-1].text.removeprefix("say ").split()
        calls: list[Call] = []
        if self.past and self.past[-1].results:
            words = ["It", "says", *" and ".join(result.text for result in self.past[-1].results).split()]
        elif self.functions is not None and self.functions.choice != "none":
            asked = self.past[-1].text
            calls = [Call(name, arguments) for name, arguments in CALL.findall(asked)]
            if self.functions.only is not None or (self.functions.choice == "required" and not calls):
                calls = [Call(self.functions.only or min(self.functions.names), "{}")]
            if calls:
                words = asked.removeprefix("say ").partition("call ")[0].split() if CALL.search(asked) else []
            calls = calls if self.functions.parallel else calls[:1]
        level = 0.0
        for message in self.past:
            if message.text.startswith("level "):
                level = float(message.text.split()[1])
        if "BREAK" in words:
            raise RuntimeError("a secret of the model")
        try:
            for word in words[: self.how.max_tokens]:
                time.sleep(self.owner.pace)
                self.text += (" " if self.text else "") + word
                self.usage.output += 1
                yield TextEvent(word if self.text == word else f" {word}")
                if self.spoken:
                    for _ in range(self.owner.frames):
                        self.owner.made += 1
                        yield AudioEvent(Audio(torch.full((FRAME,), level), 24000))
            for call in calls:
                assert self.functions is not None
                if call.name not in self.functions.names:
                    raise ToolCallError(f"The model called '{call.name}', which isn't there.")
                self.called.append(call)
                yield CallEvent(call)
        finally:
            self.cut = len(words) > self.how.max_tokens
            self.message = Message("assistant", self.text, calls=tuple(self.called))
        yield EndEvent(self.text)

    def until(self, seconds: float) -> str:
        return " ".join(self.text.split()[: int(seconds / 0.08 / self.owner.frames)])


@dataclass
class ScriptedChat:
    owner: Scripted

    def answer(
        self,
        past: Sequence[Message],
        sampling: Sampling | None = None,
        instructions: str | None = None,
        spoken: bool = True,
        functions: Functions | None = None,
    ) -> ScriptedAnswer:
        past = joined(past)
        answer = ScriptedAnswer(self.owner, past, sampling or Sampling(), instructions, spoken, functions)
        self.owner.answers.append(answer)
        return answer

    def read_ahead(
        self,
        past: Sequence[Message],
        said: str,
        instructions: str | None = None,
        functions: Functions | None = None,
    ) -> Iterator[None]:
        self.owner.drafts.append(said)
        yield None

    def sounds_over(self) -> float:
        return self.owner.complete

    likelihoods = None

    def addressed(self, said: str) -> float:
        return -9.0 if "mother" in said else 9.0

    def interrupts(self, said: str) -> float:
        return 9.0


@dataclass
class Scripted:
    """See the module.

    Attributes:
        words: of every answer; unless the last message is "say ...".
        pace: seconds of work for each word; `frames` of sound for each.
        complete: how likely the words that were read ahead are all.
        hears: what every turn says; None for its loudness.
        deaf: the ears fail.
        calls_functions: it can.
        heard, answers, made, drafts: what was done, for tests to look at.
    """

    words: list[str] = field(default_factory=lambda: "Rome is the capital of Italy.".split())
    pace: float = 0.0
    frames: int = 2
    hears: str | None = None
    deaf: bool = False
    calls_functions: bool = False
    sees: bool = False
    writes_down: bool = True
    structured: bool = True
    shares_steps: bool = False
    name: str = "scripted"
    sample_rate: int = 24000
    voices: Sequence[str] = ("heart",)
    languages: Sequence[str] = ("en",)
    heard: list[Tensor] = field(default_factory=list)
    answers: list[ScriptedAnswer] = field(default_factory=list)
    made: int = 0
    complete: float = 1.0
    drafts: list[str] = field(default_factory=list)

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> ScriptedListener:
        return ScriptedListener(self, options or HearingOptions())

    def chat(self) -> ScriptedChat:
        return ScriptedChat(self)

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        if text == "BREAK":
            raise RuntimeError("a secret of the model")
        if not can_be_said(text):
            raise UnsayableError("There is nothing to be said in the text.")
        for number, _ in enumerate(text.split()):
            time.sleep(self.pace)
            tone = np.sin(2 * np.pi * 440 * (np.arange(FRAME) + number * FRAME) / 24000).astype(np.float32)
            yield Audio(torch.from_numpy(0.5 * tone), 24000)


def speech(seconds: float, level: float = 0.25) -> bytes:
    """16-bit noise that a loudness detector takes for speech, as loud as `level`."""
    noise = np.random.default_rng(0).choice([-level, level], int(seconds * 24000))
    return (noise * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * int(seconds * 24000))


@contextlib.contextmanager
def serving(backend, config=None, engine=None, turns=loud_turns, turn_detector=None):
    """A real server on a port of its own, in a thread; gives (its host:port, its `Served`)."""
    import asyncio

    from antiphon.serve.app import create_app
    from antiphon.serve.run import listen, make_server
    from antiphon.serve.settings import ServeConfig

    config = config or ServeConfig(port=0)
    if not isinstance(backend, HalfDuplexBackend):  # what scripted users say is noise, which is no speech to a network
        config = replace(config, vad="loudness")
    app = create_app(backend, config, engine=engine, turns=turns, turn_detector=turn_detector)
    served = app.state.served
    sockets = [listen(served.config)]
    server = make_server(app)
    server.capture_signals = contextlib.nullcontext  # those are the main thread's
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=sockets)), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
    served.server = server
    try:
        yield f"127.0.0.1:{sockets[0].getsockname()[1]}", served
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
