"""Wyoming, the protocol of Home Assistant's voice services: it hears, reads aloud, and answers, for whoever connects.

Events are lines of JSON with sound behind them, over TCP, and know neither keys nor encryption: it is for a network
that one trusts. `antiphon serve --wyoming tcp://0.0.0.0:10300`, then in Home Assistant: Settings, Devices & services,
Add integration, Wyoming Protocol, this machine's address and port.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event as WyomingEvent
from wyoming.handle import Handled, NotHandled
from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    Describe,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
)
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import Synthesize

from antiphon import __version__
from antiphon.audio.io import Audio
from antiphon.audio.pcm import RATE, pcm16
from antiphon.dialogue.backend import ChatSession
from antiphon.dialogue.events import Sampling
from antiphon.dialogue.tool_calls import Message
from antiphon.errors import ConfigError
from antiphon.models.asr.heard import ENGLISH, HearingOptions
from antiphon.serve.errors import RequestError, explained
from antiphon.serve.openai.options import own_voice, spoken_in
from antiphon.serve.state import LiveOnly, Served
from antiphon.serve.work.http import stream_steps

MAX_CONVERSATIONS = 16  # that are remembered, by the id that Home Assistant gives them
MAX_TURNS = 40  # of each, questions and answers
WRITTEN_TOKENS = 128  # of an answer, which is read aloud behind it
ABOUT = {"attribution": Attribution("Antiphon", ""), "installed": True, "version": __version__}


class WyomingServer:
    """A model's other door.

    Args:
        served: the model, and whatever else the server's routes share.
        uri: where it listens, tcp://HOST:PORT or unix://PATH.

    Raises:
        ConfigError: the address is none, or the model can't do what is asked of it there.
    """

    def __init__(self, served: Served, uri: str):
        if isinstance(served.backend, LiveOnly):
            raise ConfigError("A duplex model talks live alone: --wyoming is for one that takes turns.")
        try:
            self.server = AsyncServer.from_uri(uri)
        except ValueError as error:
            raise ConfigError(f"--wyoming {uri}: {error}; tcp://127.0.0.1:10300, for instance.") from None
        self.served = served
        self.conversations: OrderedDict[str, tuple[ChatSession, list[Message]]] = OrderedDict()

    async def start(self) -> None:
        """Listens.

        Raises:
            ConfigError: it can't.
        """
        try:
            await self.server.start(lambda reader, writer: _Client(self, reader, writer))
        except OSError as error:
            raise ConfigError(f"--wyoming: it can't be listened there: {error.strerror or error}.") from error

    async def stop(self) -> None:
        """Hangs up on everybody."""
        await self.server.stop()

    def info(self) -> Info:
        """What it can do."""
        backend = self.served.backend
        languages = list(backend.languages)
        heard = AsrProgram(
            "antiphon", description="Antiphon hears", **ABOUT,
            models=[AsrModel(backend.name, description=backend.name, languages=languages, **ABOUT)],
        )  # fmt: skip
        said = TtsProgram(
            "antiphon", description="Antiphon reads aloud", **ABOUT,
            voices=[TtsVoice(voice, description=voice, languages=[ENGLISH], **ABOUT) for voice in backend.voices],
        )  # fmt: skip
        answered = HandleProgram(
            "antiphon", description="Antiphon answers", **ABOUT,
            models=[HandleModel(backend.name, description=backend.name, languages=languages, **ABOUT)],
        )  # fmt: skip
        return Info(asr=[heard], tts=[said] if backend.voices else [], handle=[answered])


class _Client(AsyncEventHandler):
    """One connection: a question after the other."""

    def __init__(self, owner: WyomingServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        super().__init__(reader, writer)
        self.owner, self.served = owner, owner.served
        self.language: str | None = None
        self.rate, self.width, self.channels = 16000, 2, 1
        self.sound = bytearray()

    async def handle_event(self, event: WyomingEvent) -> bool:
        """Does what is asked. What can't be done is told, and then it hangs up.

        Home Assistant knows no errors: it would wait for its words or its sound until the connection ends. What it says
        of a turn that wasn't answered, it reads aloud.
        """
        try:
            await self._handle(event)
        except ConnectionError:
            return False
        except Exception as error:
            told = explained(error)
            if Transcript.is_type(event.type):
                await self.write_event(NotHandled(told.message, event.data.get("context")).event())
            await self.write_event(Error(told.message, told.code).event())
            return False
        return True

    async def _handle(self, event: WyomingEvent) -> None:
        if Describe.is_type(event.type):
            await self.write_event(self.owner.info().event())
        elif Ping.is_type(event.type):
            await self.write_event(Pong(Ping.from_event(event).text).event())
        elif Transcribe.is_type(event.type):
            self.language = Transcribe.from_event(event).language
        elif AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            self.rate, self.width, self.channels = start.rate, start.width, start.channels
            self.sound.clear()
        elif AudioChunk.is_type(event.type):
            self._take(AudioChunk.from_event(event).audio)
        elif AudioStop.is_type(event.type):
            await self._transcribe()
        elif Synthesize.is_type(event.type):
            await self._say(Synthesize.from_event(event))
        elif Transcript.is_type(event.type):
            await self._answer(Transcript.from_event(event))

    def _take(self, data: bytes) -> None:
        if self.width != 2 or self.channels not in (1, 2) or not 8000 <= self.rate <= 48000:
            raise RequestError("invalid_value", "Sound has 16 bits, one or two channels, and 8 to 48 kHz.")
        if len(self.sound) + len(data) > self.served.config.decoded_seconds * self.rate * 2 * self.channels:
            self.sound.clear()
            raise RequestError("invalid_value", f"A turn has at most {self.served.config.decoded_seconds:.0f} s.")
        self.sound += data

    async def _transcribe(self) -> None:
        """Writes down what was heard between the start and the stop."""
        language = spoken_in(self.language, "language", self.served.backend.languages)
        whole = len(self.sound) // (2 * self.channels) * 2 * self.channels
        heard, self.sound = bytes(self.sound[:whole]), bytearray()

        def steps() -> Iterator[str | None]:
            samples = torch.frombuffer(bytearray(heard), dtype=torch.int16)
            samples = samples.float().view(-1, self.channels).mean(1) / 32768
            listener = self.served.backend.listen(HearingOptions(language), live=False)
            yield None
            for part in Audio(samples, self.rate).resample(RATE).samples.split(RATE // 2):
                listener.step(part)
                yield None
            yield listener.finish().text

        (text,) = await self._done(steps) if heard else ("",)
        await self.write_event(Transcript(text, language=language).event())

    async def _say(self, asked: Synthesize) -> None:
        """Reads aloud, and sends the sound as it is made."""
        if len(asked.text) > self.served.config.text_letters:
            raise RequestError("string_above_max_length", f"At most {self.served.config.text_letters} letters.")
        voice = own_voice(asked.voice.name if asked.voice else None, self.served.backend.voices)
        form = {"rate": RATE, "width": 2, "channels": 1}

        def steps() -> Iterator[bytes]:
            for audio in self.served.backend.say(asked.text, Sampling(voice=voice)):
                yield pcm16(audio.samples.numpy())

        await self.write_event(AudioStart(**form).event())
        async for data in stream_steps(self.served, steps):
            await self.write_event(AudioChunk(**form, audio=data).event())
        await self.write_event(AudioStop().event())

    async def _answer(self, asked: Transcript) -> None:
        """Answers a turn of a conversation in writing; Home Assistant has it read aloud."""
        known, name = self.owner.conversations, str((asked.context or {}).get("conversation_id") or "")
        # Taken out while it answers, as a chat gives one answer at a time.
        chat, past = known.pop(name, None) or (self.served.backend.chat(), [])
        past = [*past, Message("user", asked.text)]

        def steps() -> Iterator[Any]:
            answer = chat.answer(past, Sampling(max_tokens=WRITTEN_TOKENS), spoken=False)
            for _ in answer.events():
                yield None
            yield answer

        (answer,) = await self._done(steps)
        text = answer.text.strip()
        if not text or answer.message is None:
            await self.write_event(NotHandled(text, asked.context).event())
            return
        if name:
            known[name] = chat, [*past, answer.message][-MAX_TURNS:]
            while len(known) > MAX_CONVERSATIONS:
                known.popitem(last=False)
        await self.write_event(Handled(text, asked.context).event())

    async def _done(self, steps: Callable[[], Iterator[Any]]) -> list[Any]:
        """What steps give, once all is done."""
        return [one async for one in stream_steps(self.served, steps)]
