"""`/v1/chat/completions`: typed and recorded messages in, text and speech out."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from antiphon.audio import encode as sound
from antiphon.audio.io import Audio
from antiphon.audio.pcm import RATE, pcm16
from antiphon.dialogue.backend import StreamingReply, sounding
from antiphon.dialogue.events import AudioEvent, CallEvent, Event, Sampling, TextChances, TextEvent
from antiphon.dialogue.half_duplex import Message
from antiphon.dialogue.tool_calls import Call, Functions
from antiphon.errors import AudioError, ConfigError
from antiphon.serve.errors import RequestError, explained
from antiphon.serve.json_text import TEXT_LETTERS, read_base64
from antiphon.serve.openai.audio import sse
from antiphon.serve.openai.bodies import BoundedRoute
from antiphon.serve.openai.chat_request import AudioOptions, ChatMessage, ChatRequest, InputAudio, check_options
from antiphon.serve.openai.errors import RESPONSES
from antiphon.serve.openai.logprobs import shown_logprobs
from antiphon.serve.openai.models import served_of
from antiphon.serve.openai.options import check_spoken, check_voice, own_voice
from antiphon.serve.openai.response_format import read_format
from antiphon.serve.openai.stop_sequences import until_stop
from antiphon.serve.openai.tools import call_deltas, no_tools, read_calls, read_result, read_tools, shown_call
from antiphon.serve.seen import check_count, check_sees, read_seen
from antiphon.serve.state import Served
from antiphon.serve.work.http import begun, stream_steps

router = APIRouter(prefix="/v1", responses=RESPONSES, route_class=BoundedRoute)

MAX_KEPT = 256  # spoken answers that later requests may refer to
WRITTEN_TOKENS = 256  # of a written answer, where nobody says how long it may be


class ChatCompletion(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


GivenPart = Tensor | str | dict[str, Any]  # sound, words, or what is to be seen
Given = Message | list[GivenPart]  # a message, or the parts of one that has still to be heard


@dataclass
class _Choice:
    """One of the answers to a request, as far as it is made.

    Attributes:
        number: from 0.
        answer: while it is made.
        text, pieces, calls, chances: of its events; samples: of all pieces, also of those that were taken away.
    """

    number: int
    answer: StreamingReply
    text: str = ""
    pieces: list[np.ndarray] = field(default_factory=list)
    samples: int = 0
    calls: list[Call] = field(default_factory=list)
    chances: list[TextChances] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """The next event of the answer."""
        if isinstance(event, TextEvent):
            self.text += event.text
            self.chances += event.chances
        elif isinstance(event, AudioEvent):
            self.pieces.append(event.audio.samples.numpy())
            self.samples += len(self.pieces[-1])
        elif isinstance(event, CallEvent):
            self.calls.append(event.call)

    @property
    def why(self) -> str:
        """It ended, as OpenAI says it."""
        return "length" if self.answer.cut else "tool_calls" if self.calls else "stop"


@dataclass
class _Chat:
    """A request while it is answered.

    Attributes:
        asked, functions, schema: what for.
        instructions, past: what the answer is to follow, and what it is an answer to.
        id, audio_id: of the answer and of its sound.
        created: seconds since 1970.
    """

    served: Served
    asked: ChatRequest
    functions: Functions | None
    schema: str | None
    instructions: str
    past: list[Given]
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    audio_id: str = field(default_factory=lambda: f"audio_{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def steps(self) -> Iterator[Any]:
        """By the scheduler: hears the recordings, then gives each choice and the events of its answer."""
        messages: list[Message] = []
        for given in self.past:
            if isinstance(given, Message):
                messages.append(given)
            else:
                messages.append((yield from self._heard(given)))
        asked = self.asked
        wanted = asked.max_completion_tokens or asked.max_tokens
        long = (asked.spoken and self.functions is None) or self.schema is not None
        usual = Sampling.max_tokens if long else WRITTEN_TOKENS
        how = Sampling(
            seed=(asked.seed or 0) % 2**63,
            think_temperature=asked.temperature or 0.0,
            think_top_k=40,
            think_top_p=max(1.0 if asked.top_p is None else asked.top_p, 1e-6),
            presence=asked.presence_penalty or 0.0,
            frequency=asked.frequency_penalty or 0.0,
            bias=tuple((asked.logit_bias or {}).items()),
            top_chances=(asked.top_logprobs or 0) if asked.logprobs else None,
            schema=self.schema,
            max_tokens=min(wanted or usual, 512),
            voice=own_voice((asked.audio or AudioOptions()).voice, self.served.backend.voices),
        )
        chat = self.served.backend.chat()  # which has read the messages once for all choices
        for number in range(asked.n or 1):
            own = replace(how, seed=(how.seed + number) % 2**63)
            answer = chat.answer(messages, own, self.instructions or None, asked.spoken, self.functions)
            yield _Choice(number, answer)
            yield from until_stop(answer.events(), asked.stops) if asked.stops else answer.events()

    def _heard(self, parts: Sequence[GivenPart]) -> Iterator[Any]:
        """The message of parts that are recordings, words, pictures and videos."""
        words: list[str] = []
        contents: list[Mapping[str, Any]] = []
        hearing = None
        for part in parts:
            if not isinstance(part, Tensor):
                words += [part] if isinstance(part, str) else []
                contents.append({"type": "text", "text": part} if isinstance(part, str) else part)
                continue
            listener = self.served.backend.listen()
            yield None
            for block in part.split(RATE):
                listener.step(block)
                yield None
            hearing = listener.finish()
            words.append(hearing.text)
            contents += [hearing.content()] if hearing.is_speech else sounding(Audio(part, RATE))
        sees = self.served.backend.sees
        if hearing is not None and len(parts) == 1 and (hearing.is_speech or not sees):
            return hearing.message()
        seen = tuple(contents) if sees else ()
        notes = hearing.notes if hearing is not None else None
        return Message("user", " ".join(filter(None, words)), notes=notes, contents=seen)

    async def whole(self, first: _Choice, events: AsyncIterator[Any]) -> Response:
        """The answer at once."""
        choices = [first]
        async for event in events:
            if isinstance(event, _Choice):
                choices.append(event)
            else:
                choices[-1].take(event)
        shown = [await asyncio.to_thread(self._shown, choice) for choice in choices]
        return JSONResponse(self._body("", shown) | {"usage": _usage(choices)})

    def _shown(self, choice: _Choice) -> dict[str, Any]:
        """A choice that is complete."""
        text = choice.text.strip()
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if choice.calls:
            message["tool_calls"] = [shown_call(call) for call in choice.calls]
            message["content"] = text or None
        if self.asked.spoken and (text or not choice.calls):
            data = _file(choice.pieces, (self.asked.audio or AudioOptions()).format)
            message["content"] = None
            message["audio"] = self._kept(text) | {"data": base64.b64encode(data).decode()}
        likely = shown_logprobs(choice.chances if self.asked.logprobs else None)
        return {"index": choice.number, "message": message, "finish_reason": choice.why, "logprobs": likely}

    async def streamed(self, first: _Choice, events: AsyncIterator[Any]) -> AsyncIterator[str]:
        """The answer as it is made, as server-sent events."""
        spoken, audio_id = self.asked.spoken, self.audio_id
        count = bool(self.asked.stream_options and self.asked.stream_options.include_usage)
        choices = [first]

        def chunk(
            delta: dict[str, Any], finish: str | None = None, chances: Sequence[TextChances] | None = None
        ) -> str:
            likely = shown_logprobs(chances if self.asked.logprobs else None)
            choice = {"index": choices[-1].number, "delta": delta, "finish_reason": finish, "logprobs": likely}
            return sse(self._body(".chunk", [choice]) | ({"usage": None} if count else {}))

        def begin() -> str:
            return chunk({"role": "assistant", "content": None if spoken else "", "refusal": None})

        yield begin()
        try:
            async for event in events:
                if isinstance(event, _Choice):
                    yield chunk({}, choices[-1].why)
                    choices.append(event)
                    yield begin()
                    continue
                choice = choices[-1]
                choice.take(event)
                if isinstance(event, TextEvent):
                    said = {"audio": {"id": audio_id, "transcript": event.text}} if spoken else {"content": event.text}
                    yield chunk(said, chances=event.chances)
                elif isinstance(event, AudioEvent):
                    data = base64.b64encode(pcm16(choice.pieces.pop())).decode()
                    yield chunk({"audio": {"id": audio_id, "data": data}})
                elif isinstance(event, CallEvent):
                    for delta in call_deltas(event.call, len(choice.calls) - 1):
                        yield chunk(delta)
        except Exception as error:
            yield sse({"error": explained(error).shown()})
            return
        choice = choices[-1]
        if spoken and (choice.text or not choice.calls):
            yield chunk({"audio": {"id": audio_id, "expires_at": self._kept(choice.text.strip())["expires_at"]}})
        yield chunk({}, choice.why)
        if count:
            yield sse(self._body(".chunk", []) | {"usage": _usage(choices)})
        yield "data: [DONE]\n\n"

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        model = self.asked.model or self.served.backend.name
        about = {"id": self.id, "created": self.created, "model": model}
        return about | {"object": f"chat.completion{kind}", "choices": choices}

    def _kept(self, text: str) -> dict[str, Any]:
        """Keeps what was said, so that a later request can refer to it."""
        spoken = self.served.spoken
        spoken[self.audio_id] = text
        while len(spoken) > MAX_KEPT:
            del spoken[next(iter(spoken))]
        return {"id": self.audio_id, "transcript": text, "expires_at": int(time.time()) + 3600}


@router.post(
    "/chat/completions",
    summary="Answer a chat",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def chat(request: Request, asked: ChatRequest) -> Response:
    served = served_of(request)
    supports_tools = served.backend.calls_functions
    check_options(asked, served.backend.structured)
    schema, told = read_format(asked.response_format)
    if asked.functions and supports_tools:
        raise RequestError("tools_not_supported", "'functions' has become 'tools'; use that.", "functions")
    tools = asked.tools or asked.functions
    functions = read_tools(tools, asked.tool_choice, asked.parallel_tool_calls, "", supports_tools)
    if asked.spoken:
        options = asked.audio or AudioOptions()
        check_spoken(True, served.backend.voices, "modalities")
        if options.voice is not None:
            check_voice(options.voice, served.backend.voices, "audio.voice")
        if asked.stream and options.format != "pcm16":
            raise RequestError("unsupported_value", "A stream of sound has the format 'pcm16'.", "audio.format")
    instructions, past = await _read(served, asked.messages)
    instructions = "\n\n".join(filter(None, (instructions, told)))
    made = _Chat(served, asked, functions, schema, instructions, past)
    stream = stream_steps(served, made.steps)
    try:
        first = await anext(stream)
        events = await begun(stream)  # what can't be answered is no stream
    except ConfigError as error:  # of a schema, or of tokens that aren't there
        param = "response_format" if schema else "tools" if functions else "logit_bias"
        raise RequestError("invalid_value", str(error), param) from None
    if asked.stream:
        return StreamingResponse(made.streamed(first, events), media_type="text/event-stream")
    return await made.whole(first, events)


async def _read(served: Served, messages: list[ChatMessage]) -> tuple[str, list[Given]]:
    """(instructions, past): what the system says first is the instructions; recordings are decoded, not heard yet."""
    instructions: list[str] = []
    past: list[Given] = []
    seen = 0
    seconds, supports_tools = served.config.decoded_seconds, served.backend.calls_functions
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.role == "function" and supports_tools:
            raise RequestError("tools_not_supported", "Roles of functions have become 'tool'.", f"{where}.role")
        if message.role in ("function", "tool") and not supports_tools:
            raise no_tools(f"{where}.role")
        if message.role == "assistant" and message.tool_calls and not supports_tools:
            raise no_tools(f"{where}.tool_calls")
        parts: list[GivenPart] = [message.content] if isinstance(message.content, str) else []
        for at, part in enumerate(message.content if isinstance(message.content, list) else []):
            here = f"{where}.content[{at}]"
            if part.type == "input_audio" and part.input_audio is not None and message.role == "user":
                samples = await asyncio.to_thread(_decoded, part.input_audio, seconds, f"{here}.input_audio.data")
                seconds = max(0.0, seconds - len(samples) / RATE)
                parts.append(samples)
            elif (shown := part.shown) is not None and message.role == "user":
                check_sees(served.backend.sees, here)
                check_count(seen := seen + 1, here)
                kind, url = shown
                there = f"{here}.{part.type}.url"
                parts.append(await asyncio.to_thread(read_seen, url, kind, there, served.config.decoded_seconds))
            elif part.type in ("text", "refusal") and part.text is not None:
                parts.append(part.text)
            else:
                raise RequestError("invalid_value", f"A part of type '{part.type}' can't be read here.", here)
        if message.audio is not None:
            said = served.spoken.get(message.audio.id)
            if said is None:
                why = "That sound is not kept any more; send its transcript."
                raise RequestError("invalid_value", why, f"{where}.audio.id")
            parts.append(said)
        texts = [part for part in parts if isinstance(part, str)]
        text = " ".join(texts)
        if len(text) > TEXT_LETTERS:
            said = f"Invalid '{where}.content': a message has at most {TEXT_LETTERS} letters."
            raise RequestError("string_above_max_length", said, f"{where}.content")
        role = "system" if message.role == "developer" else message.role
        if role == "tool":
            past.append(read_result(text, message.tool_call_id, past, where))
        elif role == "assistant" and message.tool_calls:
            past.append(read_calls(message.tool_calls, text, where))
        elif role == "system" and not past:
            instructions += texts
        else:
            past.append(Message(role, text) if len(texts) == len(parts) else parts)
    return "\n".join(instructions), past


def _decoded(given: InputAudio, seconds: float, where: str) -> Tensor:
    """A recording's samples, at most so many seconds of them."""
    try:
        return sound.read(read_base64(given.data, where), seconds, given.format)
    except AudioError as error:
        raise RequestError("invalid_value", str(error), where) from None


def _file(pieces: list[np.ndarray], kind: str) -> bytes:
    if kind != "wav":
        return b"".join(sound.written(iter(pieces), "pcm" if kind == "pcm16" else kind))
    data = b"".join(map(pcm16, pieces))
    return sound.wav_header(len(data)) + data  # whole: with its length


def _usage(choices: Sequence[_Choice]) -> dict[str, Any]:
    """Of a request: what went in is counted once, whatever the number of choices."""
    read = choices[0].answer.usage
    audio = round(sum(choice.samples for choice in choices) / RATE / 0.08)
    written = sum(choice.answer.usage.output for choice in choices)
    return {
        "prompt_tokens": read.input,
        "completion_tokens": written + audio,
        "total_tokens": read.input + written + audio,
        "prompt_tokens_details": {"cached_tokens": read.cached, "audio_tokens": read.heard},
        "completion_tokens_details": {
            "audio_tokens": audio,
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
